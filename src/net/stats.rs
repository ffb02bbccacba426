//! Counters of the network, readable at any time for metrics.

use super::hello::{HelloError, HelloRefusal};
use crate::protocol::ids::MemberId;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

/// Totals since the start, over all connections of this node. All only grow.
#[derive(Debug, Default)]
pub struct Stats {
    /// Bytes read from established connections.
    pub bytes_in: AtomicU64,
    /// Bytes handed to the operating system on established connections.
    pub bytes_out: AtomicU64,
    /// Frames read, signs of life included.
    pub frames_in: AtomicU64,
    /// Frames put into a queue or a connection's buffer, signs of life included.
    pub frames_out: AtomicU64,
    /// One-way messages that were dropped: the peer was down, its queue full, or its connection
    /// lost while they were queued. Those already handed to the operating system may be lost too,
    /// uncounted.
    pub dropped: AtomicU64,
    /// Messages, requests and answers that no frame can carry. Messages among them count among the
    /// dropped too.
    pub unfit: AtomicU64,
    /// Dialled connections that got through the hello, beyond the first of each peer.
    pub reconnects: AtomicU64,
    /// Connections that either side refused during the hello.
    pub refused: AtomicU64,
    /// Accepted connections that ended because their bytes were no valid frames, or none that they
    /// may carry.
    pub bad_frames: AtomicU64,
    /// Accepted connections whose hello came to nothing.
    pub hellos: ClosedHellos,
}

/// Accepted connections that were closed in their hello, by the reason.
#[derive(Debug, Default)]
pub struct ClosedHellos {
    /// One end refused the other.
    pub refused: AtomicU64,
    /// They were too slow.
    pub late: AtomicU64,
    /// Their place went to a newer connection.
    pub crowded: AtomicU64,
    /// Their first bytes were no hello.
    pub foreign: AtomicU64,
    /// The connection ended or broke.
    pub broken: AtomicU64,
}

impl ClosedHellos {
    /// The counter for hellos that end so.
    pub(super) fn closed_by(&self, error: &HelloError) -> &AtomicU64 {
        match error {
            HelloError::Refused(_) | HelloError::Refusing(_) => &self.refused,
            HelloError::TimedOut => &self.late,
            HelloError::Foreign => &self.foreign,
            HelloError::Io(_) => &self.broken,
        }
    }
}

impl Stats {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Counts and logs something that no frame can carry.
    pub(super) fn note_unfit(&self, what: &str, error: &dyn std::fmt::Display) {
        let before = self.unfit.fetch_add(1, Ordering::Relaxed);
        // What is sent again and again must not flood the log.
        if (before + 1).is_power_of_two() {
            log::error!("{what} another node is dropped, as {before} things before: {error}");
        }
    }
}

/// The connection to a dialled peer, as of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The peer's member number.
    pub member: MemberId,
    /// The address at which it is dialled.
    pub addr: SocketAddr,
    /// The incarnation in its hello, if it is connected now.
    pub up: Option<u64>,
    /// Bytes that wait to be sent to it.
    pub queued_bytes: usize,
    /// Requests that wait for its answer.
    pub pending: usize,
    /// One-way messages to it that were dropped since it was added.
    pub dropped: u64,
    /// Why the last attempt to connect failed, if one end refused the other.
    pub refused: Option<HelloRefusal>,
}

//! Settings of the network: who this node is, and the limits on everything.

use super::hello::NodeIdentity;
use crate::protocol::ids::MemberId;
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Whether a peer is connected from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Connected; the peer runs in this incarnation.
    Up {
        /// The number of the start in its hello.
        incarnation: u64,
    },
    /// Not connected.
    Down,
}

/// Called at every change of a peer's state, from the task of its connection: it must not block. In
/// order for each member, except that after a change of its address the old connection's `Down` may
/// come late.
pub type OnState = Arc<dyn Fn(MemberId, PeerState) + Send + Sync>;

/// Everything the network is started with.
#[derive(Clone)]
pub struct NetConfig {
    /// This node, as its hellos say.
    pub identity: NodeIdentity,
    /// The bounds on memory and time.
    pub limits: NetLimits,
    /// Hears when a peer is connected or not any more.
    pub on_state: Option<OnState>,
}

impl fmt::Debug for NetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetConfig")
            .field("identity", &self.identity)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Longest body of a frame in bytes, by default.
pub const FRAME_BYTES: usize = 16 << 20;

/// Bounds on memory and time. The defaults suit a data centre.
#[derive(Debug, Clone)]
pub struct NetLimits {
    /// Longest body of a frame in bytes, both ways. At most 1 GiB.
    pub frame_bytes: usize,
    /// Bytes that may wait for one peer. One frame always fits in an empty queue.
    pub queue_bytes: usize,
    /// Frames that may wait for one peer.
    pub queue_frames: usize,
    /// Requests to one peer that may wait for their answers.
    pub pending: usize,
    /// Requests of one peer that may be in work here; at this number its connection is no longer
    /// read. Keep it at or above `pending`: then only answers that a peer no longer waits for can
    /// ever hold up its messages.
    pub in_flight: usize,
    /// Time for a request in work here. Longer than any caller waits: what takes longer is dropped
    /// without an answer, so that it does not stand in the way of others for ever.
    pub work: Duration,
    /// Bytes of answers that may wait on one accepted connection before it is no longer read.
    pub answer_bytes: usize,
    /// Accepted connections from addresses of no member that may be in their hello at the same
    /// time; for one more the oldest is closed, of the address that has the most.
    pub hellos: usize,
    /// Those from one address, a member's too, which has these places beside the others; for one
    /// more the oldest is closed.
    pub hellos_per_address: usize,
    /// Accepted connections that may be open at the same time with a stranger at either end; more
    /// are closed at once.
    pub strangers: usize,
    /// Time for a TCP connection to come about.
    pub connect: Duration,
    /// Time for the first message of the hello on an accepted connection: its dialler has nothing
    /// to wait for.
    pub first_bytes: Duration,
    /// Time for the whole hello.
    pub hello: Duration,
    /// Time for an accepted connection with a stranger at either end, from the hello on. No call to
    /// this node can take longer.
    pub stranger: Duration,
    /// Each end of a connection sends something at least this often.
    pub heartbeat: Duration,
    /// The dialler gives up a connection on which nothing has come for this long; the listener
    /// takes three times as long, for it loses nothing by waiting.
    pub silence: Duration,
    /// A connection that takes no byte for this long, although the peer still gives signs of life,
    /// is given up. Longer than `silence`: a peer that is only behind with its work should not lose
    /// what is on its way to it.
    pub stall: Duration,
    /// Pause after the first failed attempt to connect. It doubles with each further one.
    pub backoff_min: Duration,
    /// Longest pause between attempts to connect.
    pub backoff_max: Duration,
    /// Time that a shutdown gives to what is queued or in work.
    pub drain: Duration,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            frame_bytes: FRAME_BYTES,
            queue_bytes: 32 << 20,
            queue_frames: 65_536,
            pending: 16_384,
            in_flight: 16_384,
            work: Duration::from_secs(15),
            answer_bytes: 8 << 20,
            hellos: 128,
            hellos_per_address: 16,
            strangers: 64,
            connect: Duration::from_millis(500),
            first_bytes: Duration::from_secs(1),
            hello: Duration::from_secs(2),
            stranger: Duration::from_secs(30),
            heartbeat: Duration::from_millis(250),
            silence: Duration::from_secs(1),
            stall: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_millis(500),
            drain: Duration::from_secs(1),
        }
    }
}

impl NetLimits {
    /// These limits, brought into the range where the code's assumptions hold.
    pub(super) fn checked(mut self) -> Self {
        self.frame_bytes = self.frame_bytes.min(1 << 30);
        self.heartbeat = self.heartbeat.max(Duration::from_millis(1));
        self.in_flight = self.in_flight.max(1);
        self.strangers = self.strangers.min(Semaphore::MAX_PERMITS);
        self
    }

    /// How many heartbeats without a sign make up `span`.
    pub(super) fn beats(&self, span: Duration) -> u32 {
        let beats = span.as_nanos().div_ceil(self.heartbeat.as_nanos());
        u32::try_from(beats).unwrap_or(u32::MAX).max(1)
    }
}

//! A client that is answered while it still sends. Many read no reply before they have sent the
//! whole body, and if the node closed at once, what they send would be answered with a reset, which
//! takes the reply away from them. So the node ends its own side, and for a while it reads and
//! drops what comes.
//!
//! Nothing is kept of it, so that it counts against no budget of memory. What it takes is a place
//! among the connections: the number of those that linger is bounded, and so are each one's bytes
//! and time.

use super::connection::{ClientPatience, ConnectionCounts};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// Bytes that are dropped of one client, at most: more than twice the longest body that a node
/// with the usual settings takes.
pub const MOST_DROPPED: usize = 64 << 20;
/// One connection of so many may linger.
const SHARE: usize = 4;

/// How many connections may linger, of so many that there may be.
pub fn places(connections: usize) -> usize {
    (connections / SHARE).max(1)
}

/// A connection that lingers; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Linger {
    counts: Arc<ConnectionCounts>,
    /// The number of the request that was answered early.
    pub request: u64,
    /// When it is over, whatever comes.
    end: Instant,
    /// When the last byte came.
    heard: Instant,
    /// Bytes that may still come.
    left: usize,
    /// The node's own side has ended.
    pub half_closed: bool,
}

impl Linger {
    /// Begins after the request of that number; `None` where `places` others linger already.
    pub fn begin(
        counts: &Arc<ConnectionCounts>,
        places: usize,
        patience: &ClientPatience,
        request: u64,
    ) -> Option<Self> {
        let others = counts.lingering.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        // Dropped at once, it gives the place back.
        let this = Self {
            counts: Arc::clone(counts),
            request,
            end: now + patience.linger,
            heard: now,
            left: MOST_DROPPED,
            half_closed: false,
        };
        if others < places as u64 {
            return Some(this);
        }
        this.give_up();
        None
    }

    /// So many bytes came and were dropped; false when they were too many.
    pub fn drops(&mut self, bytes: usize) -> bool {
        self.heard = Instant::now();
        self.left = self.left.saturating_sub(bytes);
        self.left > 0
    }

    /// When it is over if nothing comes.
    pub fn deadline(&self, patience: &ClientPatience) -> Instant {
        self.end.min(self.heard + patience.linger_pause)
    }

    /// Whether the client has paused for so long that it has sent everything, or never will.
    pub fn is_paused(&self, patience: &ClientPatience) -> bool {
        self.heard.elapsed() >= patience.linger_pause
    }

    /// The client is waited for no more although it goes on: it may miss its reply.
    pub fn give_up(&self) {
        self.counts.unread_bodies.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Linger {
    fn drop(&mut self) {
        self.counts.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}

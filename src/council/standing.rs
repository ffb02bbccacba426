//! Whether this node may vote. One that comes back without its disk has forgotten what it promised and what it confirmed:
//! its vote could make a leader that lacks a decided entry. So a node with a new directory abstains until it either forms
//! the council itself, or has from a leader everything that was decided before it came back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::disk::CouncilDisk;
use crate::protocol::store::{Batch, StoreError};

/// Longer than an election takes, and than a message of the node's former life is on its way: an election in which it may
/// have voted before is over.
const ABSTAIN: Duration = Duration::from_secs(3);
const KEY: &[u8] = b"e";

/// This node's right to vote.
pub struct Standing {
    disk: Arc<CouncilDisk>,
    opened: Instant,
    votes: AtomicBool,
}

impl Standing {
    /// Reads whether the right was gained before. Blocks.
    ///
    /// # Errors
    /// When reading fails.
    pub fn open(disk: Arc<CouncilDisk>) -> Result<Self, StoreError> {
        let votes = AtomicBool::new(disk.get(KEY)?.is_some());
        Ok(Self {
            disk,
            opened: Instant::now(),
            votes,
        })
    }

    pub fn votes(&self) -> bool {
        self.votes.load(Ordering::Relaxed)
    }

    /// Whether it could gain the right, once it is level.
    pub fn waited(&self) -> bool {
        !self.votes() && self.opened.elapsed() >= ABSTAIN
    }

    /// Gains the right, for good.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn gain(&self) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(KEY, &b"1"[..]);
        self.disk.write(batch).await?;
        self.votes.store(true, Ordering::Relaxed);
        Ok(())
    }
}

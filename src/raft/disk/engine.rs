//! What the Raft group asks of the disk under it: a store that is read from anywhere, and a queue
//! of batches to be stored, in order. In a node that is the storage engine's [`Disk`] and its
//! committer's thread.

use std::sync::Arc;

use crate::protocol::store::{Batch, Store, StoreError};
use crate::storage::{Commit, Committer, Disk, Numbered};

/// Hears of each commit, on whatever thread made it: the number of the last batch that is durable,
/// or the error that stopped all storing. It must not block.
pub type Stored = Box<dyn Fn(Result<u64, StoreError>) + Send>;

/// A store, and what makes its queue.
pub trait Engine: Store + Send + Sync + 'static {
    /// Stores a batch, and returns when it is durable. Only before there is a queue, or after it
    /// was stopped.
    ///
    /// # Errors
    /// As storing fails.
    fn commit_now(&self, batch: Batch) -> Result<(), StoreError>;

    /// Whether less than `room` bytes are free.
    ///
    /// # Errors
    /// When nobody knows.
    fn is_nearly_full(&self, room: u64) -> Result<bool, StoreError>;

    /// Starts the queue.
    ///
    /// # Errors
    /// When it cannot be had.
    fn queue(self: Arc<Self>, stored: Stored) -> Result<Box<dyn StoreQueue>, StoreError>;
}

/// Batches that are to be stored.
pub trait StoreQueue: Send {
    /// Puts a batch behind all others.
    fn submit(&self, batch: Numbered);

    /// Tries again what failed, and all that waits since.
    fn resume(&self);

    /// Stores what waits, and ends. Blocks.
    ///
    /// # Errors
    /// The error that stopped it before.
    fn stop(self: Box<Self>) -> Result<(), StoreError>;
}

impl Engine for Disk {
    fn commit_now(&self, batch: Batch) -> Result<(), StoreError> {
        self.commit(&[batch])
    }

    fn is_nearly_full(&self, room: u64) -> Result<bool, StoreError> {
        Self::is_nearly_full(self, room)
    }

    fn queue(self: Arc<Self>, stored: Stored) -> Result<Box<dyn StoreQueue>, StoreError> {
        let committer = Committer::start(self, stored)?;
        Ok(Box::new(committer))
    }
}

impl StoreQueue for Committer {
    fn submit(&self, batch: Numbered) {
        Self::submit(self, batch);
    }

    fn resume(&self) {
        Self::resume(self);
    }

    fn stop(self: Box<Self>) -> Result<(), StoreError> {
        self.shutdown()
    }
}

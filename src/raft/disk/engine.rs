//! The disk under the Raft group: a store that any thread reads, and a queue of batches that are
//! stored in order. In a node that is the storage engine's [`Disk`] and the thread of its
//! committer.

use std::sync::Arc;

use crate::protocol::store::{Batch, Store, StoreError};
use crate::storage::{Commit, Committer, Disk, Numbered};

/// Hears of each commit, on whatever thread made it: the number of the last batch that is durable,
/// or the error that stopped all storing. It must not block.
pub type Stored = Box<dyn Fn(Result<u64, StoreError>) + Send>;

/// A store, and what makes its queue.
pub trait Engine: Store + Send + Sync + 'static {
    /// Stores a batch, and returns when it is durable. Only to be called before the queue is
    /// started, or after it was stopped.
    ///
    /// # Errors
    /// As storing fails.
    fn commit_now(&self, batch: Batch) -> Result<(), StoreError>;

    /// Whether less than `room` bytes are free.
    ///
    /// # Errors
    /// When the system cannot say.
    fn is_nearly_full(&self, room: u64) -> Result<bool, StoreError>;

    /// Starts the queue.
    ///
    /// # Errors
    /// When the queue's thread cannot be started.
    fn queue(self: Arc<Self>, stored: Stored) -> Result<Box<dyn StoreQueue>, StoreError>;
}

/// Batches that are to be stored.
pub trait StoreQueue: Send {
    /// Queues a batch behind all others.
    fn submit(&self, batch: Numbered);

    /// Tries again to store the batch that failed, and all that wait behind it.
    fn resume(&self);

    /// Stores the batches that wait, and ends. Blocks.
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

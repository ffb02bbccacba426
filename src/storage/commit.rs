//! The writing side of a store, as the committer uses it.

use crate::protocol::store::{Batch, StoreError};

/// A store that makes batches durable.
pub trait Commit: Send + Sync + 'static {
    /// Stores all batches, in order, and returns when they are durable. Where two operations name
    /// the same key the later one wins.
    ///
    /// # Errors
    /// When the batches are not stored. Later commits fail with the same error until
    /// [`Commit::reopen`]; after a restart or a reopening, the batches of the failed commit may
    /// turn out to be stored.
    fn commit(&self, batches: &[Batch]) -> Result<(), StoreError>;

    /// Takes up work again after a failed commit: everything acknowledged is there.
    ///
    /// # Errors
    /// When the data cannot be read, or the device still refuses.
    fn reopen(&self) -> Result<(), StoreError>;
}

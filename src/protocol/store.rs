//! The store that the protocol needs: an ordered map of bytes with atomic batches.
//!
//! The protocol reads through [`Store`] and describes what must be written as a [`Batch`]. It never
//! writes by itself: the shell commits batches in the order in which they were handed out and says
//! when one is durable. All record formats are in [`super::record`], so a store knows only bytes.

use bytes::Bytes;

/// Why a store could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space is left on the device. As after a crash, the batch may be found stored later.
    #[error("no space is left for {what}: {detail}")]
    Full {
        /// The thing that was to be written.
        what: String,
        /// The error, for people.
        detail: String,
    },
    /// The data on disk fails its checks: it was changed or damaged outside of this program.
    #[error("the data at {what} is damaged: {detail}")]
    Corrupt {
        /// The thing that was read.
        what: String,
        /// The damage, for people.
        detail: String,
    },
    /// The data was written in a format that this program does not know.
    #[error("the data at {what} has format {found}, this program reads {known}")]
    Format {
        /// The thing that was opened.
        what: String,
        /// The format that was found.
        found: String,
        /// The formats that are known.
        known: String,
    },
    /// Another process holds the directory.
    #[error("{what} is in use by another process: {detail}")]
    Locked {
        /// The directory.
        what: String,
        /// How that was noticed.
        detail: String,
    },
    /// Any other failure of the device or the operating system.
    #[error("{what} failed: {detail}")]
    Io {
        /// The action that failed.
        what: String,
        /// The error, for people.
        detail: String,
    },
}

/// A key and its value, as a scan returns them.
pub type Pair = (Bytes, Bytes);

/// Changes that become durable together or not at all, in order: `None` deletes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys, each with its new value.
    pub ops: Vec<(Bytes, Option<Bytes>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push((key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.ops.push((key.into(), None));
    }

    /// Whether there are no changes.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.ops
            .iter()
            .map(|(k, v)| k.len() + v.as_ref().map_or(0, Bytes::len))
            .sum()
    }
}

/// The readable side of a store: what has been committed, and nothing else.
pub trait Store {
    /// The value of a key.
    ///
    /// # Errors
    /// When the device fails or the data is damaged.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Pairs with `from <= key < to`, in ascending order, until `visit` returns false.
    ///
    /// # Errors
    /// When the device fails or the data is damaged.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError>;
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        (**self).get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        (**self).scan(from, to, visit)
    }
}

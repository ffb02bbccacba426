//! What the protocol asks of a disk: an ordered map of bytes with atomic batches.
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
    Full { what: String, detail: String },
    /// The data on disk fails its checks: it was changed or damaged outside of this program.
    #[error("the data at {what} is damaged: {detail}")]
    Corrupt { what: String, detail: String },
    /// The data was written in a format that this program does not know.
    #[error("the data at {what} has format {found}, this program reads {known}")]
    Format {
        what: String,
        found: String,
        known: String,
    },
    /// Another process holds the directory.
    #[error("{what} is in use by another process: {detail}")]
    Locked { what: String, detail: String },
    /// Any other failure of the device or the operating system.
    #[error("{what} failed: {detail}")]
    Io { what: String, detail: String },
}

/// A key and its value, as a scan returns them.
pub type Pair = (Bytes, Bytes);

/// Changes that become durable together or not at all, in order: `None` deletes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub ops: Vec<(Bytes, Option<Bytes>)>,
}

impl Batch {
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.ops.push((key.into(), Some(value.into())));
    }

    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.ops.push((key.into(), None));
    }

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

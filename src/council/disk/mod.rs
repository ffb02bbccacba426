//! The council's own directory: vote, log and snapshot in one store, written by one thread.
//!
//! Keys: `f` format, `e` that this node may vote, `v` vote, `c` committed, `p` purged, `l` + index a log entry, `s` the current snapshot's manifest,
//! `d` + generation + part a part of a snapshot.

mod log;
mod snapshots;
mod writer;

pub use log::LogStore;
pub use snapshots::Snapshots;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageError, StorageIOError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::store::{Batch, Store, StoreError};
use crate::storage::Disk;
use writer::Writer;

/// Version of the keys and values described above.
const FORMAT: u8 = 1;
/// Memory for blocks read from disk: what is read again and again is kept as entries.
const CACHE_BYTES: u64 = 4 << 20;
/// How long closing waits for reads that are under way.
const CLOSE: Duration = Duration::from_secs(5);

/// The store and its writer, shared by the log and the snapshots.
pub struct CouncilDisk {
    /// `None` once it is closed.
    disk: Mutex<Option<Arc<Disk>>>,
    writer: Writer,
}

impl CouncilDisk {
    /// Opens the directory, and creates it when there is none. Blocks.
    ///
    /// # Errors
    /// As [`Disk::open`]; `Format` also when the council's own format is not the known one.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let disk = Arc::new(Disk::open_with_cache(dir, CACHE_BYTES)?);
        match disk.get(b"f")?.as_deref() {
            None => {
                let mut batch = Batch::default();
                batch.put(&b"f"[..], vec![FORMAT]);
                crate::storage::Commit::commit(&*disk, &[batch])?;
            }
            Some([FORMAT]) => {}
            Some(found) => {
                return Err(StoreError::Format {
                    what: dir.display().to_string(),
                    found: format!("{found:?}"),
                    known: FORMAT.to_string(),
                });
            }
        }
        let writer = Writer::start(Arc::clone(&disk))?;
        Ok(Self {
            disk: Mutex::new(Some(disk)),
            writer,
        })
    }

    /// Queues a batch behind all earlier ones. `done` is called when it is durable, or on the error that stopped the
    /// writer: on the writer's thread, so it must not block.
    pub fn submit(&self, batch: Batch, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        self.writer.submit(batch, Box::new(done));
    }

    /// Stores a batch, and returns when it is durable.
    ///
    /// # Errors
    /// When the writer failed, now or before.
    pub async fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let (durable, wait) = tokio::sync::oneshot::channel();
        // Whoever stopped waiting needs no answer.
        self.submit(batch, |result| drop(durable.send(result)));
        wait.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Reads away from the runtime's workers.
    ///
    /// # Errors
    /// Those of `read`, and `Io` after closing.
    pub async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Disk) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let disk = self.disk()?;
        tokio::task::spawn_blocking(move || read(&disk))
            .await
            .unwrap_or_else(|_| Err(closed()))
    }

    /// The value of a key. Blocks.
    ///
    /// # Errors
    /// As reading fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.disk()?.get(key)
    }

    fn disk(&self) -> Result<Arc<Disk>, StoreError> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.clone().ok_or_else(closed)
    }

    /// Stores what is queued and lets go of the directory. Blocks.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn close(&self) -> Result<(), StoreError> {
        let result = self.writer.stop();
        let disk = {
            let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            disk.take()
        };
        let began = Instant::now();
        // The directory is locked until the last read has ended.
        while disk.as_ref().is_some_and(|d| Arc::strong_count(d) > 1) && began.elapsed() < CLOSE {
            std::thread::sleep(Duration::from_millis(1));
        }
        result
    }
}

fn closed() -> StoreError {
    StoreError::Io {
        what: "the council's storage".to_owned(),
        detail: "it is closed".to_owned(),
    }
}

fn encode(what: &str, value: &impl Serialize) -> Result<Bytes, StoreError> {
    let bytes = postcard::to_stdvec(value).map_err(|error| StoreError::Io {
        what: what.to_owned(),
        detail: format!("it cannot be encoded: {error}"),
    })?;
    Ok(Bytes::from(bytes))
}

fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Corrupt {
        what: what.to_owned(),
        detail: error.to_string(),
    })
}

/// The store's error in the form that the Raft library takes. It ends the library's work, without a panic.
pub fn fatal(
    subject: ErrorSubject<u64>,
    verb: ErrorVerb,
    error: &(dyn std::error::Error + 'static),
) -> StorageError<u64> {
    let source = StorageIOError::new(subject, verb, AnyError::error(error));
    StorageError::IO { source }
}

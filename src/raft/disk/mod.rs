//! The Raft group's own store: vote, log and snapshot, written in one order.
//!
//! | key | value |
//! |---|---|
//! | `f` | version of the format |
//! | `q` | the store was closed in order |
//! | `e` | this node may vote |
//! | `v` | the vote: term, and the leader or candidate promised to |
//! | `c` | the last committed entry |
//! | `p` | the last purged entry |
//! | `l` + index | a log entry |
//! | `s` | the manifest of the current snapshot |
//! | `d` + generation + part | a part of a snapshot |

mod durable;
mod engine;
mod index;
mod log;
mod snapshots;
mod writer;

pub use durable::Durable;
#[cfg(feature = "teeth")]
pub use engine::Stored;
pub use engine::{Engine, StoreQueue};
pub use log::LogStore;
pub use snapshots::Snapshots;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::{AnyError, ErrorSubject, ErrorVerb, StorageError, StorageIOError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::store::{Batch, StoreError};
use crate::raft::runtime;
use crate::storage::Disk;
use writer::{OnDurable, Writer};

/// Version of the keys and values described above.
const FORMAT: u8 = 4;
const CLOSED: &[u8] = b"q";
/// Memory for blocks read from disk. Little: entries that are read often are kept decoded.
const CACHE_BYTES: u64 = 4 << 20;
/// A batch that is put off waits this long for another one to go with.
const LATE: Duration = Duration::from_millis(50);
/// A full disk is tried again this often, if this many bytes are free: opening the store again
/// takes some.
const FULL_RETRY: Duration = Duration::from_secs(1);
const FULL_ROOM: u64 = 32 << 20;
/// How long closing waits for reads that are under way.
const CLOSE: Duration = Duration::from_secs(5);

/// The store and its writer, shared by the log and the snapshots.
pub struct RaftDisk {
    /// `None` once it is closed.
    disk: Mutex<Option<Arc<dyn Engine>>>,
    /// The same, where it is a real one.
    real: Weak<Disk>,
    writer: Writer,
    durable: Durable,
    late: Mutex<Late>,
    was_closed: bool,
}

/// A batch that goes with the next one, so that it costs no sync of its own. Alone only when none
/// comes for a while.
#[derive(Default)]
struct Late {
    batch: Option<Batch>,
    /// A task will look whether it went.
    watched: bool,
}

impl RaftDisk {
    /// Opens the directory, and creates it when there is none. Blocks.
    ///
    /// # Errors
    /// As [`Disk::open`], and as [`RaftDisk::on`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let disk = Arc::new(Disk::open_with_cache(dir, CACHE_BYTES)?);
        let real = Arc::downgrade(&disk);
        Ok(Self {
            real,
            ..Self::on(disk)?
        })
    }

    /// The disk below, for as long as the store is open.
    pub fn real(&self) -> Weak<Disk> {
        Weak::clone(&self.real)
    }

    /// Takes a store that is open. Blocks.
    ///
    /// # Errors
    /// As storing fails; `Format` when the Raft group's own format is not the known one.
    pub fn on(disk: Arc<dyn Engine>) -> Result<Self, StoreError> {
        match disk.get(b"f")?.as_deref() {
            None => {
                let mut batch = Batch::default();
                batch.put(&b"f"[..], vec![FORMAT]);
                disk.commit_now(batch)?;
            }
            Some([FORMAT]) => {}
            Some(found) => {
                return Err(StoreError::Format {
                    what: "the council's store".to_owned(),
                    found: format!("{found:?}"),
                    known: FORMAT.to_string(),
                });
            }
        }
        let was_closed = disk.get(CLOSED)?.is_some();
        if was_closed {
            let mut batch = Batch::default();
            batch.delete(CLOSED);
            disk.commit_now(batch)?;
        }
        let durable = Durable::new(0);
        let queue = |stored| Arc::clone(&disk).queue(stored);
        let writer = Writer::start(queue, durable.clone())?;
        Ok(Self {
            disk: Mutex::new(Some(disk)),
            real: Weak::new(),
            writer,
            durable,
            late: Mutex::default(),
            was_closed,
        })
    }

    /// Whether the last process closed the store, and did not leave it by a crash: then everything
    /// that was queued is there.
    pub fn was_closed(&self) -> bool {
        self.was_closed
    }

    /// Whether less than `reserve` bytes are free. A disk that cannot say takes part all the same.
    pub fn is_scarce(&self, reserve: u64) -> bool {
        let disk = self.disk();
        disk.is_ok_and(|disk| disk.is_nearly_full(reserve) == Ok(true))
    }

    /// How far the log is on the disk, and whether the disk is full.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Tries again and again to store what waits, while the disk is full.
    pub async fn keep_storing(self: Arc<Self>) {
        loop {
            self.durable.until_full(true).await;
            if let Err(error) = self.durable.room() {
                ::log::error!("the council stores nothing until there is room: {error}");
            }
            while self.durable.room().is_err() {
                runtime::sleep(FULL_RETRY).await;
                if self
                    .disk()
                    .is_ok_and(|disk| disk.is_nearly_full(FULL_ROOM) == Ok(false))
                {
                    self.writer.retry();
                }
            }
            ::log::warn!("the council stores again");
        }
    }

    /// A full disk is an error from now on, for everything that waits for it.
    pub fn end_patience(&self) {
        self.writer.end_patience();
    }

    /// Queues a batch behind all earlier ones. `done` is called when it is durable, or on the error
    /// that stopped the writer: on the writer's thread, so it must not block.
    pub fn submit(&self, batch: Batch, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        self.queue(&mut self.late(), batch, Box::new(done));
    }

    /// Queues a batch together with the one that was put off. The caller holds `late` until both
    /// are queued: the late batch must not come behind a later one.
    fn queue(&self, late: &mut Late, mut batch: Batch, done: OnDurable) {
        if let Some(mut first) = late.batch.take() {
            first.ops.append(&mut batch.ops);
            batch = first;
        }
        self.writer.submit(batch, done);
    }

    /// Stores a batch with the next one, or after [`LATE`]. Replaces a batch that was put off
    /// before and still waits. Must be called on a runtime.
    pub fn put_off(self: &Arc<Self>, batch: Batch) {
        let mut late = self.late();
        late.batch = Some(batch);
        if std::mem::replace(&mut late.watched, true) {
            return;
        }
        let disk = Arc::downgrade(self);
        runtime::spawn_alone(async move {
            runtime::sleep(LATE).await;
            if let Some(disk) = disk.upgrade() {
                disk.store_late();
            }
        });
    }

    fn store_late(&self) {
        let mut late = self.late();
        late.watched = false;
        if late.batch.is_some() {
            self.queue(&mut late, Batch::default(), Box::new(|_| {}));
        }
    }

    fn late(&self) -> MutexGuard<'_, Late> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a batch, and returns when it is durable.
    ///
    /// # Errors
    /// When the writer failed, now or before.
    pub async fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let (durable, wait) = tokio::sync::oneshot::channel();
        // A caller that has stopped waiting needs no answer.
        self.submit(batch, |result| drop(durable.send(result)));
        wait.await.unwrap_or_else(|_| Err(closed()))
    }

    /// Runs `read` away from the runtime's workers. A read can fail because a full disk is being
    /// opened again: then it runs again.
    ///
    /// # Errors
    /// Those of `read`, and `Io` after closing.
    pub async fn read<R: Send + 'static>(
        &self,
        read: impl Fn(&dyn Engine) -> Result<R, StoreError> + Clone + Send + 'static,
    ) -> Result<R, StoreError> {
        loop {
            let (disk, read) = (self.disk()?, read.clone());
            let had_room = self.durable.room().is_ok();
            let found = runtime::blocking(move || read(&*disk)).await;
            let found = found.unwrap_or_else(|_| Err(closed()));
            if found.is_ok() || had_room && self.durable.room().is_ok() {
                return found;
            }
            self.durable.until_full(false).await;
        }
    }

    /// The value of a key. Blocks.
    ///
    /// # Errors
    /// As reading fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.disk()?.get(key)
    }

    fn disk(&self) -> Result<Arc<dyn Engine>, StoreError> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.clone().ok_or_else(closed)
    }

    /// Stores what is queued and lets go of the directory. Blocks.
    ///
    /// # Errors
    /// The error that stopped the writer.
    pub fn close(&self) -> Result<(), StoreError> {
        self.store_late();
        let result = self.writer.stop();
        let disk = {
            let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            disk.take()
        };
        // The mark is the last write: the writer has ended.
        if let (Ok(()), Some(disk)) = (&result, &disk) {
            let mut batch = Batch::default();
            batch.put(CLOSED, &b"1"[..]);
            if let Err(error) = disk.commit_now(batch) {
                ::log::warn!("the council's next start will be as after a crash: {error}");
            }
        }
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
    let bytes = postcard::to_stdvec(value).map_err(|error| no_encoding(what, error))?;
    Ok(Bytes::from(bytes))
}

fn no_encoding(what: &str, error: postcard::Error) -> StoreError {
    StoreError::Io {
        what: what.to_owned(),
        detail: format!("it cannot be encoded: {error}"),
    }
}

fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| StoreError::Corrupt {
        what: what.to_owned(),
        detail: error.to_string(),
    })
}

/// The store's error in the form that the Raft library takes. The library ends on it, without a
/// panic.
pub fn fatal(
    subject: ErrorSubject<u64>,
    verb: ErrorVerb,
    error: &(dyn std::error::Error + 'static),
) -> StorageError<u64> {
    let source = StorageIOError::new(subject, verb, AnyError::error(error));
    StorageError::IO { source }
}

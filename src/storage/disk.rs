//! The store on disk: the engine (fjall, a log-structured merge tree), set up and checked for our
//! use.
//!
//! A data directory holds `FORMAT` (see [`super::format`]), `LOCK`, and `data` with the engine's
//! files. While `data` is being created there is also `NEW`. Without that, `data` was complete
//! once, and a missing piece of it is damage.
//!
//! Any number of threads read; one commits. After a failed commit nothing more is accepted until
//! [`Commit::reopen`] or a new process: the engine's memory may then differ from its disk.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use fjall::{AbstractTree, Database, Keyspace, PersistMode, Readable, Slice};
use tokio::sync::watch;

use super::commit::Commit;
use super::directory::{Lock, lock};
use super::engine_error::{from_io, guard};
use super::format::{self, DirectoryId};
use super::journal::{self, CommitMark, MARK_KEY, RESERVED};
use super::manifest;
use super::reclaim::Garbage;
use super::record_cache::RecordCache;
use super::suspect;
use crate::protocol::store::{Batch, Store, StoreError};

/// Memory for blocks read from disk, unless told otherwise: 32 MiB. Records have a cache of their
/// own.
pub const DEFAULT_CACHE_BYTES: u64 = 32 << 20;

/// Size at which the writes held in memory go to a table. With at most four of them the memory
/// stays bounded under load, and so does what is replayed at a start.
pub(super) const MEMTABLE_BYTES: u64 = 16 << 20;
/// The engine's lower bound; two or three journals of 64 MiB.
const JOURNAL_BYTES: u64 = 128 << 20;
/// Tables kept open. The rest of the process' file descriptors is for connections.
const OPEN_FILES: usize = 256;
/// Values from this size are handed out without a copy; for smaller ones a copy costs less than the
/// block of 4 KiB that it would keep in memory.
const SHARED_VALUE_BYTES: usize = 2048;

/// A store in a directory of its own.
pub struct Disk {
    pub(super) dir: PathBuf,
    identity: DirectoryId,
    cache_bytes: u64,
    /// `None` while it is being reopened, and after that failed.
    engine: ArcSwapOption<Engine>,
    pub(super) records: RecordCache,
    writer: Mutex<Writer>,
    /// The space that was free when the operating system was last asked, and when that was.
    pub(super) free: Mutex<Option<(Instant, u64)>>,
    pub(super) garbage: Garbage,
    /// The first damage that was met.
    pub(super) damage: watch::Sender<Option<StoreError>>,
    /// Held as long as the store lives.
    _lock: Lock,
}

/// A store that nobody can open.
pub struct Held {
    _lock: Lock,
}

pub(super) struct Engine {
    pub(super) database: Database,
    pub(super) data: Keyspace,
}

struct Writer {
    /// Number of the last commit.
    committed: u64,
    failed: Option<StoreError>,
}

impl Disk {
    /// Opens the store in `dir`, and creates it when there is none.
    ///
    /// # Errors
    /// `Locked` when another process has it, `Format` when its format is not the one this program
    /// knows (nothing is changed then), `Corrupt` when it is damaged, `Full` and `Io` as they are.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with_cache(dir, DEFAULT_CACHE_BYTES)
    }

    /// [`Disk::open`] with a given bound, in bytes, on the memory for blocks read from disk.
    ///
    /// # Errors
    /// As [`Disk::open`].
    pub fn open_with_cache(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        suspect::check(dir)?;
        Self::open_anyway(dir, cache_bytes)
    }

    /// Opens the store in `dir` although it may lack what it shows: to be read, and no more.
    ///
    /// # Errors
    /// As [`Disk::open`], but for that.
    pub fn open_suspect(dir: &Path) -> Result<Self, StoreError> {
        Self::open_anyway(dir, DEFAULT_CACHE_BYTES)
    }

    fn open_anyway(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let known = format::read(dir)?;
        std::fs::create_dir_all(dir)
            .map_err(|e| from_io(&format!("creating {}", dir.display()), &e))?;
        let lock = lock(dir)?;
        // Again under the lock: another process may just have created it.
        let identity = match known.map_or_else(|| format::read(dir), |found| Ok(Some(found)))? {
            Some(format) => format.identity,
            None if is_there(&data_dir(dir))? => {
                return Err(StoreError::Corrupt {
                    what: dir.display().to_string(),
                    detail: "there is data without a FORMAT file".to_owned(),
                });
            }
            None => format::create(dir)?.identity,
        };
        let (engine, committed) = open_engine(dir, &identity, cache_bytes)?;
        Ok(Self {
            dir: dir.to_owned(),
            identity,
            cache_bytes,
            engine: ArcSwapOption::from_pointee(engine),
            records: RecordCache::default(),
            writer: Mutex::new(Writer {
                committed,
                failed: None,
            }),
            free: Mutex::new(None),
            garbage: Garbage::default(),
            damage: watch::Sender::default(),
            _lock: lock,
        })
    }

    /// Keeps everybody from opening the store in `dir` for as long as the value lives. What is in
    /// it stays as it is.
    ///
    /// # Errors
    /// `Locked` when a process has it, `Io` when it cannot be locked.
    pub fn hold(dir: &Path) -> Result<Held, StoreError> {
        Ok(Held { _lock: lock(dir)? })
    }

    pub(super) fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        self.engine.load_full().ok_or_else(|| self.closed())
    }

    fn closed(&self) -> StoreError {
        StoreError::Io {
            what: format!("the store in {}", self.dir.display()),
            detail: "it is closed after a failure and not open again".to_owned(),
        }
    }
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.records.get(key, || {
            let engine = self.engine.load();
            let engine = engine.as_ref().ok_or_else(|| self.closed())?;
            let value = guard("reading a key", || engine.data.get(key));
            Ok(value.map_err(|error| self.noticed(error))?.map(to_bytes))
        })
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let engine = self.engine()?;
        // A snapshot: a batch that is committed meanwhile is seen whole or not at all.
        let mut pairs = guard("starting a scan", || {
            Ok(engine.database.snapshot().range(&engine.data, from..to))
        })?;
        loop {
            let pair = guard("scanning", || {
                pairs.next().map(fjall::Guard::into_inner).transpose()
            });
            let pair = pair.map_err(|error| self.noticed(error))?;
            let Some((key, value)) = pair else {
                return Ok(());
            };
            if !key.starts_with(RESERVED) && !visit(to_bytes(key), to_bytes(value)) {
                return Ok(());
            }
        }
    }
}

impl Commit for Disk {
    fn commit(&self, batches: &[Batch]) -> Result<(), StoreError> {
        if batches.iter().all(Batch::is_empty) {
            return Ok(());
        }
        refuse_odd_keys(batches)?;
        self.store(batches)
    }

    /// Closes the engine and opens it again, with all checks. Reads fail meanwhile. After an `Io`
    /// error of a sync do not reopen but replace the device: the operating system may show data
    /// that it could not write.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut engine) = self.engine.swap(None) {
            // Readers hold it for the length of a call.
            while let Err(shared) = Arc::try_unwrap(engine).map(drop_quietly) {
                engine = shared;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let (engine, committed) = open_engine(&self.dir, &self.identity, self.cache_bytes)?;
        self.records.clear();
        self.engine.store(Some(Arc::new(engine)));
        *writer = Writer {
            committed,
            failed: None,
        };
        Ok(())
    }
}

impl Disk {
    /// Makes a commit, of nothing but its mark when there are no batches.
    pub(super) fn store(&self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &writer.failed {
            return Err(error.clone());
        }
        let number = writer.committed + 1;
        let result = self.engine().and_then(|engine| {
            guard("counting", || self.garbage.count(batches, &engine.data))?;
            let stored = engine.commit(batches, number, &self.identity);
            stored.map_err(|error| self.explain(error))
        });
        let result = result.map_err(|error| self.noticed(error));
        match result {
            Ok(()) => {
                writer.committed = number;
                self.records.committed(batches);
            }
            Err(error) => {
                writer.failed = Some(error);
                self.records.clear();
            }
        }
        writer.failed.clone().map_or(Ok(()), Err)
    }
}

impl Disk {
    /// The engine remembers that a flush failed, and not why. Lack of space is the likely reason
    /// when there is less than a flush and a compaction need. For any other reason the store is not
    /// to be trusted any more.
    fn explain(&self, error: StoreError) -> StoreError {
        match (error, self.free_bytes()) {
            (StoreError::Io { what, detail }, Ok(free)) if free < 4 * MEMTABLE_BYTES => {
                StoreError::Full {
                    what,
                    detail: format!("{free} bytes are free; {detail}"),
                }
            }
            (error @ StoreError::Io { .. }, _) => {
                suspect::mark(&self.dir, &error);
                error
            }
            (error, _) => error,
        }
    }
}

impl Engine {
    fn commit(
        &self,
        batches: &[Batch],
        number: u64,
        identity: &DirectoryId,
    ) -> Result<(), StoreError> {
        let what = "a commit";
        guard(what, || self.wait_for_flushes())?;
        guard(what, || {
            let floor = self.database.seqno();
            let mark = CommitMark { number, floor }.encode(identity);
            let mut write = self
                .database
                .batch()
                .durability(Some(PersistMode::SyncData));
            write.insert(&self.data, MARK_KEY, mark);
            // A batch of the engine has one sequence for all its items, so a key may be in it once.
            let mut seen = HashSet::new();
            for (key, value) in batches.iter().flat_map(|batch| &batch.ops).rev() {
                if seen.insert(key) {
                    match value {
                        Some(value) => write.insert(&self.data, &key[..], &value[..]),
                        None => write.remove(&self.data, &key[..]),
                    }
                }
            }
            write.commit()
        })
    }

    /// The engine makes writers wait for flushes and compactions, for ever if these have failed. So
    /// we wait before it does, and notice the failure.
    fn wait_for_flushes(&self) -> fjall::Result<()> {
        while self.data.sealed_memtable_count() >= 2 || self.data.tree.l0_run_count() >= 20 {
            self.fail_if_failed()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Fails when the engine has failed in the background; otherwise does nothing.
    pub(super) fn fail_if_failed(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::Buffer)
    }
}

/// Whether a file is there. A device that cannot say so must not look like an empty one: what is on
/// it would be taken for nothing, and written over.
fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists()
        .map_err(|e| from_io(&format!("looking for {}", path.display()), &e))
}

/// Checks and opens the engine, and returns the number of its last commit.
fn open_engine(
    dir: &Path,
    identity: &DirectoryId,
    cache_bytes: u64,
) -> Result<(Engine, u64), StoreError> {
    let (data, new) = (data_dir(dir), dir.join("NEW"));
    if is_there(&new)? || !is_there(&data)? {
        return Ok((create_engine(dir, &data, &new, cache_bytes)?, 0));
    }
    manifest::check(&data)?;
    let in_journal = journal::check_and_repair(&data, identity)?;
    let what = format!("opening {}", data.display());
    let engine = guard(&what, || Engine::open(&data, cache_bytes))?;
    let mark = guard(&what, || engine.data.get(MARK_KEY))?;
    let corrupt = |detail: String| StoreError::Corrupt {
        what: data.display().to_string(),
        detail,
    };
    let committed = match mark {
        None => 0,
        Some(mark) => {
            CommitMark::decode(identity, &mark)
                .ok_or_else(|| corrupt("its last commit belongs to other data".to_owned()))?
                .number
        }
    };
    match in_journal {
        Some(last) if last != committed => Err(corrupt(format!(
            "its last commit is {committed}, and {last} in the journal"
        ))),
        _ => Ok((engine, committed)),
    }
}

/// Creates the engine where it stays. It is not closed in between: a journal that was opened again
/// grows with every commit, which makes a sync half as expensive again as in a new one that has its
/// full length from the start.
fn create_engine(
    dir: &Path,
    data: &Path,
    new: &Path,
    cache_bytes: u64,
) -> Result<Engine, StoreError> {
    let what = format!("creating {}", data.display());
    let sync = || File::open(dir)?.sync_all();
    File::create(new)
        .and_then(|_| sync())
        .map_err(|e| from_io(&what, &e))?;
    if is_there(data)? {
        std::fs::remove_dir_all(data).map_err(|e| from_io(&what, &e))?;
    }
    let engine = guard(&what, || Engine::open(data, cache_bytes))?;
    std::fs::remove_file(new)
        .and_then(|()| sync())
        .map_err(|e| from_io(&what, &e))?;
    Ok(engine)
}

impl Engine {
    fn open(data: &Path, cache_bytes: u64) -> fjall::Result<Self> {
        use fjall::config::HashRatioPolicy;

        let database = Database::builder(data)
            .cache_size(cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .max_cached_files(Some(OPEN_FILES))
            // One worker flushes while the other compacts.
            .worker_threads(2)
            .manual_journal_persist(true)
            .open()?;
        let data = database.keyspace("causeway", || {
            fjall::KeyspaceCreateOptions::default()
                .max_memtable_size(MEMTABLE_BYTES)
                .data_block_hash_ratio_policy(HashRatioPolicy::all(0.75))
        })?;
        Ok(Self { database, data })
    }
}

/// The engine refuses these by a panic, or in the case of reserved keys not at all.
fn refuse_odd_keys(batches: &[Batch]) -> Result<(), StoreError> {
    for (key, value) in batches.iter().flat_map(|batch| &batch.ops) {
        let too_long = key.len() > usize::from(u16::MAX)
            || value
                .as_ref()
                .is_some_and(|v| u32::try_from(v.len()).is_err());
        if key.is_empty() || too_long || key.starts_with(RESERVED) {
            return Err(StoreError::Io {
                what: "a commit".to_owned(),
                detail: format!(
                    "a key of {} bytes is empty, too long, reserved, or has too long a value",
                    key.len()
                ),
            });
        }
    }
    Ok(())
}

/// Drops an engine that may be in any state; a panic in there changes nothing for us.
fn drop_quietly(engine: Engine) {
    if let Err(error) = guard("closing", || {
        drop(engine);
        Ok(())
    }) {
        log::warn!("{error}");
    }
}

fn to_bytes(slice: Slice) -> Bytes {
    if slice.len() < SHARED_VALUE_BYTES {
        Bytes::copy_from_slice(&slice)
    } else {
        Bytes::from_owner(slice)
    }
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

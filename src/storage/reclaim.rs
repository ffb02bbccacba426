//! Room that comes back: what newer records took the place of leaves the disk only when the engine
//! writes its tables anew. By itself it does so after many more writes, which a full disk refuses.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fjall::Keyspace;

use super::disk::{Disk, Engine, MEMTABLE_BYTES};
use super::engine_error::guard;
use super::reserve::Reserve;
use crate::protocol::store::{Batch, StoreError};

/// Tables are written anew for this much that can go, in bytes, or for less if that is all that is
/// lacking.
const WORTHWHILE: u64 = 4 << 20;
/// What errors say that was done.
const MAKING: &str = "making room";
/// Left free beside the new tables, in bytes: writers fill memory meanwhile, which is flushed.
const BESIDE: u64 = 2 * MEMTABLE_BYTES;

/// How much the tables have of what newer records took the place of. Counted only while there is
/// little room: it costs a look at what was there.
#[derive(Default)]
pub struct Garbage {
    counting: AtomicBool,
    bytes: AtomicU64,
}

impl Garbage {
    /// Counts what a commit takes the place of, before it does.
    pub fn count(&self, batches: &[Batch], data: &Keyspace) -> fjall::Result<()> {
        if !self.counting.load(Ordering::Relaxed) {
            return Ok(());
        }
        for (key, value) in batches.iter().flat_map(|batch| &batch.ops) {
            let before = data.size_of(&key[..])?.unwrap_or(0);
            let now = value.as_ref().map_or(0, |value| value.len() as u64);
            let gone = u64::from(before).saturating_sub(now);
            self.bytes.fetch_add(gone, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Disk {
    /// Has the engine write its tables anew without what newer records took the place of, when less
    /// is free than `reserve` and that helps: when enough was deleted, and the new tables find room
    /// beside the old ones. Whether it did. Blocks, for as long as that takes.
    ///
    /// # Errors
    /// When the device is full all the same, or fails. What is stored stays as it is.
    pub fn make_room(&self, reserve: Reserve) -> Result<bool, StoreError> {
        let free = self.free_bytes()?;
        let lacking = reserve.bytes().saturating_sub(free);
        if lacking == 0 {
            self.garbage.counting.store(false, Ordering::Relaxed);
            self.garbage.bytes.store(0, Ordering::Relaxed);
            return Ok(false);
        }
        // What went before is not known.
        let first = !self.garbage.counting.swap(true, Ordering::Relaxed);
        let garbage = self.garbage.bytes.load(Ordering::Relaxed);
        if !first && garbage < lacking.min(WORTHWHILE) {
            return Ok(false);
        }
        let engine = self.engine()?;
        let at_most = engine.data.disk_space().saturating_sub(garbage);
        if free < at_most.saturating_add(BESIDE) {
            return Ok(false);
        }
        engine.compact()?;
        // The engine keeps the old tables for readers that began before, until it has moved on.
        self.store(&[])?;
        guard(MAKING, || engine.data.rotate_memtable())?;
        self.garbage.bytes.fetch_sub(garbage, Ordering::Relaxed);
        self.forget_free();
        Ok(true)
    }
}

impl Engine {
    /// Writes all tables anew, with what is in memory only.
    fn compact(&self) -> Result<(), StoreError> {
        guard(MAKING, || self.data.rotate_memtable())?;
        guard(MAKING, || {
            while self.data.sealed_memtable_count() > 0 {
                self.fail_if_failed()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })?;
        guard(MAKING, || self.data.major_compact())
    }
}

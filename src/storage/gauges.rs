//! What the storage engine says of itself, for metrics.

use super::disk::Disk;
use std::time::Duration;

/// The engine at one moment. Bytes and seconds as they say; the rest are numbers of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineGauges {
    /// Tables on disk.
    pub tables: u64,
    /// Tables among them that no compaction has taken yet.
    pub fresh_tables: u64,
    /// Journals on disk.
    pub journals: u64,
    /// Bytes of the journals.
    pub journal_bytes: u64,
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Full memtables that wait to become tables.
    pub flushes_waiting: u64,
    /// Compactions under way.
    pub compactions_running: u64,
    /// Compactions done since the engine was opened.
    pub compactions: u64,
    /// Time that compactions have taken since then.
    pub compacting: Duration,
    /// Bytes in the cache of blocks.
    pub block_cache_bytes: u64,
    /// Bytes in the cache of records.
    pub record_cache_bytes: u64,
    /// Reads that found their record in memory.
    pub record_hits: u64,
    /// Reads that did not.
    pub record_misses: u64,
}

impl Disk {
    /// What the engine says; `None` while it is not open.
    pub fn gauges(&self) -> Option<EngineGauges> {
        let engine = self.engine().ok()?;
        let (database, data) = (&engine.database, &engine.data);
        let (record_hits, record_misses) = self.records.asked();
        Some(EngineGauges {
            tables: data.table_count() as u64,
            fresh_tables: data.l0_table_count() as u64,
            journals: database.journal_count() as u64,
            journal_bytes: database.journal_disk_space().unwrap_or(0),
            memtable_bytes: database.write_buffer_size(),
            flushes_waiting: database.outstanding_flushes() as u64,
            compactions_running: database.active_compactions() as u64,
            compactions: database.compactions_completed() as u64,
            compacting: database.time_compacting(),
            block_cache_bytes: database.cache_size(),
            record_cache_bytes: self.records.bytes(),
            record_hits,
            record_misses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::store::{Batch, Store as _};
    use crate::storage::Commit as _;

    #[test]
    fn the_engine_tells_what_it_holds_and_what_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let mut batch = Batch::default();
        batch.put("key", vec![7; 1_000]);
        disk.commit(&[batch]).unwrap();
        assert!(disk.get(b"key").unwrap().is_some());
        assert!(disk.get(b"none").unwrap().is_none());
        let gauges = disk.gauges().unwrap();
        assert_eq!((gauges.record_hits, gauges.record_misses), (1, 1));
        assert!(gauges.record_cache_bytes > 1_000, "{gauges:?}");
        assert!(gauges.memtable_bytes > 1_000, "{gauges:?}");
        assert!(
            gauges.journals > 0 && gauges.journal_bytes > 0,
            "{gauges:?}"
        );
    }
}

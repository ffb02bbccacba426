//! Recently used records in memory, in front of the engine: a read of one costs a hash look-up
//! instead of a walk through tables.
//!
//! It never shows anything that the engine does not hold. A reader that misses leaves a
//! placeholder, reads the engine and fills the placeholder; the committer, once the engine has a
//! commit, replaces what it changed, which also voids placeholders. So whatever a reader fills in
//! late and old is replaced or refused.

use crate::protocol::store::{Batch, StoreError};
use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, GuardResult};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Memory for records, with an allowance for what each one costs beside its bytes: 64 MiB.
const CAPACITY: u64 = 64 << 20;
/// Bytes that an entry costs beside its own, about.
const OVERHEAD: usize = 112;
/// Longer values stay with the engine, which hands them out without a copy.
const MAX_VALUE: usize = 2048;
/// How many records of a usual size there is room for: a first guess for the tables.
const ITEMS: usize = 200_000;

/// The cache.
pub struct RecordCache {
    records: Cache<Vec<u8>, Bytes, Size>,
    /// Reads that found their record here, and reads that did not.
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone)]
struct Size;

impl Weighter<Vec<u8>, Bytes> for Size {
    fn weight(&self, key: &Vec<u8>, value: &Bytes) -> u64 {
        (key.len() + value.len() + OVERHEAD) as u64
    }
}

impl Default for RecordCache {
    fn default() -> Self {
        Self {
            records: Cache::with_weighter(ITEMS, CAPACITY, Size),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }
}

impl RecordCache {
    /// The value of a key: from here, else from `read`.
    ///
    /// # Errors
    /// What `read` fails with.
    pub fn get(
        &self,
        key: &[u8],
        read: impl FnOnce() -> Result<Option<Bytes>, StoreError>,
    ) -> Result<Option<Bytes>, StoreError> {
        if let Some(value) = self.records.get(key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(value));
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        // Another reader that fills the same place is not waited for.
        match self.records.get_value_or_guard(key, Some(Duration::ZERO)) {
            GuardResult::Value(value) => Ok(Some(value)),
            GuardResult::Timeout => read(),
            GuardResult::Guard(place) => {
                let value = read()?;
                if let Some(value) = value.as_ref().filter(|v| v.len() <= MAX_VALUE) {
                    // Refused when a commit has changed the key meanwhile.
                    let _ = place.insert(value.clone());
                }
                Ok(value)
            }
        }
    }

    /// Takes note of what the engine has committed.
    pub fn committed(&self, batches: &[Batch]) {
        for (key, value) in batches.iter().flat_map(|batch| &batch.ops) {
            match value.as_ref().filter(|v| v.len() <= MAX_VALUE) {
                Some(value) => self.records.insert(key.to_vec(), value.clone()),
                None => {
                    self.records.remove(&key[..]);
                }
            }
        }
    }

    /// Forgets everything: the engine may hold something else now.
    pub fn clear(&self) {
        self.records.clear();
    }

    /// Reads so far that found their record here, and reads that did not.
    pub fn asked(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.hits), read(&self.misses))
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> u64 {
        self.records.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(key: &'static str, value: Option<&'static str>) -> Batch {
        let mut batch = Batch::default();
        match value {
            Some(value) => batch.put(key.as_bytes(), value.as_bytes()),
            None => batch.delete(key.as_bytes()),
        }
        batch
    }

    fn old() -> Result<Option<Bytes>, StoreError> {
        Ok(Some(Bytes::from_static(b"old")))
    }

    #[test]
    fn what_is_read_before_a_commit_and_filled_in_after_it_is_not_kept() {
        for value in [Some("new"), None] {
            let cache = RecordCache::default();
            let read = cache.get(b"k", || {
                cache.committed(&[batch("k", value)]);
                old()
            });
            assert_eq!(read, old());
            let again = cache.get(b"k", || Ok(value.map(Bytes::from)));
            assert_eq!(again, Ok(value.map(Bytes::from)));
        }
    }

    #[test]
    fn a_second_read_does_not_ask_the_engine() {
        let cache = RecordCache::default();
        assert_eq!(cache.get(b"k", old), old());
        let engine = || -> Result<Option<Bytes>, StoreError> { panic!("asked again") };
        assert_eq!(cache.get(b"k", engine), old());
    }

    #[test]
    fn a_commit_that_grows_a_value_past_the_limit_is_seen() {
        let cache = RecordCache::default();
        assert_eq!(cache.get(b"k", old), old());
        let long = Bytes::from(vec![0; MAX_VALUE + 1]);
        let mut batch = Batch::default();
        batch.put(&b"k"[..], long.clone());
        cache.committed(&[batch]);
        assert_eq!(cache.get(b"k", || Ok(Some(long.clone()))), Ok(Some(long)));
    }

    #[test]
    fn a_failed_read_leaves_nothing_behind() {
        let cache = RecordCache::default();
        let failed = StoreError::Io {
            what: "x".into(),
            detail: "y".into(),
        };
        assert_eq!(cache.get(b"k", || Err(failed.clone())), Err(failed));
        assert_eq!(cache.get(b"k", old), old());
    }
}

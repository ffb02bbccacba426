//! A disk for the simulator: it keeps apart what was written and what is durable, loses the difference
//! in a crash, and can be wiped, filled, or put back to an older state.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::memory::{apply, scan};
use crate::protocol::store::{Batch, Store, StoreError};

/// A simulated disk. Readers see only what is durable.
#[derive(Debug, Default)]
pub struct SimDisk {
    durable: BTreeMap<Bytes, Bytes>,
    unsynced: VecDeque<Batch>,
    full: bool,
}

/// The durable content of a [`SimDisk`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image(BTreeMap<Bytes, Bytes>);

impl SimDisk {
    /// Hands a batch to the operating system: it is durable after the next [`SimDisk::sync`].
    ///
    /// # Errors
    /// `Full` while the disk is set to be; nothing is taken then.
    pub fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        if self.full {
            return Err(StoreError::Full {
                what: "a simulated write".to_owned(),
                detail: "the disk was set to be full".to_owned(),
            });
        }
        self.unsynced.push_back(batch);
        Ok(())
    }

    /// Makes everything written durable, and returns the number of batches that now became so.
    pub fn sync(&mut self) -> usize {
        let batches = self.unsynced.len();
        self.crash(batches);
        batches
    }

    /// Power is lost: the first `keep` of the batches written since the last sync survive.
    pub fn crash(&mut self, keep: usize) {
        for batch in self.unsynced.drain(..).take(keep) {
            apply(&mut self.durable, &batch);
        }
    }

    /// Batches written and not yet synced.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&mut self) {
        self.restore(Image(BTreeMap::new()));
    }

    /// A copy of the durable content.
    pub fn snapshot(&self) -> Image {
        Image(self.durable.clone())
    }

    /// Puts an older copy back.
    pub fn restore(&mut self, image: Image) {
        self.durable = image.0;
        self.unsynced.clear();
    }

    /// From now on writes fail with `Full`, or no longer do.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }
}

impl Store for SimDisk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.durable.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        scan(&self.durable, from, to, visit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str) -> Batch {
        let mut batch = Batch::default();
        batch.put(key, "value");
        batch
    }

    fn has(disk: &SimDisk, key: &str) -> bool {
        disk.get(key.as_bytes()) == Ok(Some("value".into()))
    }

    #[test]
    fn a_crash_keeps_a_prefix_of_what_was_not_synced() {
        let mut disk = SimDisk::default();
        disk.write(put("a")).unwrap();
        assert!(!has(&disk, "a"), "not durable yet");
        assert_eq!(disk.sync(), 1);
        for key in ["b", "c", "d"] {
            disk.write(put(key)).unwrap();
        }
        disk.crash(2);
        let found = ["a", "b", "c", "d"].map(|key| has(&disk, key));
        assert_eq!(found, [true, true, true, false]);
        assert_eq!(disk.sync(), 0);
    }

    #[test]
    fn it_can_be_wiped_filled_and_put_back() {
        let mut disk = SimDisk::default();
        disk.write(put("a")).unwrap();
        disk.sync();
        let image = disk.snapshot();
        disk.write(put("b")).unwrap();
        disk.sync();
        disk.set_full(true);
        assert!(matches!(disk.write(put("c")), Err(StoreError::Full { .. })));
        disk.wipe();
        assert!(!has(&disk, "a"));
        disk.restore(image);
        assert!(has(&disk, "a") && !has(&disk, "b"));
    }
}

//! The store without a disk: for tests, and as the model that others are compared with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use super::commit::Commit;
use crate::protocol::store::{Batch, Store, StoreError};

/// An ordered map of bytes. It is gone with the process.
#[derive(Debug, Default)]
pub struct Memory {
    map: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl Store for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        scan(&map, from, to, visit);
        Ok(())
    }
}

impl Commit for Memory {
    fn commit(&self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        for batch in batches {
            apply(&mut map, batch);
        }
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

pub(super) fn apply(map: &mut BTreeMap<Bytes, Bytes>, batch: &Batch) {
    for (key, value) in &batch.ops {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

pub(super) fn scan(
    map: &BTreeMap<Bytes, Bytes>,
    from: &[u8],
    to: &[u8],
    visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
) {
    // A map refuses a range that ends before it begins by a panic.
    if from >= to {
        return;
    }
    for (key, value) in map.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
        if !visit(key.clone(), value.clone()) {
            return;
        }
    }
}

//! A disk in memory: what is durable, and the batches that are still on their way.
//!
//! A batch can be read only when it is durable, as in the real store. A disk can be made to fail
//! reads.

use bytes::Bytes;
use causeway::protocol::store::{Batch, Store, StoreError};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

/// The content of a disk.
pub type Content = BTreeMap<Bytes, Bytes>;

/// A disk; clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    durable: Content,
    waiting: VecDeque<(u64, Batch)>,
    /// Percent of the reads that fail.
    failing: u64,
    reads: u64,
}

impl State {
    fn apply(&mut self, batch: &Batch) {
        for (key, value) in &batch.ops {
            match value {
                Some(value) => self.durable.insert(key.clone(), value.clone()),
                None => self.durable.remove(key),
            };
        }
    }
}

impl Disk {
    /// Lets this share of the reads fail from now on, in percent.
    pub fn set_failing(&self, percent: u64) {
        self.0.borrow_mut().failing = percent;
    }

    fn read(&self) -> Result<(), StoreError> {
        let mut state = self.0.borrow_mut();
        if state.failing == 0 {
            return Ok(());
        }
        state.reads += 1;
        // The golden ratio spreads consecutive numbers evenly.
        let dice = state.reads.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        match dice % 100 < state.failing {
            true => Err(StoreError::Io {
                what: "a read".to_owned(),
                detail: "simulated".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Takes a batch that will be durable later.
    pub fn submit(&self, no: u64, batch: Batch) {
        self.0.borrow_mut().waiting.push_back((no, batch));
    }

    /// The batch that will be durable next.
    pub fn first_waiting(&self) -> Option<(u64, Batch)> {
        self.0.borrow().waiting.front().cloned()
    }

    /// Makes the first waiting batch durable.
    pub fn sync_one(&self) {
        let mut state = self.0.borrow_mut();
        if let Some((_, batch)) = state.waiting.pop_front() {
            state.apply(&batch);
        }
    }

    /// Number of batches that are not durable yet.
    pub fn waiting(&self) -> usize {
        self.0.borrow().waiting.len()
    }

    /// The batches that are not durable yet.
    #[allow(dead_code, reason = "only the simulator loses a part of them")]
    pub fn unsynced(&self) -> Vec<Batch> {
        let state = self.0.borrow();
        state
            .waiting
            .iter()
            .map(|(_, batch)| batch.clone())
            .collect()
    }

    /// Loses all batches that are not durable yet.
    pub fn crash(&self) {
        self.0.borrow_mut().waiting.clear();
    }

    /// Loses everything.
    pub fn wipe(&self) {
        self.put_back(Content::new());
    }

    /// A copy of the durable content.
    pub fn copy(&self) -> Content {
        self.0.borrow().durable.clone()
    }

    /// Puts a copy in the place of what is there.
    pub fn put_back(&self, content: Content) {
        let mut state = self.0.borrow_mut();
        state.durable = content;
        state.waiting.clear();
    }
}

impl Store for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.read()?;
        Ok(self.0.borrow().durable.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        self.read()?;
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in self.0.borrow().durable.range::<[u8], _>(range) {
            if !visit(key.clone(), value.clone()) {
                break;
            }
        }
        Ok(())
    }
}

//! A node's disk. The disk outlives the process, and keeps what a real one may keep: all that was
//! synced, and of the round that was under way at a crash everything or nothing. A disk can be
//! slow, hang, be full, or fail.

use super::exec::{Exec, Process};
use bytes::Bytes;
use causeway::protocol::store::{Batch, Store, StoreError};
use causeway::raft::{Engine, StoreQueue, Stored};
use causeway::storage::Numbered;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The trouble of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Each sync takes so many times as long.
    Slow(u64),
    Hangs,
    Full,
    Fails,
}

#[derive(Default)]
struct State {
    map: BTreeMap<Bytes, Bytes>,
    trouble: Option<Trouble>,
    /// The round that is being stored.
    under_way: Option<Vec<Batch>>,
}

/// A disk. Clones share it.
#[derive(Clone, Default)]
pub struct Device(Arc<Mutex<State>>);

impl Device {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble
    }

    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.lock().trouble = trouble;
    }

    /// The process of the disk is gone. The round that was under way is stored, or not.
    pub fn crash(&self, stored: bool) {
        let mut state = self.lock();
        if let Some(round) = state.under_way.take()
            && stored
        {
            state.store(&round);
        }
    }

    /// Whether a key is there.
    pub fn has(&self, key: &[u8]) -> bool {
        self.lock().map.contains_key(key)
    }

    /// Another disk takes its place.
    pub fn wipe(&self) {
        *self.lock() = State::default();
    }

    /// As a process has it that runs from now on.
    pub fn open(&self, exec: &Exec, process: Process) -> Arc<Opened> {
        Arc::new(Opened {
            device: self.clone(),
            exec: exec.clone(),
            process,
        })
    }
}

impl State {
    fn store(&mut self, round: &[Batch]) {
        for (key, value) in round.iter().flat_map(|batch| &batch.ops) {
            match value {
                Some(value) => drop(self.map.insert(key.clone(), value.clone())),
                None => drop(self.map.remove(key)),
            }
        }
    }

    /// The error that storing meets now.
    fn error(&self) -> Result<(), StoreError> {
        let (what, detail) = ("a commit".to_owned(), "drawn".to_owned());
        match self.trouble {
            Some(Trouble::Full) => Err(StoreError::Full { what, detail }),
            Some(Trouble::Fails) => Err(StoreError::Io { what, detail }),
            _ => Ok(()),
        }
    }
}

/// A disk that a process has opened.
pub struct Opened {
    device: Device,
    exec: Exec,
    process: Process,
}

impl Store for Opened {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.device.lock().map.get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), StoreError> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let found: Vec<(Bytes, Bytes)> = match from < to {
            true => {
                let state = self.device.lock();
                let found = state.map.range::<[u8], _>(range);
                found.map(|(k, v)| (k.clone(), v.clone())).collect()
            }
            false => Vec::new(),
        };
        for (key, value) in found {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}

impl Engine for Opened {
    fn commit_now(&self, batch: Batch) -> Result<(), StoreError> {
        let mut state = self.device.lock();
        state.error()?;
        state.store(&[batch]);
        Ok(())
    }

    fn is_nearly_full(&self, _: u64) -> Result<bool, StoreError> {
        Ok(self.device.trouble() == Some(Trouble::Full))
    }

    fn queue(self: Arc<Self>, stored: Stored) -> Result<Box<dyn StoreQueue>, StoreError> {
        let waiting = Waiting {
            stored,
            waiting: VecDeque::new(),
            busy: None,
            failed: None,
        };
        Ok(Box::new(Line {
            disk: self,
            waiting: Arc::new(Mutex::new(waiting)),
        }))
    }
}

struct Waiting {
    stored: Stored,
    waiting: VecDeque<Numbered>,
    /// The last number of the round that is under way.
    busy: Option<u64>,
    failed: Option<StoreError>,
}

/// The batches that wait to be stored.
#[derive(Clone)]
struct Line {
    disk: Arc<Opened>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Line {
    /// Begins a round with all that waits.
    fn begin(&self) {
        let mut waiting = self.waiting.lock().unwrap();
        if waiting.busy.is_some() || waiting.failed.is_some() || waiting.waiting.is_empty() {
            return;
        }
        waiting.busy = waiting.waiting.back().map(|n| n.no);
        let round: Vec<Numbered> = waiting.waiting.drain(..).collect();
        drop(waiting);
        let batches = round.iter().map(|n| n.batch.clone()).collect();
        self.disk.device.lock().under_way = Some(batches);
        let slow = match self.disk.device.trouble() {
            Some(Trouble::Slow(times)) => times,
            _ => 1,
        };
        let time = self.disk.exec.draw(|rng| match rng.below(10) {
            0 => rng.within(1_000, 8_000),
            _ => rng.within(80, 1_500),
        });
        self.end_after(Duration::from_micros(time * slow), round);
    }

    fn end_after(&self, time: Duration, round: Vec<Numbered>) {
        let line = self.clone();
        let end = move || line.end(round);
        self.disk.exec.after(self.disk.process, time, end);
    }

    fn end(&self, round: Vec<Numbered>) {
        let device = &self.disk.device;
        if device.trouble() == Some(Trouble::Hangs) {
            return self.end_after(Duration::from_millis(50), round);
        }
        let Some(highest) = round.last().map(|n| n.no) else {
            return;
        };
        let result = {
            let mut state = device.lock();
            let result = state.error();
            if let Some(batches) = state.under_way.take() {
                // A batch that failed may be there all the same.
                let there = result.is_ok() || self.disk.exec.draw(|rng| rng.percent(50));
                if there && state.trouble != Some(Trouble::Full) {
                    state.store(&batches);
                }
            }
            result
        };
        let mut waiting = self.waiting.lock().unwrap();
        waiting.busy = None;
        if let Err(error) = &result {
            waiting.failed = Some(error.clone());
            for one in round.into_iter().rev() {
                waiting.waiting.push_front(one);
            }
        }
        (waiting.stored)(result.map(|()| highest));
        drop(waiting);
        self.begin();
    }
}

impl StoreQueue for Line {
    fn submit(&self, batch: Numbered) {
        self.waiting.lock().unwrap().waiting.push_back(batch);
        self.begin();
    }

    fn resume(&self) {
        self.waiting.lock().unwrap().failed = None;
        self.begin();
    }

    fn stop(self: Box<Self>) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock().unwrap();
        if let Some(error) = &waiting.failed {
            return Err(error.clone());
        }
        let rest: Vec<Numbered> = waiting.waiting.drain(..).collect();
        let mut state = self.disk.device.lock();
        state.error()?;
        let mut batches = state.under_way.take().unwrap_or_default();
        batches.extend(rest.iter().map(|n| n.batch.clone()));
        state.store(&batches);
        drop(state);
        if let Some(last) = rest.last().map(|n| n.no).or(waiting.busy) {
            (waiting.stored)(Ok(last));
        }
        Ok(())
    }
}

//! Versions on their way to the store: the winner per key, the index of dots, the counts, and
//! the batches that carry them.

use super::super::clock::Timestamp;
use super::super::ids::{Dot, LogId};
use super::super::limits::{Bound, met};
use super::super::record::{self, IndexRun};
use super::super::store::{Batch, Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::version::{Key, Stamp, Version};
use super::{Effect, Replica};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What the next batch will hold.
#[derive(Default)]
pub(super) struct Staged {
    /// Store keys whose newest version, in `inflight`, is to be written or removed.
    places: Vec<Bytes>,
    /// Dots to index, in order per log.
    pub(super) index: BTreeMap<LogId, IndexRun>,
    counts: bool,
    /// Further records.
    pub(super) records: Batch,
    bytes: usize,
}

impl Staged {
    /// Store keys whose newest version the next batch will have.
    pub(super) fn places(&self) -> &[Bytes] {
        &self.places
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.records.is_empty() && !self.counts
    }
}

/// A batch that is on its way to the disk.
pub(super) struct PendingBatch {
    no: u64,
    /// How far each log will be applied.
    applied: Vec<(LogId, u64)>,
    places: Vec<Bytes>,
    bytes: usize,
    /// The promise that the batch makes durable.
    promise: Option<Timestamp>,
}

impl PendingBatch {
    pub(super) fn no(&self) -> u64 {
        self.no
    }

    pub(super) fn applied(&self) -> &[(LogId, u64)] {
        &self.applied
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn promise(&self) -> Option<Timestamp> {
        self.promise
    }
}

/// A version that is handed in but not durable yet.
pub(super) struct Inflight {
    batch: u64,
    /// `None`: the key is being removed.
    version: Option<Version>,
}

impl Inflight {
    /// The batch that it is, or will be, in.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }
}

impl<S: Store, T> Replica<S, T> {
    /// The newest version that this replica has taken in under a store key, durable or not.
    pub(super) fn current(&self, place: &Bytes) -> Result<Option<Version>, StoreError> {
        match self.inflight.get(place) {
            Some(inflight) => Ok(inflight.version.clone()),
            None => record::load_at(&self.store, place),
        }
    }

    /// Puts a version into the store unless the one there wins; `current` is that one.
    pub(super) fn stage_version(
        &mut self,
        place: Bytes,
        version: Version,
        current: Option<&Version>,
    ) {
        if current.is_some_and(|c| !version.beats(c)) {
            return;
        }
        self.count(current, Some(&version));
        if version.value.is_none() {
            let key = record::tombstone_key(version.stamp, &version.key);
            self.staged.records.put(key, Bytes::new());
        }
        self.stage(place, Some(version));
    }

    /// Takes a store key out of the store; `current` is what is there.
    pub(super) fn stage_removal(&mut self, place: Bytes, current: &Version) {
        self.count(Some(current), None);
        self.stage(place, None);
    }

    pub(super) fn stage(&mut self, place: Bytes, version: Option<Version>) {
        self.staged.bytes += version.as_ref().map_or(place.len(), Version::size);
        let batch = self.next_batch;
        let inflight = Inflight { batch, version };
        let before = self.inflight.insert(place.clone(), inflight);
        if before.is_none_or(|b| b.batch != batch) {
            self.staged.places.push(place);
        }
    }

    fn count(&mut self, before: Option<&Version>, after: Option<&Version>) {
        let live = |v: Option<&Version>| u64::from(v.is_some_and(|v| v.value.is_some()));
        let dead = |v: Option<&Version>| u64::from(v.is_some_and(|v| v.value.is_none()));
        let counts = &mut self.counts;
        counts.live = (counts.live + live(after)).saturating_sub(live(before));
        counts.tombstones = (counts.tombstones + dead(after)).saturating_sub(dead(before));
        self.staged.counts = true;
    }

    /// Notes that a log is taken in up to `dot`, the next one of its log.
    pub(super) fn stage_dot(&mut self, dot: Dot, key: Key) {
        if dot.log == self.log && dot.seq == 1 {
            self.seal_earlier_logs();
        }
        debug_assert!(
            dot.seq == self.logs.received(dot.log) + 1 || broken(Rule::AcceptGap),
            "a receiver never skips"
        );
        // A replica that is alone has nobody to ship a range to.
        let indexed = !self.is_alone();
        let is_tracked = self.logs.take_in(dot, indexed, self.now);
        debug_assert!(is_tracked, "{dot} is of no log that is tracked");
        if !indexed || !is_tracked {
            return;
        }
        self.staged.bytes += key.len() + 16;
        let run = self
            .staged
            .index
            .entry(dot.log)
            .or_insert_with(|| IndexRun {
                first: dot.seq,
                keys: Vec::new(),
            });
        run.keys.push(key);
        if run.keys.len() >= self.limits.run_dots {
            met(Bound::Run);
            self.close_run(dot.log);
        }
    }

    /// Whether so much is on its way to the disk that taking in more can wait.
    pub(super) fn disk_is_behind(&self) -> bool {
        let behind = self.inflight_bytes + self.staged.bytes > self.limits.behind_bytes;
        if behind {
            met(Bound::Behind);
        }
        behind
    }

    /// Turns what is staged into one batch.
    ///
    /// One batch is on its way at a time, unless much is waiting: meanwhile the next one grows, and
    /// the more there is to do, the less a single write costs.
    pub(super) fn stage_batch(&mut self) {
        if !self.batches.is_empty() {
            if self.staged.bytes < self.limits.batch_bytes {
                return;
            }
            met(Bound::Batch);
        }
        let logs: Vec<LogId> = self.staged.index.keys().copied().collect();
        for log in logs {
            self.close_run(log);
        }
        let mut staged = std::mem::take(&mut self.staged);
        let mut batch = std::mem::take(&mut staged.records);
        for place in &staged.places {
            let newest = self.inflight.get(place);
            match newest.and_then(|i| i.version.as_ref()) {
                Some(version) => batch.put(place.clone(), record::encode_version(version)),
                None => batch.delete(place.clone()),
            }
        }
        let mut applied = Vec::new();
        for (id, record) in self.logs.take_dirty() {
            applied.push((id, record.applied));
            batch.put(record::log_key(id), record::encode(&record));
        }
        if staged.counts {
            batch.put(record::COUNTS, record::encode(&self.counts));
        }
        let promise = self.promises.take_staged();
        if batch.is_empty() {
            return;
        }
        batch.put(record::CLOCK, record::encode(&self.clock.now()));
        let no = self.next_batch;
        self.next_batch += 1;
        self.inflight_bytes += staged.bytes;
        self.batches.push_back(PendingBatch {
            no,
            applied,
            places: staged.places,
            bytes: staged.bytes,
            promise,
        });
        self.effects.push(Effect::Persist { no, batch });
    }

    /// Takes note that batches up to `no` are durable. The logs that moved, with where they were.
    pub(super) fn settle_batches(&mut self, no: u64) -> Option<BTreeMap<LogId, u64>> {
        let mut moved = BTreeMap::new();
        let mut any = false;
        while self.batches.front().is_some_and(|b| b.no <= no) {
            let Some(batch) = self.batches.pop_front() else {
                break;
            };
            any = true;
            self.durable_batch = batch.no;
            for (id, applied) in batch.applied {
                if let Some(before) = self.logs.stored(id, applied) {
                    moved.entry(id).or_insert(before);
                }
            }
            for place in batch.places {
                if self
                    .inflight
                    .get(&place)
                    .is_some_and(|i| i.batch == batch.no)
                {
                    self.inflight.remove(&place);
                }
            }
            self.inflight_bytes -= batch.bytes;
            self.promises.durable(batch.promise);
        }
        self.marks_changed |= any;
        any.then_some(moved)
    }

    /// Lets the undo of unexposed writes know of a version that others may see already.
    pub(super) fn stage_seen(&mut self, version: Version) -> Result<(), StoreError> {
        let place = record::data_key(&version.key);
        let current = self.current(&place)?;
        self.accept.shown_meanwhile(&version);
        self.stage_version(place, version, current.as_ref());
        Ok(())
    }

    /// Whether the newest version of a key is a write of this incarnation that is not shown yet.
    pub(super) fn is_unexposed(&self, dot: Dot) -> bool {
        dot.log == self.log && self.logs.own().is_some_and(|l| dot.seq > l.exposed)
    }
}

/// The stamp of a version that is a tombstone.
pub(super) fn tombstone_stamp(version: Option<&Version>) -> Option<Stamp> {
    version.filter(|v| v.value.is_none()).map(|v| v.stamp)
}

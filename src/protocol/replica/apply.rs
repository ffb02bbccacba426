//! Versions on their way to the store: the winner per key, the index of dots, the counts, and
//! the batches that carry them.

use super::super::ids::{Dot, LogId};
use super::super::limits::{Bound, met};
use super::super::record;
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::version::{Key, Stamp, Version};
use super::{Effect, Replica};
use bytes::Bytes;
use std::collections::BTreeMap;

impl<S: Store, T> Replica<S, T> {
    /// The newest version that this replica has taken in under a store key, durable or not.
    pub(super) fn current(&self, place: &Bytes) -> Result<Option<Version>, StoreError> {
        match self.staging.newest(place) {
            Some(newest) => Ok(newest.cloned()),
            None => record::load_at(&self.store, place),
        }
    }

    /// Puts a version into the store unless `current`, the one there, wins.
    pub(super) fn stage_version(
        &mut self,
        place: Bytes,
        version: Version,
        current: Option<&Version>,
    ) {
        if current.is_none_or(|c| version.beats(c)) {
            self.staging.write(place, version, current);
        }
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
        let log = dot.log;
        if self.staging.index(dot, key) >= self.limits.run_dots {
            met(Bound::Run);
            self.close_run(log);
        }
    }

    /// Whether so much is on its way to the disk that taking in more can wait.
    pub(super) fn disk_is_behind(&self) -> bool {
        let behind = self.staging.bytes() > self.limits.behind_bytes;
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
        if !self.staging.may_hand_out(self.limits.batch_bytes) {
            return;
        }
        for log in self.staging.open_runs() {
            self.close_run(log);
        }
        let promise = self.promises.take_staged();
        let logs = self.logs.take_dirty();
        if let Some((no, batch)) = self.staging.hand_out(logs, promise, self.clock.now()) {
            self.effects.push(Effect::Persist { no, batch });
        }
    }

    /// Takes note that batches up to `no` are durable. The logs that moved, with where they were.
    pub(super) fn settle_batches(&mut self, no: u64) -> Option<BTreeMap<LogId, u64>> {
        let mut moved = None;
        while let Some(batch) = self.staging.settle(no) {
            let moved = moved.get_or_insert_with(BTreeMap::new);
            for (id, applied) in batch.applied {
                if let Some(before) = self.logs.stored(id, applied) {
                    moved.entry(id).or_insert(before);
                }
            }
            self.promises.durable(batch.promise);
            self.hidden.stored(batch.no);
        }
        moved
    }

    /// Takes in a version that others may see already, which readers of a hidden write are shown
    /// when it is durable.
    pub(super) fn stage_seen(&mut self, version: Version) -> Result<(), StoreError> {
        let place = record::data_key(&version.key);
        let current = self.current(&place)?;
        self.hidden
            .shown_meanwhile(&version, self.staging.next_batch());
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

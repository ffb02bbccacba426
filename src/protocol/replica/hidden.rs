//! Writes that readers are not shown yet, and what readers see in their place.
//!
//! [`HiddenWrites`] is the only one that decides what a reader is shown of a key whose newest
//! version is a write of this replica that has no second copy yet: a version that is durable here,
//! or none for a moment, when a client may have seen one that is not.

use super::super::context::Context;
use super::super::ids::Dot;
use super::super::teeth::{Rule, broken};
use super::super::version::{Key, Version};
use super::{Now, cannot_be};
use std::collections::{BTreeMap, VecDeque};

/// The own writes that are not shown yet.
#[derive(Default)]
pub(super) struct HiddenWrites {
    /// The version that readers see, for each key whose newest one is hidden.
    undo: BTreeMap<Key, Undo>,
    /// The hidden writes, in the order of the log.
    order: VecDeque<Hidden>,
    /// The batches with versions that may be shown when those are durable, and their keys.
    coming: VecDeque<(u64, Key)>,
}

/// A write that is not shown yet.
struct Hidden {
    seq: u64,
    key: Key,
    since_us: u64,
}

struct Undo {
    /// The newest version that is known here to be durable and may be shown.
    shown: Option<Version>,
    /// Others' versions that are newer than that, and the batches that they are durable with.
    coming: VecDeque<(u64, Version)>,
    /// Beside the first of `coming` there may be an older one that is newer than `shown`, and of
    /// which nothing is known here.
    unsure: bool,
    /// The writes of the key that are not shown yet, in order.
    hidden: VecDeque<Version>,
}

/// The version of a key that readers may see when a write is about to hide it.
#[derive(Default)]
pub(super) struct Before {
    /// The one that is durable here.
    pub(super) shown: Option<Version>,
    /// A newer one that is on its way to the disk, and its batch.
    pub(super) coming: Option<(u64, Version)>,
}

impl Undo {
    fn show(&mut self, version: &Version) {
        if self.shown.as_ref().is_none_or(|s| version.beats(s)) {
            self.shown = Some(version.clone());
        }
    }
}

impl HiddenWrites {
    /// Whether nothing is hidden.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The hidden writes, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Version> {
        self.undo.values().flat_map(|undo| &undo.hidden)
    }

    /// The version that a client with this past may be shown, of a key whose newest one is hidden.
    ///
    /// A hidden write that the context names was seen elsewhere, so the client is shown that write.
    ///
    /// There is no right answer yet, and the error is the write to wait for, in two cases:
    ///
    /// - The client may have seen a hidden write that the context does not name, because that is
    ///   not later than the clock of the context: contexts drop a write as soon as any replica
    ///   knows that all have it, and that can be before the writer knows.
    /// - A version of another log is on its way to the disk here since before the key was hidden,
    ///   and an older one of which nothing is known here may have become durable meanwhile, and
    ///   have been seen by the client.
    ///
    /// Others get what is durable, even if a newer version may be seen elsewhere: if this and the
    /// other process ended now, nobody would have that one.
    pub(super) fn shown(&self, key: &Key, context: &Context) -> Result<Option<&Version>, Dot> {
        let Some(undo) = self.undo.get(key) else {
            return Ok(None);
        };
        let seen = |v: &Version| context.get(v.dot.log).is_some_and(|s| s >= v.dot.seq);
        let named = undo.hidden.iter().filter(|v| seen(v));
        let best = undo.shown.iter().chain(named).max_by_key(|v| v.order());
        let newer = |v: &&Version| best.is_none_or(|b| v.beats(b));
        let unknown = undo.coming.front().filter(|_| undo.unsure);
        let unknown = unknown.map(|(_, version)| version).filter(newer);
        // Two nodes may give the same time: the client may have seen what wins by its node.
        let best_ts = best.map(|b| b.stamp.ts).unwrap_or_default();
        let unknown = unknown.filter(|_| best_ts <= context.clock);
        let doubtful = undo.hidden.iter();
        let doubtful = doubtful
            .filter(|v| v.stamp.ts <= context.clock)
            .filter(newer)
            .max_by_key(|v| v.order());
        match unknown.or(doubtful) {
            Some(version) => Err(version.dot),
            None => Ok(best),
        }
    }

    /// Whether a write of a key is hidden.
    pub(super) fn hides(&self, key: &Key) -> bool {
        self.undo.contains_key(key)
    }

    /// A version that may be shown when batch `no` is durable came for a key whose newest one may
    /// not.
    pub(super) fn shown_meanwhile(&mut self, version: &Version, no: u64) {
        let Some(undo) = self.undo.get_mut(&version.key) else {
            return;
        };
        if broken(Rule::ShowInFlight) {
            return undo.show(version);
        }
        undo.coming.push_back((no, version.clone()));
        self.coming.push_back((no, version.key.clone()));
    }

    /// Batches up to `no` are durable, and so is what came with them.
    pub(super) fn stored(&mut self, no: u64) {
        while let Some((_, key)) = self.coming.pop_front_if(|(batch, _)| *batch <= no) {
            let Some(undo) = self.undo.get_mut(&key) else {
                // Nothing of the key is hidden any more.
                continue;
            };
            while let Some((_, version)) = undo.coming.pop_front_if(|(batch, _)| *batch <= no) {
                undo.show(&version);
                undo.unsure = false;
            }
        }
    }

    /// Hides a write from readers, who see what was there before until it is shown.
    pub(super) fn hide(&mut self, version: &Version, before: Before, now: Now) {
        let undo = self.undo.entry(version.key.clone()).or_insert(Undo {
            shown: before.shown,
            coming: VecDeque::new(),
            unsure: before.coming.is_some(),
            hidden: VecDeque::new(),
        });
        undo.hidden.push_back(version.clone());
        self.order.push_back(Hidden {
            seq: version.dot.seq,
            key: version.key.clone(),
            since_us: now.mono_us,
        });
        if let Some((no, version)) = before.coming {
            self.shown_meanwhile(&version, no);
        }
    }

    /// The last of the writes that have been hidden since `late_us` or before; 0 when there is
    /// none.
    pub(super) fn since(&self, late_us: u64) -> u64 {
        let late = self.order.iter().take_while(|h| h.since_us <= late_us);
        late.last().map_or(0, |h| h.seq)
    }

    /// Shows the writes up to this seq. One that is shown may still be behind one that is not.
    pub(super) fn show(&mut self, upto: u64) {
        while let Some(Hidden { seq, key, .. }) = self.order.pop_front_if(|h| h.seq <= upto) {
            let Some(undo) = self.undo.get_mut(&key) else {
                cannot_be("a hidden write of a key of which none is hidden");
                continue;
            };
            while let Some(version) = undo.hidden.pop_front_if(|v| v.dot.seq <= seq) {
                undo.show(&version);
            }
            if undo.hidden.is_empty() {
                self.undo.remove(&key);
            }
        }
    }

    /// Asserts what must hold, when the own log has writes up to `head`, and clients wait for these
    /// ones.
    pub(super) fn check(&self, head: u64, mut waiting: impl Iterator<Item = u64>) {
        let mut seqs = self.order.iter().map(|h| h.seq);
        assert!(seqs.clone().is_sorted(), "hidden in the order of the log");
        assert!(
            seqs.clone().all(|seq| seq <= head),
            "hidden, but not logged"
        );
        let hidden: usize = self.undo.values().map(|undo| undo.hidden.len()).sum();
        assert_eq!(hidden, self.order.len(), "hidden once");
        // Clients wait for nothing else, and in the same order.
        assert!(
            waiting.all(|waited| seqs.any(|seq| seq == waited)),
            "waits for what is hidden"
        );
    }
}

#[cfg(test)]
#[path = "hidden_tests.rs"]
mod tests;

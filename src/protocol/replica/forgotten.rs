//! Deletes that are forgotten: their tombstones are gone from every replica.
//!
//! [`ForgottenDeletes`] is the only one that knows how new a delete may have been of which nothing
//! is left. An orphaned write that comes late is compared with that.

use super::super::clock::Timestamp;
use super::super::record;
use super::super::slots::{Slot, SlotSet};
use super::staging::Staging;
use std::collections::BTreeMap;

/// The newest delete that is forgotten in each slot.
pub(super) struct ForgottenDeletes(BTreeMap<Slot, Timestamp>);

impl ForgottenDeletes {
    /// As the disk has them.
    pub(super) fn new(stored: BTreeMap<Slot, Timestamp>) -> Self {
        Self(stored)
    }

    /// Notes that deletes in a slot are forgotten, none of them newer than this.
    pub(super) fn forget(&mut self, slot: Slot, upto: Timestamp, staging: &mut Staging) {
        let known = self.0.entry(slot).or_default();
        if upto > *known {
            *known = upto;
            staging.put(record::forgotten_key(slot), record::encode(&upto));
        }
    }

    /// Whether a delete in the slot may be forgotten that is as new as this.
    pub(super) fn may_cover(&self, slot: Slot, ts: Timestamp) -> bool {
        ts <= self.0.get(&slot).copied().unwrap_or_default()
    }

    /// The newest forgotten delete of each of these slots that has one.
    pub(super) fn within(&self, slots: &SlotSet) -> Vec<(Slot, Timestamp)> {
        let all = self.0.iter().map(|(slot, ts)| (*slot, *ts));
        all.filter(|(slot, _)| slots.contains(*slot)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::record::KeyCounts;
    use super::*;

    fn ts(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    /// Whether the next batch has a record of the slot.
    fn is_recorded(staging: &mut Staging, slot: Slot) -> bool {
        let handed = staging.hand_out(std::iter::empty(), None, ts(100));
        let key = record::forgotten_key(slot);
        handed.is_some_and(|(_, batch)| batch.ops.iter().any(|(k, _)| *k == key))
    }

    #[test]
    fn only_the_newest_forgotten_delete_of_a_slot_counts() {
        let mut staging = Staging::new(0, KeyCounts::default());
        let mut forgotten = ForgottenDeletes::new(BTreeMap::new());
        let (slot, other) = (Slot(3), Slot(4));
        assert!(!forgotten.may_cover(slot, ts(1)), "nothing is forgotten");
        forgotten.forget(slot, ts(5), &mut staging);
        assert!(is_recorded(&mut staging, slot));
        forgotten.forget(slot, ts(4), &mut staging);
        assert!(!is_recorded(&mut staging, slot), "the disk has a newer one");
        assert!(forgotten.may_cover(slot, ts(5)) && !forgotten.may_cover(slot, ts(6)));
        assert!(!forgotten.may_cover(other, ts(1)));
        let mut asked = SlotSet::default();
        asked.insert(other);
        assert_eq!(forgotten.within(&asked), []);
        asked.insert(slot);
        assert_eq!(forgotten.within(&asked), [(slot, ts(5))]);
    }
}

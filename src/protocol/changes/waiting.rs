//! Which members gain slots in the next view, and which of them it has to wait for.

use super::ViewChanges;
use crate::protocol::ids::MemberId;
use crate::protocol::slots::SlotSet;
use crate::protocol::teeth::{Rule, broken};
use crate::protocol::view::View;
use std::collections::{BTreeMap, BTreeSet};

impl ViewChanges {
    /// The slots that each member of the next view is to hold and does not hold in the view in
    /// force. Members with none are left out; without a next view all are.
    #[must_use]
    pub fn gaining(&self) -> BTreeMap<MemberId, SlotSet> {
        let next = self.views.next.as_ref();
        next.map(|next| self.gaining_in(next)).unwrap_or_default()
    }

    /// The slots that each member of a view would have to get for it.
    #[must_use]
    pub fn gaining_in(&self, next: &View) -> BTreeMap<MemberId, SlotSet> {
        let (now, mut gaining) = (&self.views.view, BTreeMap::new());
        let given_up = &self.views.given_up;
        for (partition, replicas) in next.partitions() {
            let slots = next.slots_of(partition);
            for member in replicas.iter().filter(|m| !given_up.contains(m)) {
                let held = now.partition_of(*member);
                let held = held.filter(|_| !self.behind.contains(member));
                // The usual case: the partition does not change.
                if held == Some(partition) && now.since(partition) == next.since(partition) {
                    continue;
                }
                let held = held.map(|p| now.slots_of(p)).unwrap_or_default();
                let gained = slots.without(&held);
                if !gained.is_empty() {
                    gaining.insert(*member, gained);
                }
            }
        }
        gaining
    }

    /// The members that the next view has to wait for: those that gain slots and are neither ready
    /// nor in `without`, and all replicas of a partition of which none would have what it is to
    /// hold.
    #[must_use]
    pub fn awaited(&self, without: &BTreeSet<MemberId>) -> BTreeSet<MemberId> {
        let (Some(running), Some(next)) = (&self.running, &self.views.next) else {
            return BTreeSet::new();
        };
        if broken(Rule::EnactWithoutAll) {
            return BTreeSet::new();
        }
        let gaining = self.gaining();
        let lacking: BTreeSet<_> = gaining.into_keys().collect();
        let lacking: BTreeSet<_> = lacking.difference(&running.ready).copied().collect();
        let mut awaited: BTreeSet<_> = lacking.difference(without).copied().collect();
        // A given-up member is not waited for, and owns nothing.
        let owners = |replicas: &[MemberId]| -> Vec<MemberId> {
            let owners = replicas.iter().copied();
            owners
                .filter(|m| !self.views.given_up.contains(m))
                .collect()
        };
        for (_, replicas) in next.partitions() {
            let owners = owners(replicas);
            if owners.iter().all(|member| lacking.contains(member)) {
                awaited.extend(owners);
            }
        }
        awaited
    }
}

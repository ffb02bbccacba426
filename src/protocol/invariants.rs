//! Invariants of views: they hold whatever was decided. Views that come from another node or from
//! the disk are refused without them, and debug builds assert them after each decision.

use super::changes::RunningChange;
use super::ids::{MAX_VIEW, MemberId};
use super::placement::Change;
use super::slots::SLOTS;
use super::sound::{Unsound, ensure};
use super::view::View;
use super::views::Views;
use std::collections::BTreeSet;

impl View {
    pub(super) fn check(&self) -> Result<(), Unsound> {
        let numbered = (1..MAX_VIEW).contains(&self.number);
        ensure(numbered, "a view with an impossible number")?;
        ensure(self.k > 0, "a view without replicas")?;
        let placed = self.slots.len() == usize::from(SLOTS);
        ensure(placed, "a view in which not every slot is placed")?;
        let owners: BTreeSet<_> = self.slots.iter().collect();
        let known = owners.iter().all(|p| self.partitions.contains_key(p));
        ensure(known, "a view with slots of no partition")?;
        for (id, partition) in &self.partitions {
            ensure(!partition.replicas.is_empty(), "a partition of nobody")?;
            let begun = partition.since <= self.number;
            ensure(begun, "a partition of a later view")?;
            ensure(id.0 < self.next_partition, "a partition never given out")?;
            let mut replicas = partition.replicas.iter();
            let inside = replicas.all(|m| self.partition_of(*m) == Some(*id));
            ensure(inside, "a replica that is no member of its partition")?;
        }
        let partitions = self.partitions.values();
        let replicas: BTreeSet<_> = partitions.clone().flat_map(|p| &p.replicas).collect();
        let places: usize = partitions.map(|p| p.replicas.len()).sum();
        let once = places == self.members.len() && replicas.len() == places;
        ensure(once, "a member that is not in just one place")?;
        let existed = self.members.keys().all(|m| self.has_existed(*m));
        ensure(existed, "a member number never given out")?;
        let addresses: BTreeSet<_> = self.members.values().map(|m| m.address).collect();
        let apart = addresses.len() == self.members.len();
        ensure(apart, "two members with one address")
    }
}

impl Views {
    pub(super) fn check(&self) -> Result<(), Unsound> {
        // The views in it have been checked where they were read, and are checked by whoever
        // decides.
        if let Some(next) = &self.next {
            let other = next.number != self.view.number;
            ensure(other, "a next view with the number of the present one")?;
            let same = next.fingerprint() == self.view.fingerprint();
            ensure(same, "a next view of another cluster")?;
        }
        let ids: BTreeSet<_> = self.closing.iter().map(|c| c.id).collect();
        let once = ids.len() == self.closing.len();
        ensure(once, "a cohort that closes twice")?;
        for cohort in &self.closing {
            let until = cohort.until.unwrap_or_default();
            let over = cohort.id.since < until && until <= self.view.number;
            ensure(over, "a closing cohort that is not closed")?;
            let open = self.view.since(cohort.id.partition) == Some(cohort.id.since);
            ensure(!open, "a closing cohort that is open")?;
        }
        let named = |member: &MemberId| self.view.address(*member).is_some();
        let given_up = self.given_up.iter().all(named);
        ensure(given_up, "a member given up that is not in the view")?;
        let leaving = !self.leaving.keys().any(named);
        ensure(leaving, "a member leaving that is in the view")
    }
}

/// Asserts what must hold of what is decided, when the newest view number that was given out is
/// `newest`.
pub(super) fn check(
    views: &Views,
    running: Option<&RunningChange>,
    behind: &BTreeSet<MemberId>,
    newest: u64,
) {
    let sound = views.view.check();
    let sound = sound.and_then(|()| views.next.as_ref().map_or(Ok(()), View::check));
    assert_eq!(sound.and_then(|()| views.check()), Ok(()));
    assert_eq!(
        running.map(|r| r.number),
        views.next.as_ref().map(|v| v.number),
        "a change runs while there is a next view"
    );
    let number = views.next.as_ref().map_or(0, |v| v.number);
    assert!(
        number.max(views.view.number) <= newest,
        "numbers are given out"
    );
    assert!(behind.iter().all(|m| views.view.address(*m).is_some()));
    if let Some(running) = running
        && let Change::Remove(member) = running.change
    {
        assert!(
            views.view.address(member).is_some(),
            "it is there to be removed"
        );
        assert_eq!(running.given_up, views.given_up.contains(&member));
    }
}

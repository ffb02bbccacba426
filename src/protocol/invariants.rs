//! Invariants of decided views: they hold whatever was decided. Debug builds assert it after each
//! decision.

use super::changes::RunningChange;
use super::ids::MemberId;
use super::placement::Change;
use super::slots::SLOTS;
use super::view::View;
use super::views::Views;
use std::collections::BTreeSet;

impl View {
    fn check(&self) {
        assert_eq!(self.slots.len(), usize::from(SLOTS), "every slot is placed");
        let placed: BTreeSet<_> = self.slots.iter().collect();
        assert!(placed.iter().all(|p| self.partitions.contains_key(p)));
        for (id, partition) in &self.partitions {
            assert!(!partition.replicas.is_empty(), "{id:?} has replicas");
            assert!(
                partition.since <= self.number,
                "{id:?} is not of a later view"
            );
            assert!(id.0 < self.next_partition, "{id:?} has been given out");
            for member in &partition.replicas {
                assert_eq!(self.partition_of(*member), Some(*id), "{member}");
            }
        }
        let replicas = self.partitions.values().map(|p| p.replicas.len());
        assert_eq!(
            replicas.sum::<usize>(),
            self.members.len(),
            "each is in one"
        );
        assert!(self.members.keys().all(|m| self.has_existed(*m)));
        let addresses: BTreeSet<_> = self.members.values().map(|m| m.address).collect();
        assert_eq!(addresses.len(), self.members.len(), "each has its address");
    }
}

impl Views {
    fn check(&self) {
        self.view.check();
        if let Some(next) = &self.next {
            next.check();
            assert_ne!(
                next.number, self.view.number,
                "the next view is another one"
            );
        }
        let ids: BTreeSet<_> = self.closing.iter().map(|c| c.id).collect();
        assert_eq!(ids.len(), self.closing.len(), "cohorts close once");
        for cohort in &self.closing {
            let until = cohort.until.unwrap_or_default();
            let over = cohort.id.since < until && until <= self.view.number;
            assert!(over, "{} is closed", cohort.id);
            assert_ne!(self.view.since(cohort.id.partition), Some(cohort.id.since));
        }
        let named = |member: &MemberId| self.view.address(*member).is_some();
        assert!(self.given_up.iter().all(named), "given up, and in the view");
        assert!(
            !self.leaving.keys().any(named),
            "leaving, and out of the view"
        );
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
    views.check();
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

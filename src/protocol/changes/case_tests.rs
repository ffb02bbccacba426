//! One kind of change after the other, step by step.

use super::*;
use crate::protocol::placement::tests::addresses;
use crate::protocol::slots::{Slot, SlotSet};
use crate::protocol::view::{FULL, PartitionId};

pub(super) fn changes(nodes: usize, k: usize) -> ViewChanges {
    ViewChanges::first(View::first(&addresses(nodes), k).unwrap())
}

pub(super) fn change(change: Change) -> ViewCommand {
    let (give_up, lose_data) = (false, false);
    ViewCommand::Change {
        change,
        give_up,
        lose_data,
    }
}

pub(super) fn enact(number: u64, without: &[u16]) -> ViewCommand {
    let without = without.iter().copied().map(MemberId).collect();
    ViewCommand::Enact { number, without }
}

pub(super) fn ready(member: u16, number: u64) -> ViewCommand {
    let member = MemberId(member);
    ViewCommand::Ready { member, number }
}

pub(super) fn over(partition: u32, since: u64) -> ViewCommand {
    let partition = PartitionId(partition);
    let cohort = CohortId { partition, since };
    ViewCommand::Over { cohort }
}

pub(super) fn waiting(number: u64, members: &[u16]) -> ViewOutcome {
    let members = members.iter().copied().map(MemberId).collect();
    ViewOutcome::Refused(ViewRefusal::Waiting { number, members })
}

#[test]
fn a_node_comes_in_when_it_is_ready() {
    let mut changes = changes(3, 1);
    let new = addresses(4)[3];
    let started = ViewOutcome::Started { number: 2 };
    let plan = changes.plan(&Change::Add(new)).unwrap();
    assert_eq!(changes.gaining_in(&plan)[&MemberId(3)].len(), 4096);
    assert_eq!(changes.apply(change(Change::Add(new))), started);
    assert_eq!(changes.views().next, Some(plan));
    assert_eq!(changes.member_at(new), Some(MemberId(3)));
    assert_eq!(changes.gaining()[&MemberId(3)].len(), 4096);
    assert_eq!(changes.number_of_partitions(), 3);
    let busy = ViewRefusal::Busy {
        change: Change::Add(new),
        number: 2,
    };
    assert_eq!(
        changes.apply(change(Change::SetK(2))),
        ViewOutcome::Refused(busy)
    );
    assert_eq!(changes.apply(enact(2, &[])), waiting(2, &[3]));
    assert_eq!(
        changes.apply(enact(2, &[3])),
        waiting(2, &[3]),
        "nobody would have its slots"
    );
    assert_eq!(changes.apply(ready(3, 2)), ViewOutcome::Changed);
    assert_eq!(changes.apply(ready(3, 2)), ViewOutcome::Unchanged);
    assert_eq!(
        changes.apply(enact(2, &[])),
        ViewOutcome::InForce { number: 2 }
    );
    assert_eq!(changes.apply(enact(2, &[])), ViewOutcome::Unchanged);
    assert_eq!(changes.last().unwrap().end, End::InForce);
    assert_eq!(changes.number_of_partitions(), 4);
    for partition in 0..3 {
        assert_eq!(changes.apply(over(partition, 1)), ViewOutcome::Changed);
        assert_eq!(changes.apply(over(partition, 1)), ViewOutcome::Unchanged);
    }
    assert_eq!(changes.last().unwrap().end, End::Done);
}

#[test]
fn full_replication_is_decided_like_any_k_and_holds_for_whoever_comes() {
    let mut changes = changes(2, 1);
    let started = |number| ViewOutcome::Started { number };
    assert_eq!(changes.apply(change(Change::SetK(FULL))), started(2));
    let all: SlotSet = Slot::all().collect();
    for (_, gained) in changes.gaining() {
        assert!(!gained.is_empty() && gained != all, "each has its own half");
    }
    assert_eq!(changes.apply(enact(2, &[])), waiting(2, &[0, 1]));
    for member in [0, 1] {
        assert_eq!(changes.apply(ready(member, 2)), ViewOutcome::Changed);
    }
    assert_eq!(
        changes.apply(enact(2, &[])),
        ViewOutcome::InForce { number: 2 }
    );
    assert!(changes.views().view.is_full());
    for partition in [0, 1] {
        changes.apply(over(partition, 1));
    }
    assert_eq!(
        changes.apply(change(Change::Add(addresses(3)[2]))),
        started(3)
    );
    let gained = changes.gaining();
    assert_eq!(
        gained,
        BTreeMap::from([(MemberId(2), all)]),
        "all of it, and nobody else"
    );
    changes.apply(ready(2, 3));
    assert_eq!(
        changes.apply(enact(3, &[])),
        ViewOutcome::InForce { number: 3 }
    );
    let view = &changes.views().view;
    assert_eq!(
        (view.replication_factor(), view.partitions().count()),
        (3, 1)
    );
    assert_eq!(
        changes.apply(change(Change::SetK(FULL))),
        ViewOutcome::Refused(ChangeError::NothingToDo(FULL).into())
    );
}

#[test]
fn a_removed_node_leaves_when_its_cohort_is_over() {
    let mut changes = changes(4, 2);
    let out = MemberId(3);
    changes.apply(change(Change::Remove(out)));
    assert!(
        changes.gaining().is_empty(),
        "its partition loses a replica, nothing else"
    );
    assert_eq!(
        changes.apply(enact(3, &[])),
        ViewOutcome::InForce { number: 3 }
    );
    assert!(changes.views().leaving.contains_key(&out));
    let address = addresses(4)[3];
    let leaving = ViewOutcome::Refused(ViewRefusal::Leaving {
        address,
        member: out,
    });
    assert_eq!(changes.apply(change(Change::Add(address))), leaving);
    assert_eq!(changes.apply(change(Change::Remove(out))), leaving);
    let mut dies = changes.clone();
    assert!(!dies.last().unwrap().given_up);
    dies.apply(ViewCommand::GiveUp { member: out });
    assert!(
        dies.last().unwrap().given_up,
        "it died while it was leaving"
    );
    assert_eq!(changes.apply(over(1, 1)), ViewOutcome::Changed);
    assert!(changes.views().leaving.is_empty());
    assert_eq!(changes.last().unwrap().node, Some(address));
    let back = changes.apply(change(Change::Add(address)));
    assert_eq!(back, ViewOutcome::Started { number: 4 });
    assert_eq!(
        changes.member_at(address),
        Some(MemberId(4)),
        "a new member"
    );
}

#[test]
fn a_dead_node_is_not_waited_for() {
    let mut changes = changes(4, 2);
    let member = MemberId(3);
    changes.apply(change(Change::Remove(member)));
    let before = changes.views().view.number;
    assert_eq!(
        changes.apply(ViewCommand::GiveUp { member }),
        ViewOutcome::Changed
    );
    let views = changes.views();
    assert!(views.view.number > before, "contexts tell of it");
    assert!(views.next.as_ref().unwrap().number > views.view.number);
    assert_eq!(
        changes.apply(ViewCommand::GiveUp { member }),
        ViewOutcome::Unchanged
    );
    changes.apply(enact(3, &[]));
    assert!(changes.views().leaving.is_empty() && changes.last().unwrap().given_up);
    assert!(changes.views().given_up.is_empty(), "it is out");
    let other = MemberId(0);
    let refused = ViewOutcome::Refused(ViewRefusal::InView(other));
    assert_eq!(
        changes.apply(ViewCommand::GiveUp { member: other }),
        refused
    );
}

#[test]
fn a_member_that_is_given_up_stays_so_until_it_is_out() {
    let mut changes = changes(4, 2);
    let (member, address) = (MemberId(3), addresses(4)[3]);
    changes.apply(change(Change::Remove(member)));
    changes.apply(ViewCommand::GiveUp { member });
    let cancelled = ViewOutcome::Cancelled { number: 3 };
    assert_eq!(changes.apply(ViewCommand::Cancel { number: 3 }), cancelled);
    assert!(changes.views().given_up.contains(&member));
    assert_eq!(
        changes.apply(ViewCommand::GiveUp { member }),
        ViewOutcome::Unchanged
    );
    // Nothing else is changed while somebody holds slots and does not serve them.
    let first = ViewOutcome::Refused(ViewRefusal::GivenUp { address, member });
    for other in [
        Change::SetK(3),
        Change::Remove(MemberId(0)),
        Change::Add(addresses(5)[4]),
    ] {
        assert_eq!(changes.apply(change(other)), first);
    }
    let again = changes.apply(change(Change::Remove(member)));
    assert_eq!(again, ViewOutcome::Started { number: 5 });
    assert!(changes.running().unwrap().given_up);
    assert_eq!(
        changes.apply(enact(5, &[])),
        ViewOutcome::InForce { number: 5 }
    );
    let views = changes.views();
    assert!(views.given_up.is_empty() && views.leaving.is_empty());
}

#[test]
fn removing_a_node_that_is_being_added_cancels_that() {
    let mut changes = changes(2, 1);
    changes.apply(change(Change::Add(addresses(3)[2])));
    let cancelled = ViewOutcome::Cancelled { number: 2 };
    assert_eq!(
        changes.apply(change(Change::Remove(MemberId(2)))),
        cancelled
    );
    let again = ViewCommand::Cancel { number: 2 };
    assert_eq!(changes.apply(again), ViewOutcome::Unchanged);
    // Neither its number nor its view's is used again.
    changes.apply(change(Change::Add(addresses(3)[2])));
    assert_eq!(changes.running().unwrap().number, 3);
    assert_eq!(changes.member_at(addresses(3)[2]), Some(MemberId(3)));
    assert_eq!(changes.apply(ready(2, 2)), ViewOutcome::Unchanged);
}

#[test]
fn a_member_that_was_not_waited_for_does_not_count_until_it_is_ready() {
    let mut changes = changes(4, 2);
    // m1 becomes a partition's only replica, m3 is to join m2's.
    changes.apply(change(Change::SetK(4)));
    let gaining: Vec<u16> = changes.gaining().into_keys().map(|m| m.0).collect();
    assert_eq!(gaining, [0, 1, 2, 3]);
    for member in [0, 1] {
        changes.apply(ready(member, 2));
    }
    assert_eq!(changes.apply(enact(2, &[3])), waiting(2, &[2]));
    assert_eq!(
        changes.apply(enact(2, &[2, 3])),
        ViewOutcome::InForce { number: 2 }
    );
    assert_eq!(changes.behind().len(), 2);
    changes.apply(change(Change::Remove(MemberId(0))));
    changes.apply(enact(4, &[2, 3]));
    changes.apply(change(Change::Remove(MemberId(1))));
    // The members that are left came in without the data that they are to hold.
    assert_eq!(changes.apply(enact(6, &[2, 3])), waiting(6, &[2, 3]));
    assert_eq!(changes.apply(ready(2, 4)), ViewOutcome::Changed);
    assert_eq!(
        changes.apply(enact(6, &[2, 3])),
        ViewOutcome::InForce { number: 6 }
    );
}

#[test]
fn a_cohort_is_not_over_before_those_whose_slots_it_took() {
    let mut changes = changes(1, 1);
    for (node, number) in [(1, 2), (2, 3)] {
        changes.apply(change(Change::Add(addresses(3)[node])));
        changes.apply(ready(node as u16, number));
        changes.apply(enact(number, &[]));
    }
    let views = changes.views();
    let first = &views.closing[0];
    let later = views
        .closing
        .iter()
        .find(|c| c.id.partition.0 == 1)
        .unwrap();
    assert_eq!((first.until, later.id.since), (Some(2), 2));
    let took = first.slots.common(&later.slots);
    assert!(
        took.is_within(&views.part(first, MemberId(1))),
        "it may be the only one to have a late write"
    );
    let too_early = ViewOutcome::Refused(ViewRefusal::TooEarly {
        cohort: later.id,
        earlier: first.id,
    });
    assert_eq!(changes.apply(over(1, 2)), too_early);
    assert_eq!(changes.apply(over(0, 1)), ViewOutcome::Changed);
    assert_eq!(changes.apply(over(1, 2)), ViewOutcome::Changed);
}

#[test]
fn a_removal_may_lose_data_when_that_is_asked_for_at_once_or_while_it_runs() {
    let removal = |member, lose_data| ViewCommand::Change {
        change: Change::Remove(MemberId(member)),
        give_up: false,
        lose_data,
    };
    let may_lose = |changes: &ViewChanges| changes.running().unwrap().lose_data;
    let mut changes = changes(3, 1);
    let ViewOutcome::Started { number } = changes.apply(removal(2, false)) else {
        panic!("not started");
    };
    assert!(!may_lose(&changes));
    let again = changes.apply(removal(2, false));
    assert!(matches!(
        again,
        ViewOutcome::Refused(ViewRefusal::Busy { .. })
    ));
    let other = changes.apply(removal(1, true));
    assert!(matches!(
        other,
        ViewOutcome::Refused(ViewRefusal::Busy { .. })
    ));
    assert!(!may_lose(&changes), "another removal says nothing of this");
    for _ in 0..2 {
        let agreed = changes.apply(removal(2, true));
        assert_eq!(agreed, ViewOutcome::Agreed { number });
        assert!(may_lose(&changes));
    }
    changes.apply(ViewCommand::Cancel { number });
    changes.apply(removal(2, false));
    assert!(!may_lose(&changes), "that was agreed to of another change");
    let number = changes.running().unwrap().number;
    changes.apply(ViewCommand::Cancel { number });
    changes.apply(removal(2, true));
    assert!(may_lose(&changes));
}

#[test]
fn the_last_living_node_is_not_said_to_be_dead() {
    let mut changes = changes(2, 1);
    let dead = |members: &[u16]| ViewCommand::Dead {
        members: members.iter().copied().map(MemberId).collect(),
    };
    let last = ViewOutcome::Refused(ChangeError::LastNode(MemberId(1)).into());
    assert_eq!(changes.apply(dead(&[0, 1])), last);
    assert_eq!(changes.apply(dead(&[0])), ViewOutcome::Changed);
    assert_eq!(changes.apply(dead(&[0, 7])), ViewOutcome::Unchanged);
    assert_eq!(changes.apply(dead(&[1])), last);
    changes.apply(change(Change::Remove(MemberId(0))));
    let busy = changes.apply(dead(&[1]));
    assert!(matches!(
        busy,
        ViewOutcome::Refused(ViewRefusal::Busy { .. })
    ));
}

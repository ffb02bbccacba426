//! Whatever is proposed in whatever order, the nodes agree on something that makes sense.

use super::*;
use crate::protocol::ids::{LogId, incarnation};
use crate::protocol::placement::tests::{addresses, assert_sound};
use crate::protocol::slots::{Slot, SlotSet};
use crate::protocol::view::{FULL, PartitionId};
use crate::protocol::views::Home;
use proptest::prelude::*;
use proptest::sample::Index;

/// A command whose details follow from the state that it meets.
#[derive(Debug, Clone)]
enum Move {
    Add(usize),
    Remove(Index, bool),
    SetK(usize),
    Ready(Index),
    AllReady,
    AllReadyAndEnact,
    StaleReady(u16, u64),
    Enact(Vec<Index>),
    StaleEnact(u64),
    Over(Index),
    UnknownOver(u32, u64),
    GiveUp(Index),
    Cancel(bool),
}

fn a_move() -> impl Strategy<Value = Move> {
    let index = any::<Index>;
    prop_oneof![
        6 => (0usize..12).prop_map(Move::Add),
        6 => (index(), any::<bool>()).prop_map(|(i, give_up)| Move::Remove(i, give_up)),
        2 => prop_oneof![5 => 0usize..5, 1 => Just(FULL)].prop_map(Move::SetK),
        4 => index().prop_map(Move::Ready),
        2 => Just(Move::AllReady),
        10 => Just(Move::AllReadyAndEnact),
        1 => (0u16..20, 0u64..20).prop_map(|(m, n)| Move::StaleReady(m, n)),
        10 => proptest::collection::vec(index(), 0..3).prop_map(Move::Enact),
        1 => (0u64..20).prop_map(Move::StaleEnact),
        8 => index().prop_map(Move::Over),
        1 => (0u32..6, 0u64..9).prop_map(|(p, n)| Move::UnknownOver(p, n)),
        2 => index().prop_map(Move::GiveUp),
        2 => any::<bool>().prop_map(Move::Cancel),
    ]
}

/// The commands of a move.
fn commands(changes: &ViewChanges, step: &Move) -> Vec<ViewCommand> {
    let members: Vec<MemberId> = changes.members().into_keys().collect();
    let number = changes.running().map_or(changes.newest, |r| r.number);
    let change = |change, give_up| ViewCommand::Change {
        change,
        give_up,
        lose_data: give_up,
    };
    let ready = |member| ViewCommand::Ready { member, number };
    let one = match step {
        Move::Add(i) => change(Change::Add(addresses(12)[*i]), false),
        Move::Remove(i, give_up) => change(Change::Remove(*i.get(&members)), *give_up),
        Move::SetK(k) => change(Change::SetK(*k), false),
        Move::Ready(i) => ready(*i.get(&members)),
        Move::AllReady => return members.into_iter().map(ready).collect(),
        Move::AllReadyAndEnact => {
            let all = members.into_iter().map(ready);
            return all.chain([enact(number, &[])]).collect();
        }
        Move::StaleReady(member, number) => ViewCommand::Ready {
            member: MemberId(*member),
            number: *number,
        },
        Move::Enact(without) => ViewCommand::Enact {
            number,
            without: without.iter().map(|i| *i.get(&members)).collect(),
        },
        Move::StaleEnact(number) => ViewCommand::Enact {
            number: *number,
            without: members.into_iter().collect(),
        },
        Move::Over(_) if changes.views().closing.is_empty() => return Vec::new(),
        Move::Over(i) => ViewCommand::Over {
            cohort: i.get(&changes.views().closing).id,
        },
        Move::UnknownOver(partition, since) => ViewCommand::Over {
            cohort: CohortId {
                partition: PartitionId(*partition),
                since: *since,
            },
        },
        Move::GiveUp(i) => ViewCommand::GiveUp {
            member: *i.get(&members),
        },
        Move::Cancel(right) => ViewCommand::Cancel {
            number: if *right { number } else { number + 1 },
        },
    };
    vec![one]
}

/// The run so far.
#[derive(Default)]
struct History {
    /// By number, each view that has been in force.
    views: BTreeMap<u64, View>,
    over: BTreeSet<CohortId>,
    members: BTreeMap<MemberId, SocketAddr>,
    numbers: BTreeSet<u64>,
}

impl History {
    fn note(&mut self, before: &ViewChanges, after: &ViewChanges, outcome: &ViewOutcome) {
        let view = &after.views.view;
        self.views.insert(view.number, view.clone());
        let now: BTreeSet<CohortId> = after.views.closing.iter().map(|c| c.id).collect();
        let closed = before.views.closing.iter().map(|c| c.id);
        self.over.extend(closed.filter(|id| !now.contains(id)));
        for (member, address) in after.members() {
            let known = self.members.entry(member).or_insert(address);
            assert_eq!(*known, address, "{member} is two nodes");
        }
        if let ViewOutcome::Started { number } = outcome {
            assert!(self.numbers.insert(*number), "view {number} twice");
        }
    }

    /// Every log that may have been opened is where it belongs.
    fn assert_homes(&self, views: &Views) {
        for (number, view) in &self.views {
            for (member, _) in view.members() {
                let partition = view.partition_of(member).unwrap();
                let since = view.since(partition).unwrap();
                let id = CohortId { partition, since };
                let log = LogId {
                    member,
                    incarnation: incarnation(*number, 77),
                };
                let over = self.over.contains(&id);
                let home = if over { Home::Over } else { Home::Cohort(id) };
                assert_eq!(views.home(log), home, "{log}");
                if over {
                    assert_eq!(views.cohort(id), None);
                    continue;
                }
                let cohort = views.cohort(id).unwrap();
                assert!(cohort.wrote(log));
                assert_eq!(cohort.slots, view.slots_of(partition));
                assert_eq!(cohort.replicas, view.replicas(partition));
            }
        }
        let ahead = LogId {
            member: MemberId(0),
            incarnation: incarnation(views.view.number + 1, 77),
        };
        assert_eq!(views.home(ahead), Home::Ahead);
    }
}

fn assert_closing(views: &Views) {
    let ids: BTreeSet<CohortId> = views.closing.iter().map(|c| c.id).collect();
    assert_eq!(ids.len(), views.closing.len(), "{ids:?}");
    for cohort in &views.closing {
        assert_ne!(views.view.since(cohort.id.partition), Some(cohort.id.since));
        let sharing = views.sharing(cohort);
        for member in &sharing {
            let cohorts = views.cohorts_of(*member);
            assert!(cohorts.iter().any(|c| c.id == cohort.id), "{member}");
        }
        // The present holders of the slots keep all of the cohort that is in them.
        for (partition, replicas) in views.view.partitions() {
            let held = cohort.slots.common(&views.view.slots_of(partition));
            // A given-up member is not waited for.
            let counts = |m: &&MemberId| !held.is_empty() && views.is_present(**m);
            for member in replicas.iter().filter(counts) {
                assert!(held.is_within(&views.part(cohort, *member)));
                assert!(sharing.contains(member));
            }
        }
        for later in views
            .closing
            .iter()
            .filter(|c| c.id.since > cohort.id.since)
        {
            let took = later.slots.meets(&cohort.slots);
            for member in later
                .replicas
                .iter()
                .filter(|m| took && views.is_present(**m))
            {
                assert!(
                    sharing.contains(member),
                    "{member} held {cohort:?} after it"
                );
            }
        }
    }
    for member in views.leaving.keys() {
        assert_eq!(views.view.address(*member), None);
        assert!(views.closing.iter().any(|c| c.replicas.contains(member)));
    }
}

fn assert_current(views: &Views) {
    assert_sound(&views.view);
    let mut held = SlotSet::default();
    for (partition, replicas) in views.view.partitions() {
        let id = views.current(replicas[0]).unwrap();
        let cohort = views.cohort(id).unwrap();
        assert_eq!((cohort.until, cohort.id.partition), (None, partition));
        assert!(!held.meets(&cohort.slots));
        held.join(&cohort.slots);
    }
    assert_eq!(held.len(), Slot::all().count());
    if let Some(next) = &views.next {
        assert_sound(next);
        assert!(next.number > views.view.number);
    }
}

fn assert_changes(changes: &ViewChanges) {
    let (running, next) = (changes.running(), changes.views().next.as_ref());
    assert_eq!(running.map(|r| r.number), next.map(|v| v.number));
    let view = &changes.views().view;
    assert!(changes.newest >= view.number);
    // Nobody could serve a partition whose replicas are all behind.
    for (_, replicas) in view.partitions() {
        assert!(!replicas.iter().all(|m| changes.behind().contains(m)));
    }
    assert!(changes.behind().iter().all(|m| view.address(*m).is_some()));
    let gaining = changes.gaining();
    if let Some(next) = next {
        let slots: BTreeSet<_> = Slot::all()
            .filter(|s| view.partition(*s) != next.partition(*s))
            .collect();
        for (partition, replicas) in next.partitions() {
            let gained: SlotSet = slots
                .iter()
                .copied()
                .filter(|s| next.partition(*s) == partition)
                .collect();
            for member in replicas.iter().filter(|_| !gained.is_empty()) {
                // Unless it comes from the partition that gave them.
                let had = view
                    .partition_of(*member)
                    .map(|p| view.slots_of(p))
                    .unwrap_or_default();
                let gains = gained.without(&had);
                let noted = gaining.get(member).cloned().unwrap_or_default();
                assert!(gains.is_within(&noted), "{member}");
            }
        }
    }
    if let Some(last) = changes.last() {
        let open = !changes.views().closing.is_empty();
        assert!(last.end == End::Cancelled || open == (last.end == End::InForce));
    }
}

fn assert_step(
    before: &ViewChanges,
    after: &ViewChanges,
    command: &ViewCommand,
    outcome: &ViewOutcome,
) {
    let mut same = after.views.clone();
    same.version = before.views.version;
    let grown = u64::from(same != before.views);
    assert_eq!(
        after.views.version,
        before.views.version + grown,
        "{command:?}"
    );
    match outcome {
        ViewOutcome::Refused(_) | ViewOutcome::Unchanged => assert_eq!(after, before),
        ViewOutcome::Started { number } => {
            assert!(before.running.is_none());
            assert_eq!(after.views.next.as_ref().unwrap().number, *number);
        }
        ViewOutcome::InForce { number } => {
            assert_eq!(after.views.view.number, *number);
            assert_eq!(Some(&after.views.view), before.views.next.as_ref());
        }
        ViewOutcome::Cancelled { number } => {
            assert_eq!(after.views.view.number, before.views.view.number);
            assert_eq!(before.running.as_ref().unwrap().number, *number);
        }
        ViewOutcome::Changed => assert_ne!(after, before),
        ViewOutcome::Agreed { number } => {
            let running = after.running.as_ref().unwrap();
            assert!(running.lose_data && running.number == *number);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_commands_in_any_order_keep_the_promises(
        nodes in 1usize..7,
        k in 1usize..4,
        moves in proptest::collection::vec(a_move(), 1..60),
    ) {
        let mut changes = ViewChanges::first(View::first(&addresses(nodes), k).unwrap());
        let mut twin = changes.clone();
        let mut history = History::default();
        history.note(&changes, &changes, &ViewOutcome::Unchanged);
        for step in moves {
            for command in commands(&changes, &step) {
                let before = changes.clone();
                let outcome = changes.apply(command.clone());
                assert_step(&before, &changes, &command, &outcome);
                history.note(&before, &changes, &outcome);
                prop_assert_eq!(twin.apply(command), outcome);
            }
            assert_current(changes.views());
            assert_closing(changes.views());
            assert_changes(&changes);
            history.assert_homes(changes.views());
        }
        let bytes = postcard::to_allocvec(&changes).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<ViewChanges>(&bytes).unwrap(), &twin);
    }
}

fn changes(nodes: usize, k: usize) -> ViewChanges {
    ViewChanges::first(View::first(&addresses(nodes), k).unwrap())
}

fn change(change: Change) -> ViewCommand {
    let (give_up, lose_data) = (false, false);
    ViewCommand::Change {
        change,
        give_up,
        lose_data,
    }
}

fn enact(number: u64, without: &[u16]) -> ViewCommand {
    let without = without.iter().copied().map(MemberId).collect();
    ViewCommand::Enact { number, without }
}

fn ready(member: u16, number: u64) -> ViewCommand {
    let member = MemberId(member);
    ViewCommand::Ready { member, number }
}

fn over(partition: u32, since: u64) -> ViewCommand {
    let partition = PartitionId(partition);
    let cohort = CohortId { partition, since };
    ViewCommand::Over { cohort }
}

fn waiting(number: u64, members: &[u16]) -> ViewOutcome {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn dead_nodes_can_be_removed_one_after_the_other(
        nodes in 2usize..9,
        k in 1usize..4,
        dice in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let mut changes = changes(nodes, k);
        let dead = (0..nodes - 1).filter(|i| dice[*i]).map(|i| MemberId(i as u16));
        let dead: BTreeSet<MemberId> = dead.collect();
        let said = changes.apply(ViewCommand::Dead { members: dead.clone() });
        prop_assert_eq!(said == ViewOutcome::Changed, !dead.is_empty());
        for member in &dead {
            let before = changes.views().view.clone();
            let started = changes.apply(change(Change::Remove(*member)));
            let ViewOutcome::Started { number } = started else {
                panic!("{started:?}");
            };
            for member in changes.gaining().into_keys() {
                prop_assert!(!dead.contains(&member));
                changes.apply(ViewCommand::Ready { member, number });
            }
            prop_assert_eq!(changes.apply(enact(number, &[])), ViewOutcome::InForce { number });
            let view = &changes.views().view;
            for (partition, replicas) in view.partitions() {
                if replicas.iter().all(|m| dead.contains(m)) {
                    prop_assert_eq!(view.slots_of(partition), before.slots_of(partition));
                }
            }
            while let Some(cohort) = changes.views().closing.first().map(|c| c.id) {
                prop_assert_eq!(changes.apply(ViewCommand::Over { cohort }), ViewOutcome::Changed);
            }
        }
        let views = changes.views();
        assert_sound(&views.view);
        prop_assert!(views.given_up.is_empty() && views.leaving.is_empty());
    }
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

//! Whatever is proposed in whatever order, the nodes agree on something that makes sense.

use super::case_tests::{change, changes, enact};
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

//! What changes need of the dead.

use super::*;
use crate::protocol::placement::tests::addresses;
use crate::protocol::view::View;
use proptest::prelude::*;

fn changes(nodes: usize, k: usize) -> ViewChanges {
    ViewChanges::first(View::first(&addresses(nodes), k).unwrap())
}

fn members(numbers: &[u16]) -> BTreeSet<MemberId> {
    numbers.iter().copied().map(MemberId).collect()
}

fn remove(member: u16) -> Change {
    Change::Remove(MemberId(member))
}

fn needed(partition: u32, numbers: &[u16], is_dead: bool) -> Needed {
    Needed {
        partition: PartitionId(partition),
        members: members(numbers),
        is_dead,
    }
}

#[test]
fn a_change_that_leaves_a_dead_partition_alone_needs_nothing_of_it() {
    let changes = changes(6, 2);
    let dead = members(&[1, 4, 5]);
    assert_eq!(changes.toll(&remove(1), &dead), Ok(Toll::default()));
    assert_eq!(changes.toll(&remove(0), &members(&[])), Ok(Toll::default()));
}

#[test]
fn a_change_that_gives_slots_to_a_dead_partition_or_takes_them_from_it_needs_it() {
    let dead = members(&[2, 3]);
    let toll = changes(4, 2).toll(&Change::Add(addresses(5)[4]), &dead);
    let needs = vec![needed(1, &[2, 3], true)];
    assert_eq!(toll.unwrap().needs, needs);
    let toll = changes(3, 1).toll(&remove(1), &members(&[2])).unwrap();
    assert_eq!(toll.needs, [needed(2, &[2], true)]);
    assert!(toll.gives_up.is_empty(), "nobody has said so");
}

#[test]
fn a_change_that_leaves_a_partition_to_the_dead_needs_them() {
    let toll = changes(4, 2).toll(&remove(0), &members(&[1])).unwrap();
    assert_eq!(toll.needs, [needed(0, &[1], false)]);
    let toll = changes(2, 2).toll(&Change::SetK(1), &members(&[1]));
    assert_eq!(toll.unwrap().needs, [needed(1, &[1], false)]);
}

#[test]
fn a_dead_partition_is_given_up_with_the_removal_of_one_of_its_members() {
    let mut changes = changes(4, 2);
    let dead = members(&[2, 3]);
    let toll = changes.toll(&remove(2), &dead).unwrap();
    assert_eq!((toll.gives_up, toll.needs), (dead.clone(), Vec::new()));
    let gives_up = ViewCommand::Dead {
        members: dead.clone(),
    };
    assert_eq!(changes.apply(gives_up), ViewOutcome::Changed);
    assert_eq!(changes.toll(&remove(2), &dead), Ok(Toll::default()));
    let other = changes.toll(&Change::SetK(1), &dead);
    assert!(
        matches!(other, Err(ViewRefusal::GivenUp { .. })),
        "{other:?}"
    );
}

#[test]
fn dead_partitions_that_a_removal_needs_are_given_up_with_it() {
    let toll = changes(5, 1).toll(&remove(3), &members(&[3, 4])).unwrap();
    assert_eq!(toll.gives_up, members(&[3, 4]));
    assert!(toll.needs.is_empty());
}

#[test]
fn the_last_living_node_is_not_needed_to_be_dead() {
    let toll = changes(2, 1).toll(&remove(1), &members(&[0, 1]));
    assert!(matches!(toll, Err(ViewRefusal::Change(_))), "{toll:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_needs_nothing_of_the_dead_does_not_wait_for_them(
        nodes in 2usize..10,
        k in 1usize..4,
        dice in proptest::collection::vec(any::<bool>(), 10),
        what in 0usize..12,
    ) {
        let mut changes = changes(nodes, k);
        // One lives: it is asked.
        let dead: BTreeSet<MemberId> =
            (1..nodes).filter(|i| dice[*i]).map(|i| MemberId(i as u16)).collect();
        let change = match what {
            10 => Change::Add(addresses(nodes + 1)[nodes]),
            11 => Change::SetK(k + 1),
            node => remove((node % nodes) as u16),
        };
        let toll = changes.toll(&change, &dead).unwrap();
        prop_assert!(!dead.is_empty() || toll == Toll::default());
        prop_assert!(toll.members().all(|m| dead.contains(&m)));
        if !toll.needs.is_empty() {
            return Ok(());
        }
        changes.apply(ViewCommand::Dead { members: toll.gives_up });
        let before = changes.views().clone();
        let began = changes.apply(ViewCommand::Change { change, give_up: false, lose_data: true });
        let ViewOutcome::Started { number } = began else {
            panic!("{began:?}");
        };
        if let Change::Remove(member) = change && dead.contains(&member) {
            changes.apply(ViewCommand::GiveUp { member });
        }
        // Each slot that moves is with somebody who lives, or with none but those given up.
        for (member, slots) in changes.gaining() {
            if dead.contains(&member) {
                continue;
            }
            for slot in slots.iter() {
                let from = before.view.replicas(before.view.partition(slot));
                let lives = from.iter().any(|m| !dead.contains(m));
                prop_assert!(lives || from.iter().all(|m| changes.views().given_up.contains(m)));
            }
            changes.apply(ViewCommand::Ready { member, number });
        }
        prop_assert_eq!(changes.awaited(&dead), BTreeSet::new());
    }
}

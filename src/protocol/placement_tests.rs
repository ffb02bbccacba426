//! Any sequence of changes keeps the rules of placement and moves no more than it must.

use super::*;
use crate::protocol::slots::Slot;
use proptest::prelude::*;

/// A change whose details follow from the view that it is made in.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Add,
    Remove(prop::sample::Index),
    SetK(usize),
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Add),
        4 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => prop_oneof![5 => 1usize..6, 1 => Just(FULL)].prop_map(Step::SetK),
    ]
}

pub fn addresses(n: usize) -> Vec<SocketAddr> {
    (0..n).map(address).collect()
}

fn address(i: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (i / 250) as u8, (i % 250) as u8 + 1], 8080))
}

/// The change of a step; addresses are never used twice.
fn change(view: &View, step: Step) -> Change {
    match step {
        Step::Add => Change::Add(address(usize::from(view.next_member))),
        Step::Remove(index) => {
            let members: Vec<MemberId> = view.members().map(|(m, _)| m).collect();
            Change::Remove(*index.get(&members))
        }
        Step::SetK(k) => Change::SetK(k),
    }
}

fn counts(view: &View) -> BTreeMap<PartitionId, usize> {
    let mut counts = BTreeMap::new();
    for partition in &view.slots {
        *counts.entry(*partition).or_insert(0) += 1;
    }
    counts
}

fn sizes(view: &View) -> BTreeMap<PartitionId, usize> {
    view.partitions().map(|(id, r)| (id, r.len())).collect()
}

/// The rules that every view keeps.
pub fn assert_sound(view: &View) {
    let nodes = view.members().count();
    assert_eq!(view.partitions().count(), nodes.div_ceil(view.k));
    let mut placed = BTreeMap::new();
    for (id, replicas) in view.partitions() {
        assert!(
            (1..=view.k).contains(&replicas.len()),
            "{id:?}: {replicas:?}"
        );
        assert!(view.since(id).unwrap() <= view.number);
        assert!(id.0 < view.next_partition);
        for member in replicas {
            assert!(view.has_existed(*member));
            assert_eq!(placed.insert(*member, id), None, "{member} twice");
        }
    }
    let members = view.members.iter().map(|(id, m)| (*id, m.partition));
    assert_eq!(members.collect::<BTreeMap<_, _>>(), placed);
    let distinct: BTreeSet<SocketAddr> = view.members().map(|(_, a)| a).collect();
    assert_eq!(distinct.len(), nodes);
    assert_eq!(view.slots.len(), usize::from(SLOTS));
    let counts = counts(view);
    assert!(counts.keys().eq(view.partitions.keys()));
    let (least, most) = (
        counts.values().min().unwrap(),
        counts.values().max().unwrap(),
    );
    assert!(most - least <= 1, "{counts:?}");
}

fn assert_since(before: &View, after: &View) {
    for (id, replicas) in after.partitions() {
        let set = |r: &[MemberId]| r.iter().copied().collect::<BTreeSet<_>>();
        let same = before.since(id).is_some()
            && set(before.replicas(id)) == set(replicas)
            && before.slots_of(id) == after.slots_of(id);
        let since = if same {
            before.since(id)
        } else {
            Some(after.number)
        };
        assert_eq!(after.since(id), since, "{id:?}");
        if before.since(id).is_none() {
            assert!(id.0 >= before.next_partition, "{id:?} had been used");
        }
    }
}

/// Moves no slot that need not move: all or nothing when a partition comes or goes.
fn assert_few_slots(before: &View, after: &View) {
    let (had, has) = (counts(before), counts(after));
    let pairs = || {
        before
            .slots
            .iter()
            .zip(&after.slots)
            .filter(|(b, a)| b != a)
    };
    let share = usize::from(SLOTS).div_ceil(has.len());
    if has.len() > had.len() {
        assert!(
            pairs().all(|(_, to)| !had.contains_key(to)),
            "only to new ones"
        );
        assert!(pairs().count() <= share * (has.len() - had.len()));
    } else {
        let gone = had.iter().filter(|(id, _)| !has.contains_key(id));
        assert!(
            pairs().all(|(from, _)| !has.contains_key(from)),
            "only from old ones"
        );
        assert_eq!(pairs().count(), gone.map(|(_, n)| n).sum::<usize>());
    }
}

fn nodes_moved(before: &View, after: &View) -> usize {
    let stayed = before.members.iter().filter(|(id, m)| {
        let now = after.partition_of(**id);
        now.is_some_and(|now| now != m.partition)
    });
    stayed.count()
}

fn assert_few_nodes(before: &View, after: &View, change: &Change) {
    let moved = nodes_moved(before, after);
    let mut had = sizes(before);
    let goes = before
        .partitions()
        .count()
        .saturating_sub(after.partitions().count());
    match change {
        Change::Add(_) => assert_eq!(moved, 0),
        Change::Remove(member) => {
            let home = before.partition_of(*member).unwrap();
            *had.get_mut(&home).unwrap() -= 1;
            let least = *had.values().min().unwrap();
            assert_eq!(moved, if goes == 1 { least } else { 0 });
        }
        Change::SetK(k) => {
            let mut had: Vec<usize> = had.into_values().collect();
            had.sort_unstable();
            let excess: usize = had.iter().map(|n| n.saturating_sub(*k)).sum();
            let dissolved: usize = had.iter().take(goes).sum();
            assert_eq!(moved, excess + dissolved);
        }
    }
}

fn assert_follows(before: &View, after: &View, change: &Change) {
    assert_sound(after);
    assert_eq!(after.number, before.number + 1);
    assert_eq!(after.cluster, before.cluster);
    assert!(after.next_member >= before.next_member);
    let new = after
        .members()
        .filter(|(m, _)| before.address(*m).is_none());
    let new: Vec<_> = new.collect();
    match change {
        Change::Add(address) => {
            assert_eq!(new, [(MemberId(before.next_member), *address)]);
            assert_eq!(after.next_member, before.next_member + 1);
        }
        Change::Remove(member) => {
            assert!(new.is_empty() && after.address(*member).is_none());
            assert_eq!(after.members().count() + 1, before.members().count());
        }
        Change::SetK(k) => assert!(new.is_empty() && after.k == *k),
    }
    assert_since(before, after);
    assert_few_slots(before, after);
    assert_few_nodes(before, after, change);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_changes_keep_the_rules_and_move_little(
        nodes in 1usize..16,
        k in 1usize..5,
        steps in proptest::collection::vec(step(), 1..25),
    ) {
        let mut view = View::first(&addresses(nodes), k).unwrap();
        for step in steps {
            let change = change(&view, step);
            match view.changed(&change) {
                Ok(next) => {
                    assert_follows(&view, &next, &change);
                    prop_assert_eq!(view.changed(&change), Ok(next.clone()));
                    view = next;
                }
                Err(ChangeError::LastNode(_)) => prop_assert_eq!(view.members().count(), 1),
                Err(error) => prop_assert_eq!(error, ChangeError::NothingToDo(view.k)),
            }
            let runs: usize = view.partitions().map(|(id, _)| view.slots_of(id).runs().len()).sum();
            let partitions = view.partitions().count();
            prop_assert!(runs <= 4 * partitions * partitions, "{} runs, {} partitions", runs, partitions);
        }
    }
}

fn view(nodes: usize, k: usize) -> View {
    View::first(&addresses(nodes), k).unwrap()
}

fn groups(view: &View) -> Vec<(u32, Vec<u16>)> {
    let group = |(id, r): (PartitionId, &[MemberId])| (id.0, r.iter().map(|m| m.0).collect());
    view.partitions().map(group).collect()
}

#[test]
fn a_new_node_goes_where_there_is_room() {
    let four = view(3, 2).changed(&Change::Add(address(3))).unwrap();
    assert_eq!(groups(&four), [(0, vec![0, 1]), (1, vec![2, 3])]);
    assert_eq!(
        (four.since(PartitionId(0)), four.since(PartitionId(1))),
        (Some(1), Some(2))
    );
    let five = four.changed(&Change::Add(address(4))).unwrap();
    assert_eq!(
        groups(&five),
        [(0, vec![0, 1]), (1, vec![2, 3]), (2, vec![4])]
    );
}

#[test]
fn the_smallest_partition_is_dissolved() {
    let before = view(7, 3);
    assert_eq!(groups(&before)[2], (2, vec![6]));
    let after = before.changed(&Change::Remove(MemberId(1))).unwrap();
    assert_eq!(groups(&after), [(0, vec![0, 2, 6]), (1, vec![3, 4, 5])]);
    // Its number is not given out again.
    let again = after.changed(&Change::Add(address(7))).unwrap();
    assert_eq!(groups(&again)[2], (3, vec![7]));
}

#[test]
fn a_partition_that_loses_its_last_node_goes() {
    let small = view(7, 3).changed(&Change::Remove(MemberId(6))).unwrap();
    assert_eq!(groups(&small), [(0, vec![0, 1, 2]), (1, vec![3, 4, 5])]);
    let mut one = view(6, 3);
    for member in [0, 1] {
        one = one.changed(&Change::Remove(MemberId(member))).unwrap();
    }
    assert_eq!(groups(&one), [(0, vec![2]), (1, vec![3, 4, 5])]);
    let gone = one.changed(&Change::Remove(MemberId(2))).unwrap();
    assert_eq!(groups(&gone), [(1, vec![3, 4, 5])]);
}

#[test]
fn a_larger_k_dissolves_the_smallest_partitions() {
    let lone = view(7, 3).changed(&Change::SetK(4)).unwrap();
    assert_eq!(groups(&lone), [(0, vec![0, 1, 2, 6]), (1, vec![3, 4, 5])]);
    let same = view(7, 4).changed(&Change::SetK(6)).unwrap();
    assert_eq!(groups(&same), groups(&view(7, 4)));
    assert_eq!(same.since(PartitionId(1)), Some(1));
}

#[test]
fn under_full_replication_every_node_holds_everything_whoever_comes_and_goes() {
    let full = view(5, 2).changed(&Change::SetK(FULL)).unwrap();
    assert!(full.is_full() && !view(5, 5).is_full());
    assert_eq!(groups(&full).len(), 1);
    assert_eq!(full.replication_factor(), 5);
    let more = full.changed(&Change::Add(address(5))).unwrap();
    assert_eq!(
        (more.replication_factor(), more.partitions().count()),
        (6, 1)
    );
    let all: Vec<MemberId> = more.members().map(|(m, _)| m).collect();
    let mut replicas = more.replicas(more.partition(Slot(0))).to_vec();
    replicas.sort_unstable();
    assert_eq!(replicas, all);
    let fewer = more.changed(&Change::Remove(MemberId(0))).unwrap();
    assert_eq!(
        (fewer.replication_factor(), fewer.partitions().count()),
        (5, 1)
    );
    let two = fewer.changed(&Change::SetK(2)).unwrap();
    assert_eq!((two.replication_factor(), two.partitions().count()), (2, 3));
    // Where K was N before, nothing moves, and the next node makes the difference.
    let same = view(3, 3).changed(&Change::SetK(FULL)).unwrap();
    assert_eq!(same.since(PartitionId(0)), Some(1));
    let four = |view: &View| {
        view.changed(&Change::Add(address(3)))
            .unwrap()
            .partitions()
            .count()
    };
    assert_eq!((four(&same), four(&view(3, 3))), (1, 2));
}

#[test]
fn a_smaller_k_splits_partitions_from_their_ends() {
    let after = view(6, 3).changed(&Change::SetK(2)).unwrap();
    assert_eq!(
        groups(&after),
        [(0, vec![0, 1]), (1, vec![3, 4]), (2, vec![2, 5])]
    );
    let one = view(4, 4).changed(&Change::SetK(1)).unwrap();
    assert_eq!(groups(&one).len(), 4);
    let back = one.changed(&Change::SetK(4)).unwrap();
    assert_eq!(groups(&back), [(0, vec![0, 3, 2, 1])]);
}

#[test]
fn nonsense_is_refused() {
    let mut view = view(2, 2);
    let refused = |view: &View, change| view.changed(&change).unwrap_err();
    let add = Change::Add(address(1));
    let twice = ChangeError::AlreadyIn {
        address: address(1),
        member: MemberId(1),
    };
    assert_eq!(refused(&view, add), twice);
    assert_eq!(refused(&view, Change::SetK(0)), ChangeError::NoReplicas);
    assert_eq!(refused(&view, Change::SetK(2)), ChangeError::NothingToDo(2));
    let unknown = ChangeError::UnknownMember(MemberId(9));
    assert_eq!(refused(&view, Change::Remove(MemberId(9))), unknown);
    view.number = MAX_VIEW - 1;
    assert_eq!(refused(&view, Change::SetK(1)), ChangeError::TooManyViews);
    view.number = 1;
    view.next_member = u16::MAX;
    assert_eq!(
        refused(&view, Change::Add(address(2))),
        ChangeError::TooManyNodes
    );
    let one = view.changed(&Change::Remove(MemberId(0))).unwrap();
    let last = ChangeError::LastNode(MemberId(1));
    assert_eq!(refused(&one, Change::Remove(MemberId(1))), last);
}

#[test]
fn there_are_no_more_partitions_than_slots() {
    let many = view(usize::from(SLOTS) + 1, 2);
    let needed = ChangeError::TooManyPartitions(usize::from(SLOTS) + 1);
    assert_eq!(many.changed(&Change::SetK(1)), Err(needed));
}

#[test]
fn a_new_partition_takes_few_keys_and_all_stay_even() {
    let slots: Vec<Slot> = (0..100_000)
        .map(|i| Slot::of(format!("user:{i}").as_bytes()))
        .collect();
    let mut view = view(2, 1);
    for node in 2..8 {
        let next = view.changed(&Change::Add(address(node))).unwrap();
        let moved = slots
            .iter()
            .filter(|s| view.partition(**s) != next.partition(**s));
        let least = slots.len() / (node + 1);
        assert!(moved.count() * 4 <= least * 5, "to {} partitions", node + 1);
        view = next;
    }
    for member in [0, 3, 4, 6] {
        view = view.changed(&Change::Remove(MemberId(member))).unwrap();
        let mut held = BTreeMap::new();
        for slot in &slots[..2_000] {
            *held.entry(view.partition(*slot)).or_insert(0usize) += 1;
        }
        let mean = 2_000 / view.partitions().count();
        let near = held
            .values()
            .all(|n| (mean * 3 / 4..=mean * 5 / 4).contains(n));
        assert!(near, "{held:?}");
    }
}

//! Nodes that are dead for good, and what is left without them.

use crate::cluster::Cluster;
use causeway::protocol::changes::{ViewCommand, ViewOutcome};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::op::Refusal;
use causeway::protocol::placement::Change;
use causeway::protocol::record;
use causeway::protocol::version::Key;
use std::collections::BTreeSet;

/// A cluster in which these nodes are dead for good: an operator says so, and removes one after the
/// other.
fn removing_the_dead(n: usize, k: usize, dead: &[usize]) {
    let mut c = Cluster::new(n, k);
    let none = Context::default();
    let keys: Vec<Key> = (0..5).map(|i| c.key(0, i)).collect();
    for key in &keys {
        c.put(0, key, Some("1"), &none);
    }
    for node in dead {
        c.stop(*node);
    }
    c.run_ms(1_000);
    let members = dead.iter().map(|n| MemberId(*n as u16)).collect();
    assert_eq!(
        c.decide(ViewCommand::Dead { members }),
        ViewOutcome::Changed
    );
    for node in dead {
        c.change(Change::Remove(MemberId(*node as u16)));
        assert!(c.views_settle(), "{:?}", c.changes.views());
    }
    // Values that only the dead nodes had are lost, and the slots are served again.
    c.run_ms(500);
    for key in &keys {
        for member in c.view().replicas(c.view().partition_of_key(key)).to_vec() {
            let node = usize::from(member.0);
            assert!(c.serves(node), "{:?}", c.marks(node).recovering);
            assert_eq!(c.value(node, key, &none), None);
        }
    }
}

/// Node 2 takes slots over from nodes 0 and 1, and is dead for good when it has deleted a key
/// there. One of the first two stopped before it had dropped the slots, so that it still has the
/// value.
fn a_dead_partition_of_which_one_has_a_rest(late: usize) {
    let mut c = Cluster::new(2, 2);
    let none = Context::default();
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    for key in &keys {
        c.put(0, key, Some("1"), &none);
    }
    let node = c.add();
    c.tell_all();
    c.run_ms(500);
    c.enact(2);
    c.tell_all();
    while !c.changes.views().closing.is_empty() {
        c.run_ms(10);
        for cohort in std::mem::take(&mut c.over) {
            c.decide(ViewCommand::Over { cohort });
        }
    }
    c.stop(late);
    c.tell(1 - late);
    c.tell(node);
    let key = keys.iter().find(|k| c.view().partition_of_key(k).0 == 1);
    let key = key.unwrap().clone();
    c.put(node, &key, None, &none);
    c.run_ms(100);
    let on_disk = |c: &Cluster, node: usize| record::load(&c.nodes[node].disk, &key).unwrap();
    assert!(on_disk(&c, 1 - late).is_none());
    assert!(on_disk(&c, late).is_some());
    c.stop(node);
    c.run_ms(1_000);
    let members = BTreeSet::from([MemberId(2)]);
    assert_eq!(
        c.decide(ViewCommand::Dead { members }),
        ViewOutcome::Changed
    );
    c.change(Change::Remove(MemberId(2)));
    c.tell(late);
    c.start(late);
    assert!(c.views_settle(), "{:?}", c.changes.views());
    c.run_ms(1_000);
    assert!(c.serves(0) && c.serves(1));
    assert_eq!(on_disk(&c, 0), on_disk(&c, 1));
}

/// Two nodes that have not heard of later views hold slots that others have taken over since, node
/// after node. Writes to the first two get there too. Returns the keys and what their writer has
/// seen.
fn taken_over_unheard(came: usize) -> (Cluster, Vec<(Key, Context)>) {
    let mut c = Cluster::new(2, 2);
    for number in 0..came as u64 {
        c.add();
        // The first two hear of the first change alone, and not that its view is in force: what was
        // written before that does not end.
        let untold = if number == 0 { 0 } else { 2 };
        (untold..c.nodes.len()).for_each(|node| c.tell(node));
        c.run_ms(500);
        c.enact(2 + number);
        (2..c.nodes.len()).for_each(|node| c.tell(node));
    }
    let moved: Vec<Key> = (0..5).map(|n| c.key(1, n)).collect();
    let write = |key: Key| (key.clone(), c.put(0, &key, Some("1"), &Context::default()));
    let written = moved.into_iter().map(write).collect();
    c.run_ms(500);
    (c, written)
}

/// An operator says that members are dead for good.
fn are_dead(c: &mut Cluster, members: impl IntoIterator<Item = MemberId>) {
    let members: BTreeSet<MemberId> = members.into_iter().collect();
    members.iter().for_each(|m| c.stop(usize::from(m.0)));
    c.run_ms(1_000);
    assert_eq!(
        c.decide(ViewCommand::Dead { members }),
        ViewOutcome::Changed
    );
    // All who are left have all that was written before the views, and nobody else has.
    assert!(!c.views_settle(), "{:?}", c.changes.views());
}

fn the_first_two_have(c: &mut Cluster, written: &[(Key, Context)]) {
    c.run_ms(500);
    for (key, seen) in written {
        for holder in [0, 1] {
            assert_eq!(c.value(holder, key, seen).as_deref(), Some("1"));
        }
    }
}

#[test]
fn a_partition_that_is_dead_for_good_can_be_removed_node_by_node() {
    removing_the_dead(4, 2, &[0, 1]);
}

#[test]
fn dead_nodes_that_are_alone_in_their_partitions_can_be_removed_one_after_the_other() {
    removing_the_dead(4, 1, &[0, 1]);
}

#[test]
fn a_dead_partition_and_dead_nodes_of_others_can_be_removed_one_after_the_other() {
    removing_the_dead(6, 2, &[0, 1, 3]);
    removing_the_dead(6, 2, &[3, 1, 0]);
}

#[test]
pub fn what_is_left_of_a_dead_partition_is_the_same_everywhere() {
    a_dead_partition_of_which_one_has_a_rest(1);
    a_dead_partition_of_which_one_has_a_rest(0);
}

#[test]
fn an_empty_disk_of_a_dead_partition_serves_nobody_though_there_is_nobody_to_wait_for() {
    let mut c = Cluster::new(3, 2);
    let of = |c: &Cluster| -> Vec<usize> {
        let replicas = c.view().replicas(c.view().partition_of_key(&c.key(0, 0)));
        replicas.iter().map(|m| usize::from(m.0)).collect()
    };
    let (both, key, none) = (of(&c), c.key(0, 0), Context::default());
    let [writer, empty] = both[..] else {
        panic!("{both:?}");
    };
    c.put(writer, &key, Some("1"), &none);
    c.run_ms(300);
    both.iter().for_each(|node| c.stop(*node));
    c.nodes[empty].disk.wipe();
    c.run_ms(1_000);
    let members = both.iter().map(|n| MemberId(*n as u16)).collect();
    assert_eq!(
        c.decide(ViewCommand::Dead { members }),
        ViewOutcome::Changed
    );
    // Both come back all the same, and one of them has heard. To the other one its first write is
    // stable, so that no context names it.
    c.tell(empty);
    both.iter().for_each(|node| c.start(*node));
    for _ in 0..300 {
        c.run_ms(10);
        let stable = c.marks(writer).logs.into_values().any(|m| m.stable > 0);
        assert!(stable, "as its disk says");
        let read = c.get(empty, &key, &none);
        assert!(matches!(read, Err(Refusal::Recovering(_))), "{read:?}");
    }
}

#[test]
pub fn what_a_dead_partition_took_over_is_still_with_those_who_held_it_before() {
    let (mut c, written) = taken_over_unheard(1);
    are_dead(&mut c, [MemberId(2)]);
    c.change(Change::Remove(MemberId(2)));
    assert!(c.views_settle(), "{:?}", c.changes.views());
    the_first_two_have(&mut c, &written);
}

#[test]
fn what_a_dead_partition_of_two_took_over_is_still_with_those_who_held_it_before() {
    let (mut c, written) = taken_over_unheard(2);
    are_dead(&mut c, [MemberId(2), MemberId(3)]);
    c.change(Change::Remove(MemberId(2)));
    assert!(!c.views_settle(), "node 3 is to hold it");
    c.change(Change::Remove(MemberId(3)));
    assert!(c.views_settle(), "{:?}", c.changes.views());
    the_first_two_have(&mut c, &written);
}

#[test]
fn what_dead_partitions_took_over_one_after_the_other_is_still_with_those_who_held_it_before() {
    let (mut c, written) = taken_over_unheard(2);
    // Node 2 leaves, and is dead before the cohort that it was in is over. Then all who have held
    // the slots since are.
    let number = c.change(Change::Remove(MemberId(2)));
    c.enact(number);
    c.stop(2);
    are_dead(&mut c, [MemberId(3)]);
    let member = MemberId(2);
    assert_eq!(
        c.decide(ViewCommand::GiveUp { member }),
        ViewOutcome::Changed
    );
    c.change(Change::Remove(MemberId(3)));
    assert!(c.views_settle(), "{:?}", c.changes.views());
    the_first_two_have(&mut c, &written);
}

//! Orphaned writes: what only a node had that was given up, offered when it comes back.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;
use causeway::protocol::op::{Answer, Declined};
use causeway::protocol::record;
use causeway::protocol::version::{Key, Version};

/// A value and then a delete of one key that nobody knows, older than all that comes after them,
/// and the cluster.
fn deleted(n: usize) -> (Cluster, Key, [Version; 2]) {
    let mut alone = Cluster::new(1, 1);
    let mut c = Cluster::new(n, n);
    let key = c.key(0, 0);
    let seen = alone.put(0, &key, Some("orphan"), &Context::default());
    let stored = |c: &Cluster| record::load(&c.nodes[0].disk, &key).unwrap().unwrap();
    let value = stored(&alone);
    alone.put(0, &key, None, &seen);
    let delete = stored(&alone);
    assert!(delete.value.is_none() && delete.stamp > value.stamp);
    c.run_ms(1_000);
    (c, key, [value, delete])
}

/// A write that nobody knows, older than all that comes after it, and the cluster.
fn orphan(n: usize) -> (Cluster, Key, Version) {
    let mut alone = Cluster::new(1, 1);
    let mut c = Cluster::new(n, n);
    let (key, none) = (c.key(0, 0), Context::default());
    assert_eq!(key, alone.key(0, 0));
    alone.put(0, &key, Some("orphan"), &none);
    let version = record::load(&alone.nodes[0].disk, &key).unwrap().unwrap();
    c.run_ms(1_000);
    (c, key, version)
}

fn answer(c: &mut Cluster, ticket: usize) -> Answer {
    c.run_ms(150);
    c.answer(ticket).unwrap()
}

fn slot(key: &Key) -> causeway::protocol::slots::Slot {
    causeway::protocol::slots::Slot::of(key)
}

#[test]
fn an_orphaned_write_is_taken_with_its_time_however_late_it_comes() {
    let (mut c, key, version) = orphan(2);
    let none = Context::default();
    // A delete that was made here meanwhile, and is forgotten, makes replicas promise to take no
    // old writes.
    let other = (1..).map(|n| c.key(0, n)).find(|k| slot(k) != slot(&key));
    let other = other.unwrap();
    c.put(0, &other, Some("1"), &none);
    c.put(0, &other, None, &none);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0, "collected");
    let ticket = c.offer(0, &version, &none);
    let Answer::Written(written) = answer(&mut c, ticket) else {
        panic!("not taken");
    };
    assert_eq!((written.wall_ms, written.copies), (version.wall_ms, 2));
    for node in 0..2 {
        assert_eq!(c.value(node, &key, &none).as_deref(), Some("orphan"));
        let stored = record::load(&c.nodes[node].disk, &key).unwrap().unwrap();
        assert_eq!(
            (stored.stamp, stored.wall_ms),
            (version.stamp, version.wall_ms)
        );
    }
    // The second time it is here already.
    let ticket = c.offer(1, &version, &none);
    let again = answer(&mut c, ticket);
    assert!(matches!(again, Answer::Declined(Declined::Newer, _)));
}

#[test]
fn an_orphaned_write_does_not_undo_what_is_newer() {
    let (mut c, key, version) = orphan(2);
    let newest = c.put(0, &key, Some("2"), &Context::default());
    let ticket = c.offer(1, &version, &newest);
    let Answer::Declined(Declined::Newer, context) = answer(&mut c, ticket) else {
        panic!("taken");
    };
    // A client with the declined write in its past must not see less than what stands in its place.
    assert!(context.clock >= newest.clock);
    assert_eq!(c.value(1, &key, &context).as_deref(), Some("2"));
}

#[test]
pub fn an_orphaned_write_does_not_come_back_after_a_delete_that_is_forgotten() {
    let (mut c, key, version) = orphan(2);
    let none = Context::default();
    c.put(0, &key, Some("2"), &none);
    c.put(0, &key, None, &none);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0, "collected");
    // A replica that fetches its data learns what was forgotten, and one that starts again still
    // knows it.
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.start(1);
    c.run_ms(2_000);
    c.stop(0);
    c.start(0);
    c.run_ms(2_000);
    for node in 0..2 {
        let ticket = c.offer(node, &version, &none);
        let refused = answer(&mut c, ticket);
        assert!(
            matches!(refused, Answer::Declined(Declined::Deleted, _)),
            "node {node}: {refused:?}"
        );
        assert_eq!(c.value(node, &key, &none), None);
    }
}

#[test]
pub fn no_delete_is_forgotten_while_somebody_may_lack_an_orphaned_write_that_it_beats() {
    let (mut c, key, version) = orphan(2);
    let (other, none) = (c.key(0, 1), Context::default());
    // Node 0 hears nothing of what node 1 writes and deletes, and promises to take nothing as old.
    c.put(0, &other, Some("1"), &none);
    c.mute(1, 0);
    c.put(0, &other, None, &none);
    let seen = c.put(1, &key, Some("2"), &none);
    c.put(1, &key, None, &seen);
    c.run_ms(4_000);
    // Then node 0 takes an orphaned write all the same, and node 1 does not get that write.
    c.nodes[0].keeps_log = true;
    let ticket = c.offer(0, &version, &none);
    assert!(matches!(answer(&mut c, ticket), Answer::Written(_)));
    c.heal();
    c.run_ms(10_000);
    // The orphaned write comes as it was written; a pull would get what node 0 has of the key by
    // now.
    c.nodes[0].keeps_log = false;
    c.mute(1, 0);
    c.run_ms(400);
    c.heal();
    c.run_ms(1_000);
    for node in 0..2 {
        assert_eq!(c.value(node, &key, &none), None, "node {node}");
    }
    // Then nothing is in the way any more.
    c.run_ms(10_000);
    assert_eq!(c.marks(1).gauges.tombstones, 0);
}

#[test]
fn an_orphaned_delete_is_taken_when_an_older_value_is_there() {
    let (mut c, key, [value, delete]) = deleted(2);
    let none = Context::default();
    let ticket = c.offer(0, &value, &none);
    assert!(matches!(answer(&mut c, ticket), Answer::Written(_)));
    assert_eq!(c.value(1, &key, &none).as_deref(), Some("orphan"));
    let ticket = c.offer(1, &delete, &none);
    let Answer::Written(written) = answer(&mut c, ticket) else {
        panic!("not taken");
    };
    assert_eq!((written.wall_ms, written.copies), (delete.wall_ms, 2));
    for node in 0..2 {
        assert_eq!(c.value(node, &key, &none), None, "node {node}");
    }
    c.run_ms(10_000);
    for node in 0..2 {
        assert_eq!(c.marks(node).gauges.tombstones, 0, "node {node}: collected");
    }
}

#[test]
fn an_orphaned_delete_does_not_undo_what_is_newer() {
    let (mut c, key, [_, delete]) = deleted(2);
    let newest = c.put(0, &key, Some("2"), &Context::default());
    let ticket = c.offer(1, &delete, &newest);
    let declined = answer(&mut c, ticket);
    assert!(matches!(declined, Answer::Declined(Declined::Newer, _)));
    assert_eq!(c.value(1, &key, &newest).as_deref(), Some("2"));
    // Once the newer value is deleted, and forgotten, there is nothing that the orphaned delete
    // could be about.
    c.put(0, &key, None, &newest);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0, "collected");
    let ticket = c.offer(1, &delete, &newest);
    let declined = answer(&mut c, ticket);
    assert!(matches!(declined, Answer::Declined(Declined::Deleted, _)));
}

#[test]
pub fn an_orphaned_delete_holds_against_values_that_come_after_it() {
    // Another node that was given up has the value, and is back later.
    let (mut c, key, [value, delete]) = deleted(2);
    let none = Context::default();
    let ticket = c.offer(0, &delete, &none);
    answer(&mut c, ticket);
    c.run_ms(500);
    let ticket = c.offer(1, &value, &none);
    let declined = answer(&mut c, ticket);
    for node in 0..2 {
        assert_eq!(c.value(node, &key, &none), None, "node {node}");
    }
    assert!(matches!(declined, Answer::Declined(Declined::Newer, _)));
    // The same holds after the delete is forgotten.
    c.run_ms(10_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0, "collected");
    let ticket = c.offer(1, &value, &none);
    let declined = answer(&mut c, ticket);
    assert!(matches!(declined, Answer::Declined(Declined::Deleted, _)));
    // One replica has the value, and the delete comes to the other one first.
    let (mut c, key, [value, delete]) = deleted(2);
    c.mute(0, 1);
    let ticket = c.offer(0, &value, &none);
    answer(&mut c, ticket);
    let ticket = c.offer(1, &delete, &none);
    answer(&mut c, ticket);
    c.heal();
    c.run_ms(2_000);
    for node in 0..2 {
        assert_eq!(c.value(node, &key, &none), None, "node {node}");
    }
}

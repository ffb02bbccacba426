//! Versions that came ahead of their log: which replica keeps them, hands them on, and logs them
//! again.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::limits::{Bound, take_met};
use causeway::protocol::message::{Message, Range};
use causeway::protocol::placement::Change;
use causeway::protocol::record;
use causeway::protocol::replica::Event;
use causeway::protocol::room::DiskRoom;
use causeway::protocol::version::{Key, Version};

/// Has node 0 write what only a follower, node 2, gets, as far as it keeps the slots: node 1 has no
/// room. The keys.
fn written_to_the_follower_alone(c: &mut Cluster) -> Vec<Key> {
    c.add();
    c.tell_all();
    c.run_ms(500);
    c.step(1, Event::Room(DiskRoom::None("full".into())));
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    for key in &keys {
        c.put(0, key, Some("1"), &Context::default());
    }
    keys
}

/// Lets a write of one node's log come to another node ahead of that log, `ahead` dots after one
/// that is there.
fn comes_ahead(
    c: &mut Cluster,
    (from, to): (usize, usize),
    like: &Version,
    key: &Key,
    seen: &Context,
    ahead: u64,
) -> Version {
    let mut version = like.clone();
    version.key = key.clone();
    version.stamp = c.stamp(from, seen);
    version.dot.seq += ahead;
    let range = Range {
        log: like.dot.log,
        after: like.dot.seq,
        keys: Vec::new(),
        versions: vec![version.clone()],
        too_old: false,
        seals: Vec::new(),
    };
    let event = Event::Message {
        from: MemberId(from as u16),
        incarnation: c.nodes[from].replica().log_id().incarnation,
        message: Message::Range(range),
    };
    c.step(to, event);
    version
}

#[test]
fn a_late_write_that_only_followers_got_does_not_keep_its_log_from_ending() {
    let mut c = Cluster::new(2, 2);
    let keys = written_to_the_follower_alone(&mut c);
    // Then the writer loses its disk.
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.step(1, Event::Room(DiskRoom::Ample));
    c.start(0);
    c.run_ms(1_000);
    assert!(c.views_settle());
    let taken_over: Vec<&Key> = keys
        .iter()
        .filter(|k| c.view().partition_of_key(k).0 == 1)
        .collect();
    assert!(!taken_over.is_empty());
    for key in taken_over {
        assert_eq!(c.value(2, key, &Context::default()).as_deref(), Some("1"));
    }
}

#[test]
pub fn two_replicas_with_an_early_version_do_not_wait_for_each_other() {
    let mut c = Cluster::new(2, 2);
    let keys = written_to_the_follower_alone(&mut c);
    let log = c.nodes[0].replica().log_id();
    let at_follower = |key| record::load(&c.nodes[2].disk, key).unwrap();
    let version = keys.iter().rev().find_map(at_follower).unwrap();
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.step(1, Event::Room(DiskRoom::Ample));
    c.cut(0, 2);
    c.cut(1, 2);
    c.start(0);
    c.run_ms(500);
    // Both others get the last one of them ahead of its log, in an answer to a pull.
    for (to, from) in [(0, 1), (1, 0)] {
        let range = Range {
            log,
            after: 0,
            keys: Vec::new(),
            versions: vec![version.clone()],
            too_old: false,
            seals: Vec::new(),
        };
        let incarnation = c.nodes[from].replica().log_id().incarnation;
        c.step(
            to,
            Event::Message {
                from: MemberId(from as u16),
                incarnation,
                message: Message::Range(range),
            },
        );
    }
    c.run_ms(50);
    c.heal();
    assert!(c.views_settle(), "{:?}", c.changes.views().closing);
    assert_eq!(
        c.value(2, &version.key, &Context::default()).as_deref(),
        Some("1")
    );
}

#[test]
pub fn an_early_version_of_a_log_that_is_over_is_not_logged_again_before_its_cohort_is_fetched() {
    let mut c = Cluster::stopped(2, 2);
    (c.limits.chunk_bytes, c.limits.busy_chunk_bytes) = (1, 1);
    (0..2).for_each(|node| c.start(node));
    c.run_ms(200);
    let none = Context::default();
    let keys: Vec<Key> = (0..40).map(|n| c.key(0, n)).collect();
    for key in &keys {
        c.put(1, key, Some("1"), &none);
    }
    // The log of these writes is over. Its cohort is closing.
    c.stop(1);
    c.start(1);
    c.run_ms(1_000);
    let node = c.add();
    c.tell_all();
    c.run_ms(500);
    c.enact(2);
    c.tell_all();
    c.run_ms(500);
    c.stop(0);
    c.nodes[0].disk.wipe();
    // First it fetches what it is to serve, and then, slowly, what there is of the closing cohort.
    c.step(1, Event::Busy(true));
    c.step(node, Event::Busy(true));
    c.start(0);
    c.run_ms(4_000);
    assert!(c.serves(0) && c.marks(0).cohorts.values().all(|filled| *filled));
    assert_eq!(
        c.nodes[0].replica().head(),
        0,
        "it has logged nothing again"
    );
    for key in &keys {
        let versions = [0, 1].map(|node| record::load(&c.nodes[node].disk, key).unwrap());
        assert_eq!(versions[0], versions[1]);
    }
    assert!(c.views_settle());
}

#[test]
pub fn an_early_version_handed_to_a_holder_is_kept_until_all_holders_have_what_replaces_it() {
    let mut c = Cluster::new(4, 4);
    let key = c.key(0, 0);
    let number = c.change(Change::SetK(2));
    c.tell_all();
    let homes = c.changes.views().next.clone();
    let view = homes.as_ref().unwrap();
    let holders: Vec<usize> = view
        .replicas(view.partition_of_key(&key))
        .iter()
        .map(|m| usize::from(m.0))
        .collect();
    let helpers: Vec<usize> = (0..4).filter(|n| !holders.contains(n)).collect();
    let (&[one, other], &[helper, writer]) = (&holders[..], &helpers[..]) else {
        panic!("two of four: {holders:?}");
    };
    let seen = c.put(writer, &key, Some("1"), &Context::default());
    c.run_ms(500);
    c.enact(number);
    // The writer has not heard of the new view: its log is not over.
    [one, other, helper].iter().for_each(|node| c.tell(*node));
    c.run_ms(50);
    let first = record::load(&c.nodes[helper].disk, &key).unwrap().unwrap();
    let ahead = comes_ahead(&mut c, (writer, helper), &first, &key, &seen, 3);
    // One holder has a later write, which the other one lacks.
    c.cut(one, other);
    let shown = Cluster::after(ahead.dot.log, ahead.dot.seq, ahead.stamp.ts);
    c.put(one, &key, Some("2"), &shown);
    c.tell(writer);
    for ms in 0..3_000 {
        c.run_ms(1);
        if ms % 50 == 0 {
            let read = c.get(other, &key, &shown);
            assert!(read.is_err(), "after {ms} ms: {read:?}");
        }
    }
    c.heal();
    assert!(c.views_settle());
    for holder in holders {
        assert_eq!(c.value(holder, &key, &shown).as_deref(), Some("2"));
    }
}

#[test]
fn an_early_version_does_not_wait_for_a_replica_that_has_lost_all_it_had() {
    let mut c = Cluster::new(2, 2);
    let key = c.key(0, 0);
    let seen = c.put(1, &key, Some("1"), &Context::default());
    c.run_ms(500);
    let number = c.change(Change::Remove(MemberId(1)));
    c.tell(0);
    c.enact(number);
    c.tell(0);
    let first = record::load(&c.nodes[0].disk, &key).unwrap().unwrap();
    comes_ahead(&mut c, (1, 0), &first, &key, &seen, 3);
    c.run_ms(50);
    // The writer only helps any more, and what it had is lost with its disk.
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.tell(1);
    c.start(1);
    assert!(c.views_settle(), "{:?}", c.changes.views().closing);
    assert_eq!(c.value(0, &key, &seen).as_deref(), Some("1"));
}

#[test]
fn an_early_version_at_a_mere_helper_is_handed_to_a_holder() {
    let mut c = Cluster::stopped(2, 2);
    // One at a time.
    c.limits.handed_bytes = 1;
    (0..2).for_each(|node| c.start(node));
    c.run_ms(200);
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    let node = c.add();
    c.tell_all();
    let seen = c.put(1, &keys[0], Some("1"), &Context::default());
    c.run_ms(500);
    c.enact(2);
    let moved = |k: &&Key| c.view().partition_of_key(k).0 == 1;
    let moved: Vec<Key> = keys.iter().filter(moved).take(2).cloned().collect();
    let log = c.nodes[1].replica().log_id();
    // Node 2 has not heard of the new view: the cohort is not over.
    c.tell(0);
    c.tell(1);
    c.run_ms(300);
    // Later writes of the closed log come ahead of it to node 0 alone.
    let first = record::load(&c.nodes[0].disk, &keys[0]).unwrap().unwrap();
    assert_eq!(first.dot.log, log);
    for (key, ahead) in moved.iter().zip(3..) {
        comes_ahead(&mut c, (1, 0), &first, key, &seen, ahead);
    }
    c.run_ms(50);
    let _ = take_met();
    assert!(c.views_settle());
    for key in &moved {
        assert_eq!(c.value(node, key, &seen).as_deref(), Some("1"));
    }
    assert!(take_met().contains_key(&Bound::Handed));
}

#[test]
pub fn an_early_version_outlives_its_writers_disk_everywhere() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    // Node 0 has a write of node 2, and a newer one of its own that nobody else has.
    c.cut(1, 0);
    c.cut(1, 2);
    let seen = c.put(2, &key, Some("old"), &none);
    c.cut(0, 2);
    c.run_ms(600);
    let newest = c.put(0, &key, Some("new"), &seen);
    // Node 1 asks it for the log of node 2, and gets the newer write; the log of node 0 is slower.
    c.heal();
    c.cut(0, 2);
    c.cut(1, 2);
    c.nodes[0].keeps_log = true;
    c.run_ms(60);
    let log = c.nodes[0].replica().log_id();
    assert_eq!(c.marks(1).logs[&log].applied, 0);
    assert_eq!(c.value(1, &key, &none).as_deref(), Some("new"));
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.heal();
    c.start(0);
    c.run_ms(5_000);
    for node in 0..3 {
        let value = c.value(node, &key, &newest);
        assert_eq!(value.as_deref(), Some("new"), "node {node}");
        assert_eq!(c.marks(node).logs.len(), 3, "the old log has ended");
        let left = record::load_early(&c.nodes[node].disk).unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}

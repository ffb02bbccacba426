//! The index of dots that some replica may lack: bounded, and pruned in time.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;
use causeway::protocol::limits::Limits;
use causeway::protocol::record::{self, IndexRun};
use causeway::protocol::store::Store;

/// Little of what was written lately is in memory: who lacks more needs the index.
pub const SHORT_MEMORY: Limits = Limits {
    append_bytes: 300,
    window_bytes: 300,
    tail_bytes: 300,
    ..Limits::ORDINARY
};

/// Dots in the index on a node's disk.
fn indexed(c: &Cluster, node: usize) -> usize {
    let mut dots = 0;
    let disk = &c.nodes[node].disk;
    disk.scan(b"u", b"v", &mut |_, value| {
        let run: IndexRun = record::decode("index run", &value).unwrap();
        dots += run.keys.len();
        true
    })
    .unwrap();
    dots
}

/// Three replicas of which the last one is down, with these limits.
pub fn two_of_three(limits: Limits) -> Cluster {
    let mut c = Cluster::stopped(3, 3);
    c.limits = limits;
    (0..3).for_each(|node| c.start(node));
    c.run_ms(300);
    c.stop(2);
    c.run_ms(600);
    c
}

#[test]
pub fn a_replica_that_stays_away_costs_the_others_a_bounded_index() {
    let mut c = two_of_three(Limits {
        index_dots: 50,
        ..SHORT_MEMORY
    });
    let mut context = Context::default();
    for i in 0..300 {
        let key = c.key(0, i % 20);
        c.write(i % 2, &key, Some(&i.to_string()), &context);
        c.run_ms(5);
        if i == 250 {
            context = c.put(0, &c.key(0, 0), None, &context);
        }
    }
    c.run_ms(300);
    for node in 0..2 {
        let dots = indexed(&c, node);
        assert!(dots <= 60, "node {node} still indexes {dots} dots");
        assert_eq!(c.marks(node).gauges.indexed, dots as u64);
    }
    // Node 2 gets what it missed from a snapshot, the delete included.
    c.start(2);
    c.run_ms(1_500);
    assert!(c.serves(2));
    for n in 0..20 {
        let key = c.key(0, n);
        let [one, other] = [0, 2].map(|node| c.value(node, &key, &Context::default()));
        assert_eq!(one, other, "key {n}");
    }
    assert!(c.marks(2).gauges.copied.keys > 0);
    assert_eq!(c.marks(0).gauges.unstable, 0);
    assert_eq!((indexed(&c, 0), indexed(&c, 2)), (0, 0));
}

#[test]
fn the_index_is_pruned_as_fast_as_it_grows_and_in_every_log() {
    let mut c = Cluster::stopped(3, 3);
    c.limits = Limits {
        prune_runs: 1,
        run_dots: 1,
        ..Limits::ORDINARY
    };
    (0..3).for_each(|node| c.start(node));
    c.run_ms(300);
    let all = Context::default();
    for i in 0..600 {
        for node in 0..3 {
            let key = c.key(0, i % 7);
            c.write(node, &key, Some("value"), &all);
        }
        c.run_ms(2);
        assert!(indexed(&c, 0) < 400, "after {i} rounds");
    }
    c.run_ms(1_000);
    assert_eq!([0, 1, 2].map(|node| indexed(&c, node)), [0; 3]);
}

#[test]
fn two_replicas_that_lack_more_than_the_index_reaches_lose_nothing() {
    let mut c = Cluster::stopped(2, 2);
    c.limits = Limits {
        index_dots: 20,
        ..SHORT_MEMORY
    };
    (0..2).for_each(|node| c.start(node));
    c.run_ms(200);
    c.add();
    c.tell_all();
    c.run_ms(500);
    // Each writes for the cohort that is about to close, and the other one hears nothing of that.
    c.cut(0, 1);
    c.run_ms(600);
    let mut written = Vec::new();
    for n in 0..60 {
        for node in 0..2 {
            let key = c.key(0, written.len());
            let seen = c.put(node, &key, Some(&n.to_string()), &Context::default());
            written.push((key, seen, n.to_string()));
        }
    }
    c.run_ms(500);
    c.enact(2);
    c.tell_all();
    c.run_ms(500);
    c.heal();
    assert!(c.views_settle(), "{:?}", c.changes.views().closing);
    for (key, seen, value) in &written {
        for member in c.view().replicas(c.view().partition_of_key(key)).to_vec() {
            let node = usize::from(member.0);
            assert_eq!(
                c.value(node, key, seen).as_ref(),
                Some(value),
                "node {node}"
            );
        }
    }
}

//! What is bounded: how much a replica holds, sends and does, whatever others do or fail to do.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;
use causeway::protocol::ids::{self, LogId, MemberId};
use causeway::protocol::limits::Limits;
use causeway::protocol::record::{self, IndexRun};
use causeway::protocol::store::Store;

/// Little of what was written lately is in memory: who lacks more needs the index.
const SHORT_MEMORY: Limits = Limits {
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
fn two_of_three(limits: Limits) -> Cluster {
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
    // It gets what it missed from a snapshot, the delete included.
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
pub fn a_snapshot_that_is_being_fetched_keeps_the_index_that_goes_on_from_it() {
    let mut c = two_of_three(Limits {
        index_dots: 20,
        chunk_bytes: 300,
        busy_chunk_bytes: 300,
        ..SHORT_MEMORY
    });
    let all = Context::default();
    for i in 0..100 {
        let key = c.key(0, i);
        c.write(0, &key, Some("old"), &all);
        c.run_ms(2);
    }
    c.run_ms(300);
    c.start(2);
    // Clients write faster than the snapshot comes.
    for i in 0..150 {
        let key = c.key(0, i % 100);
        c.write(i % 2, &key, Some("new"), &all);
        c.run_ms(2);
    }
    c.run_ms(1_000);
    assert!(c.serves(2));
    assert_eq!(
        c.marks(2).gauges.copied.keys,
        100,
        "one snapshot was enough"
    );
    assert_eq!(c.marks(0).gauges.unstable, 0);
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
fn many_reads_of_unknown_logs_ask_the_peers_once() {
    let mut c = Cluster::new(2, 2);
    let log = LogId {
        member: MemberId(1),
        incarnation: ids::incarnation(1, u64::MAX),
    };
    let context = Cluster::after(log, 1, Default::default());
    let key = c.key(0, 0);
    let before = c.asked;
    for _ in 0..200 {
        c.read(0, &key, &context, 500);
    }
    c.run_ms(100);
    let asked = c.asked - before;
    assert!((1..=6).contains(&asked), "asked {asked} times in 5 ticks");
    assert_eq!(c.marks(0).gauges.stalled_reads, 200);
}

#[test]
fn a_context_stays_short_however_often_nodes_start_again() {
    let mut c = two_of_three(Limits::ORDINARY);
    let mut context = Context::default();
    for round in 0..40 {
        let (node, other) = (round % 2, 1 - round % 2);
        c.stop(node);
        c.start(node);
        c.run_ms(300);
        assert!(c.serves(node), "round {round}");
        let (key, value) = (c.key(0, round % 7), round.to_string());
        context = c.put(node, &key, Some(&value), &context);
        c.run_ms(150);
        context = c.get(other, &key, &context).unwrap().context;
        assert!(context.len() <= 3, "round {round}: {context:?}");
    }
    c.start(2);
    c.run_ms(2_000);
    let key = c.key(0, 39 % 7);
    assert_eq!(c.value(2, &key, &context).as_deref(), Some("39"));
    assert_eq!(c.marks(0).gauges.unstable, 0);
    assert!(c.get(0, &key, &context).unwrap().context.is_empty());
}

#[test]
pub fn a_log_does_not_begin_before_the_earlier_ones_of_its_writer_are_there() {
    let mut c = Cluster::new(3, 3);
    let (old, new) = (c.key(0, 0), c.key(0, 1));
    // Node 2 misses the end of node 0's log, and cannot ask for it.
    c.nodes[2].pulls_nothing = true;
    c.mute(0, 2);
    let first = c.put(0, &old, Some("1"), &Context::default());
    c.stop(0);
    c.heal();
    c.start(0);
    c.run_ms(300);
    let context = c.put(0, &new, Some("2"), &first);
    assert_eq!(context.len(), 1, "the new log's write tells of the old one");
    assert!(c.get(2, &old, &context).is_err());
    assert_eq!(c.value(1, &old, &context).as_deref(), Some("1"));
    c.nodes[2].pulls_nothing = false;
    c.run_ms(1_000);
    assert_eq!(c.value(2, &old, &context).as_deref(), Some("1"));
    assert_eq!(c.value(2, &new, &context).as_deref(), Some("2"));
}

#[test]
fn two_who_lack_more_of_each_others_logs_than_indexes_reach_lose_nothing() {
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

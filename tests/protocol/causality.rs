//! Reads are checked against what the client has seen; gaps are closed in order.

use crate::cluster::Cluster;
use causeway::protocol::clock::Timestamp;
use causeway::protocol::context::Context;
use causeway::protocol::ids::{Dot, LogId, MemberId};
use causeway::protocol::op::{Answer, Refusal};
use causeway::protocol::record;
use causeway::protocol::store::Store;
use causeway::protocol::version::{Stamp, Version};
use proptest::prelude::*;

#[test]
fn not_found_is_a_read_too() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.cut(0, 1);
    let seen = c.put(0, &key, Some("1"), &none);
    assert!(matches!(c.get(1, &key, &seen), Err(Refusal::Short(_))));
    assert_eq!(c.value(1, &key, &none), None);
    // The wait is bounded, and ends early when the gap closes.
    let ticket = c.read(1, &key, &seen, 150);
    c.run_ms(200);
    let answer = c.answer(ticket).unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::Short(_))));
    c.heal();
    c.run_ms(1_000);
    assert_eq!(c.value(1, &key, &seen).as_deref(), Some("1"));
}

#[test]
fn entries_of_other_partitions_never_block() {
    let mut c = Cluster::new(4, 2);
    let seen = Cluster::after(far_later(&c), 99, Timestamp::default());
    let (here, there) = (c.key(1, 0), c.key(0, 0));
    let read = c.get(2, &here, &seen).unwrap();
    assert_eq!((read.found, read.context.len()), (None, 1));
    // The same entry does, where the log belongs.
    assert!(matches!(c.get(1, &there, &seen), Err(Refusal::Short(_))));
}

/// A log of node 0 that may still come.
fn far_later(c: &Cluster) -> LogId {
    let mut log = c.nodes[0].replica().log_id();
    log.incarnation += 1;
    log
}

#[test]
fn a_gap_is_filled_with_newer_versions_and_never_skipped() {
    let mut c = Cluster::new(3, 3);
    let (a, b, none) = (c.key(0, 0), c.key(0, 1), Context::default());
    c.cut(0, 2);
    c.cut(1, 2);
    c.put(0, &a, Some("1"), &none);
    c.put(0, &b, Some("2"), &none);
    let newest = c.put(0, &a, Some("3"), &none);
    assert_eq!(c.marks(2).logs.values().map(|m| m.applied).max(), Some(0));
    // The writer is gone: its log comes from the other replica.
    c.stop(0);
    c.heal();
    c.run_ms(1_000);
    assert_eq!(c.value(2, &a, &newest).as_deref(), Some("3"));
    assert_eq!(c.value(2, &b, &newest).as_deref(), Some("2"));
}

#[test]
fn what_is_stable_leaves_contexts_and_the_index() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    c.mute(0, 2);
    let seen = c.put(0, &key, Some("1"), &none);
    assert_eq!(seen.len(), 1, "one replica may lack it");
    c.heal();
    c.run_ms(1_500);
    let read = c.get(1, &key, &seen).unwrap();
    assert!(read.context.is_empty(), "{:?}", read.context);
    for node in 0..3 {
        let mut runs = 0;
        let count = &mut |_, _| {
            runs += 1;
            true
        };
        c.nodes[node].disk.scan(b"u", b"v", count).unwrap();
        assert_eq!(runs, 0, "node {node} still indexes stable dots");
    }
}

#[test]
fn a_log_that_nobody_has_blocks_only_until_all_have_said_so() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.cut(0, 1);
    let seen = c.put(0, &key, Some("lost"), &none);
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.heal();
    assert!(matches!(c.get(1, &key, &seen), Err(Refusal::Short(_))));
    c.start(0);
    c.run_ms(2_000);
    assert_eq!(c.value(1, &key, &seen), None);
    let read = c.get(0, &key, &seen).unwrap();
    assert!(read.context.is_empty());
    assert_eq!(record::load(&c.nodes[0].disk, &key), Ok(None));
}

fn version(ts: u64, by: u16, log: u64, seq: u64) -> Version {
    Version {
        key: "k".into(),
        value: None,
        stamp: Stamp {
            ts: Timestamp(ts),
            by: MemberId(by),
        },
        dot: Dot {
            log: LogId {
                member: MemberId(by),
                incarnation: log,
            },
            seq,
        },
        wall_ms: 0,
        deps: Context::default(),
    }
}

fn any_version() -> impl Strategy<Value = Version> {
    (0u64..4, 0u16..3, 0u64..3, 0u64..3).prop_map(|(t, b, l, s)| version(t, b, l, s))
}

proptest! {
    #[test]
    fn the_order_of_versions_is_total_and_causal(
        a in any_version(), b in any_version(), c in any_version()
    ) {
        prop_assert_eq!(a.beats(&b) || b.beats(&a), a.order() != b.order());
        prop_assert!(!(a.beats(&b) && b.beats(&a)));
        if a.beats(&b) && b.beats(&c) {
            prop_assert!(a.beats(&c));
        }
        if a.stamp.ts > b.stamp.ts {
            prop_assert!(a.beats(&b), "what was seen before loses");
        }
    }
}

//! Reads are checked against what the client has seen.

use crate::cluster::Cluster;
use causeway::protocol::clock::Timestamp;
use causeway::protocol::context::Context;
use causeway::protocol::ids::{self, LogId, MemberId};
use causeway::protocol::limits::Limits;
use causeway::protocol::op::{Answer, Refusal};
use causeway::protocol::record;

/// A log of node 0 that may still come.
fn far_later(c: &Cluster) -> LogId {
    let mut log = c.nodes[0].replica().log_id();
    log.incarnation += 1;
    log
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
fn reads_with_long_contexts_count_as_several_of_those_that_may_wait() {
    let mut c = Cluster::new(2, 2);
    let mut context = Context::default();
    for n in 0..4_096 {
        let incarnation = ids::incarnation(1, u64::MAX - n);
        let member = MemberId(1);
        context.see(
            LogId {
                member,
                incarnation,
            },
            1,
        );
    }
    assert_eq!(context.len(), 4_096);
    let key = c.key(0, 0);
    let most = Limits::ORDINARY.stalled_reads / 65 + 1;
    for _ in 0..most {
        let waits = c.read(0, &key, &context, 500);
        assert_eq!(c.answer(waits), None);
    }
    let beyond = c.read(0, &key, &context, 500);
    let refused = c.answer(beyond);
    assert!(matches!(refused, Some(Answer::Refused(Refusal::Short(_)))));
    // Their room is given back.
    c.run_ms(1_000);
    assert_eq!(c.marks(0).gauges.stalled_reads, 0);
    let again = c.read(0, &key, &context, 500);
    assert_eq!(c.answer(again), None);
}

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
fn entries_of_other_partitions_never_block_a_read() {
    let mut c = Cluster::new(4, 2);
    let seen = Cluster::after(far_later(&c), 99, Timestamp::default());
    let (here, there) = (c.key(1, 0), c.key(0, 0));
    let read = c.get(2, &here, &seen).unwrap();
    assert_eq!((read.found, read.context.len()), (None, 1));
    // The same entry does, where the log belongs.
    assert!(matches!(c.get(1, &there, &seen), Err(Refusal::Short(_))));
}

#[test]
fn a_log_that_nobody_has_blocks_reads_only_until_all_have_said_so() {
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

//! Identity, recovery and tombstones: what a disk that is empty or old may and may not do.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::marks::Mark;
use causeway::protocol::message::Message;
use causeway::protocol::op::{Answer, Consistency, Refusal};
use causeway::protocol::reads::{self, Lookup};
use causeway::protocol::record;
use causeway::protocol::replica::Event;
use causeway::protocol::version::Key;

#[test]
fn the_first_start_of_all_serves_within_a_second() {
    let mut c = Cluster::stopped(3, 3);
    for node in 0..3 {
        c.start(node);
        c.run_ms(50);
    }
    c.run_ms(200);
    assert!((0..3).all(|node| c.serves(node)));
    // With one that never comes, a second is the bound.
    let mut c = Cluster::stopped(3, 3);
    c.start(0);
    c.start(1);
    c.run_ms(1_050);
    assert!(c.serves(0) && c.serves(1));
}

#[test]
fn every_start_opens_a_later_log_even_when_the_clock_went_back() {
    let mut c = Cluster::new(2, 2);
    let mut last = c.nodes[0].replica().log_id();
    for skew_ms in [-30_000, 30_000, 0] {
        c.stop(0);
        c.nodes[0].skew_ms = skew_ms;
        c.start(0);
        c.run_ms(1_200);
        let log = c.nodes[0].replica().log_id();
        assert!(log > last);
        last = log;
    }
}

#[test]
fn an_incarnation_that_is_not_newer_is_told_to_start_again() {
    let mut c = Cluster::new(2, 2);
    let before = c.nodes[0].replica().log_id();
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.nodes[0].skew_ms = -30_000;
    // The peer restarts as well: it knows the old incarnation from its disk alone.
    c.stop(1);
    c.start(1);
    c.run_ms(10);
    c.start(0);
    assert!(c.nodes[0].replica().log_id() < before);
    c.run_ms(100);
    assert!(c.nodes[0].replica().log_id() > before);
    c.run_ms(1_200);
    assert!(c.serves(0));
}

#[test]
fn replicas_that_have_all_lost_their_disks_do_not_wait_for_each_other() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.stop(1);
    c.nodes[1].disk.wipe();
    // It hears that there is data, and before it gets that, the other disk is lost too.
    c.nodes[0].disk_hangs = true;
    c.start(1);
    c.nodes[1].disk_hangs = true;
    c.run_ms(5);
    c.nodes[1].disk_hangs = false;
    c.run_ms(2);
    assert!(!c.serves(1));
    c.stop(0);
    c.nodes[0].disk_hangs = false;
    c.nodes[0].disk.wipe();
    c.start(0);
    c.run_ms(3_000);
    assert!(c.serves(0) && c.serves(1));
    assert_eq!(c.value(0, &key, &none), None);
}

#[test]
fn a_lost_disk_is_filled_before_it_serves() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.cut(0, 1);
    c.start(1);
    c.run_ms(3_000);
    assert!(matches!(c.get(1, &key, &none), Err(Refusal::Recovering(_))));
    let ticket = c.write(1, &key, Some("2"), &none);
    let answer = c.answer(ticket).unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::Recovering(_))));
    c.heal();
    c.run_ms(300);
    assert_eq!(c.value(1, &key, &none).as_deref(), Some("1"));
}

#[test]
pub fn a_deleted_key_does_not_come_back_from_an_old_disk() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("old"), &none);
    c.run_ms(500);
    let old = c.nodes[1].disk.copy();
    c.put(0, &key, None, &none);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0, "collected");
    c.stop(1);
    c.nodes[1].disk.put_back(old);
    c.start(1);
    c.run_ms(1_500);
    assert!(c.serves(1));
    assert_eq!(c.value(1, &key, &none), None);
    assert_eq!(c.value(0, &key, &none), None);
}

#[test]
fn a_tombstone_goes_when_all_have_it_and_never_by_time() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.stop(1);
    c.put(0, &key, None, &none);
    c.run_ms(60_000);
    assert_eq!(c.marks(0).gauges.tombstones, 1);
    c.start(1);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0);
    assert_eq!(c.marks(1).gauges.tombstones, 0);
}

#[test]
fn who_starts_again_after_it_has_dropped_a_tombstone_does_not_hold_up_the_others() {
    let mut met = 0;
    // A link is cut at each moment at which one may know already that all have it, and the other
    // does not yet.
    for cut_ms in (1_900..2_600).step_by(10) {
        let mut c = Cluster::new(2, 2);
        let (key, none) = (c.key(0, 0), Context::default());
        let seen = c.put(0, &key, Some("1"), &none);
        c.put(0, &key, None, &seen);
        c.run_ms(cut_ms);
        c.mute(1, 0);
        c.run_ms(300);
        if (0..2).all(|n| c.marks(n).gauges.tombstones == 1 - n as u64) {
            met += 1;
            c.stop(1);
            c.heal();
            c.start(1);
            c.run_ms(5_000);
        }
        c.heal();
        c.run_ms(2_000);
        assert_eq!(c.marks(0).gauges.tombstones, 0, "cut after {cut_ms} ms");
    }
    assert!(met > 0);
}

#[test]
pub fn a_tombstone_stays_while_its_past_may_be_missing_somewhere() {
    // The delete depends on a write of the other partition that one replica there lacks.
    let mut c = Cluster::new(4, 2);
    let (here, there, none) = (c.key(0, 0), c.key(1, 0), Context::default());
    c.put(0, &here, Some("1"), &none);
    c.stop(3);
    let seen = c.put(2, &there, Some("2"), &none);
    assert_eq!(seen.len(), 1);
    let seen = c.put(0, &here, None, &seen);
    c.run_ms(10_000);
    assert_eq!(c.marks(0).gauges.tombstones, 1);
    let read = c.get(0, &here, &none).unwrap();
    assert_eq!((read.found, read.context.len()), (None, 1));
    assert!(!seen.is_empty());
    c.start(3);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0);
}

/// Node 2 gets a write of node 0 that node 1 has lost, and does not get it on to that one. Nobody
/// calls it stable: node 1 does not answer clients who have seen it, whatever node 0 prunes of what
/// they have seen.
fn is_not_called_stable_without_node_1(c: &mut Cluster, key: &Key, seen: Context) {
    c.heal();
    c.cut(0, 1);
    c.mute(2, 1);
    let mut context = seen;
    for _ in 0..300 {
        c.run_ms(1);
        context = c.get(0, key, &context).unwrap().context;
        if let Ok(read) = c.get(1, key, &context) {
            assert!(read.found.is_some(), "it was called stable too early");
        }
    }
}

#[test]
pub fn what_a_lost_disk_had_confirmed_is_not_counted_on() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    // Two have the write; the one that confirmed it loses its disk and is refilled by the third.
    c.cut(0, 2);
    c.cut(1, 2);
    let seen = c.put(0, &key, Some("1"), &none);
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.heal();
    c.cut(0, 2);
    c.cut(0, 1);
    c.start(1);
    c.run_ms(1_000);
    assert!(c.serves(1));
    // The writer has not heard of that when the third gets the write.
    is_not_called_stable_without_node_1(&mut c, &key, seen);
}

#[test]
fn a_log_is_not_finished_before_all_have_told_what_they_have_of_it() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    // Node 1 knows the log of node 2, and is away while something is written to it.
    c.run_ms(300);
    c.cut(1, 0);
    c.cut(1, 2);
    let seen = c.put(2, &key, Some("kept"), &none);
    for node in [2, 1] {
        c.stop(node);
        c.start(node);
        c.run_ms(1_500);
    }
    // Now it hears two others who have not heard of its own start yet.
    c.heal();
    c.mute(1, 0);
    c.mute(1, 2);
    c.run_ms(300);
    c.heal();
    c.run_ms(2_000);
    assert_eq!(c.value(1, &key, &seen), Some("kept".into()));
}

#[test]
pub fn a_version_that_came_ahead_of_its_log_outlives_its_writers_disk_everywhere() {
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

#[test]
fn a_write_that_is_logged_again_is_hidden_no_longer_than_one_of_a_client() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    // Node 1 has a write of node 0 ahead of its log, as above. Then the disk of node 0 is lost.
    c.cut(1, 0);
    c.cut(1, 2);
    let seen = c.put(2, &key, Some("old"), &none);
    c.cut(0, 2);
    c.run_ms(600);
    c.put(0, &key, Some("new"), &seen);
    c.heal();
    c.cut(0, 2);
    c.cut(1, 2);
    c.nodes[0].keeps_log = true;
    c.run_ms(60);
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.nodes[0].keeps_log = false;
    c.heal();
    c.start(0);
    // All live, and none has room for what another one logs.
    for node in 0..3 {
        c.step(node, Event::DiskFull(Some("no room".into())));
    }
    c.run_ms(5_000);
    let again = [0, 1].map(|node| c.nodes[node].replica().head());
    assert_ne!(again, [0, 0], "it was logged again");
    for node in 0..3 {
        assert!(c.nodes[node].replica().is_idle(), "node {node}");
    }
}

#[test]
pub fn a_refilled_disk_serves_only_when_the_snapshot_is_durable() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("kept"), &none);
    // All of it comes from logs that have ended: no mark tells how far the snapshot is on the disk.
    for node in [0, 1] {
        c.stop(node);
        c.start(node);
        c.run_ms(3_000);
    }
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.start(1);
    c.run_ms(1);
    c.nodes[1].disk_hangs = true;
    c.run_ms(50);
    assert_eq!(c.marks(1).finished.len(), 2, "the snapshot came");
    assert!(!c.serves(1));
    c.nodes[1].disk_hangs = false;
    c.run_ms(50);
    assert_eq!(c.value(1, &key, &seen).as_deref(), Some("kept"));
}

#[test]
pub fn a_first_start_comes_through_a_crash_of_the_first_to_serve() {
    for at_ms in 1..10 {
        let mut c = Cluster::stopped(2, 2);
        c.start(1);
        c.run_ms(300);
        // Node 0 hears of node 1 only when that one could serve.
        c.nodes[1].disk_hangs = true;
        c.start(0);
        c.run_ms(at_ms);
        c.stop(1);
        c.nodes[1].disk_hangs = false;
        c.start(1);
        c.run_ms(2_500);
        assert!(c.serves(0) && c.serves(1), "crash after {at_ms} ms");
    }
}

#[test]
fn a_read_ends_in_time_at_a_node_whose_disk_has_stood_still_since_its_start() {
    let mut c = Cluster::stopped(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.nodes[0].disk_hangs = true;
    c.start(0);
    let ticket = c.read(0, &key, &none, 50);
    c.run_ms(100);
    let answer = c.answer(ticket);
    assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
}

#[test]
fn peers_have_a_second_from_when_they_can_hear_of_a_start() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let old = c.nodes[1].disk.copy();
    let seen = c.put(0, &key, Some("new"), &none);
    c.run_ms(300);
    assert_eq!(c.get(0, &key, &seen).unwrap().context.len(), 0, "stable");
    c.stop(1);
    c.nodes[1].disk.put_back(old);
    // The disk takes longer to start than a peer may take to answer.
    c.nodes[1].disk_hangs = true;
    c.start(1);
    c.run_ms(1_500);
    c.nodes[1].disk_hangs = false;
    for _ in 0..200 {
        c.run_ms(1);
        if c.serves(1) {
            assert_eq!(c.value(1, &key, &none).as_deref(), Some("new"));
        }
    }
    assert!(c.serves(1));
}

#[test]
pub fn no_write_is_taken_before_the_replica_has_compared_itself_with_a_peer() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.stop(1);
    c.cut(0, 1);
    c.start(1);
    c.run_ms(10);
    let early = c.write(1, &key, Some("1"), &none);
    let answer = c.answer(early);
    assert!(
        matches!(answer, Some(Answer::Refused(Refusal::Recovering(_)))),
        "{answer:?}"
    );
    // Nobody answers: after a second it goes on alone.
    c.run_ms(1_100);
    assert_eq!(c.put(1, &key, Some("2"), &none).len(), 1);
}

#[test]
pub fn a_start_after_a_lost_disk_is_not_forgotten_for_an_earlier_one_with_a_higher_number() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    // Node 0 alone hears of a start of node 1, which gets a write from it.
    c.run_ms(3_000);
    c.stop(1);
    c.mute(0, 2);
    c.mute(1, 2);
    c.start(1);
    let earlier = c.nodes[1].replica().log_id();
    c.run_ms(500);
    let seen = c.put(0, &key, Some("1"), &none);
    // Node 1 loses its disk, and its wall clock is set back. Node 2 refills it.
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.nodes[1].skew_ms = -2_000;
    c.heal();
    c.cut(0, 1);
    c.cut(0, 2);
    c.start(1);
    assert!(c.nodes[1].replica().log_id() < earlier);
    c.run_ms(500);
    assert!(c.serves(1));
    // Node 2 gets the write, and hears of the earlier start.
    is_not_called_stable_without_node_1(&mut c, &key, seen);
}

#[test]
pub fn an_old_disk_is_not_compared_with_what_a_peer_said_before_it_knew_of_the_start() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let old = c.nodes[1].disk.copy();
    let message = Message::Gossip(c.nodes[0].gossip.clone().unwrap());
    let seen = c.put(0, &key, Some("new"), &none);
    c.run_ms(300);
    assert_eq!(c.get(0, &key, &seen).unwrap().context.len(), 0, "stable");
    c.stop(1);
    c.nodes[1].disk.put_back(old);
    c.cut(0, 1);
    c.start(1);
    c.run_ms(5);
    // It has been on its way all the time.
    let from = MemberId(0);
    let incarnation = c.nodes[0].replica().log_id().incarnation;
    let event = Event::Message {
        from,
        incarnation,
        message,
    };
    c.step(1, event);
    assert!(!c.serves(1));
    c.heal();
    c.run_ms(300);
    assert_eq!(c.value(1, &key, &none).as_deref(), Some("new"));
}

#[test]
pub fn a_refilled_disk_does_not_vouch_for_starts_that_the_lost_one_knew_better() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    // Nodes 1 and 2 have a write. Node 2 loses its disk, and is refilled by node 0, which has not.
    c.cut(0, 1);
    c.cut(0, 2);
    let seen = c.put(2, &key, Some("1"), &none);
    c.stop(2);
    c.nodes[2].disk.wipe();
    c.heal();
    c.cut(0, 1);
    c.cut(1, 2);
    c.start(2);
    c.run_ms(1_500);
    assert!(c.serves(2));
    // Now node 0, which alone has heard of that, loses its own, and is refilled by node 1.
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.heal();
    c.cut(0, 2);
    c.cut(1, 2);
    c.start(0);
    c.run_ms(1_500);
    assert!(c.serves(0));
    for node in [0, 1] {
        let read = c.get(node, &key, &seen).unwrap();
        assert_eq!(read.context.len(), 1, "node 2 does not have it");
    }
}

#[test]
pub fn a_log_is_not_over_while_somebody_may_have_more_of_it() {
    let mut c = Cluster::new(3, 3);
    let (key, other, none) = (c.key(0, 0), c.key(0, 1), Context::default());
    c.put(1, &key, Some("1"), &none);
    c.run_ms(500);
    // Node 2 alone gets the last write of a log whose writer then loses its disk. Node 0 has no
    // room for it.
    c.cut(0, 1);
    c.step(0, Event::DiskFull(Some("full".into())));
    c.put(1, &other, Some("2"), &none);
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.heal();
    c.start(1);
    c.run_ms(2_000);
    c.step(0, Event::DiskFull(None));
    c.run_ms(2_000);
    for node in 0..3 {
        let value = c.value(node, &other, &none);
        assert_eq!(value.as_deref(), Some("2"), "node {node}");
    }
}

#[test]
fn a_disk_that_was_found_to_be_old_is_not_believed_after_another_start() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("old"), &none);
    c.run_ms(500);
    let old = c.nodes[1].disk.copy();
    c.put(0, &key, Some("new"), &none);
    c.run_ms(500);
    c.stop(1);
    c.nodes[1].disk.put_back(old);
    // It hears how far the others are, and its snapshot does not come.
    c.start(1);
    c.run_ms(2);
    c.mute(1, 0);
    c.run_ms(5);
    assert!(!c.serves(1));
    c.stop(1);
    c.cut(0, 1);
    c.start(1);
    c.run_ms(3_000);
    assert!(!c.serves(1), "nobody has told it anything since");
    c.heal();
    c.run_ms(3_000);
    assert_eq!(c.value(1, &key, &none).as_deref(), Some("new"));
}

#[test]
fn what_comes_back_of_an_earlier_log_of_ones_own_is_shown() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.run_ms(300);
    let log = c.nodes[1].replica().log_id();
    let seen = c.put(1, &key, Some("1"), &none);
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.start(1);
    c.run_ms(1_500);
    // The version is here, and its log is known to exist, be it not how far it goes.
    let mut marks = c.marks(1);
    marks.logs.insert(log, Mark::default());
    let found = reads::lookup(&c.nodes[1].disk, &marks, &key, &none, Consistency::Causal);
    assert!(matches!(found, Ok(Lookup::Answer(_))), "{found:?}");
    assert_eq!(c.value(1, &key, &seen).as_deref(), Some("1"));
}

#[test]
fn a_log_that_ended_long_ago_at_the_sender_of_a_snapshot_ends_with_it() {
    let mut c = Cluster::stopped(3, 3);
    c.limits.finished = 1;
    for node in 0..3 {
        c.start(node);
    }
    c.run_ms(200);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    let log = c.nodes[0].replica().log_id();
    c.run_ms(300);
    // Node 1 hears of two later starts, and then of nothing more, so that two logs end for the
    // others alone.
    c.cut(2, 0);
    c.cut(2, 1);
    for value in ["2", "3"] {
        c.stop(0);
        c.start(0);
        c.run_ms(1_500);
        c.put(0, &key, Some(value), &none);
    }
    c.run_ms(300);
    c.heal();
    c.mute(0, 1);
    c.mute(2, 1);
    c.run_ms(2_000);
    assert!(!c.marks(0).logs.contains_key(&log), "it has ended there");
    assert_eq!(c.marks(1).logs[&log].stable, 1);
    // From node 1 the empty disk hears of the log, from node 0 it gets the data.
    c.stop(2);
    c.nodes[2].disk.wipe();
    c.cut(2, 0);
    c.start(2);
    c.run_ms(300);
    assert_eq!(c.marks(2).logs[&log].stable, 1);
    c.heal();
    c.cut(1, 0);
    c.cut(1, 2);
    for _ in 0..3_000 {
        c.run_ms(1);
        let claims = |m: &Mark| m.stable > m.applied;
        let left = c.marks(2).logs.into_iter().find(|(_, m)| claims(m));
        assert!(!c.serves(2) || left.is_none(), "{left:?}");
    }
    assert!(c.serves(2));
    assert_eq!(c.value(2, &key, &none).as_deref(), Some("3"));
}

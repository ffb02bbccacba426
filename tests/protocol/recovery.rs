//! Starts: what a disk that is empty, old or refilled may do before it serves, and what not.

use crate::cluster::Cluster;
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::marks::Mark;
use causeway::protocol::message::Message;
use causeway::protocol::op::{Answer, Consistency, Refusal};
use causeway::protocol::reads::{self, Lookup};
use causeway::protocol::replica::Event;
use causeway::protocol::room::DiskRoom;
use causeway::protocol::version::Key;

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
    // Node 1 hears that there is data, and before it gets that, the other disk is lost too.
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
pub fn replicas_whose_data_is_put_aside_do_not_agree_that_all_is_lost() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("1"), &none);
    // One of two is filled by the other.
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.nodes[0].put_aside = true;
    c.start(0);
    c.run_ms(1_000);
    assert_eq!(c.value(0, &key, &seen).as_deref(), Some("1"));
    // Both, or one of them and a lost disk: somebody has to say that nothing more will come.
    for put_aside in [true, false] {
        for node in [0, 1] {
            c.stop(node);
            c.nodes[node].disk.wipe();
            c.nodes[node].put_aside = node == 0 || put_aside;
            c.start(node);
        }
        c.run_ms(5_000);
        assert!(!c.serves(0) && !c.serves(1), "{put_aside}");
        let reason = c.marks(0).recovering.unwrap();
        assert!(reason.contains("put aside"), "{reason}");
    }
    c.stop(0);
    c.nodes[0].put_aside = false;
    c.start(0);
    c.run_ms(5_000);
    assert!(c.serves(0) && c.serves(1));
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
pub fn acknowledgements_of_a_lost_disk_do_not_count() {
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
        c.step(node, Event::Room(DiskRoom::None("no room".into())));
    }
    c.run_ms(5_000);
    let again = [0, 1].map(|node| c.nodes[node].replica().head());
    assert_ne!(again, [0, 0], "it was logged again");
    for node in 0..3 {
        assert!(c.nodes[node].replica().is_idle(), "node {node}");
    }
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
    // The old gossip has been on its way all the time.
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
    // Node 1 hears how far the others are, and its snapshot does not come.
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
fn a_write_that_comes_back_of_an_earlier_own_log_is_shown() {
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

//! Client writes: two copies before anyone sees a write, and what is refused.

use crate::cluster::Cluster;
use causeway::protocol::clock::Timestamp;
use causeway::protocol::context::Context;
use causeway::protocol::op::{Answer, Refusal};
use causeway::protocol::replica::Event;
use causeway::protocol::room::DiskRoom;
use causeway::protocol::version::Stamp;

#[test]
fn a_write_is_shown_and_acknowledged_at_its_second_copy() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.nodes[1].disk_hangs = true;
    let ticket = c.write(0, &key, Some("1"), &none);
    c.run_ms(20);
    assert_eq!(c.value(0, &key, &none), None, "only its writer has it");
    assert!(c.written(ticket).is_none());
    c.nodes[1].disk_hangs = false;
    c.run_ms(5);
    assert_eq!(c.value(0, &key, &none).as_deref(), Some("1"));
    assert_eq!(c.written(ticket).unwrap().copies, 2);
}

#[test]
fn a_write_waits_for_its_own_disk_while_its_peer_has_it_already() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.nodes[0].disk_hangs = true;
    let ticket = c.write(0, &key, Some("1"), &none);
    c.run_ms(200);
    assert_eq!(c.value(1, &key, &none).as_deref(), Some("1"));
    assert_eq!(c.value(0, &key, &none), None);
    assert!(c.written(ticket).is_none());
    c.nodes[0].disk_hangs = false;
    c.run_ms(5);
    assert_eq!(c.value(0, &key, &none).as_deref(), Some("1"));
    assert_eq!(c.written(ticket).unwrap().copies, 2);
}

#[test]
pub fn in_the_place_of_a_hidden_write_nothing_is_read_that_is_not_durable() {
    for peer_first in [false, true] {
        let mut c = Cluster::new(2, 2);
        let (key, none) = (c.key(0, 0), Context::default());
        c.put(1, &key, Some("0"), &none);
        c.run_ms(200);
        // Node 0 hears nothing of node 1's write, so that this stays hidden; and node 1's disk is
        // slow with what node 0 writes.
        c.mute(1, 0);
        if peer_first {
            c.nodes[1].disk_hangs = true;
            c.write(0, &key, Some("2"), &none);
            c.run_ms(5);
            c.write(1, &key, Some("1"), &none);
        } else {
            c.write(1, &key, Some("1"), &none);
            c.run_ms(5);
            c.nodes[1].disk_hangs = true;
            c.write(0, &key, Some("2"), &none);
        }
        c.run_ms(5);
        assert_eq!(
            c.value(1, &key, &none).as_deref(),
            Some("0"),
            "{peer_first}"
        );
        // A client that has seen the write gets it when it is on the disk.
        let later = Cluster::after(c.marks(0).own, 1, c.nodes[0].clock.now());
        let ticket = c.read(1, &key, &later, 50);
        assert_eq!(c.answer(ticket), None);
        c.nodes[1].disk_hangs = false;
        c.run_ms(5);
        let Some(Answer::Read(read)) = c.answer(ticket) else {
            panic!("it has come");
        };
        assert_eq!(read.found.map(|f| f.value).as_deref(), Some(&b"2"[..]));
    }
}

#[test]
fn a_version_that_became_durable_unnoticed_is_not_hidden_from_a_client_that_has_seen_it() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(1, &key, Some("0"), &none);
    c.run_ms(200);
    c.nodes[0].disk_hangs = true;
    c.write(1, &key, Some("1"), &none);
    c.run_ms(5);
    let seen = c.get(1, &key, &none).unwrap();
    assert_eq!(seen.found.unwrap().value, "1");
    c.write(2, &key, Some("2"), &none);
    c.run_ms(5);
    c.write(0, &key, Some("3"), &none);
    let log = c.marks(1).own;
    while c.marks(0).logs[&log].applied < 2 {
        assert!(c.store_batch(0));
    }
    // The other two are on the disk, which has not said so yet.
    let (no, _) = c.nodes[0].disk.first_waiting().unwrap();
    c.nodes[0].disk.sync_one();
    // All have the first one: contexts need not name it.
    let mut later = none.clone();
    later.clock = seen.context.clock;
    let ticket = c.read(0, &key, &later, 50);
    assert_eq!(c.answer(ticket), None);
    assert_eq!(c.value(0, &key, &none).as_deref(), Some("0"));
    c.step(0, Event::Persisted(no));
    c.nodes[0].disk_hangs = false;
    c.run_ms(5);
    let Some(Answer::Read(read)) = c.answer(ticket) else {
        panic!("it has come");
    };
    assert_ne!(read.found.unwrap().value, "0");
}

#[test]
fn a_write_lost_before_it_was_on_its_writers_disk_comes_back_from_its_peer() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.nodes[0].disk_hangs = true;
    c.write(0, &key, Some("1"), &none);
    c.run_ms(20);
    let seen = c.get(1, &key, &none).unwrap().context;
    c.stop(0);
    c.nodes[0].disk_hangs = false;
    c.start(0);
    c.run_ms(500);
    assert_eq!(c.value(0, &key, &seen).as_deref(), Some("1"));
    let after = c.put(0, &key, Some("2"), &seen);
    c.run_ms(5);
    assert_eq!(c.value(1, &key, &after).as_deref(), Some("2"));
}

#[test]
fn a_delete_that_is_asked_of_a_second_replica_does_not_find_itself_done() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("1"), &none);
    let stamp = c.stamp(0, &seen);
    let first = c.write_as(0, &key, None, &seen, stamp);
    c.run_ms(5);
    assert!(c.written(first).is_some());
    // No answer came in time: the same delete again, elsewhere.
    let again = c.write_as(1, &key, None, &seen, stamp);
    c.run_ms(5);
    assert!(c.written(again).is_some());
    let other = c.write(1, &key, None, &seen);
    assert!(matches!(c.answer(other), Some(Answer::NothingToDelete(_))));
}

#[test]
fn a_write_goes_with_one_copy_when_the_second_takes_too_long() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.nodes[1].disk_hangs = true;
    let ticket = c.write(0, &key, Some("1"), &none);
    c.run_ms(60);
    assert!(c.written(ticket).is_none());
    c.run_ms(80);
    assert_eq!(c.written(ticket).unwrap().copies, 1);
    assert_eq!(c.value(0, &key, &none).as_deref(), Some("1"));
}

#[test]
fn a_write_without_a_live_peer_does_not_wait() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.stop(1);
    let ticket = c.write(0, &key, Some("1"), &none);
    c.run_ms(2);
    assert_eq!(c.written(ticket).unwrap().copies, 1);
}

#[test]
fn a_shown_write_is_found_behind_one_that_is_not_shown_yet() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let first = c.write(0, &key, Some("1"), &none);
    c.run_ms(1);
    c.mute(0, 1);
    c.write(0, &key, Some("2"), &none);
    c.run_ms(5);
    let seen = c.written(first).unwrap().context;
    let read = c.get(0, &key, &seen).unwrap();
    assert_eq!(read.found.unwrap().value, "1");
}

#[test]
fn a_client_that_may_have_seen_a_hidden_write_waits_for_it() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    // The peer has the write and its answer is lost: it knows that all have it, the writer not.
    c.mute(1, 0);
    c.write(0, &key, Some("1"), &none);
    c.run_ms(10);
    let mut seen = Context::default();
    seen.clock = c.nodes[0].clock.now();
    assert!(matches!(c.get(0, &key, &seen), Err(Refusal::Short(_))));
    let ticket = c.read(0, &key, &seen, 150);
    c.run_ms(140);
    let Some(Answer::Read(read)) = c.answer(ticket) else {
        panic!("the wait has an end");
    };
    assert_eq!(read.found.unwrap().value, "1");
}

#[test]
fn a_full_disk_refuses_writes_and_serves_reads() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.step(0, Event::Room(DiskRoom::None("no room".into())));
    let ticket = c.write(0, &key, Some("2"), &none);
    let answer = c.answer(ticket).unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::DiskFull(_))));
    assert_eq!(c.value(0, &key, &none).as_deref(), Some("1"));
    c.step(0, Event::Room(DiskRoom::Ample));
    c.put(0, &key, Some("2"), &none);
}

#[test]
pub fn a_scarce_disk_takes_deletes_and_what_others_send() {
    let mut c = Cluster::new(2, 2);
    let (key, other, none) = (c.key(0, 0), c.key(0, 1), Context::default());
    c.put(0, &key, Some("1"), &none);
    for node in [0, 1] {
        c.step(node, Event::Room(DiskRoom::Scarce("little room".into())));
    }
    let ticket = c.write(0, &key, Some("2"), &none);
    let answer = c.answer(ticket).unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::DiskFull(_))));
    // Values of others come before their deletes, in the same log.
    c.step(0, Event::Room(DiskRoom::Ample));
    c.put(0, &other, Some("1"), &none);
    c.step(0, Event::Room(DiskRoom::Scarce("little room".into())));
    c.put(0, &key, None, &none);
    for node in [0, 1] {
        assert_eq!(c.value(node, &key, &none), None, "node {node}");
        let value = c.value(node, &other, &none);
        assert_eq!(value.as_deref(), Some("1"), "node {node}");
    }
    // Without any room there is none for deletes either.
    c.step(0, Event::Room(DiskRoom::None("no room".into())));
    let ticket = c.write(0, &other, None, &none);
    let answer = c.answer(ticket).unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::DiskFull(_))));
    c.step(0, Event::Room(DiskRoom::Ample));
    c.put(0, &key, Some("2"), &none);
}

#[test]
pub fn a_stamp_behind_the_promise_is_refused() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.put(0, &key, None, &none);
    c.run_ms(6_000);
    let old = Stamp {
        ts: Timestamp::from_ms(crate::cluster::START_MS + 100),
        ..c.stamp(0, &none)
    };
    let ticket = c.write_as(0, &key, Some("old"), &none, old);
    let answer = c.answer(ticket).unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal::StampTooOld(_))));
}

#[test]
fn a_clock_that_was_set_back_during_a_restart_does_not_put_new_writes_behind_old_ones() {
    let mut c = Cluster::new(1, 1);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("old"), &none);
    c.stop(0);
    c.nodes[0].skew_ms = -3_600_000;
    c.start(0);
    c.run_ms(10);
    c.put(0, &key, Some("new"), &none);
    assert_eq!(c.value(0, &key, &none).as_deref(), Some("new"));
}

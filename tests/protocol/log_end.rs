//! Logs that end: no replica says so before everything of them is where it belongs.

use crate::cluster::Cluster;
use crate::gossip::{hear, log};
use causeway::protocol::changes::ViewCommand;
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::marks::Mark;
use causeway::protocol::placement::Change;
use causeway::protocol::replica::Event;
use causeway::protocol::room::DiskRoom;
use causeway::protocol::version::Key;
use causeway::protocol::view::PartitionId;

#[test]
fn a_disk_that_nobody_can_fill_hears_which_logs_have_ended() {
    let mut c = Cluster::new(3, 1);
    let (key, none) = (c.key(2, 0), Context::default());
    c.put(2, &key, Some("1"), &none);
    let log = c.nodes[2].replica().log_id();
    let number = c.change(Change::Remove(MemberId(2)));
    c.tell_all();
    c.run_ms(1_000);
    c.stop(2);
    c.start(2);
    c.run_ms(2_000);
    assert!(!c.marks(1).logs.contains_key(&log), "it has ended");
    // Two nodes share what node 2 had. Node 2 ends for good, and one of the two loses its disk.
    c.enact(number);
    c.stop(2);
    c.tell(0);
    c.tell(1);
    c.run_ms(600);
    c.stop(0);
    c.nodes[0].disk.wipe();
    let member = MemberId(2);
    c.decide(ViewCommand::GiveUp { member });
    c.tell(0);
    c.tell(1);
    c.start(0);
    c.run_ms(3_000);
    for _ in 0..1_000 {
        c.run_ms(1);
        assert!(c.serves(0), "{:?}", c.marks(0).recovering);
    }
    assert!(c.views_settle());
}

#[test]
pub fn a_late_message_opens_no_log_again_that_is_finished() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    let number = c.change(Change::SetK(2));
    c.tell_all();
    c.put(2, &key, Some("1"), &none);
    let old = log(&c, 2);
    c.run_ms(500);
    c.enact(number);
    // Node 0 knows from node 2 alone that the log is finished.
    c.tell_all();
    c.run_ms(2);
    c.mute(1, 0);
    c.run_ms(1_000);
    // The cohort of the log is not over. Later ones of its writer are no business of node 0.
    assert!(!c.changes.views().closing.is_empty());
    let marks = c.marks(0);
    assert!(marks.is_finished(old) && marks.is_tracked(old));
    c.stop(0);
    c.cut(0, 1);
    c.cut(0, 2);
    c.start(0);
    c.run_ms(5);
    hear(&mut c, 0, old);
    c.run_ms(5);
    assert!(c.marks(0).is_finished(old), "{:?}", c.marks(0).logs);
    c.heal();
    assert!(c.views_settle());
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
    // Now node 1 hears two others that have not heard of its own start yet.
    c.heal();
    c.mute(1, 0);
    c.mute(1, 2);
    c.run_ms(300);
    c.heal();
    c.run_ms(2_000);
    assert_eq!(c.value(1, &key, &seen), Some("kept".into()));
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
    c.step(0, Event::Room(DiskRoom::None("full".into())));
    c.put(1, &other, Some("2"), &none);
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.heal();
    c.start(1);
    c.run_ms(2_000);
    c.step(0, Event::Room(DiskRoom::Ample));
    c.run_ms(2_000);
    for node in 0..3 {
        let value = c.value(node, &other, &none);
        assert_eq!(value.as_deref(), Some("2"), "node {node}");
    }
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

#[test]
fn a_member_without_the_logs_of_a_cohort_does_not_say_that_they_are_finished() {
    let mut c = Cluster::new(2, 2);
    let none = Context::default();
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    // Node 1 lacks some writes, which are not in node 0's newest log.
    c.cut(0, 1);
    let log = c.nodes[0].replica().log_id();
    let mut seen = none;
    for key in &keys {
        seen = c.put(0, key, Some("1"), &seen);
    }
    assert!(seen.get(log).is_some());
    c.stop(0);
    c.start(0);
    c.step(1, Event::Room(DiskRoom::None("full".into())));
    c.heal();
    c.run_ms(1_500);
    // Node 2 comes and takes over some slots. Then it is to hold them all, and has to fetch them
    // first.
    let node = c.add();
    c.tell(0);
    c.run_ms(500);
    c.enact(2);
    c.tell(0);
    c.tell(node);
    c.run_ms(300);
    c.change(Change::SetK(3));
    c.tell(0);
    c.tell(node);
    let key = keys.iter().find(|k| c.view().partition_of_key(k).0 == 0);
    for _ in 0..100 {
        c.run_ms(1);
        let read = c.get(0, key.unwrap(), &seen).unwrap();
        assert!(read.context.get(log).is_some(), "node 1 does not have it");
    }
    c.step(1, Event::Room(DiskRoom::Ample));
    assert!(c.views_settle());
}

#[test]
fn a_member_that_does_not_know_a_view_does_not_say_that_its_logs_are_finished() {
    let mut c = Cluster::new(4, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let of = |c: &Cluster, partition| -> Vec<usize> {
        let replicas = c.view().replicas(PartitionId(partition)).iter();
        replicas.map(|m| usize::from(m.0)).collect()
    };
    let (here, other) = (of(&c, 0), of(&c, 1));
    let (writer, late) = (here[0], here[1]);
    // A node of the other partition goes: this one stays as it is, and one of its replicas does not
    // hear of the view.
    let number = c.change(Change::Remove(MemberId(other[1] as u16)));
    for node in 0..4 {
        c.run_ms(100);
        if node != late {
            c.tell(node);
        }
    }
    c.run_ms(500);
    c.enact(number);
    for node in [writer, other[0], other[1]] {
        c.tell(node);
    }
    assert_eq!(of(&c, 0), here);
    // A write of the new view, in a log that ends before the late one has heard of the view.
    let seen = c.put(writer, &key, Some("1"), &none);
    assert!(seen.iter().all(|(log, _)| log.view() == number));
    c.stop(writer);
    c.start(writer);
    c.run_ms(2_000);
    c.tell(late);
    for _ in 0..500 {
        c.run_ms(1);
        if let Ok(read) = c.get(late, &key, &seen) {
            assert!(read.found.is_some(), "it is not there: {read:?}");
        }
    }
    assert_eq!(c.value(late, &key, &seen).as_deref(), Some("1"));
}

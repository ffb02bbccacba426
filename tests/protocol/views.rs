//! Views that change: following, handing over, and going over to newer ones.

use crate::cluster::Cluster;
use causeway::protocol::changes::{ViewCommand, ViewOutcome};
use causeway::protocol::cluster::{self, ClusterId, PayloadKey};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::message::{Append, Message};
use causeway::protocol::op::{Answer, Consistency, Refusal};
use causeway::protocol::placement::Change;
use causeway::protocol::reads::{self, Lookup};
use causeway::protocol::record;
use causeway::protocol::replica::Event;
use causeway::protocol::slots::Slot;
use causeway::protocol::version::Key;
use causeway::protocol::view::{PartitionId, View};
use causeway::protocol::views::{Home, Views};
use std::collections::BTreeSet;
use std::net::SocketAddr;

#[test]
pub fn views_of_another_cluster_are_not_taken_over() {
    let cluster = |n: u8, former: Option<u8>| cluster::Cluster {
        id: ClusterId([n; 16]),
        key: PayloadKey([n; 32]),
        former: former.map(|n| ClusterId([n; 16])),
    };
    let view = |k| {
        let at = [1, 2, 3].map(|n| SocketAddr::from(([10, 0, 0, n], 8080)));
        View::first(&at, k).unwrap()
    };
    let unborn = Views::first(view(2));
    let born = |cluster: cluster::Cluster, k: usize, version: u64| Views {
        version,
        ..Views::born(view(k), cluster)
    };
    let own = born(cluster(1, None), 2, 4);
    // At the first start, whatever the views of a cluster that was started with the same VIEW and K
    // say.
    assert!(unborn.may_become(&own));
    assert!(!unborn.may_become(&born(cluster(1, None), 1, 4)));
    // Newer ones of the same cluster, and those of one that goes on from it.
    assert!(own.may_become(&born(cluster(1, None), 2, 5)));
    assert!(!own.may_become(&born(cluster(1, None), 2, 4)));
    assert!(own.may_become(&born(cluster(2, Some(1)), 2, 5)));
    // A stranger's, however new, an earlier life's of the same nodes, and those of a node that lost
    // its disk.
    assert!(!own.may_become(&born(cluster(3, None), 1, 9)));
    assert!(!own.may_become(&born(cluster(3, None), 2, 9)));
    assert!(!own.may_become(&born(cluster(3, Some(2)), 2, 9)));
    assert!(!own.may_become(&Views {
        version: 9,
        ..unborn.clone()
    }));
}

#[test]
fn a_change_comes_to_an_end_and_keeps_everything() {
    let mut c = Cluster::new(2, 1);
    let (one, other, none) = (c.key(0, 0), c.key(1, 0), Context::default());
    c.put(0, &one, Some("1"), &none);
    let seen = c.put(1, &other, Some("2"), &none);
    c.change(Change::SetK(2));
    assert!(c.views_settle());
    for node in 0..2 {
        assert_eq!(c.value(node, &one, &seen).as_deref(), Some("1"));
        assert_eq!(c.value(node, &other, &seen).as_deref(), Some("2"));
    }
}

#[test]
fn who_lacks_the_logs_of_a_cohort_does_not_say_that_they_are_finished() {
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
    c.step(1, Event::DiskFull(Some("full".into())));
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
    c.step(1, Event::DiskFull(None));
    assert!(c.views_settle());
}

#[test]
fn who_does_not_know_a_view_yet_does_not_say_that_its_logs_are_finished() {
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

#[test]
pub fn no_snapshot_is_taken_that_names_logs_of_unknown_views() {
    let mut c = Cluster::new(6, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    (3..6).for_each(|node| c.stop(node));
    c.run_ms(1_000);
    let members = (3..6).map(MemberId).collect();
    assert_eq!(
        c.decide(ViewCommand::Dead { members }),
        ViewOutcome::Changed
    );
    // The view has a new number. Node 0 takes that over as it runs, node 1 starts again under it.
    let log = c.nodes[0].replica().log_id();
    c.tell(0);
    assert_eq!(c.nodes[0].replica().log_id(), log);
    c.stop(1);
    c.tell(1);
    c.start(1);
    c.run_ms(1_500);
    c.put(1, &key, Some("1"), &none);
    c.stop(2);
    c.nodes[2].disk.wipe();
    c.cut(1, 2);
    c.start(2);
    for _ in 0..100 {
        c.run_ms(10);
        let marks = c.marks(2);
        let mut logs = marks.logs.keys();
        assert!(logs.all(|log| marks.views.home(*log) != Home::Ahead));
        assert!(!c.serves(2));
    }
    c.tell(2);
    c.run_ms(3_000);
    assert_eq!(c.value(2, &key, &none).as_deref(), Some("1"));
}

#[test]
fn a_write_is_not_shown_by_marks_from_before_its_log() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.run_ms(300);
    let before = c.marks(0);
    c.add();
    c.tell(0);
    // The new log's first write is durable here and nowhere else, and readers have not got newer
    // marks yet.
    c.cut(0, 1);
    let ticket = c.write(0, &key, Some("2"), &none);
    c.run_ms(2);
    let disk = &c.nodes[0].disk;
    assert_eq!(record::load(disk, &key).unwrap().unwrap().dot.seq, 1);
    let found = reads::lookup(disk, &before, &key, &none, Consistency::Causal);
    assert_eq!(found, Ok(Lookup::Hidden));
    c.run_ms(200);
    assert_eq!(c.written(ticket).map(|w| w.copies), Some(1));
}

#[test]
fn who_goes_over_to_newer_views_still_knows_who_serves() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.run_ms(300);
    c.add();
    c.tell(0);
    // Its peers have not spoken to the new replica yet. That is no reason to do with one copy.
    let ticket = c.write(0, &key, Some("1"), &none);
    c.run_ms(50);
    assert_eq!(c.written(ticket).map(|w| w.copies), Some(2));
}

#[test]
fn what_was_confirmed_by_who_is_not_filled_yet_stays_confirmed_under_newer_views() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.run_ms(300);
    let log = c.nodes[0].replica().log_id();
    // An empty disk gets a write from the stream, before it hears that there is more.
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.cut(0, 1);
    c.start(1);
    c.run_ms(5);
    c.put(0, &key, Some("1"), &none);
    let version = record::load(&c.nodes[0].disk, &key).unwrap().unwrap();
    let append = Append {
        first: 1,
        versions: vec![version],
        stable: 0,
        seals: Vec::new(),
    };
    c.step(
        1,
        Event::Message {
            from: MemberId(0),
            incarnation: log.incarnation,
            message: Message::Append(append),
        },
    );
    c.run_ms(5);
    assert_eq!(c.marks(1).logs[&log].applied, 1);
    c.add();
    c.tell(0);
    c.tell(2);
    c.run_ms(1_000);
    let without = BTreeSet::from([MemberId(1)]);
    c.decide(ViewCommand::Enact { number: 2, without });
    c.tell(1);
    assert_eq!(c.marks(1).logs[&log].applied, 1, "it said so");
    c.heal();
    c.tell_all();
    c.run_ms(500);
    assert!(c.views_settle());
}

#[test]
fn two_who_are_alone_in_their_partitions_do_not_wait_for_what_the_next_view_asks() {
    let mut c = Cluster::new(2, 1);
    c.run_ms(100);
    c.change(Change::SetK(2));
    for node in 0..2 {
        c.stop(node);
        c.nodes[node].disk.wipe();
    }
    for node in 0..2 {
        c.tell(node);
        c.start(node);
    }
    c.run_ms(1_500);
    assert!(c.serves(0) && c.serves(1));
    assert!(c.views_settle());
}

#[test]
pub fn who_lacks_what_it_is_to_hold_does_not_say_that_it_is_ready() {
    let mut c = Cluster::new(1, 1);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.cut(0, 1);
    c.add();
    c.tell(0);
    c.run_ms(2_000);
    let without = BTreeSet::new();
    let early = c.decide(ViewCommand::Enact { number: 2, without });
    assert!(!matches!(early, ViewOutcome::InForce { .. }), "{early:?}");
    c.heal();
    assert!(c.views_settle());
    let owner = c.view().replicas(c.view().partition_of_key(&key))[0];
    let value = c.value(usize::from(owner.0), &key, &none);
    assert_eq!(value.as_deref(), Some("1"));
}

#[test]
pub fn who_held_a_slot_earlier_does_not_have_what_was_written_there_since() {
    let mut c = Cluster::new(2, 2);
    let none = Context::default();
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    for key in &keys {
        c.put(0, key, Some("1"), &none);
    }
    // Node 2 takes some slots over, and writes there. Their first cohort is not over.
    let node = c.add();
    c.tell_all();
    c.run_ms(500);
    c.enact(2);
    c.tell_all();
    c.run_ms(500);
    let key = keys.iter().find(|k| c.view().partition_of_key(k).0 == 1);
    let key = key.unwrap().clone();
    let mut seen = c.put(node, &key, Some("2"), &none);
    c.marks(node).prune(&mut seen);
    assert!(seen.is_empty(), "nobody shares the log: {seen:?}");
    // All are to hold the slot. Node 0 hears of that only when it is so.
    let number = c.change(Change::SetK(3));
    c.tell(1);
    c.tell(node);
    c.run_ms(500);
    let without = BTreeSet::from([MemberId(0)]);
    let outcome = c.decide(ViewCommand::Enact { number, without });
    assert_eq!(outcome, ViewOutcome::InForce { number });
    c.cut(0, 1);
    c.cut(0, node);
    c.tell(0);
    for _ in 0..200 {
        c.run_ms(10);
        let read = c.get(0, &key, &seen);
        assert!(read.is_err(), "node 0 has only the first: {read:?}");
    }
    c.heal();
    assert!(c.views_settle());
    assert_eq!(c.value(0, &key, &seen).as_deref(), Some("2"));
}

#[test]
fn who_never_had_a_cohort_does_not_vouch_for_what_was_there_before() {
    let mut c = Cluster::new(1, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("1"), &none);
    // The log of the write is over, and all of it on node 0.
    c.add();
    assert!(c.views_settle());
    c.change(Change::Remove(MemberId(1)));
    assert!(c.views_settle());
    // A view with node 2 comes and goes, and no node has heard of it.
    c.cut(0, 2);
    let node = c.add();
    let none = BTreeSet::new();
    let without = BTreeSet::from([MemberId(2)]);
    let number = c.changes.running().unwrap().number;
    c.decide(ViewCommand::Enact { number, without });
    let number = c.change(Change::Remove(MemberId(2)));
    c.decide(ViewCommand::Enact {
        number,
        without: none,
    });
    assert_eq!(c.view().number, number);
    c.heal();
    c.tell(0);
    c.tell(node);
    c.run_ms(500);
    // What was there before that view is over. Node 2, which never had it, hears of it first.
    for cohort in std::mem::take(&mut c.over) {
        c.decide(ViewCommand::Over { cohort });
    }
    assert_eq!(c.changes.views().closing.len(), 1);
    c.tell(node);
    c.run_ms(500);
    assert_eq!(c.value(0, &key, &seen).as_deref(), Some("1"));
    let filled = |node: usize| c.marks(node).cohorts.values().any(|filled| *filled);
    assert!(!filled(node), "{:?}", c.marks(node).cohorts);
    assert!(c.views_settle());
    assert_eq!(c.value(0, &key, &seen).as_deref(), Some("1"));
}

/// Two nodes that hold everything, of which the first has a write on its way to a disk that hangs,
/// and hears of newer views; the ticket of that write.
fn going_over_while_the_disk_hangs(c: &mut Cluster, key: &Key) -> usize {
    c.nodes[0].disk_hangs = true;
    let before = c.write(0, key, Some("before"), &Context::default());
    c.change(Change::SetK(1));
    c.begin_to_tell(0);
    assert!(c.is_closing(0));
    before
}

#[test]
pub fn a_write_that_comes_while_the_replica_goes_over_is_held_and_done() {
    let mut c = Cluster::new(2, 2);
    let key = c.key(0, 0);
    let before = going_over_while_the_disk_hangs(&mut c, &key);
    let held = c.write(0, &key, Some("held"), &Context::default());
    c.run_ms(100);
    assert_eq!(c.answer(held), None);
    c.nodes[0].disk_hangs = false;
    c.run_ms(150);
    assert!(!c.is_closing(0));
    assert!(c.written(before).is_some());
    let written = c.written(held).unwrap();
    let value = c.value(0, &key, &written.context);
    assert_eq!(value.as_deref(), Some("held"));
}

#[test]
fn a_write_is_not_held_longer_than_an_attempt_takes() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let before = going_over_while_the_disk_hangs(&mut c, &key);
    let held = c.write(0, &key, Some("held"), &none);
    c.run_ms(180);
    assert_eq!(c.answer(held), Some(Answer::Refused(Refusal::GoingOver)));
    c.run_ms(700);
    // That one may yet be stored.
    assert_eq!(c.answer(before), Some(Answer::Refused(Refusal::Undecided)));
    c.nodes[0].disk_hangs = false;
    c.run_ms(150);
    assert_eq!(c.value(0, &key, &none).as_deref(), Some("before"));
}

#[test]
fn writes_are_not_held_on_a_full_disk() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    going_over_while_the_disk_hangs(&mut c, &key);
    let full = |a: Option<Answer>| matches!(a, Some(Answer::Refused(Refusal::DiskFull(_))));
    let held = c.write(0, &key, Some("held"), &none);
    c.step(0, Event::DiskFull(Some("no room".into())));
    assert!(full(c.answer(held)));
    let late = c.write(0, &key, Some("late"), &none);
    assert!(full(c.answer(late)));
    // The replica that it goes on as knows it too.
    c.nodes[0].disk_hangs = false;
    c.run_ms(150);
    assert!(!c.is_closing(0));
    let after = c.write(0, &key, Some("after"), &none);
    assert!(full(c.answer(after)));
}

#[test]
fn what_is_not_kept_any_more_is_dropped_by_a_disk_that_fails_to_read_now_and_then() {
    let mut c = Cluster::stopped(3, 1);
    // A few keys at a time, so that it takes a while.
    (c.limits.dropped, c.limits.busy_dropped) = (7, 7);
    (0..3).for_each(|node| c.start(node));
    c.run_ms(200);
    // The holder of the slots in the middle: there are others on both sides of those that it keeps.
    let partition = c.view().partition(Slot(8_000));
    let holder = usize::from(c.view().replicas(partition)[0].0);
    let keys: Vec<Key> = (0..60).map(|n| c.key(partition.0, n)).collect();
    for key in &keys {
        c.put(holder, key, Some("1"), &Context::default());
    }
    c.add();
    c.tell_all();
    c.run_ms(500);
    c.enact(2);
    c.tell_all();
    while !c.changes.views().closing.is_empty() {
        c.run_ms(10);
        for cohort in std::mem::take(&mut c.over) {
            c.decide(ViewCommand::Over { cohort });
        }
    }
    let moved = keys
        .iter()
        .filter(|k| c.view().partition_of_key(k) != partition);
    let moved: Vec<Key> = moved.cloned().collect();
    let left = |c: &Cluster| {
        let disk = &c.nodes[holder].disk;
        let on_disk = |key: &&Key| record::load(disk, key).unwrap().is_some();
        moved.iter().filter(on_disk).count()
    };
    // Now it hears that it need not keep these any more.
    c.tell(holder);
    assert!(left(&c) > 0);
    c.nodes[holder].reads_fail = true;
    c.nodes[holder].disk.set_failing(70);
    c.run_ms(3_000);
    c.nodes[holder].disk.set_failing(0);
    c.nodes[holder].reads_fail = false;
    c.run_ms(500);
    assert_eq!(left(&c), 0);
}

//! Views that change: following, handing over, and what a disk that is lost meanwhile may not do.

use crate::cluster::Cluster;
use causeway::protocol::changes::{ViewCommand, ViewOutcome};
use causeway::protocol::cluster::{self, ClusterId, PayloadKey};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::limits::{Bound, take_met};
use causeway::protocol::message::{Append, Message, Range};
use causeway::protocol::op::{Answer, Consistency, Refusal};
use causeway::protocol::placement::Change;
use causeway::protocol::reads::{self, Lookup};
use causeway::protocol::record;
use causeway::protocol::replica::Event;
use causeway::protocol::version::{Key, Version};
use causeway::protocol::view::{PartitionId, View};
use causeway::protocol::views::{Home, Views};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

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
    // At the first start, whatever the views of a cluster that was started with the same VIEW and K say.
    assert!(unborn.may_become(&own));
    assert!(!unborn.may_become(&born(cluster(1, None), 1, 4)));
    // Newer ones of the same cluster, and those of one that goes on from it.
    assert!(own.may_become(&born(cluster(1, None), 2, 5)));
    assert!(!own.may_become(&born(cluster(1, None), 2, 4)));
    assert!(own.may_become(&born(cluster(2, Some(1)), 2, 5)));
    // A stranger's, however new, an earlier life's of the same nodes, and those of a node that lost its disk.
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
fn what_a_snapshot_brings_does_not_make_the_disk_look_old_while_it_is_on_its_way_there() {
    let mut c = Cluster::new(2, 1);
    let (key, none) = (c.key(1, 0), Context::default());
    // The disk knows that the first write is stable when the second one is written.
    c.put(1, &key, Some("1"), &none);
    c.run_ms(200);
    c.put(1, &key, Some("2"), &none);
    // Node 0 is to hold the key too. It gets a snapshot, and its disk is slow.
    c.change(Change::SetK(2));
    c.tell_all();
    c.run_ms(2);
    c.nodes[0].disk_hangs = true;
    c.run_ms(400);
    assert!(c.serves(0), "{:?}", c.marks(0).recovering);
    c.nodes[0].disk_hangs = false;
    assert!(c.views_settle());
}

#[test]
pub fn a_disk_that_is_about_to_serve_says_so_whatever_comes_meanwhile() {
    let mut c = Cluster::new(2, 2);
    c.add();
    c.tell_all();
    c.run_ms(500);
    c.enact(2);
    c.tell_all();
    let key = c.key(0, 0);
    let seen = c.put(0, &key, Some("1"), &Context::default());
    // Node 1 has lost its disk, and the new one is slow. It fetches what its own cohort has, and then
    // what the one before has, which is not over.
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.start(1);
    c.run_ms(2);
    c.nodes[1].disk_hangs = true;
    c.run_ms(500);
    assert!(!c.serves(1), "its disk has nothing yet");
    c.nodes[1].disk_hangs = false;
    c.run_ms(500);
    assert!(c.serves(1), "{:?}", c.marks(1).recovering);
    assert!(c.views_settle());
    // Now node 0 loses its disk, and node 1 starts again on what it has.
    c.stop(0);
    c.stop(1);
    c.nodes[0].disk.wipe();
    c.start(0);
    c.start(1);
    c.run_ms(2_000);
    for replica in [0, 1] {
        assert_eq!(c.value(replica, &key, &seen).as_deref(), Some("1"));
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
    // Node 2 comes and takes over some slots. Then it is to hold them all, and has to fetch them first.
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
    // A node of the other partition goes: this one stays as it is, and one of its replicas does not hear of the view.
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
fn who_is_alone_and_lost_its_disk_waits_for_those_who_held_its_slots() {
    let mut c = Cluster::new(2, 2);
    let mut seen = Context::default();
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    for key in &keys {
        seen = c.put(0, key, Some("1"), &seen);
    }
    let number = c.change(Change::SetK(1));
    c.tell_all();
    c.run_ms(500);
    c.enact(number);
    c.tell_all();
    c.run_ms(200);
    let alone = MemberId(1);
    let of_it = |k: &&Key| c.view().replicas(c.view().partition_of_key(k)) == [alone];
    let key = keys.iter().find(of_it).unwrap().clone();
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.cut(0, 1);
    c.start(1);
    c.run_ms(3_000);
    assert!(!c.serves(1), "node 0 may have what it lost");
    c.heal();
    c.run_ms(1_000);
    assert_eq!(c.value(1, &key, &seen).as_deref(), Some("1"));
    assert!(c.views_settle());
    assert_eq!(c.value(1, &key, &seen).as_deref(), Some("1"));
}

#[test]
fn a_late_write_that_only_followers_got_does_not_keep_its_log_from_ending() {
    let mut c = Cluster::new(2, 2);
    let none = Context::default();
    let node = c.add();
    c.tell_all();
    c.run_ms(500);
    // Node 2 follows, and gets what node 1 has no room for. Then the writer loses its disk.
    c.step(1, Event::DiskFull(Some("full".into())));
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    for key in &keys {
        c.put(0, key, Some("1"), &none);
    }
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.step(1, Event::DiskFull(None));
    c.start(0);
    c.run_ms(1_000);
    assert!(c.views_settle());
    let taken_over: Vec<&Key> = keys
        .iter()
        .filter(|k| c.view().partition_of_key(k).0 == 1)
        .collect();
    assert!(!taken_over.is_empty());
    for key in taken_over {
        assert_eq!(c.value(node, key, &none).as_deref(), Some("1"));
    }
}

#[test]
pub fn two_who_have_a_version_ahead_of_its_log_do_not_wait_for_each_other() {
    let mut c = Cluster::new(2, 2);
    let none = Context::default();
    let node = c.add();
    c.tell_all();
    c.run_ms(500);
    // As before: only node 2 has the writes, as far as it keeps their slots.
    c.step(1, Event::DiskFull(Some("full".into())));
    let log = c.nodes[0].replica().log_id();
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    for key in &keys {
        c.put(0, key, Some("1"), &none);
    }
    let at_follower = |key| record::load(&c.nodes[node].disk, key).unwrap();
    let version = keys.iter().rev().find_map(at_follower).unwrap();
    c.stop(0);
    c.nodes[0].disk.wipe();
    c.step(1, Event::DiskFull(None));
    c.cut(0, node);
    c.cut(1, node);
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
    assert_eq!(c.value(node, &version.key, &none).as_deref(), Some("1"));
}

#[test]
pub fn what_is_over_is_not_logged_again_by_who_has_yet_to_fetch_its_cohort() {
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
fn a_lost_disk_of_a_closing_cohort_is_filled_by_several_who_share_its_slots() {
    let mut c = Cluster::new(5, 1);
    let keys: Vec<Key> = (0..30).map(|n| c.key(4, n)).collect();
    let mut seen = Context::default();
    for key in &keys {
        seen = c.put(4, key, Some("1"), &seen);
    }
    c.change(Change::SetK(2));
    c.tell_all();
    c.run_ms(1_000);
    c.enact(2);
    let partitions = keys.iter().map(|k| c.view().partition_of_key(k));
    let partitions: BTreeSet<PartitionId> = partitions.collect();
    let own = c.view().partition_of(MemberId(4));
    assert!(partitions.len() == 2 && partitions.iter().any(|p| Some(*p) == own));
    // One who takes over slots has not heard of the new view: the cohort is not over.
    let other = partitions.into_iter().find(|p| Some(*p) != own).unwrap();
    let deaf = usize::from(c.view().replicas(other)[0].0);
    (0..5).filter(|n| *n != deaf).for_each(|n| c.tell(n));
    c.run_ms(300);
    c.stop(4);
    c.nodes[4].disk.wipe();
    c.start(4);
    c.run_ms(1_000);
    assert!(c.views_settle());
    for key in &keys {
        let partition = c.view().partition_of_key(key);
        for member in c.view().replicas(partition).to_vec() {
            let value = c.value(usize::from(member.0), key, &seen);
            assert_eq!(value.as_deref(), Some("1"), "{member}");
        }
    }
}

#[test]
fn who_can_be_filled_by_nobody_hears_which_logs_have_ended() {
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
    // Two share what node 2 had. It ends for good, and one of the two loses its disk.
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
fn who_leaves_with_all_that_there_is_does_not_say_that_its_disk_is_empty() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("1"), &none);
    c.run_ms(300);
    c.cut(0, 1);
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.start(1);
    c.run_ms(100);
    let number = c.change(Change::Remove(MemberId(0)));
    c.enact(number);
    c.tell_all();
    c.run_ms(100);
    c.heal();
    for _ in 0..1_000 {
        c.run_ms(1);
        let kept = record::load(&c.nodes[1].disk, &key).unwrap();
        assert!(!c.serves(1) || kept.is_some(), "it serves without its data");
    }
    assert!(c.views_settle());
    assert_eq!(c.value(1, &key, &seen).as_deref(), Some("1"));
}

#[test]
pub fn who_was_given_up_and_comes_back_pushes_nothing() {
    let mut c = Cluster::new(3, 3);
    let (key, other, none) = (c.key(0, 0), c.key(0, 1), Context::default());
    let seen = c.put(0, &key, Some("1"), &none);
    c.cut(0, 2);
    c.cut(1, 2);
    c.run_ms(600);
    c.put(2, &key, Some("alone"), &seen);
    let (change, give_up) = (Change::Remove(MemberId(2)), true);
    let lose_data = true;
    c.decide(ViewCommand::Change {
        change,
        give_up,
        lose_data,
    });
    (0..2).for_each(|n| c.tell(n));
    c.enact(3);
    (0..2).for_each(|n| c.tell(n));
    let newest = c.put(0, &key, Some("2"), &seen);
    // It has not heard that it is out, and goes on.
    c.heal();
    c.put(2, &other, Some("alone"), &seen);
    c.run_ms(2_000);
    for node in 0..2 {
        assert_eq!(c.value(node, &key, &newest).as_deref(), Some("2"));
        assert_eq!(c.value(node, &other, &newest), None);
        let logs = c.marks(node).logs;
        assert!(logs.keys().all(|log| log.member != MemberId(2)), "{logs:?}");
    }
    // A client of the new view gets nothing from it.
    assert!(matches!(
        c.get(2, &key, &newest),
        Err(Refusal::OldView { .. })
    ));
    assert!(c.views_settle());
    assert!(c.nodes[2].driver.is_none(), "it was told that it is out");
}

#[test]
pub fn who_was_given_up_and_comes_back_before_the_view_is_in_force_serves_nothing_old() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("1"), &none);
    c.cut(0, 2);
    c.cut(1, 2);
    c.run_ms(600);
    let (change, give_up) = (Change::Remove(MemberId(2)), true);
    c.decide(ViewCommand::Change {
        change,
        give_up,
        lose_data: true,
    });
    (0..2).for_each(|n| c.tell(n));
    let newest = c.put(0, &key, Some("2"), &seen);
    c.run_ms(1_000);
    // The two others have the write: no payload names it any more.
    let read = c.get(0, &key, &newest).unwrap();
    assert!(read.context.is_empty(), "{:?}", read.context);
    // Node 2 is back, and has not heard yet.
    c.heal();
    c.run_ms(1_000);
    let read = c.get(2, &key, &read.context);
    assert!(matches!(read, Err(Refusal::OldView { .. })), "{read:?}");
    c.tell(2);
    c.run_ms(2_000);
    let read = c.get(2, &key, &none);
    let why = |reason: &str| reason.contains("given up");
    assert!(
        matches!(&read, Err(Refusal::Recovering(reason)) if why(reason)),
        "{read:?}"
    );
    let ticket = c.write(2, &key, None, &none);
    c.run_ms(200);
    let answer = c.answer(ticket);
    assert!(
        matches!(&answer, Some(Answer::Refused(Refusal::Recovering(reason))) if why(reason)),
        "{answer:?}"
    );
    assert!(c.views_settle());
    assert_eq!(c.value(0, &key, &newest).as_deref(), Some("2"));
}

#[test]
pub fn what_is_stable_without_who_was_given_up_counts_only_for_whoever_knows_of_it() {
    let mut c = Cluster::new(4, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.run_ms(300);
    for other in [0, 2, 3] {
        c.cut(1, other);
    }
    c.run_ms(600);
    let seen = c.put(0, &key, Some("2"), &none);
    let (change, give_up) = (Change::Remove(MemberId(1)), true);
    c.decide(ViewCommand::Change {
        change,
        give_up,
        lose_data: true,
    });
    // Node 2, of the other partition, has not heard that node 1 is given up. It prunes what goes through it.
    c.tell(0);
    c.run_ms(1_000);
    let mut context = seen.clone();
    c.marks(2).prune(&mut context);
    c.heal();
    let read = c.get(1, &key, &context);
    assert!(read.is_err(), "node 1 has only the first: {read:?}");
    c.tell(2);
    c.run_ms(500);
    c.marks(2).prune(&mut context);
    assert!(context.is_empty(), "{context:?}");
    let read = c.get(1, &key, &context);
    assert!(matches!(read, Err(Refusal::OldView { .. })), "{read:?}");
}

/// Node 1 alone takes writes, is given up, and the change is cancelled when the others have gone on without it.
fn a_removal_cancelled_too_late(back: fn(&mut Cluster)) {
    let mut c = Cluster::new(3, 2);
    let mut seen = Context::default();
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    for key in &keys[..10] {
        seen = c.put(0, key, Some("old"), &seen);
    }
    c.cut(0, 1);
    c.cut(1, 2);
    c.run_ms(600);
    for key in &keys {
        seen = c.put(1, key, Some("alone"), &seen);
    }
    let remove = Change::Remove(MemberId(1));
    let number = c.change(remove);
    c.tell(0);
    c.tell(2);
    c.decide(ViewCommand::GiveUp {
        member: MemberId(1),
    });
    c.tell(0);
    c.tell(2);
    c.run_ms(1_500);
    let other = c.put(0, &keys[0], Some("2"), &Context::default());
    let outcome = c.decide(ViewCommand::Cancel { number });
    assert_eq!(outcome, ViewOutcome::Cancelled { number });
    c.tell(0);
    c.tell(2);
    back(&mut c);
    c.heal();
    c.run_ms(5_000);
    // The others cannot tell what it has from what it should have: it stays given up.
    assert!(!c.serves(1), "{:?}", c.marks(1).logs);
    for key in &keys {
        let kept = record::load(&c.nodes[1].disk, key).unwrap().unwrap();
        assert_eq!(kept.value.as_deref(), Some(&b"alone"[..]), "to be offered");
    }
    assert_eq!(c.value(0, &keys[0], &other).as_deref(), Some("2"));
    let (change, give_up) = (Change::SetK(1), false);
    let refused = c.decide(ViewCommand::Change {
        change,
        give_up,
        lose_data: true,
    });
    assert!(matches!(refused, ViewOutcome::Refused(_)), "{refused:?}");
    c.change(remove);
    assert!(c.views_settle());
    assert!(c.nodes[1].driver.is_none(), "it was told that it is out");
    for node in [0, 2] {
        assert_eq!(c.value(node, &keys[0], &other).as_deref(), Some("2"));
    }
}

#[test]
pub fn who_was_given_up_stays_so_when_the_change_is_cancelled() {
    a_removal_cancelled_too_late(|c| {
        c.stop(1);
        c.tell(1);
        c.start(1);
    });
}

#[test]
fn who_was_given_up_and_was_only_frozen_stays_so_when_the_change_is_cancelled() {
    a_removal_cancelled_too_late(|c| c.tell(1));
}

#[test]
fn who_was_given_up_and_shares_logs_with_nobody_goes_on_with_its_own_when_the_change_is_cancelled()
{
    let mut c = Cluster::new(2, 1);
    c.cut(0, 1);
    let member = MemberId(1);
    let number = c.change(Change::Remove(member));
    c.tell_all();
    c.run_ms(600);
    c.decide(ViewCommand::GiveUp { member });
    let outcome = c.decide(ViewCommand::Cancel { number });
    assert_eq!(outcome, ViewOutcome::Cancelled { number });
    c.tell_all();
    c.run_ms(1_000);
    c.heal();
    c.run_ms(1_000);
    let log = c.nodes[1].replica().log_id();
    assert!(c.marks(1).logs.contains_key(&log), "{:?}", c.marks(1).logs);
    assert!(!c.serves(1));
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
    // The new log's first write is durable here and nowhere else, and readers have not got newer marks yet.
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
fn who_missed_a_view_has_what_it_copied_for_it() {
    let mut c = Cluster::new(3, 1);
    let none = Context::default();
    let keys: Vec<Key> = (0..30).map(|n| c.key(2, n)).collect();
    for key in &keys {
        c.put(2, key, Some("1"), &none);
    }
    let number = c.change(Change::Remove(MemberId(2)));
    c.tell_all();
    c.run_ms(1_000);
    c.enact(number);
    // The next change is decided before anybody hears that this one is in force. It asks for more of the same cohort.
    c.change(Change::SetK(2));
    c.tell_all();
    for key in &keys {
        let partition = c.view().partition_of_key(key);
        let owner = usize::from(c.view().replicas(partition)[0].0);
        assert_eq!(c.value(owner, key, &none).as_deref(), Some("1"));
    }
    assert!(c.views_settle());
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
fn what_was_stable_and_is_lost_with_all_disks_is_passed_over_after_what_is_newer_has_come() {
    let mut c = Cluster::new(2, 2);
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    // Node 2 takes some of it over. Then one replica that had all of it is given up, the other loses its disk.
    let node = c.add();
    c.tell_all();
    let mut seen = Context::default();
    for key in &keys {
        seen = c.put(0, key, Some("1"), &seen);
    }
    c.run_ms(500);
    c.enact(2);
    let (here, lost): (Vec<&Key>, Vec<&Key>) = keys
        .iter()
        .partition(|k| c.view().partition_of_key(k).0 == 1);
    assert!(!here.is_empty() && !lost.is_empty());
    c.tell(0);
    c.tell(node);
    c.stop(1);
    c.run_ms(500);
    c.stop(0);
    c.nodes[0].disk.wipe();
    // Now node 2 is to hold all of it. Before it hears of that it has told that it was everywhere.
    let (change, give_up) = (Change::Remove(MemberId(1)), true);
    let outcome = c.decide(ViewCommand::Change {
        change,
        give_up,
        lose_data: true,
    });
    assert!(
        matches!(outcome, ViewOutcome::Started { .. }),
        "{outcome:?}"
    );
    c.tell(0);
    c.start(0);
    c.run_ms(120);
    let told = c.marks(0).logs.values().any(|mark| mark.stable > 0);
    assert!(told, "{:?}", c.marks(0).logs);
    c.tell(node);
    c.run_ms(10);
    // What it has since, newer versions among it, cannot be fetched for a while.
    c.mute(0, node);
    for ms in 0..1_000 {
        c.run_ms(1);
        if ms == 400 {
            c.heal();
        }
        for one in [0, node] {
            let marks = c.marks(one);
            for (log, mark) in &marks.logs {
                let Home::Cohort(id) = marks.views.home(*log) else {
                    continue;
                };
                let filled = marks.cohorts.get(&id) == Some(&true);
                assert!(!filled || mark.stable <= mark.applied, "{log} {mark:?}");
                let has = |key: &&Key| record::load(&c.nodes[one].disk, key).unwrap().is_some();
                let past = id.since == 1 && mark.applied > 0;
                assert!(!past || here.iter().all(has), "{one} {log} {mark:?}");
            }
        }
    }
    assert!(c.views_settle());
    for one in [0, node] {
        for key in &here {
            assert_eq!(c.value(one, key, &seen).as_deref(), Some("1"), "{one}");
        }
        for key in &lost {
            assert_eq!(c.value(one, key, &seen), None, "{one}");
        }
    }
}

/// Lets a write of one node's log come to another node ahead of that log, `ahead` dots after one that is there.
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
pub fn what_is_handed_to_a_holder_is_kept_until_all_holders_have_what_replaces_it() {
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
fn what_came_ahead_of_its_log_does_not_wait_for_who_has_lost_all_it_had() {
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
fn what_came_ahead_of_its_log_to_who_only_helps_is_handed_to_a_holder() {
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

/// Two nodes that are alone in their partitions, and share a cohort that is closing, whatever comes. Each is to hold what
/// the other one holds, and has it. Then the change is cancelled; node 0 does not hear of that, and node 1 takes a write.
fn a_change_cancelled_unheard() -> (Cluster, Key) {
    let mut c = Cluster::new(2, 2);
    let number = c.change(Change::SetK(1));
    c.tell_all();
    c.run_ms(300);
    c.enact(number);
    c.tell_all();
    c.run_ms(300);
    let number = c.change(Change::SetK(2));
    c.tell_all();
    c.run_ms(500);
    assert_eq!(c.changes.awaited(&BTreeSet::new()), BTreeSet::new());
    let outcome = c.decide(ViewCommand::Cancel { number });
    assert_eq!(outcome, ViewOutcome::Cancelled { number });
    c.tell(1);
    let key = c.key(1, 0);
    c.put(1, &key, Some("1"), &Context::default());
    (c, key)
}

/// For half a second node 0 does not take its disk for an old one.
fn goes_on_with_its_disk(c: &mut Cluster) {
    for _ in 0..500 {
        c.run_ms(1);
        let marks = c.marks(0);
        assert!(c.serves(0), "{:?}", marks.recovering);
        let filled = |log| match marks.views.home(log) {
            Home::Cohort(id) => marks.cohorts.get(&id) == Some(&true),
            Home::Over | Home::Ahead => false,
        };
        for (log, mark) in &marks.logs {
            assert!(mark.stable <= mark.applied || !filled(*log), "{mark:?}");
        }
    }
}

#[test]
pub fn who_was_turned_away_is_not_told_what_is_stable_without_it() {
    let (mut c, _) = a_change_cancelled_unheard();
    goes_on_with_its_disk(&mut c);
    assert!(c.marks(0).cohorts.values().all(|filled| *filled));
    assert!(c.views_settle());
    assert!(c.serves(0) && c.serves(1));
}

#[test]
pub fn who_missed_that_it_was_turned_away_does_not_take_its_disk_for_old() {
    let (mut c, key) = a_change_cancelled_unheard();
    // It is to hold the same once more, and is told what is stable before it hears of that.
    c.change(Change::SetK(2));
    c.tell(1);
    goes_on_with_its_disk(&mut c);
    c.tell(0);
    goes_on_with_its_disk(&mut c);
    assert!(c.views_settle());
    let value = c.value(0, &key, &Context::default());
    assert_eq!(value.as_deref(), Some("1"));
}

#[test]
pub fn who_missed_that_it_was_turned_away_copies_again_what_it_is_to_hold() {
    let (mut c, key) = a_change_cancelled_unheard();
    // It is to hold the same once more, and hears nothing of what has been written meanwhile.
    c.cut(0, 1);
    let number = c.change(Change::SetK(2));
    c.tell(0);
    c.tell(1);
    c.run_ms(500);
    let awaited = c.changes.awaited(&BTreeSet::new());
    assert!(awaited.contains(&MemberId(0)), "it has not all: {number}");
    c.heal();
    assert!(c.views_settle());
    let value = c.value(0, &key, &Context::default());
    assert_eq!(value.as_deref(), Some("1"));
}

#[test]
fn what_is_stable_without_who_was_turned_away_is_there_when_it_is_to_hold_it_after_all() {
    let mut c = Cluster::new(4, 2);
    let of = |c: &Cluster, partition| -> Vec<usize> {
        let replicas = c.view().replicas(PartitionId(partition)).iter();
        replicas.map(|m| usize::from(m.0)).collect()
    };
    let (here, others) = (of(&c, 0), of(&c, 1));
    let (writer, late, follower) = (here[0], here[1], others[0]);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(writer, &key, Some("1"), &none);
    // All are to hold all. One of two replicas does not hear of it, and a follower does not get the
    // second write.
    let number = c.change(Change::SetK(4));
    let unheard = Arc::new(c.changes.views().clone());
    for node in [writer, others[0], others[1]] {
        c.tell(node);
    }
    c.run_ms(500);
    let marks = c.marks(follower);
    assert!(marks.cohorts.len() == 2 && marks.cohorts.values().all(|filled| *filled));
    for other in 0..4 {
        c.cut(follower, other);
    }
    let seen = c.put(writer, &key, Some("2"), &none);
    // The change is cancelled, and for those who know that the write is stable.
    c.decide(ViewCommand::Cancel { number });
    c.tell(writer);
    c.run_ms(300);
    // The late one hears that the change was decided, but not yet how it ended.
    let driver = c.nodes[late].driver.as_mut().unwrap();
    driver.learn(unheard);
    c.run_ms(300);
    let mut context = seen.clone();
    let marks = c.marks(late);
    assert!(marks.views.next.is_some());
    marks.prune(&mut context);
    assert!(context.is_empty(), "{context:?}");
    let version = record::load(&c.nodes[follower].disk, &key).unwrap();
    assert_eq!(version.unwrap().value.as_deref(), Some(&b"1"[..]));
    // All are to hold all once more. The follower has what it copied before, and nothing else.
    let number = c.change(Change::SetK(4));
    c.tell_all();
    c.run_ms(500);
    let awaited = c.changes.awaited(&BTreeSet::new());
    assert!(awaited.contains(&MemberId(follower as u16)), "{number}");
    c.heal();
    c.run_ms(1_000);
    c.enact(number);
    c.tell(follower);
    c.run_ms(200);
    assert_eq!(c.value(follower, &key, &context).as_deref(), Some("2"));
    assert!(c.views_settle());
}

#[test]
pub fn an_old_disk_is_compared_in_the_logs_of_closing_cohorts_as_well() {
    let mut c = Cluster::new(3, 3);
    let none = Context::default();
    c.add();
    c.tell_all();
    c.run_ms(500);
    // Node 2 does not get the last write of a cohort that a change of the view closes.
    c.enact(2);
    let key = c.key(0, 0);
    c.cut(0, 2);
    c.cut(1, 2);
    let log = c.nodes[0].replica().log_id();
    c.put(0, &key, Some("new"), &none);
    c.tell_all();
    c.nodes[2].pulls_nothing = true;
    c.heal();
    c.run_ms(500);
    let old = c.nodes[2].disk.copy();
    // Then it does. All hear that all have it, but for node 0.
    (1..4).for_each(|node| c.mute(node, 0));
    c.nodes[2].pulls_nothing = false;
    c.run_ms(500);
    assert!(c.marks(1).is_stable(log, 1) && !c.marks(0).is_stable(log, 1));
    // On an old copy of its disk it hears node 0.
    c.stop(2);
    c.nodes[2].disk.put_back(old);
    c.heal();
    for node in [1, 3] {
        c.cut(0, node);
        c.cut(2, node);
    }
    c.start(2);
    for _ in 0..300 {
        c.run_ms(1);
        if c.serves(2) {
            assert_eq!(c.value(2, &key, &none).as_deref(), Some("new"));
        }
    }
    assert!(c.serves(2));
}

#[test]
pub fn nobody_copies_a_closing_cohort_from_a_disk_that_may_be_old() {
    let mut c = Cluster::new(2, 2);
    let none = Context::default();
    c.add();
    c.tell_all();
    c.run_ms(500);
    // Node 2 holds a slot since a change of the view, and gets a late write there.
    c.enact(2);
    let key = c.key(1, 0);
    (0..2).for_each(|node| c.cut(node, 2));
    c.tell(2);
    c.run_ms(300);
    let old = c.nodes[2].disk.copy();
    let seen = c.put(0, &key, Some("new"), &none);
    c.heal();
    c.run_ms(300);
    c.tell_all();
    c.run_ms(500);
    assert_eq!(c.value(2, &key, &seen).as_deref(), Some("new"));
    // Node 3 is to hold it too. It hears node 2 alone, which is on an old copy of its disk.
    let node = c.add();
    (0..3).for_each(|other| c.cut(other, node));
    c.tell_all();
    c.run_ms(100);
    c.stop(2);
    c.nodes[2].disk.put_back(old);
    c.heal();
    for other in 0..2 {
        c.mute(other, 2);
        c.mute(other, node);
    }
    c.start(2);
    c.run_ms(500);
    let closing = c.changes.views().closing[0].id;
    assert_eq!(c.marks(node).cohorts.get(&closing), Some(&false));
    // What was said of the disk that is lost does not count.
    c.over.clear();
    c.heal();
    assert!(c.views_settle());
    for holder in [2, node] {
        assert_eq!(c.value(holder, &key, &none).as_deref(), Some("new"));
    }
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

/// Two nodes that hold everything, of which the first has a write on its way to a disk that hangs, and hears of
/// newer views; the ticket of that write.
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

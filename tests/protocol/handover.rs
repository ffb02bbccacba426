//! Slots that come and go with a change of the view, also on disks that are lost or old.

use crate::cluster::Cluster;
use causeway::protocol::changes::{ViewCommand, ViewOutcome};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::placement::Change;
use causeway::protocol::record;
use causeway::protocol::slots::Slot;
use causeway::protocol::version::Key;
use causeway::protocol::view::PartitionId;
use causeway::protocol::views::Home;
use std::collections::BTreeSet;

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
    // Node 1 has lost its disk, and the new one is slow. Node 1 fetches the data of its own cohort,
    // and then that of the cohort before, which is not over.
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
fn a_member_alone_that_lost_its_disk_waits_for_those_who_held_its_slots() {
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
fn a_leaving_member_with_all_the_data_does_not_say_that_its_disk_is_empty() {
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
fn stable_writes_lost_with_all_disks_are_passed_over_after_newer_ones_have_come() {
    let mut c = Cluster::new(2, 2);
    let keys: Vec<Key> = (0..20).map(|n| c.key(0, n)).collect();
    // Node 2 takes some of it over. Then one replica that had all of it is given up, the other
    // loses its disk.
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
    // Now node 2 is to hold all keys. Before node 2 hears of that, it has told that the data was
    // everywhere.
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
    // Node 0 cannot fetch for a while what the new node has since, newer versions among it.
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
    // Then node 2 pulls. All nodes but node 0 hear that all have the write.
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
pub fn no_closing_cohort_is_copied_from_a_disk_that_may_be_old() {
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
    // Node 3 is to hold the key too. Node 3 hears node 2 alone, which is on an old copy of its
    // disk.
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
    // Reports of cohorts that are over do not count if they are of the disk that is lost.
    c.over.clear();
    c.heal();
    assert!(c.views_settle());
    for holder in [2, node] {
        assert_eq!(c.value(holder, &key, &none).as_deref(), Some("new"));
    }
}

#[test]
fn two_members_alone_in_their_partitions_do_not_wait_for_what_the_next_view_asks() {
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
pub fn a_member_that_lacks_what_it_is_to_hold_does_not_say_that_it_is_ready() {
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
pub fn a_former_holder_does_not_have_what_was_written_in_the_slot_since() {
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
fn a_member_that_never_had_a_cohort_does_not_vouch_for_what_was_there_before() {
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
    // The cohorts before that view are over. Node 2, which never had their data, hears of that
    // first.
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

#[test]
fn slots_not_kept_any_more_are_dropped_by_a_disk_that_fails_to_read_now_and_then() {
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
    // Now the holder hears that it need not keep these keys any more.
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

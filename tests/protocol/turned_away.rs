//! Followers of a view that is cancelled, and whoever missed a view: what their copies count for.

use crate::cluster::Cluster;
use causeway::protocol::changes::{ViewCommand, ViewOutcome};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::placement::Change;
use causeway::protocol::record;
use causeway::protocol::version::Key;
use causeway::protocol::view::PartitionId;
use causeway::protocol::views::Home;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Two nodes that are alone in their partitions, and share a cohort that is closing, whatever
/// comes. Each is to hold what the other one holds, and has it. Then the change is cancelled; node
/// 0 does not hear of that, and node 1 takes a write.
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
fn a_member_that_missed_a_view_has_what_it_copied_for_it() {
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
    // The next change is decided before anybody hears that this one is in force. The next one asks
    // for more of the same cohort.
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
pub fn a_member_turned_away_is_not_told_what_is_stable_without_it() {
    let (mut c, _) = a_change_cancelled_unheard();
    goes_on_with_its_disk(&mut c);
    assert!(c.marks(0).cohorts.values().all(|filled| *filled));
    assert!(c.views_settle());
    assert!(c.serves(0) && c.serves(1));
}

#[test]
pub fn a_member_that_missed_that_it_was_turned_away_does_not_take_its_disk_for_old() {
    let (mut c, key) = a_change_cancelled_unheard();
    // The member is to hold the same once more, and is told what is stable before it hears of that
    // change.
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
pub fn a_member_that_missed_that_it_was_turned_away_copies_again_what_it_is_to_hold() {
    let (mut c, key) = a_change_cancelled_unheard();
    // The member is to hold the same once more, and hears nothing of what has been written
    // meanwhile.
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
fn writes_stable_without_a_member_turned_away_are_there_when_it_is_to_hold_them_after_all() {
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

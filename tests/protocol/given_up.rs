//! Members that are given up: what they serve, what the others call stable without them, and what a
//! cancel brings back.

use crate::cluster::Cluster;
use causeway::protocol::changes::{ViewCommand, ViewOutcome};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::op::{Answer, Refusal};
use causeway::protocol::placement::Change;
use causeway::protocol::record;
use causeway::protocol::version::Key;

/// Node 1 alone takes writes, is given up, and the change is cancelled when the others have gone on
/// without it.
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
pub fn a_given_up_member_that_comes_back_pushes_nothing() {
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
    // Node 2 has not heard that it is out, and goes on.
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
pub fn a_given_up_member_back_before_the_view_is_in_force_serves_nothing_old() {
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
pub fn stability_without_a_given_up_member_counts_only_where_that_is_known() {
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
    // Node 2, of the other partition, has not heard that node 1 is given up. Node 2 prunes the
    // contexts that go through it.
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

#[test]
pub fn a_given_up_member_stays_so_when_the_change_is_cancelled() {
    a_removal_cancelled_too_late(|c| {
        c.stop(1);
        c.tell(1);
        c.start(1);
    });
}

#[test]
fn a_given_up_member_that_was_only_frozen_stays_so_when_the_change_is_cancelled() {
    a_removal_cancelled_too_late(|c| c.tell(1));
}

#[test]
fn a_given_up_member_that_shares_no_logs_goes_on_with_its_own_when_the_change_is_cancelled() {
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

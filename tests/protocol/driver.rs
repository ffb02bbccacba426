//! A replica that goes on under newer views: what it holds meanwhile, and what it still knows.

use crate::cluster::Cluster;
use causeway::protocol::changes::ViewCommand;
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::message::{Append, Message};
use causeway::protocol::op::{Answer, Refusal};
use causeway::protocol::placement::Change;
use causeway::protocol::record;
use causeway::protocol::replica::Event;
use causeway::protocol::room::DiskRoom;
use causeway::protocol::version::Key;
use std::collections::BTreeSet;

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
fn a_replica_under_newer_views_still_knows_which_peers_serve() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.run_ms(300);
    c.add();
    c.tell(0);
    // Node 0's peers have not spoken to its new replica yet. The write needs its second copy all
    // the same.
    let ticket = c.write(0, &key, Some("1"), &none);
    c.run_ms(50);
    assert_eq!(c.written(ticket).map(|w| w.copies), Some(2));
}

#[test]
fn writes_confirmed_by_a_member_that_is_not_filled_stay_confirmed_under_newer_views() {
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
    // The earlier write may yet be stored.
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
    c.step(0, Event::Room(DiskRoom::None("no room".into())));
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

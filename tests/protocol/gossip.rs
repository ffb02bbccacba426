//! Peers: what a replica makes of their gossip, of their restarts and of their silence.

use crate::cluster::Cluster;
use causeway::protocol::changes::{ViewCommand, ViewOutcome};
use causeway::protocol::context::Context;
use causeway::protocol::ids::{LogId, MemberId};
use causeway::protocol::message::Message;
use causeway::protocol::placement::Change;
use causeway::protocol::replica::Event;
use causeway::protocol::store::Store;

/// The log that a node writes.
pub fn log(c: &Cluster, node: usize) -> LogId {
    c.nodes[node].replica().log_id()
}

/// Lets a message without content arrive that a log's writer sent in that incarnation.
pub fn hear(c: &mut Cluster, node: usize, of: LogId) {
    let event = Event::Message {
        from: of.member,
        incarnation: of.incarnation,
        message: Message::EarlyKept(Vec::new()),
    };
    c.step(node, event);
}

#[test]
fn stable_writes_leave_contexts_and_the_index() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    c.mute(0, 2);
    let seen = c.put(0, &key, Some("1"), &none);
    assert_eq!(seen.len(), 1, "one replica may lack it");
    c.heal();
    c.run_ms(1_500);
    let read = c.get(1, &key, &seen).unwrap();
    assert!(read.context.is_empty(), "{:?}", read.context);
    for node in 0..3 {
        let mut runs = 0;
        let count = &mut |_, _| {
            runs += 1;
            true
        };
        c.nodes[node].disk.scan(b"u", b"v", count).unwrap();
        assert_eq!(runs, 0, "node {node} still indexes stable dots");
    }
}

#[test]
fn a_peer_that_starts_again_serves_until_it_says_otherwise() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.run_ms(300);
    let mut next = log(&c, 1);
    next.incarnation += 1;
    c.mute(1, 0);
    hear(&mut c, 0, next);
    // The new start of node 1 has not told yet how it is. The write does not do with one copy at
    // once for that.
    let ticket = c.write(0, &key, Some("1"), &none);
    c.run_ms(60);
    assert_eq!(c.answer(ticket), None);
    c.run_ms(100);
    assert_eq!(c.written(ticket).map(|w| w.copies), Some(1));
}

#[test]
pub fn a_peer_that_knew_of_a_start_that_is_news_here_has_not_told_how_it_is() {
    let mut c = Cluster::new(3, 3);
    let (key, none) = (c.key(0, 0), Context::default());
    // Node 2 knows no starts of the others but those that it hears now.
    c.stop(2);
    c.nodes[2].disk.wipe();
    c.start(2);
    c.run_ms(500);
    // Node 0 alone has its write, and starts again: that log is closed.
    let old = log(&c, 0);
    c.nodes[0].keeps_log = true;
    (0..3).for_each(|node| c.nodes[node].pulls_nothing = true);
    let seen = c.put(0, &key, Some("1"), &none);
    // Node 1 starts again as well, of which node 2 does not hear.
    c.mute(1, 2);
    c.mute(0, 1);
    c.stop(1);
    c.start(1);
    c.run_ms(1_200);
    assert!(c.serves(1));
    // Node 2 hears from node 0 first, which knows of both starts, and then from node 1 alone, which
    // has nothing of that log.
    c.heal();
    c.mute(1, 2);
    c.stop(0);
    c.start(0);
    c.run_ms(3_000);
    assert!(c.serves(0));
    c.heal();
    c.mute(0, 2);
    c.run_ms(300);
    assert!(!c.marks(2).is_finished(old), "node 0 has a write of it");
    c.heal();
    c.nodes[0].keeps_log = false;
    (0..3).for_each(|node| c.nodes[node].pulls_nothing = false);
    c.run_ms(1_000);
    assert_eq!(c.value(2, &key, &seen).as_deref(), Some("1"));
}

#[test]
pub fn late_gossip_takes_back_nothing_that_later_gossip_has_told() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.run_ms(300);
    c.stop(1);
    c.cut(0, 1);
    c.start(1);
    c.run_ms(5);
    let late = c.nodes[1].gossip.clone().unwrap();
    assert!(!late.serving, "it has compared itself with nobody yet");
    c.heal();
    c.run_ms(300);
    assert!(c.serves(1));
    let log = log(&c, 1);
    let event = Event::Message {
        from: log.member,
        incarnation: log.incarnation,
        message: Message::Gossip(late),
    };
    c.step(0, event);
    c.mute(1, 0);
    // Node 1 serves, whatever it said before: one copy does not do yet.
    let ticket = c.write(0, &key, Some("1"), &none);
    c.run_ms(60);
    assert_eq!(c.answer(ticket), None);
}

#[test]
fn an_empty_disk_does_not_serve_before_a_peer_has_told_how_it_is() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("1"), &none);
    c.stop(1);
    c.nodes[1].disk.wipe();
    // Node 1 hears that node 0 serves, and gets no answer from it. Then node 1 goes over to newer
    // views.
    c.mute(1, 0);
    c.start(1);
    c.run_ms(300);
    let other = c.add();
    c.cut(1, 0);
    c.cut(1, other);
    c.tell(1);
    c.run_ms(5);
    let of_peer = log(&c, 0);
    hear(&mut c, 1, of_peer);
    c.run_ms(200);
    assert!(!c.serves(1), "node 0 has what it lost");
    c.heal();
    c.run_ms(1_000);
    assert_eq!(c.value(1, &key, &seen).as_deref(), Some("1"));
}

#[test]
fn stable_writes_are_passed_over_when_the_only_peer_that_had_them_is_given_up() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("1"), &none);
    c.run_ms(300);
    c.stop(0);
    c.nodes[0].disk.wipe();
    // Node 0 hears what is stable, and cannot ask for it.
    c.mute(0, 1);
    c.start(0);
    c.run_ms(300);
    assert!(c.marks(0).logs.values().any(|mark| mark.stable > 0));
    c.stop(1);
    let outcome = c.decide(ViewCommand::Change {
        change: Change::Remove(MemberId(1)),
        give_up: true,
        lose_data: true,
    });
    assert!(
        matches!(outcome, ViewOutcome::Started { .. }),
        "{outcome:?}"
    );
    c.tell(0);
    for _ in 0..300 {
        let marks = c.marks(0);
        for (log, mark) in &marks.logs {
            let serves = marks.recovering.is_none();
            assert!(!serves || mark.stable <= mark.applied, "{log} {mark:?}");
        }
        c.run_ms(1);
    }
    assert!(c.serves(0));
    assert_eq!(c.value(0, &key, &seen), None);
}

//! Snapshots of all keys, for a replica that lacks too much.

use crate::cluster::Cluster;
use crate::index::{SHORT_MEMORY, two_of_three};
use causeway::protocol::changes::{ViewCommand, ViewOutcome};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::limits::Limits;
use causeway::protocol::placement::Change;
use causeway::protocol::views::Home;

#[test]
pub fn a_snapshot_that_is_being_fetched_keeps_the_index_that_goes_on_from_it() {
    let mut c = two_of_three(Limits {
        index_dots: 20,
        chunk_bytes: 300,
        busy_chunk_bytes: 300,
        ..SHORT_MEMORY
    });
    let all = Context::default();
    for i in 0..100 {
        let key = c.key(0, i);
        c.write(0, &key, Some("old"), &all);
        c.run_ms(2);
    }
    c.run_ms(300);
    c.start(2);
    // Clients write faster than the snapshot comes.
    for i in 0..150 {
        let key = c.key(0, i % 100);
        c.write(i % 2, &key, Some("new"), &all);
        c.run_ms(2);
    }
    c.run_ms(1_000);
    assert!(c.serves(2));
    assert_eq!(
        c.marks(2).gauges.copied.keys,
        100,
        "one snapshot was enough"
    );
    assert_eq!(c.marks(0).gauges.unstable, 0);
}

#[test]
fn a_snapshot_does_not_make_the_disk_look_old_while_it_is_on_its_way_there() {
    let mut c = Cluster::new(2, 1);
    let (key, none) = (c.key(1, 0), Context::default());
    // The disk knows that the first write is stable when the second one is written.
    c.put(1, &key, Some("1"), &none);
    c.run_ms(200);
    c.put(1, &key, Some("2"), &none);
    // Node 0 is to hold the key too. Node 0 gets a snapshot, and its disk is slow.
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
pub fn a_refilled_disk_serves_only_when_the_snapshot_is_durable() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    let seen = c.put(0, &key, Some("kept"), &none);
    // All of it comes from logs that have ended: no mark tells how far the snapshot is on the disk.
    for node in [0, 1] {
        c.stop(node);
        c.start(node);
        c.run_ms(3_000);
    }
    c.stop(1);
    c.nodes[1].disk.wipe();
    c.start(1);
    c.run_ms(1);
    c.nodes[1].disk_hangs = true;
    c.run_ms(50);
    assert_eq!(c.marks(1).finished.len(), 2, "the snapshot came");
    assert!(!c.serves(1));
    c.nodes[1].disk_hangs = false;
    c.run_ms(50);
    assert_eq!(c.value(1, &key, &seen).as_deref(), Some("kept"));
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

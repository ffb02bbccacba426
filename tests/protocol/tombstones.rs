//! Tombstones: a deleted key stays remembered until no older value can come back.

use crate::cluster::Cluster;
use crate::walls::{HOUR_MS, ahead};
use causeway::protocol::clock::Timestamp;
use causeway::protocol::context::Context;

#[test]
fn a_tombstone_goes_though_the_clock_is_ahead() {
    let mut c = Cluster::new(3, 3);
    let key = c.key(0, 0);
    // Some clock was wrong once. All wall clocks are right now, and those who have not heard of it
    // yet believe it.
    let far = Timestamp::from_ms(c.now(0).wall_ms + 8 * HOUR_MS as u64);
    c.nodes[1].clock.observe(far);
    c.run_ms(300);
    assert!((0..3).all(|node| ahead(&c, node) > 7 * HOUR_MS));
    let mut context = c.put(1, &key, Some("1"), &Context::default());
    context = c.put(0, &key, None, &context);
    c.run_ms(500);
    assert_eq!(c.marks(0).gauges.tombstones, 1);
    assert!(context.clock >= far);
    c.run_ms(3_500);
    assert_eq!([0, 1, 2].map(|n| c.marks(n).gauges.tombstones), [0; 3]);
    assert_eq!(c.value(2, &key, &context), None);
}

#[test]
pub fn a_deleted_key_does_not_come_back_from_an_old_disk() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("old"), &none);
    c.run_ms(500);
    let old = c.nodes[1].disk.copy();
    c.put(0, &key, None, &none);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0, "collected");
    c.stop(1);
    c.nodes[1].disk.put_back(old);
    c.start(1);
    c.run_ms(1_500);
    assert!(c.serves(1));
    assert_eq!(c.value(1, &key, &none), None);
    assert_eq!(c.value(0, &key, &none), None);
}

#[test]
fn a_tombstone_goes_when_all_have_it_and_never_by_time() {
    let mut c = Cluster::new(2, 2);
    let (key, none) = (c.key(0, 0), Context::default());
    c.put(0, &key, Some("1"), &none);
    c.stop(1);
    c.put(0, &key, None, &none);
    c.run_ms(60_000);
    assert_eq!(c.marks(0).gauges.tombstones, 1);
    c.start(1);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0);
    assert_eq!(c.marks(1).gauges.tombstones, 0);
}

#[test]
fn a_replica_that_starts_again_after_it_dropped_a_tombstone_does_not_hold_up_the_others() {
    let mut met = 0;
    // A link is cut at each moment at which one may know already that all have it, and the other
    // does not yet.
    for cut_ms in (1_900..2_600).step_by(10) {
        let mut c = Cluster::new(2, 2);
        let (key, none) = (c.key(0, 0), Context::default());
        let seen = c.put(0, &key, Some("1"), &none);
        c.put(0, &key, None, &seen);
        c.run_ms(cut_ms);
        c.mute(1, 0);
        c.run_ms(300);
        if (0..2).all(|n| c.marks(n).gauges.tombstones == 1 - n as u64) {
            met += 1;
            c.stop(1);
            c.heal();
            c.start(1);
            c.run_ms(5_000);
        }
        c.heal();
        c.run_ms(2_000);
        assert_eq!(c.marks(0).gauges.tombstones, 0, "cut after {cut_ms} ms");
    }
    assert!(met > 0);
}

#[test]
pub fn a_tombstone_stays_while_its_past_may_be_missing_somewhere() {
    // The delete depends on a write of the other partition that one replica there lacks.
    let mut c = Cluster::new(4, 2);
    let (here, there, none) = (c.key(0, 0), c.key(1, 0), Context::default());
    c.put(0, &here, Some("1"), &none);
    c.stop(3);
    let seen = c.put(2, &there, Some("2"), &none);
    assert_eq!(seen.len(), 1);
    let seen = c.put(0, &here, None, &seen);
    c.run_ms(10_000);
    assert_eq!(c.marks(0).gauges.tombstones, 1);
    let read = c.get(0, &here, &none).unwrap();
    assert_eq!((read.found, read.context.len()), (None, 1));
    assert!(!seen.is_empty());
    c.start(3);
    c.run_ms(8_000);
    assert_eq!(c.marks(0).gauges.tombstones, 0);
}

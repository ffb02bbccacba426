//! Wall clocks that are wrong, now or once.

use crate::cluster::{Cluster, START_MS};
use causeway::protocol::clock::{Doubt, MAX_OFF_MS, Timestamp};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::op::{Answer, Refusal};
use causeway::protocol::version::Stamp;

pub const HOUR_MS: i64 = 3_600_000;

/// How far a node's clock is ahead of what time it is, in milliseconds.
pub fn ahead(c: &Cluster, node: usize) -> i64 {
    let right = START_MS + c.now_us / 1_000;
    c.nodes[node].clock.now().ms() as i64 - right as i64
}

/// Whether a node goes by its wall clock, or how many hours that is off.
fn check(c: &Cluster, node: usize) -> Result<(), Option<i64>> {
    let checked = c.nodes[node].clock.check(c.now(node));
    checked.map_err(|doubt| match doubt {
        Doubt::Unchecked => None,
        Doubt::Off(ms) => Some((ms + HOUR_MS / 2).div_euclid(HOUR_MS)),
    })
}

#[test]
pub fn a_wall_clock_that_is_far_ahead_takes_no_other_clock_along() {
    let mut c = Cluster::stopped(3, 3);
    // The clock of node 1 is ahead from its start on.
    c.nodes[1].skew_ms = 8_000 * HOUR_MS;
    (0..3).for_each(|node| c.start(node));
    c.run_ms(1_500);
    assert!((0..3).all(|node| c.serves(node)));
    assert_eq!(check(&c, 1), Err(Some(8_000)));
    assert_eq!([check(&c, 0), check(&c, 2)], [Ok(()); 2]);
    c.put(0, &c.key(0, 0), Some("1"), &Context::default());
    assert!((0..3).all(|node| ahead(&c, node) <= MAX_OFF_MS as i64));
    // Node 1 gets the right time while it runs; then node 2's clock jumps ahead, and behind.
    c.nodes[1].skew_ms = 0;
    c.run_ms(300);
    assert_eq!(check(&c, 1), Ok(()));
    c.nodes[2].skew_ms = HOUR_MS;
    c.run_ms(300);
    assert_eq!(check(&c, 2), Err(Some(1)));
    c.nodes[2].skew_ms = -HOUR_MS;
    assert_eq!(check(&c, 2), Err(Some(-1)));
    c.run_ms(300);
    assert!((0..3).all(|node| ahead(&c, node) <= MAX_OFF_MS as i64));
    // Their disks know of nothing either.
    for node in 0..3 {
        c.stop(node);
        c.nodes[node].skew_ms = 0;
        c.start(node);
    }
    c.run_ms(1_500);
    assert!((0..3).all(|node| ahead(&c, node) <= MAX_OFF_MS as i64));
}

#[test]
fn of_two_wall_clocks_that_differ_the_one_ahead_gives_way() {
    let mut c = Cluster::stopped(2, 2);
    c.nodes[1].skew_ms = HOUR_MS;
    (0..2).for_each(|node| c.start(node));
    c.run_ms(300);
    assert_eq!(check(&c, 0), Ok(()));
    assert_eq!(check(&c, 1), Err(Some(1)));
    // Alone there is nothing to compare with.
    c.stop(0);
    c.run_ms(6_000);
    assert_eq!(check(&c, 1), Ok(()));
}

#[test]
fn no_wall_clock_is_trusted_before_it_was_compared_or_nobody_was_there() {
    let mut c = Cluster::stopped(3, 1);
    c.start(0);
    c.run_ms(500);
    assert_eq!(check(&c, 0), Err(None));
    c.run_ms(600);
    assert_eq!(check(&c, 0), Ok(()));
    // A beacon is enough, and a node that is the only one needs none.
    c.start(1);
    c.run_ms(150);
    assert_eq!(check(&c, 1), Ok(()));
    let mut c = Cluster::stopped(1, 1);
    c.start(0);
    assert_eq!(check(&c, 0), Ok(()));
}

#[test]
fn a_stamp_that_only_a_wrong_clock_gives_is_refused() {
    let mut c = Cluster::new(3, 3);
    let now = c.now(0).wall_ms;
    for (ahead_ms, taken) in [(MAX_OFF_MS, true), (3 * MAX_OFF_MS, false)] {
        let stamp = Stamp {
            ts: Timestamp::from_ms(now + ahead_ms),
            by: MemberId(1),
        };
        let all = Context::default();
        let ticket = c.write_as(0, &c.key(0, 0), Some("1"), &all, stamp);
        c.run_ms(150);
        match c.answer(ticket) {
            Some(Answer::Written(_)) => assert!(taken),
            Some(Answer::Refused(Refusal::ClockOff { .. })) => assert!(!taken),
            other => panic!("{other:?}"),
        }
    }
}

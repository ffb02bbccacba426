//! Wall clocks: this node's is compared with those of the other members.
//!
//! Gossip and beacons say what their sender's wall clock shows. A node whose wall clock is too far
//! ahead of most others goes by the others' time, stamps no write for clients, and says so. A wall
//! clock that is behind does no harm, since timestamps go by the highest one seen; but one that two
//! others differ from is not gone by either. Of two nodes, the one that is ahead gives way.

use super::super::clock::{MAX_OFF_MS, Now, Timestamp};
use super::super::ids::MemberId;
use super::super::store::Store;
use super::Replica;
use std::collections::BTreeMap;

/// A member's wall clock counts for this long after it was heard, in microseconds.
const HEARD_US: u64 = 5_000_000;
/// A node goes by its own clock when it has heard nobody for this long from its start on, in
/// microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// The wall clocks of the others.
pub(super) struct Walls {
    /// As [`Now::wall_base`] here, and when they were heard.
    others: BTreeMap<MemberId, (i64, u64)>,
    since_us: u64,
}

impl Walls {
    pub(super) fn new(now: Now) -> Self {
        Self {
            others: BTreeMap::new(),
            since_us: now.mono_us,
        }
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Takes note of what a member says of its clocks. A timestamp far ahead is believed of a
    /// member whose wall clock is right: then it is from an earlier time when some clock was wrong.
    pub(super) fn heard_clock(&mut self, from: MemberId, wall_ms: u64, clock: Timestamp) {
        let now = self.now;
        if wall_ms > 0 {
            let base = Now { wall_ms, ..now }.wall_base();
            self.walls.others.insert(from, (base, now.mono_us));
            self.compare_walls();
        }
        let off_ms = wall_ms.abs_diff(self.clock.wall_ms(now));
        if off_ms <= MAX_OFF_MS {
            self.clock.observe(clock);
        } else {
            self.clock.observe_near(now, clock);
        }
    }

    /// Compares the wall clock with the others' that were heard lately.
    pub(super) fn compare_walls(&mut self) {
        let now_us = self.now.mono_us;
        let others = &mut self.walls.others;
        others.retain(|_, (_, heard_us)| now_us.saturating_sub(*heard_us) < HEARD_US);
        let mut bases: Vec<i64> = others.values().map(|(base, _)| *base).collect();
        bases.sort_unstable();
        let count = bases.len();
        if let Some(&upper) = bases.get(count / 2) {
            let lower = bases.get((count - 1) / 2).filter(|_| count > 1);
            self.clock
                .compare(lower.copied().unwrap_or(i64::MIN), upper);
        } else if self.views.members().len() == 1
            || now_us.saturating_sub(self.walls.since_us) >= PATIENCE_US
        {
            self.clock.go_alone();
        }
    }
}

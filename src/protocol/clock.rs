//! The hybrid logical clock of a node (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014).
//!
//! A timestamp is one `u64`: 48 bits of wall-clock milliseconds since 1970, then 16 bits that count
//! events within a millisecond. A full counter runs over into the milliseconds, so timestamps
//! stay strictly increasing at any rate. The wall clock is an argument: nothing here reads one.

use super::teeth::{Rule, broken};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far ahead of a node a client's context may be, in milliseconds, before it is refused.
pub const MAX_AHEAD_MS: u64 = 10_000;

/// A hybrid logical timestamp. Causality implies order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The first timestamp of a millisecond.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms << 16)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The event count within the millisecond.
    #[must_use]
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The smallest timestamp after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This timestamp, earlier by `ms` milliseconds.
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms << 16))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// The clock of one node, shared by all who stamp writes on it.
#[derive(Debug, Default)]
pub struct Clock(AtomicU64);

impl Clock {
    /// A clock that has seen `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self(AtomicU64::new(at.0))
    }

    /// The largest timestamp given or seen so far.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    /// A new timestamp: later than the wall clock's millisecond began, than `after` and than
    /// anything this clock gave or saw (`max(wall, after + 1, clock + 1)`).
    pub fn tick(&self, wall_ms: u64, after: Timestamp) -> Timestamp {
        let after = if broken(Rule::StampBelowContext) {
            Timestamp::default()
        } else {
            after
        };
        let floor = Timestamp::from_ms(wall_ms).max(after.next());
        let step = |now: u64| floor.max(Timestamp(now).next()).0;
        let mut now = self.0.load(Ordering::SeqCst);
        loop {
            match self
                .0
                .compare_exchange_weak(now, step(now), Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return Timestamp(step(now)),
                Err(seen) => now = seen,
            }
        }
    }

    /// Takes note of a timestamp from elsewhere.
    pub fn observe(&self, seen: Timestamp) {
        self.0.fetch_max(seen.0, Ordering::SeqCst);
    }

    /// Takes note of the wall clock, so that an idle node's clock moves as well.
    pub fn observe_wall(&self, wall_ms: u64) -> Timestamp {
        self.observe(Timestamp::from_ms(wall_ms));
        self.now()
    }

    /// Whether a client's timestamp lies too far ahead of this clock to be believed.
    pub fn too_far_ahead(&self, wall_ms: u64, seen: Timestamp) -> bool {
        // The usual case, without touching what all threads share.
        if seen.ms() <= wall_ms.saturating_add(MAX_AHEAD_MS) {
            return false;
        }
        seen.ms() > self.observe_wall(wall_ms).ms().saturating_add(MAX_AHEAD_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stamps_grow_past_everything_seen(
            steps in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 60, any::<bool>()), 1..50)
        ) {
            let clock = Clock::default();
            let mut last = Timestamp::default();
            for (wall, other, observe) in steps {
                if observe {
                    clock.observe(Timestamp(other));
                    last = last.max(Timestamp(other));
                } else {
                    let ts = clock.tick(wall, Timestamp(other));
                    prop_assert!(ts > last);
                    prop_assert!(ts > Timestamp(other));
                    prop_assert!(ts.ms() >= wall);
                    last = ts;
                }
            }
        }
    }

    #[test]
    fn a_full_counter_runs_over_into_the_milliseconds() {
        let clock = Clock::new(Timestamp::from_ms(7));
        for _ in 0..70_000 {
            clock.tick(7, Timestamp::default());
        }
        assert_eq!(clock.now().ms(), 8);
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_take_stamps_back() {
        let clock = Clock::default();
        let before = clock.tick(50_000, Timestamp::default());
        assert!(clock.tick(20_000, Timestamp::default()) > before);
    }

    #[test]
    fn a_timestamp_far_ahead_is_told_from_a_believable_one() {
        let clock = Clock::default();
        assert!(!clock.too_far_ahead(1_000, Timestamp::from_ms(1_000 + MAX_AHEAD_MS)));
        assert!(clock.too_far_ahead(1_000, Timestamp::from_ms(1_001 + MAX_AHEAD_MS)));
        // What the cluster itself has seen is no news.
        clock.observe(Timestamp::from_ms(40_000));
        assert!(!clock.too_far_ahead(1_000, Timestamp::from_ms(45_000)));
    }
}

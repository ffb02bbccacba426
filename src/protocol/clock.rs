//! The hybrid logical clock of a node (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014).
//!
//! A timestamp is one `u64`: 48 bits of wall-clock milliseconds since 1970, then 16 bits that count
//! events within a millisecond. A full counter runs over into the milliseconds, so timestamps
//! stay strictly increasing at any rate. The wall clock is an argument: nothing here reads one.

use super::limits::{Bound, met};
use super::sound::{Unsound, checked_when_read, ensure};
use super::teeth::{Rule, broken};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// How far ahead of a node a client's context may be, in milliseconds, before it is refused.
pub const MAX_AHEAD_MS: u64 = 10_000;

/// How far a wall clock may be from those of most others, in milliseconds, before a node no longer
/// follows it.
pub const MAX_OFF_MS: u64 = 60_000;

/// The time of an event, from both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that never jumps, in microseconds since any moment: for time-outs.
    pub mono_us: u64,
    /// The wall clock in milliseconds since 1970: for timestamps only.
    pub wall_ms: u64,
}

impl Now {
    /// How far the wall clock is ahead of the one that never jumps, in milliseconds.
    #[must_use]
    pub fn wall_base(self) -> i64 {
        let mono_ms = (self.mono_us / 1_000) as i64;
        (self.wall_ms as i64).saturating_sub(mono_ms)
    }
}

/// Why a node does not trust its wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The wall clock has not been compared with others' since the start.
    Unchecked,
    /// The wall clock is so many milliseconds ahead of most others', or behind when negative.
    Off(i64),
}

/// A hybrid logical timestamp. Causality implies order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(remote = "Self")]
pub struct Timestamp(pub u64);

checked_when_read!(Timestamp);

impl Timestamp {
    /// One of the last timestamps, of the year 6429 and later, would leave no clock any room to go
    /// on from it.
    fn check(self) -> Result<(), Unsound> {
        ensure(self.0 >> 63 == 0, "a timestamp that no clock reaches")
    }

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
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// The clock of one node, shared by all who stamp writes on it.
///
/// It follows the wall clock, as long as that is not too far from those of most others: one that is
/// far ahead would take all timestamps of the cluster along, and nothing could take them back.
#[derive(Debug)]
pub struct Clock {
    now: AtomicU64,
    /// The wall clocks of the others, as [`Now::wall_base`]: most are at or below `upper`, and most
    /// at or above `lower`.
    upper: AtomicI64,
    lower: AtomicI64,
}

/// `upper` before anything is known of the others.
const UNCHECKED: i64 = i64::MIN;

impl Default for Clock {
    fn default() -> Self {
        Self::new(Timestamp::default())
    }
}

impl Clock {
    /// A clock that has seen `at`.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self {
            now: AtomicU64::new(at.0),
            upper: AtomicI64::new(UNCHECKED),
            lower: AtomicI64::new(i64::MIN),
        }
    }

    /// The largest timestamp given or seen so far.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    /// Takes note of the wall clocks of the others, as [`Now::wall_base`]: most are at or below
    /// `upper`, and most at or above `lower`.
    pub fn compare(&self, lower: i64, upper: i64) {
        self.lower.store(lower, Ordering::SeqCst);
        self.upper.store(upper.max(UNCHECKED + 1), Ordering::SeqCst);
    }

    /// Trusts the own wall clock, whatever it says: there is none to compare it with.
    pub fn go_alone(&self) {
        self.compare(i64::MIN, i64::MAX);
    }

    /// Whether the wall clock can be trusted.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, now: Now) -> Result<(), Doubt> {
        self.believed(now).1.map_or(Ok(()), Err)
    }

    /// The wall clock in milliseconds since 1970, or most others' if this one is off; with the
    /// doubt, if there is one. 0 before the first comparison.
    fn believed(&self, now: Now) -> (u64, Option<Doubt>) {
        let (lower, upper) = (
            self.lower.load(Ordering::SeqCst),
            self.upper.load(Ordering::SeqCst),
        );
        if upper == UNCHECKED {
            return (0, Some(Doubt::Unchecked));
        }
        let own = now.wall_base();
        let (ahead, behind) = (own.saturating_sub(upper), lower.saturating_sub(own));
        let most = MAX_OFF_MS as i64;
        let off = if ahead > most && !broken(Rule::FollowWrongClock) {
            ahead
        } else if behind > most {
            -behind
        } else {
            return (now.wall_ms, None);
        };
        met(Bound::ClockOff);
        (
            now.wall_ms.saturating_add_signed(-off),
            Some(Doubt::Off(off)),
        )
    }

    /// The milliseconds since 1970 that timestamps follow: 0 before the first comparison, and never
    /// more than most others' wall clocks show.
    fn followed_ms(&self, now: Now) -> u64 {
        self.believed(now).0.min(now.wall_ms)
    }

    /// The milliseconds since 1970 by the wall clock, or by most others' when it is off.
    #[must_use]
    pub fn wall_ms(&self, now: Now) -> u64 {
        match self.believed(now) {
            (_, Some(Doubt::Unchecked)) => now.wall_ms,
            (ms, _) => ms,
        }
    }

    /// Whether a timestamp lies so far ahead of the wall clock and of this clock that only a wrong
    /// clock can have given it.
    pub fn is_beyond(&self, now: Now, seen: Timestamp) -> bool {
        // The usual case, without touching what all threads share.
        if seen.ms() <= now.wall_ms {
            return false;
        }
        let known = self.wall_ms(now).max(self.now().ms());
        seen.ms() > known.saturating_add(MAX_OFF_MS)
    }

    /// Takes note of a timestamp from elsewhere, unless only a wrong clock can have given it.
    pub fn observe_near(&self, now: Now, seen: Timestamp) {
        if !self.is_beyond(now, seen) {
            self.observe(seen);
        }
    }

    /// A new timestamp: later than the wall clock's millisecond began, than `after` and than
    /// anything this clock gave or saw (`max(wall, after + 1, clock + 1)`).
    pub fn tick(&self, now: Now, after: Timestamp) -> Timestamp {
        let after = if broken(Rule::StampBelowContext) {
            Timestamp::default()
        } else {
            after
        };
        let floor = Timestamp::from_ms(self.followed_ms(now)).max(after.next());
        let step = |now: u64| floor.max(Timestamp(now).next()).0;
        let mut now = self.now.load(Ordering::SeqCst);
        loop {
            match self
                .now
                .compare_exchange_weak(now, step(now), Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return Timestamp(step(now)),
                Err(seen) => now = seen,
            }
        }
    }

    /// Takes note of a timestamp from elsewhere.
    pub fn observe(&self, seen: Timestamp) {
        self.now.fetch_max(seen.0, Ordering::SeqCst);
    }

    /// Takes note of the wall clock, so that an idle node's clock moves as well.
    pub fn observe_wall(&self, now: Now) -> Timestamp {
        self.observe(Timestamp::from_ms(self.followed_ms(now)));
        self.now()
    }

    /// Whether a client's timestamp lies too far ahead of this clock to be believed.
    pub fn too_far_ahead(&self, now: Now, seen: Timestamp) -> bool {
        // The usual case, without touching what all threads share.
        if seen.ms() <= now.wall_ms.saturating_add(MAX_AHEAD_MS) {
            return false;
        }
        seen.ms() > self.observe_wall(now).ms().saturating_add(MAX_AHEAD_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(wall_ms: u64) -> Now {
        Now {
            mono_us: 5_000_000,
            wall_ms,
        }
    }

    /// A clock that goes by its own wall clock.
    fn alone() -> Clock {
        let clock = Clock::default();
        clock.go_alone();
        clock
    }

    proptest! {
        #[test]
        fn stamps_grow_past_everything_seen(
            steps in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 60, any::<bool>()), 1..50)
        ) {
            let clock = alone();
            let mut last = Timestamp::default();
            for (wall, other, observe) in steps {
                if observe {
                    clock.observe(Timestamp(other));
                    last = last.max(Timestamp(other));
                } else {
                    let ts = clock.tick(at(wall), Timestamp(other));
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
            clock.tick(at(7), Timestamp::default());
        }
        assert_eq!(clock.now().ms(), 8);
    }

    #[test]
    fn a_clock_that_jumps_back_does_not_take_stamps_back() {
        let clock = alone();
        let before = clock.tick(at(50_000), Timestamp::default());
        assert!(clock.tick(at(20_000), Timestamp::default()) > before);
    }

    #[test]
    fn a_timestamp_far_ahead_is_told_from_a_believable_one() {
        let clock = alone();
        assert!(!clock.too_far_ahead(at(1_000), Timestamp::from_ms(1_000 + MAX_AHEAD_MS)));
        assert!(clock.too_far_ahead(at(1_000), Timestamp::from_ms(1_001 + MAX_AHEAD_MS)));
        // What the cluster itself has seen is no news.
        clock.observe(Timestamp::from_ms(40_000));
        assert!(!clock.too_far_ahead(at(1_000), Timestamp::from_ms(45_000)));
    }

    #[test]
    fn a_wall_clock_is_gone_by_when_most_others_agree() {
        const HOUR: u64 = 3_600_000;
        let right = 500 * HOUR;
        let clock = Clock::default();
        // Nothing has been compared.
        assert_eq!(clock.check(at(right)), Err(Doubt::Unchecked));
        assert_eq!(clock.observe_wall(at(right)), Timestamp::default());
        let base = at(right).wall_base();
        clock.compare(base, base);
        assert_eq!(clock.check(at(right + MAX_OFF_MS)), Ok(()));
        assert_eq!(clock.observe_wall(at(right)), Timestamp::from_ms(right));
        // An hour off, either way, it goes by the others'; timestamps follow nothing that is ahead.
        for (wall_ms, off) in [(right + HOUR, 3_600_000), (right - HOUR, -3_600_000)] {
            assert_eq!(clock.check(at(wall_ms)), Err(Doubt::Off(off)));
            assert_eq!(clock.wall_ms(at(wall_ms)), right);
            assert_eq!(clock.observe_wall(at(wall_ms)), Timestamp::from_ms(right));
            let fresh = Clock::default();
            fresh.compare(base, base);
            let followed = fresh.observe_wall(at(wall_ms)).ms();
            assert_eq!(followed, right.min(wall_ms));
        }
        // A timestamp that only a wrong clock gives moves nothing; one that most have reached does.
        let far = Timestamp::from_ms(right + HOUR);
        clock.observe_near(at(right), far);
        assert_eq!(clock.now().ms(), right);
        clock.observe(far);
        clock.observe_near(at(right), Timestamp::from_ms(right + HOUR + 1));
        assert_eq!(clock.now().ms(), right + HOUR + 1);
    }
}

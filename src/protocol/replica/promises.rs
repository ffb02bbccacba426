//! Promises to take no write with an old timestamp any more.
//!
//! [`Promises`] is the only one that knows what has been promised and how much of that is on the
//! disk. No promise goes beyond what the disk holds, or is about to hold, so that the next
//! incarnation keeps it.

use super::super::clock::Timestamp;
use std::collections::VecDeque;

/// A promise goes up to the clock of this long ago, in microseconds: a write may be that long under
/// way from the node that stamped it. The clock of then, not the clock of now less this time: a
/// hybrid clock that is ahead of the wall clock moves by events alone until the wall clock has
/// caught up, and tombstones are not to wait for that.
const LAG_US: u64 = 2_000_000;

/// What a replica has promised.
pub(super) struct Promises {
    given: Timestamp,
    /// The promise that the disk holds.
    durable: Timestamp,
    /// A promise that the next batch takes to the disk.
    staged: Option<Timestamp>,
    /// The clock at earlier times, in microseconds, and the latest reading that is old enough.
    seen: VecDeque<(u64, Timestamp)>,
    old: Timestamp,
}

impl Promises {
    /// The promises of a replica on a disk that holds this one.
    pub(super) fn new(kept: Timestamp) -> Self {
        Self {
            given: kept,
            durable: kept,
            staged: None,
            seen: VecDeque::new(),
            old: Timestamp::default(),
        }
    }

    /// Takes note of the clock. If there is something that a promise would help with, the promise
    /// moves on as far as the disk holds one; the disk is to hold one up to this reading if `true`
    /// is returned.
    #[must_use]
    pub(super) fn renew(&mut self, now_us: u64, clock: Timestamp, helps: bool) -> bool {
        let want = self.lagging(now_us, clock);
        if !helps {
            return false;
        }
        let more = want > self.durable;
        if more {
            self.staged = Some(clock);
        }
        self.given = self.given.max(want.min(self.durable));
        more
    }

    /// Promises no less than this, at once; the disk is to hold the promise if `true` is returned.
    #[must_use]
    pub(super) fn keep(&mut self, upto: Timestamp) -> bool {
        let more = upto > self.given;
        if more {
            self.given = upto;
            self.staged = Some(upto);
        }
        more
    }

    /// The clock as it was [`LAG_US`] ago.
    fn lagging(&mut self, now_us: u64, clock: Timestamp) -> Timestamp {
        self.seen.push_back((now_us, clock));
        let old = |(at, _): &mut (u64, Timestamp)| *at + LAG_US <= now_us;
        while let Some((_, clock)) = self.seen.pop_front_if(old) {
            self.old = clock;
        }
        self.old
    }

    /// No write up to this timestamp is taken any more.
    pub(super) fn given(&self) -> Timestamp {
        self.given
    }

    /// The promise that others may be told: as much as the disk holds, so that the next start keeps
    /// it too.
    pub(super) fn told(&self) -> Timestamp {
        self.given.min(self.durable)
    }

    /// The promise that the disk will hold, with those that are on the way there.
    pub(super) fn kept(&self, on_the_way: impl Iterator<Item = Timestamp>) -> Timestamp {
        on_the_way
            .chain(self.staged)
            .fold(self.durable, Timestamp::max)
    }

    /// The promise that goes with the batch that is handed out now.
    pub(super) fn take_staged(&mut self) -> Option<Timestamp> {
        self.staged.take()
    }

    /// A batch with this promise is durable.
    pub(super) fn durable(&mut self, upto: Option<Timestamp>) {
        self.durable = self.durable.max(upto.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(ms: u64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn a_promise_is_given_when_the_disk_holds_it_and_lags_behind_the_clock() {
        let mut promises = Promises::new(ts(0));
        assert!(!promises.renew(0, ts(1_000), true), "nothing is old enough");
        assert!(promises.renew(LAG_US, ts(3_000), true));
        assert_eq!(promises.given(), ts(0), "the disk holds none");
        let staged = promises.take_staged();
        assert_eq!(staged, Some(ts(3_000)));
        promises.durable(staged);
        assert!(!promises.renew(LAG_US, ts(3_000), true));
        assert_eq!(promises.given(), ts(1_000), "the clock of then");
        assert_eq!(promises.told(), ts(1_000));
    }

    #[test]
    fn nothing_is_promised_that_would_not_help() {
        let mut promises = Promises::new(ts(0));
        let _ = promises.renew(0, ts(1_000), false);
        assert!(!promises.renew(LAG_US, ts(3_000), false));
        assert_eq!(promises.take_staged(), None);
        assert!(
            promises.renew(LAG_US, ts(3_000), true),
            "the clock was noted all the same"
        );
    }

    #[test]
    fn what_others_count_on_is_kept_at_once_and_told_when_the_disk_holds_it() {
        let mut promises = Promises::new(ts(5));
        assert!(!promises.keep(ts(5)));
        assert!(promises.keep(ts(9)));
        assert_eq!((promises.given(), promises.told()), (ts(9), ts(5)));
        assert_eq!(promises.kept([].into_iter()), ts(9));
        let staged = promises.take_staged();
        assert_eq!(promises.kept([].into_iter()), ts(5));
        assert_eq!(promises.kept(staged.into_iter()), ts(9));
        promises.durable(staged);
        assert_eq!(promises.told(), ts(9));
        promises.durable(None);
        assert_eq!(promises.told(), ts(9));
    }
}

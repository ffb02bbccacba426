//! When a delete may be forgotten.
//!
//! A tombstone may go when no older value of its key can come any more: when every replica has
//! applied every write of the partition with a timestamp up to the tombstone's. Each replica
//! promises with its gossip that its log will have no further write up to some timestamp; the
//! timestamp up to which a replica has everything is its *floor*; the least floor of all replicas
//! decides. (The page of chitchat on deleting keys argues the same way, with heartbeats.)
//!
//! The tombstone's own past must be stable too: a client that reads "not found" is told of that
//! past only as long as the tombstone is there.

use super::super::clock::Timestamp;
use super::super::limits::{Bound, met};
use super::super::record;
use super::super::slots::Slot;
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::Replica;
use super::apply::tombstone_stamp;
use bytes::Bytes;
use std::collections::VecDeque;

/// A promise goes up to the clock of this long ago, in microseconds: a write may be that long under
/// way from the node that stamped it. The clock of then, not the clock of now less this time: a
/// hybrid clock that is ahead of the wall clock moves by events alone until the wall clock has
/// caught up, and tombstones are not to wait for that.
const LAG_US: u64 = 2_000_000;

/// Promises to take no write with an old timestamp.
pub(super) struct Promises {
    given: Timestamp,
    /// No promise goes beyond what the disk holds, so that the next incarnation keeps it.
    durable: Timestamp,
    staged: Option<Timestamp>,
    /// The clock at earlier times, in microseconds, and the latest reading that is old enough.
    seen: VecDeque<(u64, Timestamp)>,
    old: Timestamp,
    cursor: Bytes,
}

impl Promises {
    pub(super) fn new(kept: Timestamp) -> Self {
        Self {
            given: kept,
            durable: kept,
            staged: None,
            seen: VecDeque::new(),
            old: Timestamp::default(),
            cursor: Bytes::from_static(b"t"),
        }
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

    pub(super) fn take_staged(&mut self) -> Option<Timestamp> {
        self.staged.take()
    }

    pub(super) fn durable(&mut self, upto: Option<Timestamp>) {
        self.durable = self.durable.max(upto.unwrap_or_default());
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Moves the promise on while there is something to collect.
    pub(super) fn renew_promise(&mut self) {
        let now = self.clock.observe_wall(self.now);
        let want = self.promises.lagging(self.now.mono_us, now);
        if self.staging.counts().tombstones > 0 {
            if want > self.promises.durable {
                self.promises.staged = Some(now);
                let value = record::encode(&now);
                self.staging.put(record::PROMISED, value);
            }
            self.promises.given = self.promises.given.max(want.min(self.promises.durable));
        }
        // Others may still have tombstones that an earlier start dropped here: its promise counts
        // for this log too.
        let told = self.promises.told();
        self.logs.promised(self.log, self.head(), told);
    }

    /// Takes no write any more that is older than what others count on; this start and later ones.
    pub(super) fn keep_promise(&mut self, upto: Timestamp) {
        // A client whose stamp is refused for the promise is told this clock.
        self.clock.observe(upto);
        if upto > self.promises.given {
            self.promises.given = upto;
            self.promises.staged = Some(upto);
            self.staging.put(record::PROMISED, record::encode(&upto));
        }
    }

    /// The timestamp up to which this replica has every write of the partition.
    pub(super) fn floor(&self) -> Timestamp {
        let known = self.peers.iter().all(|(_, p)| p.incarnation.is_some());
        if !known || self.recovery_reason().is_some() {
            return Timestamp::default();
        }
        let least = self.logs.complete();
        // An orphaned write came after this replica had promised that nothing as old would. Until
        // all have it, no tombstone that beats it may go.
        let orphans = self
            .orphans_from()
            .map(|ts| Timestamp(ts.0.saturating_sub(1)));
        orphans.map_or(least, |before| before.min(least))
    }

    /// Notes that deletes in a slot are forgotten, none of them newer than this.
    pub(super) fn forget_deletes(&mut self, slot: Slot, upto: Timestamp) {
        let known = self.forgotten.entry(slot).or_default();
        if upto > *known {
            *known = upto;
            let key = record::forgotten_key(slot);
            self.staging.put(key, record::encode(&upto));
        }
    }

    /// Drops tombstones that nobody needs any more. A node that is given up cannot know which those
    /// are, and offers its deletes when it is out.
    pub(super) fn collect_tombstones(&mut self) -> Result<(), StoreError> {
        if self.staging.counts().tombstones == 0 || self.is_given_up() {
            return Ok(());
        }
        let safe = self
            .peers
            .iter()
            .map(|(_, p)| p.floor)
            .fold(self.floor(), Timestamp::min);
        let safe = if broken(Rule::CollectByTime) {
            Timestamp::from_ms(self.now.wall_ms.saturating_sub(1_000))
        } else {
            safe
        };
        let (end, mut due) = (record::tombstones_after(safe), Vec::new());
        if self.promises.cursor >= end {
            self.promises.cursor = Bytes::from_static(b"t");
        }
        let most = self.limits.tombstones;
        self.store
            .scan(&self.promises.cursor.clone(), &end, &mut |key, _| {
                due.push(key);
                due.len() < most
            })?;
        // The tombstones that could not go yet are looked at again on the next round.
        self.promises.cursor = if due.len() < most {
            Bytes::from_static(b"t")
        } else {
            met(Bound::Tombstones);
            due.last().cloned().unwrap_or_default()
        };
        for store_key in due {
            let Some((stamp, key)) = record::tombstone_of(&store_key) else {
                continue;
            };
            let place = record::data_key(&key);
            let current = self.current(&place)?;
            if tombstone_stamp(current.as_ref()) == Some(stamp)
                && let Some(tombstone) = current
            {
                let mut past = tombstone.deps.clone();
                self.prune(&mut past);
                if !past.is_empty() && !broken(Rule::CollectBeforePast) {
                    continue;
                }
                self.forget_deletes(Slot::of(&key), stamp.ts);
                self.staging.remove(place, &tombstone);
            }
            self.staging.delete(store_key);
        }
        Ok(())
    }
}

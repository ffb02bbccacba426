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

/// Before the keys of all tombstones in the store.
const FIRST: &[u8] = b"t";

/// Where a replica is in looking through its tombstones.
pub(super) struct Sweep {
    cursor: Bytes,
}

impl Default for Sweep {
    fn default() -> Self {
        let cursor = Bytes::from_static(FIRST);
        Self { cursor }
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Moves the promise on while there is something to collect.
    pub(super) fn renew_promise(&mut self) {
        let now = self.clock.observe_wall(self.now);
        let helps = self.staging.counts().tombstones > 0;
        if self.promises.renew(self.now.mono_us, now, helps) {
            self.staging.put(record::PROMISED, record::encode(&now));
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
        if self.promises.keep(upto) {
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
        if self.sweep.cursor >= end {
            self.sweep.cursor = Bytes::from_static(FIRST);
        }
        let most = self.limits.tombstones;
        self.store
            .scan(&self.sweep.cursor.clone(), &end, &mut |key, _| {
                due.push(key);
                due.len() < most
            })?;
        // The tombstones that could not go yet are looked at again on the next round.
        self.sweep.cursor = if due.len() < most {
            Bytes::from_static(FIRST)
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
                let slot = Slot::of(&key);
                self.forgotten.forget(slot, stamp.ts, &mut self.staging);
                self.staging.remove(place, &tombstone);
            }
            self.staging.delete(store_key);
        }
        Ok(())
    }
}

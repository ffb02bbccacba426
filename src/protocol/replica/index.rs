//! The index of dots that somebody may lack: for each log the keys that its writes are of, in runs.
//!
//! Stable dots leave the index. While a replica stays away nothing becomes stable, so the index has
//! a bound, beyond which its oldest part goes all the same: a replica that lacks that part fetches
//! a snapshot.

use super::super::ids::LogId;
use super::super::limits::{Bound, met};
use super::super::record;
use super::super::store::{Store, StoreError};
use super::Replica;
use bytes::Bytes;

/// While a peer fetches a snapshot from here the index is not cut, or the peer could not go on from
/// the snapshot. The fetch counts as over when no part was asked for in this time, in microseconds.
const PINNED_US: u64 = 2_000_000;

/// The part of the index's state that is not on the disk.
#[derive(Default)]
pub(super) struct Index {
    /// Runs that were made since the last round of pruning.
    made: usize,
    /// The log that was pruned first in the last round.
    turn: LogId,
    /// When a part of a snapshot was last asked for.
    pub(super) pinned_us: Option<u64>,
}

impl<S: Store, T> Replica<S, T> {
    /// Dots that the index holds, as far as is known.
    pub(super) fn indexed(&self) -> u64 {
        if self.is_alone() {
            return 0;
        }
        let logs = self.logs.iter();
        logs.map(|(_, l)| l.applied.saturating_sub(l.pruned)).sum()
    }

    /// Hands the run of a log that is being gathered to the next batch.
    pub(super) fn close_run(&mut self, log: LogId) {
        if self.staging.close_run(log) {
            self.index.made += 1;
        }
    }

    /// Cuts the index where it has grown too long, and drops of it what is of no use.
    pub(super) fn tend_index(&mut self) -> Result<(), StoreError> {
        // A replica that is alone has no index.
        if self.is_alone() {
            return Ok(());
        }
        self.cut_index();
        self.prune_index()
    }

    /// Keeps the index within its bound: the newest half of it, where it has grown beyond. Each log
    /// keeps the same number of dots, or all that it has.
    fn cut_index(&mut self) {
        let (now, most) = (self.now.mono_us, self.limits.index_dots);
        let pinned = self.index.pinned_us;
        let is_pinned = pinned.is_some_and(|at| now.saturating_sub(at) < PINNED_US);
        let lengths = self.logs.iter().map(|(_, log)| log.indexed());
        if lengths.clone().sum::<u64>() <= most || is_pinned {
            return;
        }
        met(Bound::Index);
        let mut lengths: Vec<u64> = lengths.collect();
        lengths.sort_unstable();
        let (mut left, mut share) = (most / 2, 0);
        for (i, length) in lengths.iter().enumerate() {
            share = left / (lengths.len() - i) as u64;
            if *length > share {
                break;
            }
            left -= length;
        }
        self.logs.cut_index(share);
    }

    /// Drops runs that are of no use. The work of one round is bounded, but more is dropped than
    /// was made since the last one, and each log has its share.
    fn prune_index(&mut self) -> Result<(), StoreError> {
        let mut left = self.limits.prune_runs + 2 * std::mem::take(&mut self.index.made);
        let logs = self.logs.iter();
        let mut due: Vec<(LogId, u64, u64)> = logs
            .filter(|(_, l)| l.pruned < l.prunable())
            .map(|(id, l)| (id, l.pruned, l.prunable()))
            .collect();
        // Another one is the first in each round: where there are more logs than runs to drop, some
        // have no share.
        let turn = self.index.turn;
        let next = due.partition_point(|(id, _, _)| *id <= turn);
        due.rotate_left(next);
        self.index.turn = due.first().map_or(turn, |(id, _, _)| *id);
        let logs = due.len();
        for (i, (id, from, to)) in due.into_iter().enumerate() {
            let share = left.div_ceil(logs - i);
            if share == 0 {
                break;
            }
            let (mut dropped, mut more) = (Vec::new(), false);
            self.store.scan(
                &record::index_key(id, from),
                &record::index_key(id, to + 1),
                &mut |key, _| {
                    more = dropped.len() == share;
                    if !more {
                        dropped.push(key);
                    }
                    !more
                },
            )?;
            if more {
                met(Bound::Prune);
            }
            left -= dropped.len();
            let last = dropped.last().map_or(from, last_of);
            for key in dropped {
                self.staging.delete(key);
            }
            self.logs.pruned(id, if more { last } else { to });
        }
        Ok(())
    }
}

/// The last seq of a run, from its store key.
fn last_of(key: &Bytes) -> u64 {
    key.get(11..19)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_be_bytes)
}

//! Gaps: a replica that lacks a part of a log asks one that has it.
//!
//! The answer is found through the index of unstable dots: the keys of the missing dots, and for
//! each key the sender's version of it, be it that write or a newer one. So `applied` may move past
//! all those dots at once, and nothing is scanned or compared. What no single peer has in full is
//! gathered from several (gather.rs).

use super::super::ids::{Dot, LogId, MemberId};
use super::super::limits::{Bound, met};
use super::super::message::{Message, Pull, Range};
use super::super::record::{self, IndexRun};
use super::super::slots::{Slot, SlotSet};
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::version::{Key, Version};
use super::Replica;
use super::peers::Peer;
use std::collections::BTreeSet;

/// A pull that was not answered in this time is sent to another replica, in microseconds.
const PULL_TIMEOUT_US: u64 = 200_000;
/// A stream that stands still for this long is helped by a pull, in microseconds.
const STALL_US: u64 = 150_000;

/// A pull under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct PullState {
    pub(super) from: MemberId,
    pub(super) sent_us: u64,
}

impl<S: Store, T> Replica<S, T> {
    /// Pulls what peers are known to have and streams do not bring.
    pub(super) fn close_gaps(&mut self) {
        let now = self.now.mono_us;
        let behind: Vec<LogId> =
            self.logs
                .iter()
                .filter(|(id, log)| {
                    let streaming = self.peers.get(id.member).is_some_and(|p| {
                        p.alive(self.now) && p.incarnation == Some(id.incarnation)
                    });
                    self.takes(log.cohort)
                        && (!streaming || now.saturating_sub(log.progress_us) > STALL_US)
                        && self.known_end(*id) > log.received
                })
                .map(|(id, _)| id)
                .collect();
        for log in behind {
            self.pull(log);
        }
    }

    /// The highest seq of a log that any peer reported.
    pub(super) fn known_end(&self, log: LogId) -> u64 {
        self.peers.known_end(log)
    }

    /// Asks the best holder for the next part of a log, unless that is under way.
    pub(super) fn pull(&mut self, id: LogId) {
        let now = self.now;
        let Some((log, state)) = self.logs.get(id).zip(self.cohort_of(id)) else {
            return;
        };
        if !self.takes(log.cohort) || self.room.none().is_some() || self.disk_is_behind() {
            return;
        }
        let mut avoid = None;
        if let Some(pull) = log.pull {
            if now.mono_us.saturating_sub(pull.sent_us) < PULL_TIMEOUT_US {
                return;
            }
            avoid = Some(pull.from);
        }
        let received = log.received;
        let has = |p: &Peer| p.applied(id) > received;
        let suppliers = || {
            let members = state.suppliers.iter();
            members.filter_map(|m| Some((*m, self.peers.get(*m)?)))
        };
        let alive = || suppliers().filter(|(_, p)| p.alive(now));
        // The peer that has most of it, and another one than last time, if there is; else the
        // writer, while it writes.
        let writes =
            |m: MemberId, p: &Peer| m == id.member && p.incarnation == Some(id.incarnation);
        let holder = alive()
            .filter(|(m, p)| has(p) && Some(*m) != avoid)
            .max_by_key(|(_, p)| p.applied(id))
            .or_else(|| alive().find(|(_, p)| has(p)))
            .or_else(|| alive().find(|(m, p)| writes(*m, p)))
            .map(|(m, _)| m);
        match holder {
            Some(from) => {
                let slots = state.part.clone();
                self.send_pull(from, id, received, slots);
            }
            None => self.gather(id),
        }
    }

    /// Asks a peer for the writes of a log after a seq.
    pub(super) fn send_pull(&mut self, from: MemberId, id: LogId, after: u64, slots: SlotSet) {
        self.logs.pull_sent(id, from, self.now);
        let pull = Pull {
            log: id,
            after,
            slots,
        };
        self.effects.send(from, Message::Pull(pull));
    }

    /// Goes on with logs that are still behind, now that the disk has room for more.
    pub(super) fn pull_on(&mut self) {
        let open: Vec<LogId> = self
            .logs
            .iter()
            .filter(|(id, log)| log.pull.is_some() && self.known_end(*id) > log.received)
            .map(|(id, _)| id)
            .collect();
        for log in open {
            self.pull(log);
        }
    }

    /// Answers a pull from the index and the store.
    pub(super) fn pulled(&mut self, from: MemberId, pull: Pull) -> Result<(), StoreError> {
        let Pull {
            log: id,
            after,
            slots,
        } = pull;
        let Some(log) = self.logs.get(id).copied() else {
            // The log is over and forgotten here: a replica that misses a part of it lost more than
            // a log.
            let too_old = self.is_finished(id);
            let range = Range {
                log: id,
                after,
                keys: Vec::new(),
                versions: Vec::new(),
                too_old,
                seals: Vec::new(),
            };
            if too_old {
                self.effects.send(from, Message::Range(range));
            }
            return Ok(());
        };
        // A peer that asks for slots that are not kept here knows other views.
        let state = self.cohorts.get(log.cohort);
        let supplies = state.is_some_and(|t| t.peers.contains(&from) && slots.is_within(&t.part));
        if after >= log.applied || !supplies {
            return Ok(());
        }
        let mut range = Range {
            log: id,
            after,
            keys: Vec::new(),
            versions: Vec::new(),
            too_old: after < log.indexed_from,
            seals: match after {
                0 => self.seals_for(id),
                _ => Vec::new(),
            },
        };
        if !range.too_old {
            self.fill_range(&mut range, log.applied)?;
            if range.keys.is_empty() {
                return Ok(());
            }
        }
        self.effects.send(from, Message::Range(range));
        Ok(())
    }

    fn fill_range(&self, range: &mut Range, applied: u64) -> Result<(), StoreError> {
        let mut runs = Vec::new();
        let mut dots = 0usize;
        let mut from = range.after + 1;
        self.store.scan(
            &record::index_key(range.log, from),
            &record::index_key(range.log, u64::MAX),
            &mut |_, value| {
                let run: Result<IndexRun, _> = record::decode("index run", &value);
                dots += run.as_ref().map_or(0, |r| r.keys.len());
                runs.push(run);
                if dots >= self.limits.range_dots {
                    met(Bound::RangeDots);
                }
                dots < self.limits.range_dots
            },
        )?;
        let (mut bytes, mut seen) = (0, BTreeSet::new());
        for run in runs {
            let run = run?;
            if run.first > from {
                return Err(StoreError::Corrupt {
                    what: format!("index of log {}", range.log),
                    detail: format!("seq {from} is missing"),
                });
            }
            for (seq, key) in (run.first..).zip(run.keys) {
                if seq < from {
                    continue;
                }
                if seq > applied {
                    return Ok(());
                }
                if bytes >= self.limits.range_bytes {
                    met(Bound::RangeBytes);
                    return Ok(());
                }
                from = seq + 1;
                bytes += key.len();
                if !key.is_empty()
                    && seen.insert(key.clone())
                    && let Some(version) = record::load(&self.store, &key)?
                {
                    bytes += version.size();
                    range.versions.push(version);
                }
                range.keys.push(key);
            }
        }
        Ok(())
    }

    /// Takes a part of a log in.
    pub(super) fn range(&mut self, from: MemberId, range: Range) -> Result<(), StoreError> {
        self.logs.pull_answered(range.log);
        let Some(log) = self.logs.get(range.log) else {
            return Ok(());
        };
        let (received, cohort) = (log.received, log.cohort);
        if !self.takes(cohort) {
            return Ok(());
        }
        if range.too_old {
            if range.after >= received {
                self.fetch_snapshot_from(from, cohort);
            }
            return Ok(());
        }
        // The sender lacks some of the slots that are kept here: this is a part of what is
        // gathered.
        let state = self.cohorts.get(cohort);
        if state.is_some_and(|t| !t.suppliers.contains(&from)) {
            return self.gathered(from, range);
        }
        if range.after > received {
            return Ok(());
        }
        if received == 0 && !self.is_begun_right(range.log, &range.seals) {
            return Ok(());
        }
        let came = if broken(Rule::RangeWithoutVersions) {
            Vec::new()
        } else {
            self.take_versions(range.versions)?
        };
        let dots = (range.after + 1..).zip(range.keys);
        for (seq, key) in dots.filter(|(seq, _)| *seq > received) {
            let dot = Dot {
                log: range.log,
                seq,
            };
            self.stage_dot(dot, key);
        }
        self.note_early(came);
        if self.known_end(range.log) > self.logs.received(range.log) {
            self.pull(range.log);
        }
        Ok(())
    }

    /// Takes versions in that a peer shipped, whatever their logs; their dots and keys. When the
    /// store fails, those before are taken in.
    pub(super) fn take_versions(
        &mut self,
        versions: Vec<Version>,
    ) -> Result<Vec<(Dot, Key)>, StoreError> {
        let mut came = Vec::with_capacity(versions.len());
        for version in versions {
            let dot = version.dot;
            match self.keep(version) {
                Ok(key) if key.is_empty() => {}
                Ok(key) => came.push((dot, key)),
                Err(error) => {
                    self.note_early(came);
                    return Err(error);
                }
            }
        }
        Ok(came)
    }

    /// Takes a version in, if its slot is kept here; its key then, else an empty one.
    pub(super) fn keep(&mut self, version: Version) -> Result<Key, StoreError> {
        self.clock.observe(version.stamp.ts);
        if !self.cohorts.kept().contains(Slot::of(&version.key)) {
            return Ok(Key::new());
        }
        let key = version.key.clone();
        self.stage_seen(version)?;
        Ok(key)
    }
}

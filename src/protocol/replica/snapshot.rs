//! All keys of a cohort from a peer, in the order of slots and keys: for a disk that was lost or is
//! old, and for slots that are to be held here next.
//!
//! The sender keeps no state: each chunk starts where the asker says. The marks in the first chunk
//! were true before anything was read, and every key was read after that, so once all chunks are
//! here every dot up to those marks is: as that write, as a newer one, or collected. A local
//! version that those marks cover and that the sender does not have was deleted and collected
//! meanwhile, so it goes; unless it is known here from a later cohort, of which the sender may have
//! nothing.

use super::super::ids::{self, Dot, LogId, MemberId};
use super::super::marks::{Copied, Copying};
use super::super::message::{LogReport, Message, SnapshotChunk, SnapshotPull};
use super::super::record;
use super::super::slots::{Slot, SlotSet};
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::version::{Key, Version};
use super::super::views::{CohortId, Home};
use super::Replica;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Time between two chunks while clients are at work at either end, in microseconds: they are not
/// to notice that data is being moved.
const BUSY_PAUSE_US: u64 = 20_000;
/// A chunk that did not come in this time is asked for again, in microseconds.
const CHUNK_TIMEOUT_US: u64 = 500_000;
// Slower for the clients' sake, never so slow that a chunk seems lost.
const _: () = assert!(BUSY_PAUSE_US < CHUNK_TIMEOUT_US);
/// Chunks asked for in vain before another peer is asked.
const TRIES: u8 = 4;

/// A snapshot being fetched.
pub(super) struct Fetch {
    from: MemberId,
    id: u64,
    cohort: CohortId,
    slots: SlotSet,
    after: Key,
    /// The sender's marks at the start.
    first: Option<Start>,
    asked_us: u64,
    /// The next chunk is to be asked for at this time.
    due_us: Option<u64>,
    /// Clients are at work at the sender.
    busy: bool,
    tries: u8,
}

/// The snapshot that is on its way here, and what has come in snapshots.
#[derive(Default)]
pub(super) struct Snapshots {
    fetch: Option<Fetch>,
    copied: Copied,
    /// Something has come, since this was last asked for.
    moved: bool,
}

impl Snapshots {
    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The snapshot that is being fetched.
    pub(super) fn fetch(&self) -> Option<&Fetch> {
        self.fetch.as_ref()
    }

    /// How much has come.
    pub(super) fn copied(&self) -> Copied {
        self.copied
    }

    /// Counts versions that have come.
    fn count(&mut self, versions: &[Version]) {
        let bytes = |v: &Version| v.key.len() + v.value.as_ref().map_or(0, Bytes::len);
        self.copied.keys += versions.len() as u64;
        self.copied.bytes += versions.iter().map(bytes).sum::<usize>() as u64;
        self.moved = true;
    }
}

/// Where the sender was in a cohort's logs when it began.
pub(super) struct Start {
    logs: Vec<LogReport>,
    finished: Vec<(MemberId, record::Finished)>,
    seals: Vec<(LogId, record::Seal)>,
}

impl Start {
    /// How far the sender had a log of the cohort; `None` when it had all of it and has forgotten
    /// it.
    pub(super) fn applied(&self, log: LogId) -> Option<u64> {
        let report = self.logs.iter().find(|r| r.log == log);
        let mut finished = self.finished.iter();
        let over =
            |(m, f): &(MemberId, record::Finished)| *m == log.member && f.contains(log.incarnation);
        match report {
            None if finished.any(over) => None,
            report => Some(report.map_or(0, |r| r.applied)),
        }
    }

    /// Whether the sender had a write of a log of the cohort.
    fn covers(&self, dot: Dot) -> bool {
        self.applied(dot.log)
            .is_none_or(|applied| dot.seq <= applied)
    }

    /// Where a replica is that has got these parts.
    pub(super) fn joined(parts: Vec<Self>) -> Self {
        let logs: BTreeSet<LogId> = parts.iter().flat_map(|p| &p.logs).map(|r| r.log).collect();
        let report = |log: LogId| {
            let applied = parts.iter().filter_map(|p| p.applied(log)).min();
            let reports = parts.iter().flat_map(|p| &p.logs);
            let stable = reports.filter(|r| r.log == log).map(|r| r.stable).max();
            let applied = applied.unwrap_or(0);
            let stable = stable.unwrap_or(0).min(applied);
            LogReport {
                log,
                applied,
                stable,
            }
        };
        Self {
            logs: logs.into_iter().map(report).collect(),
            seals: parts.iter().flat_map(|p| p.seals.clone()).collect(),
            finished: parts.into_iter().flat_map(|p| p.finished).collect(),
        }
    }

    /// Takes these logs to be no less far.
    pub(super) fn reach(&mut self, logs: impl Iterator<Item = (LogId, u64)>) {
        for (log, seq) in logs {
            match self.logs.iter_mut().find(|r| r.log == log) {
                Some(report) => report.applied = report.applied.max(seq),
                None => self.logs.push(LogReport {
                    log,
                    applied: seq,
                    stable: seq,
                }),
            }
        }
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Starts fetching a snapshot of a cohort, unless one is under way.
    pub(super) fn fetch_snapshot_from(&mut self, from: MemberId, cohort: CohortId) {
        let own = self.cohorts.own_id() == Some(cohort);
        // Clients wait for the own partition.
        if self
            .snapshots
            .fetch
            .as_ref()
            .is_some_and(|f| !own || f.cohort == cohort)
        {
            return;
        }
        // What is here up to the marks stays here, and others can have it: two who lack more of
        // each other's logs than the indexes reach would wait for each other.
        let Some(state) = self.cohorts.get(cohort) else {
            return;
        };
        let slots = state.part.common(&self.views.part(&state.cohort, from));
        self.snapshots.fetch = Some(Fetch {
            from,
            id: self.now.mono_us,
            cohort,
            slots,
            after: Key::new(),
            first: None,
            asked_us: self.now.mono_us,
            due_us: None,
            busy: false,
            tries: 0,
        });
        self.ask_chunk();
    }

    fn ask_chunk(&mut self) {
        let (now, busy, limits) = (self.now.mono_us, self.busy, self.limits);
        let Some(fetch) = &mut self.snapshots.fetch else {
            return;
        };
        fetch.asked_us = now;
        fetch.due_us = None;
        let (to, pull) = (
            fetch.from,
            SnapshotPull {
                id: fetch.id,
                cohort: fetch.cohort,
                slots: fetch.slots.clone(),
                after: fetch.after.clone(),
                bytes: match busy || fetch.busy {
                    true => limits.busy_chunk_bytes,
                    false => limits.chunk_bytes,
                },
            },
        );
        self.effects.send(to, Message::SnapshotPull(pull));
    }

    /// Asks for the next chunk, when it is time for it and the disk keeps up.
    fn ask_when_due(&mut self) {
        let now = self.now.mono_us;
        let due = self.snapshots.fetch.as_ref().and_then(|fetch| fetch.due_us);
        if due.is_some_and(|due| due <= now) && !self.disk_is_behind() {
            self.ask_chunk();
        }
    }

    /// Asks for the next chunk when it is time, again for one that did not come, or gives the
    /// sender up.
    pub(super) fn snapshot_tick(&mut self) {
        self.ask_when_due();
        let now = self.now;
        let behind = self.disk_is_behind();
        let Some(fetch) = &mut self.snapshots.fetch else {
            return;
        };
        if fetch.due_us.is_some() {
            return;
        }
        if now.mono_us.saturating_sub(fetch.asked_us) < CHUNK_TIMEOUT_US || behind {
            return;
        }
        fetch.tries += 1;
        let alive = self.peers.is_alive(fetch.from, now);
        if alive && fetch.tries < TRIES {
            self.ask_chunk();
        } else {
            self.snapshots.fetch = None;
        }
    }

    /// A peer that was asked started again: what it sends now is not the snapshot begun.
    pub(super) fn abandon_snapshot_of(&mut self, member: MemberId) {
        if self
            .snapshots
            .fetch
            .as_ref()
            .is_some_and(|f| f.from == member)
        {
            self.snapshots.fetch = None;
        }
    }

    /// Takes a chunk in and asks for the next.
    pub(super) fn snapshot_chunk(
        &mut self,
        from: MemberId,
        chunk: SnapshotChunk,
    ) -> Result<(), StoreError> {
        let Some(mut fetch) = self.snapshots.fetch.take() else {
            return Ok(());
        };
        // A write that is stable for a sender with newer views need not be at all members that are
        // asked under these views. The sender may have taken the newer views over as it runs: then
        // the logs that it names tell of them.
        let sender = self.sharing().incarnation(from).unwrap_or(0);
        let tracked = chunk.logs.iter().map(|r| r.log.incarnation);
        let finished = chunk.finished.iter().map(|(_, f)| f.newest());
        let newest = tracked
            .chain(finished)
            .filter(|_| !broken(Rule::CopyAheadOfViews));
        let newest = newest.fold(sender, u64::max);
        let ahead = ids::view_of(newest) > self.views.view.number;
        if fetch.from != from || fetch.id != chunk.id || fetch.after != chunk.after || ahead {
            self.snapshots.fetch = Some(fetch);
            return Ok(());
        }
        self.snapshots.count(&chunk.versions);
        // A delete that is forgotten there must beat what is written here with an older stamp.
        self.keep_promise(chunk.promise);
        for (slot, upto) in chunk.forgotten {
            self.forgotten.forget(slot, upto, &mut self.staging);
        }
        let start = fetch.first.get_or_insert(Start {
            logs: chunk.logs,
            finished: chunk.finished,
            seals: chunk.seals,
        });
        // The sender may lack what was written for other cohorts.
        let home = Home::Cohort(fetch.cohort);
        let views = Arc::clone(&self.views);
        let covers = |dot: Dot| views.home(dot.log) == home && start.covers(dot);
        let end = match &chunk.upto {
            Some(upto) => just_after(upto),
            None => Bytes::from_static(record::DATA.1),
        };
        let mut local = Vec::new();
        for (from, to) in ranges(&fetch.slots, &just_after(&chunk.after)) {
            self.store
                .scan(&from, &to.min(end.clone()), &mut |key, _| {
                    local.push(key);
                    true
                })?;
        }
        let came = self.take_versions(chunk.versions)?;
        let kept: BTreeSet<Key> = came.iter().map(|(_, key)| key.clone()).collect();
        let mut early: Vec<_> = came.into_iter().filter(|(dot, _)| !covers(*dot)).collect();
        let since = self.known_since(fetch.cohort);
        let gone = |place: &Bytes| !kept.contains(&record::key_of(place));
        let mut unread = None;
        for place in local.into_iter().filter(gone) {
            let current = match self.current(&place) {
                Ok(Some(current)) => current,
                Ok(None) => continue,
                Err(error) => {
                    unread = Some(error);
                    break;
                }
            };
            let over = self.views.home(current.dot.log) == Home::Over;
            let stays = since.contains(Slot::of(&current.key));
            if !covers(current.dot) && !over {
                early.push((current.dot, current.key));
            } else if !stays && !broken(Rule::SnapshotKeepsRemoved) {
                self.staging.remove(place, &current);
            }
        }
        self.note_early(early);
        // The chunk counts only when all that it beats is gone.
        if let Some(error) = unread {
            return Err(error);
        }
        match chunk.upto {
            Some(upto) => {
                fetch.after = upto;
                fetch.tries = 0;
                fetch.busy = chunk.busy;
                let pause = match self.busy || chunk.busy {
                    true => BUSY_PAUSE_US,
                    false => 0,
                };
                fetch.due_us = Some(self.now.mono_us + pause);
                self.snapshots.fetch = Some(fetch);
                self.ask_when_due();
            }
            None => {
                let state = self.cohorts.get(fetch.cohort);
                let whole = state.is_some_and(|t| t.part == fetch.slots);
                match fetch.first {
                    Some(start) if whole => self.adopt(fetch.cohort, start)?,
                    Some(start) => self.gathered_part(from, fetch.cohort, start),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Everything of a cohort up to the sender's marks is here.
    pub(super) fn adopt(&mut self, cohort: CohortId, start: Start) -> Result<(), StoreError> {
        // Some may have ended here since the sender told.
        let mut logs = start.logs;
        logs.retain(|report| !self.is_finished(report.log));
        for (member, theirs) in start.finished {
            // Of a log that ended long ago the sender knows only that it tracks the log no longer.
            let told = |id: LogId| logs.iter().any(|report| report.log == id);
            let is_over = |id: LogId| match theirs.last_seq(id.incarnation) {
                Some(_) => true,
                None => theirs.contains(id.incarnation) && !told(id),
            };
            let over: Vec<LogId> = self
                .logs
                .iter()
                .filter(|(id, log)| id.member == member && log.cohort == cohort)
                .map(|(id, _)| id)
                .filter(|id| *id != self.log && is_over(*id))
                .collect();
            for id in over {
                self.forget_log(id)?;
                self.logs.remove(id);
                // If there are several senders, another one may have told how far the log was.
                logs.retain(|report| report.log != id);
            }
            let (most, staging) = (self.limits.finished, &mut self.staging);
            self.finished.join(cohort, member, &theirs, most, staging);
        }
        for report in &logs {
            // The keys of the dots that a snapshot brings are not known here; a run must not reach
            // across them.
            if self.logs.adopt(report, cohort, self.now) {
                self.close_run(report.log);
            }
        }
        for (log, seal) in start.seals {
            self.logs.learn_seal(log, seal);
        }
        self.stalled.any_may_go();
        self.adopted(cohort);
        Ok(())
    }
}

/// The store keys of the slots, from `after` on, as ranges.
pub(super) fn ranges(slots: &SlotSet, after: &Bytes) -> Vec<(Bytes, Bytes)> {
    let place = |slot: u16| record::slot_key(Slot(slot), b"");
    let runs = slots.runs().into_iter();
    runs.map(|(first, end)| (place(first).max(after.clone()), place(end)))
        .filter(|(from, to)| from < to)
        .collect()
}

/// The first store key after `key`; the first data key when `key` is empty.
pub(super) fn just_after(key: &Key) -> Bytes {
    if key.is_empty() {
        return Bytes::from_static(record::DATA.0);
    }
    let mut next = key.to_vec();
    next.push(0);
    Bytes::from(next)
}

impl Fetch {
    /// The peer that sends the snapshot.
    pub(super) fn source(&self) -> MemberId {
        self.from
    }

    /// The cohort that the snapshot is of.
    pub(super) fn cohort(&self) -> CohortId {
        self.cohort
    }

    /// How far it is, for people.
    pub(super) fn state(&self) -> Copying {
        Copying {
            from: self.from,
            cohort: self.cohort,
            upto: match self.after.is_empty() {
                true => Slot(0),
                false => Slot::of(&record::key_of(&self.after)),
            },
        }
    }
}

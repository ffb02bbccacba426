//! The logs that are tracked here: how far each of them is, and what is known of it.
//!
//! [`Logs`] is the only writer of these marks: everybody else reads a [`Log`] and asks for what is
//! to happen to it. So what always holds of the marks can be read here, and a change that readers
//! see is noticed here.

use super::Now;
use super::pull::PullState;
use crate::protocol::clock::Timestamp;
use crate::protocol::ids::{Dot, LogId, MemberId};
use crate::protocol::message::LogReport;
use crate::protocol::record::{LogRecord, Seal};
use crate::protocol::views::CohortId;
use std::collections::BTreeMap;
use std::ops::RangeBounds;

/// How far one log is here, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    pub(super) cohort: CohortId,
    /// Taken in up to here (prefix-closed), durable or not.
    pub(super) received: u64,
    /// Durable up to here (prefix-closed).
    pub(super) applied: u64,
    /// Durable up to here at every member that shares the log.
    pub(super) stable: u64,
    /// Readers may be shown the writes up to here.
    pub(super) exposed: u64,
    /// The index of dots is complete above this seq.
    pub(super) indexed_from: u64,
    /// The index below this seq has been dropped.
    pub(super) pruned: u64,
    /// When `received` last moved, or a pull was last sent.
    pub(super) progress_us: u64,
    /// The pull that is under way.
    pub(super) pull: Option<PullState>,
    /// Every write with a timestamp up to here was applied when the last promise came.
    complete: Timestamp,
    /// What the writer last promised: no write up to `.1` after seq `.0`.
    promise: (u64, Timestamp),
    /// How many writes its writer last said it has.
    pub(super) head: u64,
    /// What is known of its end.
    pub(super) seal: Option<Seal>,
    /// A change that is not in the store yet.
    dirty: bool,
}

impl Log {
    fn new(cohort: CohortId, now: Now) -> Self {
        Self {
            cohort,
            received: 0,
            applied: 0,
            stable: 0,
            exposed: 0,
            indexed_from: 0,
            pruned: 0,
            progress_us: now.mono_us,
            pull: None,
            complete: Timestamp::default(),
            promise: Default::default(),
            head: 0,
            seal: None,
            dirty: true,
        }
    }

    /// The replica has applied every write of the log with a timestamp up to this one.
    pub(super) fn complete(&self) -> Timestamp {
        if self.applied >= self.promise.0 {
            self.complete.max(self.promise.1)
        } else {
            self.complete
        }
    }

    /// How far the log is, for others.
    pub(super) fn report(&self, log: LogId) -> LogReport {
        LogReport {
            log,
            applied: self.applied,
            stable: self.stable,
        }
    }

    /// The index up to here is of no use.
    pub(super) fn prunable(&self) -> u64 {
        self.stable.max(self.indexed_from)
    }

    /// How many dots the index reaches back.
    pub(super) fn indexed(&self) -> u64 {
        self.applied.saturating_sub(self.prunable())
    }

    /// Whether nothing of the log is on its way to the disk, and its index is gone.
    pub(super) fn is_settled(&self, indexed: bool) -> bool {
        self.received == self.applied && (!indexed || self.pruned >= self.applied)
    }

    fn record(&self) -> LogRecord {
        LogRecord {
            applied: self.received,
            stable: self.stable,
            indexed_from: self.indexed_from,
            seal: self.seal,
        }
    }
}

/// The logs that are tracked here, the own one among them.
pub(super) struct Logs {
    /// The log that this replica writes.
    own: LogId,
    logs: BTreeMap<LogId, Log>,
    /// A mark that readers see has moved since this was last asked for.
    moved: bool,
}

impl Logs {
    /// No log, not even the own one.
    pub(super) fn new(own: LogId) -> Self {
        Self {
            own,
            logs: BTreeMap::new(),
            moved: false,
        }
    }

    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// A log that is tracked.
    pub(super) fn get(&self, id: LogId) -> Option<&Log> {
        self.logs.get(&id)
    }

    /// Whether a log is tracked.
    pub(super) fn contains(&self, id: LogId) -> bool {
        self.logs.contains_key(&id)
    }

    /// All of them, by writer and incarnation.
    pub(super) fn iter(&self) -> impl Iterator<Item = (LogId, &Log)> + Clone {
        self.logs.iter().map(|(id, log)| (*id, log))
    }

    /// Those from one to another.
    pub(super) fn range(
        &self,
        ids: impl RangeBounds<LogId>,
    ) -> impl DoubleEndedIterator<Item = (LogId, &Log)> {
        self.logs.range(ids).map(|(id, log)| (*id, log))
    }

    /// The log that this replica writes.
    pub(super) fn own(&self) -> Option<&Log> {
        self.logs.get(&self.own)
    }

    /// How far a log has been taken in; 0 for one that is not tracked.
    pub(super) fn received(&self, id: LogId) -> u64 {
        self.logs.get(&id).map_or(0, |log| log.received)
    }

    /// How far a log is durable here; 0 for one that is not tracked.
    pub(super) fn applied(&self, id: LogId) -> u64 {
        self.logs.get(&id).map_or(0, |log| log.applied)
    }

    /// Tracks a log from now on. A log of which nothing has come is no news to readers.
    pub(super) fn track(&mut self, id: LogId, cohort: CohortId, now: Now) {
        let new = || Log::new(cohort, now);
        self.logs.entry(id).or_insert_with(new);
    }

    /// Goes on with a log that the disk knows.
    pub(super) fn load(&mut self, id: LogId, cohort: CohortId, known: &LogRecord, now: Now) {
        let log = Log {
            received: known.applied,
            applied: known.applied,
            stable: known.stable,
            exposed: known.applied,
            indexed_from: known.indexed_from,
            seal: known.seal,
            dirty: false,
            ..Log::new(cohort, now)
        };
        self.logs.insert(id, log);
        self.moved = true;
    }

    /// Tracks a log no more.
    pub(super) fn remove(&mut self, id: LogId) -> Option<Log> {
        let log = self.logs.remove(&id)?;
        self.moved = true;
        Some(log)
    }

    /// Takes the next write of a log in. Without an index nobody can pull it later. False if the
    /// log is not tracked.
    pub(super) fn take_in(&mut self, dot: Dot, indexed: bool, now: Now) -> bool {
        let Some(log) = self.logs.get_mut(&dot.log) else {
            return false;
        };
        log.received = dot.seq;
        log.progress_us = now.mono_us;
        log.dirty = true;
        if !indexed {
            log.indexed_from = dot.seq;
        }
        true
    }

    /// The records of the logs that changed since the last call. A record counts as applied what
    /// has been received: it is stored together with that.
    pub(super) fn take_dirty(&mut self) -> impl Iterator<Item = (LogId, LogRecord)> {
        let dirty = |(id, log): (&LogId, &mut Log)| {
            std::mem::take(&mut log.dirty).then(|| (*id, log.record()))
        };
        self.logs.iter_mut().filter_map(dirty)
    }

    /// Takes note that a log is durable up to a seq. Where it was before, if it moved.
    pub(super) fn stored(&mut self, id: LogId, upto: u64) -> Option<u64> {
        let log = self.logs.get_mut(&id).filter(|log| log.applied < upto)?;
        let before = std::mem::replace(&mut log.applied, upto);
        // Another member wrote it, and now it is here: two have it.
        if id != self.own {
            log.exposed = upto;
        }
        self.moved = true;
        Some(before)
    }

    /// Lets readers see the own writes up to a seq.
    pub(super) fn expose(&mut self, upto: u64) {
        if let Some(log) = self.logs.get_mut(&self.own)
            && log.exposed < upto
        {
            log.exposed = upto;
            self.moved = true;
        }
    }

    /// Moves `stable` on to what `level` says that everybody has of each log.
    pub(super) fn stabilize(&mut self, level: impl Fn(LogId, &Log) -> u64) {
        for (id, log) in &mut self.logs {
            let level = level(*id, log);
            if level > log.stable {
                log.stable = level;
                self.moved = true;
            }
        }
    }

    /// Takes a peer's word that everybody has a log up to a seq. Readers may hear of that later,
    /// with what moves next: by an older mark they are more careful.
    pub(super) fn hear_stable(&mut self, id: LogId, upto: u64) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.stable = log.stable.max(upto);
        }
    }

    /// Takes note that the writer of a log will write nothing up to a timestamp after the first
    /// `head` writes.
    pub(super) fn promised(&mut self, id: LogId, head: u64, upto: Timestamp) {
        if let Some(log) = self.logs.get_mut(&id)
            && upto > log.promise.1
        {
            log.complete = log.complete();
            log.promise = (head, upto);
        }
    }

    /// Takes note of how many writes the writer of a log has.
    pub(super) fn hear_head(&mut self, id: LogId, head: u64) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.head = log.head.max(head);
        }
    }

    /// The stream of a log is alive, though it brought nothing new.
    pub(super) fn progressed(&mut self, id: LogId, now: Now) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.progress_us = now.mono_us;
        }
    }

    /// A pull is under way.
    pub(super) fn pull_sent(&mut self, id: LogId, from: MemberId, now: Now) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.pull = Some(PullState {
                from,
                sent_us: now.mono_us,
            });
        }
    }

    /// A pull has been answered.
    pub(super) fn pull_answered(&mut self, id: LogId) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.pull = None;
        }
    }

    /// Seals the earlier logs of the own cohort, now that the own log begins.
    pub(super) fn seal_earlier(&mut self, cohort: Option<CohortId>) {
        let first = LogId {
            incarnation: 0,
            ..self.own
        };
        let by = self.own.incarnation;
        for (_, log) in self.logs.range_mut(first..self.own) {
            let more = log.received > log.seal.map_or(0, |s| s.upto);
            if more && Some(log.cohort) == cohort {
                log.seal = Some(Seal {
                    by,
                    upto: log.received,
                });
                log.dirty = true;
            }
        }
    }

    /// Takes note of a seal, unless one that reaches further is known.
    pub(super) fn learn_seal(&mut self, id: LogId, seal: Seal) {
        if let Some(log) = self.logs.get_mut(&id)
            && log.seal.is_none_or(|known| known.upto < seal.upto)
        {
            log.seal = Some(seal);
            log.dirty = true;
        }
    }

    /// Cuts the index down to the newest `share` dots of each log.
    pub(super) fn cut_index(&mut self, share: u64) {
        for log in self.logs.values_mut().filter(|log| log.indexed() > share) {
            log.indexed_from = log.applied - share;
            log.dirty = true;
        }
    }

    /// Takes note that a log's index has been dropped up to a seq.
    pub(super) fn pruned(&mut self, id: LogId, upto: u64) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.pruned = upto;
            log.indexed_from = log.indexed_from.max(upto);
            log.dirty = true;
        }
    }

    /// The keys of a log's writes up to a seq are not known here: nobody can pull those.
    pub(super) fn unindex(&mut self, id: LogId, upto: u64) {
        if let Some(log) = self.logs.get_mut(&id) {
            log.indexed_from = upto;
        }
    }

    /// Takes note that a snapshot brought a log up to where its sender was. True if that is further
    /// than it was here.
    pub(super) fn adopt(&mut self, report: &LogReport, cohort: CohortId, now: Now) -> bool {
        let new = || Log::new(cohort, now);
        let log = self.logs.entry(report.log).or_insert_with(new);
        let further = report.applied > log.received;
        if further {
            log.received = report.applied;
            log.indexed_from = report.applied;
        }
        log.stable = log.stable.max(report.stable);
        log.pruned = log.pruned.max(log.stable);
        log.progress_us = now.mono_us;
        log.pull = None;
        log.dirty = true;
        further
    }

    /// Passes over the writes of a log that were everywhere once and are here no more.
    pub(super) fn pass_over_lost(&mut self, id: LogId) {
        if let Some(log) = self.logs.get_mut(&id) {
            (log.received, log.indexed_from) = (log.stable, log.stable);
            log.dirty = true;
        }
    }

    /// The timestamp up to which every write of every log is here.
    pub(super) fn complete(&self) -> Timestamp {
        // Open logs are tracked from their writer's first word on, closed ones until finished.
        let least = self.logs.values().map(Log::complete).min();
        least.unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;

//! Reads that the fast path could not answer: the newest version is not shown yet, or the
//! replica lacks what the client has seen and must get it first.
//!
//! A read that waits is looked at again when the first thing that it lacks may be here, not
//! whenever something else is: many may wait, with many entries each.

use super::super::context::Context;
use super::super::ids::LogId;
use super::super::limits::{Bound, met};
use super::super::marks::Marks;
use super::super::op::{Answer, Consistency, Missing, Refusal};
use super::super::reads::{self, Lookup};
use super::super::slots::Slot;
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::super::version::Key;
use super::{Event, Replica};
use std::collections::{BTreeMap, BTreeSet};

/// Entries of a context that one read may have to count as one: more take more memory, and count
/// as more reads.
const ENTRIES_OF_ONE: usize = 64;

/// A read that waits for missing writes.
struct Waiting<T> {
    ticket: T,
    key: Key,
    context: Context,
    until_us: u64,
    /// The first write that it lacks; `None` when something else is in the way.
    lacks: Option<(LogId, u64)>,
}

impl<T> Waiting<T> {
    /// As how many reads it counts.
    fn weight(&self) -> usize {
        1 + self.context.len() / ENTRIES_OF_ONE
    }
}

/// The reads that wait.
pub(super) struct Stalled<T> {
    reads: BTreeMap<u64, Waiting<T>>,
    /// What they count together.
    weight: usize,
    next: u64,
    /// By the write that they lack.
    lacking: BTreeSet<(LogId, u64, u64)>,
    /// The reads that wait for something other than a write.
    others: BTreeSet<u64>,
    /// By the time when they have waited long enough.
    ends: BTreeSet<(u64, u64)>,
    /// Something moved that any of them may have waited for.
    any_may_go: bool,
    /// Somebody was asked for logs that are not known here, since the last tick.
    asked: bool,
    /// How many wait has changed, since this was last asked for.
    moved: bool,
}

impl<T> Default for Stalled<T> {
    fn default() -> Self {
        Self {
            reads: BTreeMap::new(),
            weight: 0,
            next: 0,
            lacking: BTreeSet::new(),
            others: BTreeSet::new(),
            ends: BTreeSet::new(),
            any_may_go: false,
            asked: false,
            moved: false,
        }
    }
}

impl<T> Stalled<T> {
    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// How many reads wait.
    pub(super) fn len(&self) -> usize {
        self.reads.len()
    }

    /// Something other than logs moved: each may be answered now.
    pub(super) fn any_may_go(&mut self) {
        self.any_may_go = true;
    }

    fn add(&mut self, read: Waiting<T>) {
        let id = self.next;
        self.next += 1;
        match read.lacks {
            Some((log, need)) => self.lacking.insert((log, need, id)),
            None => self.others.insert(id),
        };
        self.ends.insert((read.until_us, id));
        self.moved = true;
        self.weight += read.weight();
        self.reads.insert(id, read);
    }

    fn take(&mut self, id: u64) -> Option<Waiting<T>> {
        let read = self.reads.remove(&id)?;
        self.moved = true;
        self.weight -= read.weight();
        match read.lacks {
            Some((log, need)) => self.lacking.remove(&(log, need, id)),
            None => self.others.remove(&id),
        };
        self.ends.remove(&(read.until_us, id));
        Some(read)
    }

    /// The reads that lack a write of a log up to this seq.
    fn lacking(&self, log: LogId, upto: u64) -> impl Iterator<Item = u64> {
        let found = self.lacking.range((log, 0, 0)..=(log, upto, u64::MAX));
        found.map(|(_, _, id)| *id)
    }

    /// The logs of which something is lacking.
    fn logs(&self) -> Vec<LogId> {
        let (mut logs, mut from) = (Vec::new(), None);
        let all = |from: Option<LogId>| match from {
            None => self.lacking.first(),
            Some(log) => self.lacking.range((log, u64::MAX, u64::MAX)..).next(),
        };
        while let Some((log, _, _)) = all(from) {
            logs.push(*log);
            from = Some(*log);
        }
        logs
    }

    /// The reads that have waited long enough.
    fn over(&self, now_us: u64) -> impl Iterator<Item = u64> {
        let ends = self.ends.iter();
        ends.take_while(move |(until, _)| *until <= now_us && !broken(Rule::WaitForever))
            .map(|(_, id)| *id)
    }

    /// All of them, to be asked again.
    pub(super) fn into_events(self) -> Vec<Event<T>> {
        let event = |read: Waiting<T>| Event::Read {
            ticket: read.ticket,
            key: read.key,
            context: read.context,
            consistency: Consistency::Causal,
            until_us: read.until_us,
        };
        self.reads.into_values().map(event).collect()
    }
}

/// The first write that a read lacks, from why it got no answer.
fn lacks(refusal: Option<&Refusal>) -> Option<(LogId, u64)> {
    match refusal {
        Some(Refusal::Short(missing)) => missing.first().map(|m| (m.log, m.need)),
        _ => None,
    }
}

impl<S: Store, T> Replica<S, T> {
    pub(super) fn read(
        &mut self,
        ticket: T,
        key: Key,
        context: Context,
        consistency: Consistency,
        until_us: u64,
    ) {
        let marks = self.marks();
        match self.look(&marks, &key, &context, consistency) {
            Ok(answer) => self.answer(ticket, answer),
            Err(refusal) if until_us <= self.now.mono_us => self.refuse(ticket, refusal),
            Err(refusal) if self.stalled.weight >= self.limits.stalled_reads => {
                met(Bound::StalledReads);
                self.refuse(ticket, refusal);
            }
            Err(refusal) => {
                self.fetch(marks.missing(Slot::of(&key), &context));
                self.stalled.add(Waiting {
                    ticket,
                    key,
                    context,
                    until_us,
                    lacks: lacks(Some(&refusal)),
                });
            }
        }
    }

    /// The answer, or why there is none yet.
    fn look(
        &self,
        marks: &Marks,
        key: &Key,
        context: &Context,
        consistency: Consistency,
    ) -> Result<Answer, Refusal> {
        if Some(marks.view().partition_of_key(key)) != self.partition {
            return Ok(Answer::Refused(Refusal::NotMine));
        }
        match reads::lookup(&self.store, marks, key, context, consistency) {
            Ok(Lookup::Answer(read)) => Ok(Answer::Read(read)),
            Ok(Lookup::Hidden) => self.look_behind(marks, key, context, consistency),
            Ok(Lookup::Short(missing)) => Err(Refusal::Short(missing)),
            Ok(Lookup::OldView) => Err(Refusal::OldView {
                have: self.views.view.number,
                need: context.view,
            }),
            Ok(Lookup::Recovering(reason)) => Err(Refusal::Recovering(reason)),
            Err(error) => Ok(Answer::Refused(Refusal::Storage(error.to_string()))),
        }
    }

    /// The version before one that is not shown yet.
    fn look_behind(
        &self,
        marks: &Marks,
        key: &Key,
        context: &Context,
        consistency: Consistency,
    ) -> Result<Answer, Refusal> {
        let stale = !marks.covers(Slot::of(key), context) || marks.recovering.is_some();
        let (shown, stale) = match (self.hidden.shown(key, context), consistency) {
            (Ok(shown), _) => (shown, stale),
            (Err(_), Consistency::Eventual) => {
                let unseen = Context::default();
                (self.hidden.shown(key, &unseen).ok().flatten(), true)
            }
            (Err(dot), Consistency::Causal) => {
                let have = marks.logs.get(&dot.log).map_or(0, |l| l.exposed);
                return Err(Refusal::Short(vec![Missing {
                    log: dot.log,
                    have,
                    need: dot.seq,
                    holders: marks.peers.iter().map(|p| p.member).collect(),
                }]));
            }
        };
        let read = reads::answer(marks, shown.cloned(), context, stale);
        Ok(Answer::Read(read))
    }

    /// Asks for what a read lacks.
    fn fetch(&mut self, missing: Vec<Missing>) {
        for missing in missing {
            self.fetch_log(missing.log);
        }
    }

    fn fetch_log(&mut self, log: LogId) {
        // Nobody may hear of this incarnation before the disk knows it.
        if !self.opened {
            return;
        }
        if self.logs.contains(log) {
            self.pull(log);
        } else if !std::mem::replace(&mut self.stalled.asked, true) {
            // Only a replica can vouch for a log: a client could have made it up.
            self.send_gossip_to(self.peers.ids().collect(), true);
        }
    }

    /// Answers those reads that waited for a log to get as far as it is now.
    pub(super) fn retry_stalled(&mut self, logs: impl IntoIterator<Item = LogId>) {
        if self.stalled.len() == 0 {
            return;
        }
        let mut found = BTreeSet::new();
        for log in logs {
            let upto = self.logs.applied(log);
            found.extend(self.stalled.lacking(log, upto));
        }
        self.look_again(found);
    }

    /// Looks at some of the reads that wait once more, and ends those that have waited long enough.
    fn look_again(&mut self, ids: BTreeSet<u64>) {
        if ids.is_empty() {
            return;
        }
        let marks = self.marks();
        let now_us = self.now.mono_us;
        for id in ids {
            let Some(mut read) = self.stalled.take(id) else {
                continue;
            };
            match self.look(&marks, &read.key, &read.context, Consistency::Causal) {
                Ok(answer) => self.answer(read.ticket, answer),
                Err(refusal) if read.until_us <= now_us && !broken(Rule::WaitForever) => {
                    self.refuse(read.ticket, refusal);
                }
                Err(refusal) => {
                    read.lacks = lacks(Some(&refusal));
                    self.stalled.add(read);
                }
            }
        }
    }

    /// Looks after the reads that wait: ends those that have waited long enough, and asks for what
    /// the others lack.
    pub(super) fn tend_reads(&mut self) {
        self.stalled.asked = false;
        if self.stalled.len() == 0 {
            return;
        }
        let found = match std::mem::take(&mut self.stalled.any_may_go) {
            true => self.stalled.reads.keys().copied().collect(),
            false => {
                let over = self.stalled.over(self.now.mono_us);
                over.chain(self.stalled.others.iter().copied()).collect()
            }
        };
        self.look_again(found);
        for log in self.stalled.logs() {
            self.fetch_log(log);
        }
    }
}

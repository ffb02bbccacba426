//! Reads that the fast path could not answer: the newest version is not shown yet, or the
//! replica lacks what the client has seen and must get it first.

use super::super::context::Context;
use super::super::marks::Marks;
use super::super::op::{Answer, Consistency, Missing, Refusal};
use super::super::reads::{self, Lookup};
use super::super::slots::Slot;
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::super::version::Key;
use super::{Event, Replica};

/// Reads that wait, at most.
const MAX_STALLED: usize = 10_000;

/// A read that waits for missing writes.
pub(super) struct Stalled<T> {
    ticket: T,
    key: Key,
    context: Context,
    until_us: u64,
}

impl<T> Stalled<T> {
    /// The read, to be asked again.
    pub(super) fn into_event(self) -> Event<T> {
        Event::Read {
            ticket: self.ticket,
            key: self.key,
            context: self.context,
            consistency: Consistency::Causal,
            until_us: self.until_us,
        }
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
        match self.look(&key, &context, consistency) {
            Ok(answer) => self.answer(ticket, answer),
            Err(Some(refusal))
                if until_us <= self.now.mono_us || self.stalled.len() >= MAX_STALLED =>
            {
                self.refuse(ticket, refusal);
            }
            Err(_) => {
                let read = Stalled {
                    ticket,
                    key,
                    context,
                    until_us,
                };
                self.fetch_missing(&read.key, &read.context);
                self.stalled.push(read);
                self.marks_changed = true;
            }
        }
    }

    /// The answer, or why there is none yet.
    fn look(
        &self,
        key: &Key,
        context: &Context,
        consistency: Consistency,
    ) -> Result<Answer, Option<Refusal>> {
        let marks = self.marks();
        if Some(marks.view().partition_of_key(key)) != self.partition {
            return Ok(Answer::Refused(Refusal::NotMine));
        }
        match reads::lookup(&self.store, &marks, key, context, consistency) {
            Ok(Lookup::Answer(read)) => Ok(Answer::Read(read)),
            Ok(Lookup::Hidden) => self.look_behind(&marks, key, context, consistency),
            Ok(Lookup::Short(missing)) => Err(Some(Refusal::Short(missing))),
            Ok(Lookup::OldView) => Err(Some(Refusal::OldView {
                have: self.views.view.number,
                need: context.view,
            })),
            Ok(Lookup::Recovering(reason)) => Err(Some(Refusal::Recovering(reason))),
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
    ) -> Result<Answer, Option<Refusal>> {
        let stale = !marks.covers(Slot::of(key), context) || marks.recovering.is_some();
        let (shown, stale) = match (self.accept.shown(key, context), consistency) {
            (Ok(shown), _) => (shown, stale),
            (Err(_), Consistency::Eventual) => {
                let unseen = Context::default();
                (self.accept.shown(key, &unseen).ok().flatten(), true)
            }
            (Err(dot), Consistency::Causal) => {
                let have = marks.logs.get(&dot.log).map_or(0, |l| l.exposed);
                return Err(Some(Refusal::Short(vec![Missing {
                    log: dot.log,
                    have,
                    need: dot.seq,
                    holders: marks.peers.iter().map(|p| p.member).collect(),
                }])));
            }
        };
        let read = reads::answer(marks, shown.cloned(), context, stale);
        Ok(Answer::Read(read))
    }

    fn fetch_missing(&mut self, key: &Key, context: &Context) {
        // Nobody may hear of this incarnation before the disk knows it.
        if !self.opened {
            return;
        }
        let mut unknown = false;
        for missing in self.marks().missing(Slot::of(key), context) {
            if self.logs.contains_key(&missing.log) {
                self.pull(missing.log);
            } else {
                unknown = true;
            }
        }
        // Only a replica can vouch for a log: a client could have made it up.
        if unknown {
            self.send_gossip_to(self.peer_ids.clone(), true);
        }
    }

    /// Answers the reads that can be answered now.
    pub(super) fn retry_stalled(&mut self) {
        if self.stalled.is_empty() {
            return;
        }
        for read in std::mem::take(&mut self.stalled) {
            match self.look(&read.key, &read.context, Consistency::Causal) {
                Ok(answer) => self.answer(read.ticket, answer),
                Err(_) => self.stalled.push(read),
            }
        }
        self.marks_changed = true;
    }

    /// Ends the reads that have waited long enough.
    pub(super) fn expire_reads(&mut self) {
        if self.stalled.is_empty() {
            return;
        }
        self.retry_stalled();
        for read in std::mem::take(&mut self.stalled) {
            if read.until_us > self.now.mono_us || broken(Rule::WaitForever) {
                self.fetch_missing(&read.key, &read.context);
                self.stalled.push(read);
                continue;
            }
            match self.look(&read.key, &read.context, Consistency::Causal) {
                Ok(answer) => self.answer(read.ticket, answer),
                Err(refusal) => {
                    let refusal = refusal.unwrap_or_else(|| Refusal::Short(Vec::new()));
                    self.refuse(read.ticket, refusal);
                }
            }
        }
    }
}

//! Client writes: taken without waiting for their past, shown and acknowledged when a second
//! replica has them.
//!
//! With no live peer, or after [`DEGRADE_US`], a write is shown with one copy and the answer says
//! so. Until then readers get the version before it (`hidden.rs`).

use super::super::clock::Timestamp;
use super::super::context::Context;
use super::super::ids::Dot;
use super::super::limits::{Bound, met};
use super::super::op::{Answer, Declined, Refusal, Written};
use super::super::reads;
use super::super::record;
use super::super::route::{ATTEMPT_US, TOTAL_US};
use super::super::slots::Slot;
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::version::{Key, Stamp, Version};
use super::super::views::Home;
use super::hidden::Before;
use super::{Replica, TICK_US};
use bytes::Bytes;
use std::collections::VecDeque;

/// How long a write waits for a second copy, in microseconds.
pub const DEGRADE_US: u64 = 100_000;

/// A client is told after this long that its write is not on disk yet, in microseconds.
pub const GIVE_UP_US: u64 = 800_000;

// A client that waits for a second copy hears of the first before its attempt ends, and in any case
// before its time is up.
const _: () = assert!(DEGRADE_US + 2 * TICK_US < ATTEMPT_US && ATTEMPT_US < GIVE_UP_US);
const _: () = assert!(GIVE_UP_US + 2 * TICK_US < TOTAL_US);

/// Writes that were taken and are not acknowledged yet, by seq.
pub(super) struct Accept<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Orphaned writes, by seq, and their timestamps.
    orphans: VecDeque<(u64, Timestamp)>,
}

struct Waiting<T> {
    seq: u64,
    /// `None` when the client was told not to wait.
    ticket: Option<T>,
    context: Context,
    stamp: Stamp,
    wall_ms: u64,
    created: bool,
    since_us: u64,
}

impl<T> Default for Accept<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            orphans: VecDeque::new(),
        }
    }
}

impl<T> Accept<T> {
    /// Whether no client waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The writes that clients wait for, in order.
    pub(super) fn seqs(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().map(|w| w.seq)
    }
}

impl<S: Store, T> Replica<S, T> {
    pub(in crate::protocol) fn answer(&mut self, ticket: T, answer: Answer) {
        self.effects.answer(ticket, answer);
    }

    pub(super) fn refuse(&mut self, ticket: T, refusal: Refusal) {
        self.answer(ticket, Answer::Refused(refusal));
    }

    pub(super) fn write(
        &mut self,
        ticket: T,
        key: Key,
        value: Option<Bytes>,
        stamp: Stamp,
        context: Context,
        orphan: Option<u64>,
    ) {
        let slot = Slot::of(&key);
        let stamped = Some(stamp).filter(|_| orphan.is_none());
        if let Some(refusal) = self.refusal_for_write(slot, stamped, value.is_none()) {
            return self.refuse(ticket, refusal);
        }
        let place = record::slot_key(slot, &key);
        let current = match self.current(&place) {
            Ok(current) => current,
            Err(error) => return self.refuse(ticket, Refusal::Storage(error.to_string())),
        };
        let before = match self.shown_before(&place, &key, current.as_ref()) {
            Ok(before) => before,
            Err(error) => return self.refuse(ticket, Refusal::Storage(error.to_string())),
        };
        self.clock.observe(stamp.ts);
        if orphan.is_some()
            && let Some(why) = self.declines(slot, current.as_ref(), stamp)
        {
            let read = reads::answer(&self.marks(), current, &context, false);
            return self.answer(ticket, Answer::Declined(why, read.context));
        }
        let created = current.as_ref().is_none_or(|c| c.value.is_none());
        // The client may have asked another replica for this write before, and that one sent it
        // here since. Then the delete finds its own tombstone: that is no reason to say that there
        // is nothing to delete.
        let again = current.as_ref().is_some_and(|c| c.stamp == stamp);
        // An older value, which the delete undoes, may still come: from another replica, or from
        // another node that was given up.
        let counts_anyway = orphan.is_some() && !broken(Rule::DropOrphanedDelete);
        let absent = value.is_none() && created && !again && !counts_anyway;
        if absent && self.nothing_to_delete(slot, current.as_ref(), &context) {
            let read = reads::answer(&self.marks(), current, &context, false);
            return self.answer(ticket, Answer::NothingToDelete(read.context));
        }
        let dot = Dot {
            log: self.log,
            seq: self.head() + 1,
        };
        let mut context = context;
        self.prune(&mut context);
        let wall_ms = orphan.unwrap_or_else(|| self.clock.wall_ms(self.now));
        if orphan.is_some() {
            self.accept.orphans.push_back((dot.seq, stamp.ts));
        }
        let version = Version {
            key: key.clone(),
            value,
            stamp,
            dot,
            wall_ms,
            deps: context.clone(),
        };
        // Without peers too: the store has the write before `Persisted` says so.
        self.hidden.hide(&version, before, self.now);
        self.stage_dot(dot, key);
        self.stage_version(place, version.clone(), current.as_ref());
        self.tail.push(version, !self.is_alone());
        self.accept.waiting.push_back(Waiting {
            seq: dot.seq,
            ticket: Some(ticket),
            context,
            stamp,
            wall_ms,
            created,
            since_us: self.now.mono_us,
        });
    }

    /// The versions that readers may see of a key before a write hides them: the one that is
    /// durable here, and one that is on its way to the disk, with its batch.
    fn shown_before(
        &self,
        place: &Bytes,
        key: &Key,
        current: Option<&Version>,
    ) -> Result<Before, StoreError> {
        if self.hidden.hides(key) {
            return Ok(Before::default());
        }
        // Of the own log all is durable that is shown.
        let of_others = current.filter(|c| c.dot.log != self.log && !broken(Rule::ShowInFlight));
        match (self.staging.batch_of(place), of_others) {
            (Some(no), Some(version)) => {
                let shown = record::load_at(&self.store, place)?;
                let coming = Some((no, version.clone()));
                Ok(Before { shown, coming })
            }
            _ => Ok(Before {
                shown: current.filter(|c| !self.is_unexposed(c.dot)).cloned(),
                coming: None,
            }),
        }
    }

    fn refusal_for_write(
        &self,
        slot: Slot,
        stamp: Option<Stamp>,
        deletes: bool,
    ) -> Option<Refusal> {
        let deletes = deletes || broken(Rule::PutsTakeLastRoom);
        if let Some(why) = self.room.lacks(deletes) {
            return Some(Refusal::DiskFull(why.to_owned()));
        }
        if Some(self.views.view.partition(slot)) != self.partition {
            return Some(Refusal::NotMine);
        }
        if let Some(reason) = self.recovery_reason()
            && !broken(Rule::WriteUncompared)
        {
            return Some(Refusal::Recovering(reason));
        }
        if let Some(stamp) = stamp.filter(|s| self.clock.is_beyond(self.now, s.ts)) {
            let off_ms = stamp.ts.ms().saturating_sub(self.clock.wall_ms(self.now));
            return Some(Refusal::ClockOff {
                off_ms: i64::try_from(off_ms).unwrap_or(i64::MAX),
            });
        }
        let given = self.promises.given();
        if stamp.is_some_and(|s| s.ts <= given) && !broken(Rule::BreakPromise) {
            return Some(Refusal::StampTooOld(self.clock.now()));
        }
        if self.accept.waiting.len() >= self.limits.waiting_writes {
            met(Bound::WaitingWrites);
            return Some(Refusal::Overloaded);
        }
        if self.disk_is_behind() {
            return Some(Refusal::Overloaded);
        }
        None
    }

    /// Why an orphaned write does not count any more, if it does not.
    fn declines(&self, slot: Slot, current: Option<&Version>, stamp: Stamp) -> Option<Declined> {
        let is_forgotten = self.forgotten.may_cover(slot, stamp.ts);
        match current {
            Some(current) if current.stamp >= stamp => Some(Declined::Newer),
            Some(_) => None,
            None if is_forgotten && !broken(Rule::TakeDeleted) => Some(Declined::Deleted),
            None => None,
        }
    }

    /// Everything older than this has been taken, but for orphaned writes that somebody may still
    /// lack.
    pub(super) fn orphans_from(&self) -> Option<Timestamp> {
        let orphans = self.accept.orphans.iter().map(|(_, ts)| *ts).min();
        orphans.filter(|_| !broken(Rule::PassOrphans))
    }

    /// Forgets the orphaned writes that all replicas have.
    pub(super) fn let_orphans_go(&mut self) {
        let stable = self.logs.own().map_or(0, |l| l.stable);
        let orphans = &mut self.accept.orphans;
        while orphans.pop_front_if(|(seq, _)| *seq <= stable).is_some() {}
    }

    /// Whether a delete has nothing to do: no value is here, and nothing that the client has
    /// seen could bring one.
    fn nothing_to_delete(&self, slot: Slot, current: Option<&Version>, context: &Context) -> bool {
        self.recovery_reason().is_none()
            && current.is_none_or(|c| !self.is_unexposed(c.dot))
            && self.marks().covers(slot, context)
    }

    /// Drops what is stable from a context.
    pub(super) fn prune(&self, context: &mut Context) {
        context.view = context.view.max(self.views.view.number);
        if context.is_empty() {
            return;
        }
        context.retain(|log, seq| match self.logs.get(log) {
            Some(l) if broken(Rule::PruneEarly) => seq > l.applied,
            Some(l) => seq > l.stable,
            None if self.is_finished(log) => false,
            None => match self.views.home(log) {
                Home::Cohort(id) => !self.strangers.is_stable(log, id, seq),
                Home::Over | Home::Ahead => true,
            },
        });
        self.fold(context);
    }

    /// Shows and acknowledges the writes that have their second copy, or must do without.
    pub(super) fn expose(&mut self) {
        let Some(own) = self.logs.own().copied() else {
            return;
        };
        // A peer that only follows may be turned away again: its copy is no second copy.
        let second = self.replicas().map(|p| p.applied(self.log)).max();
        let upto = match second {
            Some(_) if broken(Rule::ShowOneCopy) => own.applied,
            Some(second) if self.replicas().any(|p| p.serving && p.alive(self.now)) => {
                let late = self.now.mono_us.saturating_sub(DEGRADE_US);
                // Also those for which no client waits: the replica is not idle while one is
                // hidden.
                second.max(self.hidden.since(late))
            }
            _ => own.applied,
        };
        // A peer may have it on its disk before this replica has.
        let upto = if broken(Rule::ShowUndurable) {
            upto
        } else {
            upto.min(own.applied)
        };
        if upto > own.exposed {
            self.logs.expose(upto);
            self.hidden.show(upto);
            self.retry_stalled([self.log]);
        }
        while let Some(waiting) = self.accept.waiting.pop_front_if(|w| w.seq <= upto) {
            self.acknowledge(waiting);
        }
    }

    /// Answers clients whose writes a slow disk has not stored in time: what becomes of them is
    /// open.
    pub(super) fn give_up_writes(&mut self) {
        let late = self.now.mono_us.saturating_sub(GIVE_UP_US);
        let queue = self.accept.waiting.iter_mut();
        let tickets: Vec<T> = queue
            .take_while(|w| w.since_us <= late)
            .filter_map(|w| w.ticket.take())
            .collect();
        for ticket in tickets {
            self.refuse(ticket, Refusal::Undecided);
        }
    }

    /// The writes of the own log that readers are not shown yet, by key.
    pub fn hidden(&self) -> impl Iterator<Item = &Version> {
        self.hidden.iter()
    }

    /// The clients whose writes are not acknowledged yet: what becomes of those is open.
    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = T> + use<S, T> {
        let waiting = std::mem::take(&mut self.accept.waiting);
        waiting.into_iter().filter_map(|w| w.ticket)
    }

    fn acknowledge(&mut self, waiting: Waiting<T>) {
        let Some(ticket) = waiting.ticket else {
            return;
        };
        let others = self.replicas();
        let copies = 1 + others
            .filter(|p| p.applied(self.log) >= waiting.seq)
            .count();
        let mut context = waiting.context;
        self.prune(&mut context);
        context.clock = context.clock.max(waiting.stamp.ts);
        if self.logs.own().is_some_and(|l| waiting.seq > l.stable) {
            context.see(self.log, waiting.seq);
        }
        self.fold(&mut context);
        let written = Written {
            context,
            wall_ms: waiting.wall_ms,
            copies: u8::try_from(copies).unwrap_or(u8::MAX),
            created: waiting.created,
        };
        self.answer(ticket, Answer::Written(written));
    }
}

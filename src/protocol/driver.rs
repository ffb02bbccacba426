//! A replica from the start of its process to the end, through all views and restarts.
//!
//! A [`Replica`] lives under one view, with one log. When newer views concern it, or a peer knows a
//! later incarnation of this node than its own, it has to be opened again. The driver sees to that:
//! it lets what is on its way come to an end, holds the writes that come meanwhile, opens the next
//! replica and gives it what the last one knew, the reads that waited and the writes that were
//! held.
//!
//! The owner of a driver brings events in ([`Driver::step`], [`Driver::learn`]), carries out the
//! effects that [`Driver::flush`] hands out, and then lets it go over if it is time
//! ([`Driver::go_over`]).

use super::clock::Clock;
use super::ids::LogId;
use super::limits::{Bound, met};
use super::marks::Marks;
use super::message::Message;
use super::op::{Answer, Refusal};
use super::replica::{Effect, Event, Now, OpenError, Replica, Setup, TICK_US};
use super::route::{ATTEMPT_US, STALL_US};
use super::store::Store;
use super::teeth::{Rule, broken};
use super::views::Views;
use std::collections::VecDeque;
use std::sync::Arc;

/// How long a write waits for the replica to be opened again, in microseconds. It is refused then,
/// for certain, so that there is time to ask another replica.
pub const HELD_US: u64 = STALL_US;

// A node that sent the write on hears of the refusal before it has to take the silence for a maybe.
const _: () = assert!(HELD_US + 2 * TICK_US < ATTEMPT_US);

/// A replica, the views under which it will be opened again, and the writes that wait for that.
pub struct Driver<S, T> {
    replica: Replica<S, T>,
    store: S,
    clock: Arc<Clock>,
    /// Newer views, under which the replica is opened again as soon as it is idle.
    next: Option<Arc<Views>>,
    /// Writes that wait for the replica to be opened again, in the order in which they came.
    held: VecDeque<Held<T>>,
}

/// A write that waits.
struct Held<T> {
    since_us: u64,
    write: Event<T>,
}

/// The replica was opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reopened {
    /// The log that it writes from now on.
    pub log: LogId,
    /// The later incarnation that a peer knew of, if that was the reason; else newer views were.
    pub above: Option<u64>,
}

impl<S: Store + Clone, T> Driver<S, T> {
    /// Opens the replica on what its disk holds.
    ///
    /// # Errors
    /// When the store cannot be read, or holds another node's or another cluster's data.
    pub fn open(setup: Setup, store: S, clock: Arc<Clock>, now: Now) -> Result<Self, OpenError> {
        Ok(Self {
            replica: Replica::open(setup, store.clone(), Arc::clone(&clock), now)?,
            store,
            clock,
            next: None,
            held: VecDeque::new(),
        })
    }

    /// The replica as it is now.
    #[must_use]
    pub fn replica(&self) -> &Replica<S, T> {
        &self.replica
    }

    /// The log that is written now.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.replica.log_id()
    }

    /// Whether the replica is about to be opened again: then nothing new begins.
    #[inline]
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.next.is_some() || self.replica.restart_above().is_some()
    }

    /// Takes one event in. [`Self::flush`] hands out the effects.
    #[inline]
    pub fn step(&mut self, now: Now, event: Event<T>) {
        if self.is_closing() {
            self.step_closing(now, event);
        } else {
            self.replica.step(now, event);
        }
    }

    #[cold]
    fn step_closing(&mut self, now: Now, event: Event<T>) {
        match event {
            write @ Event::Write { .. } => self.hold(now, write),
            // Dropped: the sender repeats messages until they are acknowledged.
            Event::Message { ref message, .. } if !matches!(message, Message::Ack(_)) => {}
            event => {
                self.replica.step(now, event);
                self.refuse_held(now);
            }
        }
    }

    /// Holds a write until the replica is opened again.
    fn hold(&mut self, now: Now, write: Event<T>) {
        self.held.push_back(Held {
            since_us: now.mono_us,
            write,
        });
        if self.held.len() > self.replica.limits().held_writes
            && let Some(last) = self.held.pop_back()
        {
            met(Bound::HeldWrites);
            self.refuse(last, Refusal::Overloaded);
        }
        self.refuse_held(now);
    }

    /// Refuses the writes that have waited long enough, and all of them when the disk has no room
    /// for anything: then it is not known when the replica will be idle.
    fn refuse_held(&mut self, now: Now) {
        if let Some(reason) = self.replica.room().none().map(str::to_owned) {
            for held in std::mem::take(&mut self.held) {
                self.refuse(held, Refusal::DiskFull(reason.clone()));
            }
        }
        let late_us = now.mono_us.saturating_sub(HELD_US);
        while let Some(held) = self.held.pop_front_if(|h| h.since_us <= late_us) {
            self.refuse(held, Refusal::GoingOver);
        }
    }

    fn refuse(&mut self, held: Held<T>, refusal: Refusal) {
        if let Event::Write { ticket, .. } = held.write {
            self.replica.answer(ticket, Answer::Refused(refusal));
        }
    }

    /// Takes newer views over, at once or as soon as the replica is idle.
    pub fn learn(&mut self, views: Arc<Views>) {
        if self.next.is_some() || !self.replica.take_views(&views) {
            self.next = Some(views);
        }
    }

    /// The effects of the events since the last flush, in order. Batches keep ascending numbers
    /// when the replica is opened again.
    #[inline]
    pub fn flush(&mut self) -> Vec<Effect<T>> {
        self.replica.flush()
    }

    /// As [`Self::flush`], but the batch that is gathering stays.
    #[inline]
    pub fn flush_early(&mut self) -> Vec<Effect<T>> {
        self.replica.flush_early()
    }

    /// The marks, if they changed since they were last asked for. Readers are to have them before
    /// the effects of the same flush are carried out: a client that gets an answer may ask again at
    /// once.
    #[inline]
    pub fn changed_marks(&mut self) -> Option<Arc<Marks>> {
        self.replica.changed_marks()
    }

    /// Opens the replica again if that is due and nothing is on its way any more; to be asked after
    /// each flush. `start` gives [a number for this start](Setup::start). The next flush hands out
    /// the effects.
    ///
    /// # Errors
    /// When the store cannot be read. Nothing can be done with the driver then.
    #[inline]
    pub fn go_over(
        &mut self,
        now: Now,
        start: impl FnOnce() -> u64,
    ) -> Result<Option<Reopened>, OpenError> {
        if !self.is_closing() {
            return Ok(None);
        }
        let above = self.replica.restart_above();
        // With a later incarnation known, second copies do not count: peers take nothing from this
        // log.
        let is_over = match above {
            Some(_) => self.replica.is_stored(),
            None => self.replica.is_idle(),
        };
        if !is_over {
            return Ok(None);
        }
        self.open_again(now, start(), above).map(Some)
    }

    #[cold]
    fn open_again(
        &mut self,
        now: Now,
        start: u64,
        above: Option<u64>,
    ) -> Result<Reopened, OpenError> {
        let views = self.next.take().unwrap_or_else(|| self.replica.views());
        let ended = self.replica.succeed(views, start);
        let (store, clock) = (self.store.clone(), Arc::clone(&self.clock));
        self.replica = Replica::open(ended.setup, store, clock, now)?;
        for (ticket, answer) in ended.answers {
            self.replica.answer(ticket, answer);
        }
        let mut held = std::mem::take(&mut self.held);
        if broken(Rule::ForgetHeldWrites) {
            held.clear();
        }
        let writes = held.into_iter().map(|h| h.write);
        for event in ended.reads.into_iter().chain(writes) {
            self.replica.step(now, event);
        }
        let log = self.log_id();
        Ok(Reopened { log, above })
    }
}

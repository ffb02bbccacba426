//! The replica: one node's part in its partition, as a pure state machine.
//!
//! Events go in through [`Replica::step`]; [`Replica::flush`] hands out the effects: batches to
//! persist in order, messages to send, answers to give. A write is shown here and acknowledged
//! only after [`Event::Persisted`] said that it is on disk; peers get it meanwhile, and confirm it
//! when it is on theirs.
//!
//! Owners have the state. Each is the only writer of its own, and notices itself when readers have
//! to be told:
//!
//! ```text
//! cohorts.rs     whose logs are shared, and with whom
//! logs.rs        how far each log is
//! finished.rs    which logs are over
//! peers.rs       the members that share logs, as last heard of
//! beacons.rs     the other members, and what is stable there
//! staging.rs     what is on its way to the disk
//! hidden.rs      writes that are not shown yet, and what readers see instead
//! early.rs       versions that came ahead of their logs
//! gathered.rs    parts of logs that come from several peers
//! promises.rs    timestamps up to which no write is taken any more
//! forgotten.rs   deletes of which nothing is left
//! effects.rs     what is to be done about a step
//! ```
//!
//! Rules decide what becomes of it:
//!
//! ```text
//! open.rs        from a disk to a replica, and from one to the next under newer views
//! recovery.rs    from start to serving
//! compare.rs     whether the disk has what peers count on
//! sharing.rs     who has met whom, who takes nothing more: asked by all rules about logs
//! accept.rs      client writes, and when they may be shown and acknowledged
//! apply.rs       versions and dots that are taken in, and what follows when they are durable
//! index.rs       which keys the dots wrote that somebody may lack
//! stream.rs      the own log to every peer, in order
//! pull.rs        gaps: ranges of a log by its index of unstable dots
//! gather.rs      what no single peer has in full
//! ahead.rs       versions that came ahead of their log
//! snapshot.rs    all keys, for a disk that was lost or is old
//! supply.rs      the chunks of a snapshot for a peer
//! gossip.rs      who is alive, what is stable
//! log_end.rs     when a log is over
//! seals.rs       how far earlier logs are where a later one has begun
//! tombstones.rs  when a delete may be forgotten
//! handover.rs    slots that come here, cohorts that end
//! walls.rs       whose wall clock is right
//! reads.rs       reads that the fast path could not answer
//! publish.rs     the marks that readers see
//! check.rs       what holds after every step
//! ```

mod accept;
mod ahead;
mod apply;
mod beacons;
mod check;
mod cohorts;
mod compare;
mod early;
mod effects;
mod finished;
mod forgotten;
mod gather;
mod gathered;
mod gossip;
mod handover;
mod hidden;
mod index;
mod log_end;
mod logs;
mod open;
mod peers;
mod promises;
mod publish;
mod pull;
mod reads;
mod recovery;
mod seals;
mod sharing;
mod snapshot;
mod staging;
mod stream;
mod supply;
mod tombstones;
mod walls;

pub use accept::{DEGRADE_US, GIVE_UP_US};
pub use open::{Ended, Known, OpenError, Setup, above};
pub use recovery::GIVEN_UP;
pub(super) use seals::fold;

use super::clock::Clock;
pub use super::clock::Now;
use super::context::Context;
use super::ids::{LogId, MemberId, view_of};
use super::limits::Limits;
use super::message::Message;
use super::op::{Answer, Consistency};
use super::room::DiskRoom;
use super::store::{Batch, Store, StoreError};
use super::teeth::is_any_broken;
use super::version::{Key, Stamp};
use super::view::PartitionId;
use super::views::{CohortId, Home, Views};
use bytes::Bytes;
use std::sync::Arc;

/// Time between two [ticks](Event::Tick), in microseconds: a wait ends so much late.
pub const TICK_US: u64 = 20_000;

/// Something that happened. `T` stands for whoever waits for an answer.
#[derive(Debug)]
pub enum Event<T> {
    /// A client's write, stamped by the node that the client talked to.
    Write {
        /// Whom to answer.
        ticket: T,
        /// The key.
        key: Key,
        /// The value; `None` deletes.
        value: Option<Bytes>,
        /// Orders the write among those of its key.
        stamp: Stamp,
        /// What the client has seen.
        context: Context,
        /// As in [`Op::Write`](super::op::Op::Write).
        orphan: Option<u64>,
    },
    /// A client's read that may wait for missing writes until `until_us`.
    Read {
        /// Whom to answer.
        ticket: T,
        /// The key.
        key: Key,
        /// What the client has seen.
        context: Context,
        /// Whether an older answer than the context asks for will do.
        consistency: Consistency,
        /// When the read ends without an answer, in microseconds.
        until_us: u64,
    },
    /// A message of a member, in an incarnation.
    Message {
        /// The sender.
        from: MemberId,
        /// The incarnation in which it was sent.
        incarnation: u64,
        /// What it says.
        message: Message,
    },
    /// All batches up to this number are durable.
    Persisted(u64),
    /// The connection to a member is gone.
    Down(MemberId),
    /// How much room the disk has from now on.
    Room(DiskRoom),
    /// Whether clients are at work here: what can wait goes slower then.
    Busy(bool),
    /// Time has passed. Wanted every [`TICK_US`].
    Tick,
}

/// Something to be done.
#[derive(Debug)]
pub enum Effect<T> {
    /// Make durable, after all earlier batches; then say `Persisted(no)`.
    Persist {
        /// The batch's number.
        no: u64,
        /// What it changes.
        batch: Batch,
    },
    /// Send to each of these members.
    Send {
        /// The receivers.
        to: Vec<MemberId>,
        /// What they are told.
        message: Message,
    },
    /// Answer a client.
    Answer {
        /// Whom to answer.
        ticket: T,
        /// The answer.
        answer: Answer,
    },
    /// Reading the store failed; what was asked for was dropped.
    Fault(StoreError),
    /// All that the view with this number asks of this replica is here.
    Ready(u64),
    /// Everybody has what was written for this cohort: it can go.
    Over(CohortId),
}

/// Says that something is so that cannot be. Debug builds end there; others go on without it.
#[cold]
fn cannot_be(what: &str) {
    debug_assert!(is_any_broken(), "{what}");
}

/// The replica. `S` reads what is durable; `T` stands for whoever waits for an answer.
pub struct Replica<S, T> {
    limits: Limits,
    me: MemberId,
    log: LogId,
    views: Arc<Views>,
    /// `None` for a node that is not in the view yet, or no more.
    partition: Option<PartitionId>,
    cohorts: cohorts::Cohorts,
    clock: Arc<Clock>,
    store: S,
    now: Now,

    logs: logs::Logs,
    finished: finished::FinishedLogs,
    strangers: beacons::Strangers,
    peers: peers::Peers,
    forgotten: forgotten::ForgottenDeletes,

    index: index::Index,
    staging: staging::Staging,

    early: early::EarlyVersions,
    gathering: gathered::Gathering,
    accept: accept::Accept<T>,
    hidden: hidden::HiddenWrites,
    tail: stream::Tail,
    stalled: reads::Stalled<T>,
    recovery: recovery::Recovery,
    snapshots: snapshot::Snapshots,
    leftover: handover::Leftover,
    promises: promises::Promises,
    sweep: tombstones::Sweep,
    gossip: gossip::Schedule,
    walls: walls::Walls,
    room: DiskRoom,
    busy: bool,

    /// The incarnation is on disk: others may hear of it.
    opened: bool,
    /// A later incarnation of this node that a peer knows: the replica has to be opened again above
    /// it.
    restart_above: Option<u64>,
    effects: effects::Effects<T>,
}

impl<S: Store, T> Replica<S, T> {
    /// The views that it goes by.
    #[must_use]
    pub fn views(&self) -> Arc<Views> {
        Arc::clone(&self.views)
    }

    /// What it is bounded by.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The log that this incarnation writes.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.log
    }

    /// The last seq of the own log, durable or not.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.logs.received(self.log)
    }

    /// Takes one event in. What comes of it is handed out by [`Self::flush`].
    pub fn step(&mut self, now: Now, event: Event<T>) {
        self.now = now;
        match event {
            Event::Write {
                ticket,
                key,
                value,
                stamp,
                context,
                orphan,
            } => self.write(ticket, key, value, stamp, context, orphan),
            Event::Read {
                ticket,
                key,
                context,
                consistency,
                until_us,
            } => self.read(ticket, key, context, consistency, until_us),
            Event::Message {
                from,
                incarnation,
                message,
            } => self.message(from, incarnation, message),
            Event::Persisted(no) => self.persisted(no),
            Event::Down(member) => self.down(member),
            Event::Room(room) => self.room = room,
            Event::Busy(busy) => self.busy = busy,
            Event::Tick => self.tick(),
        }
        self.check();
    }

    /// What is to be done about the events since the last flush, in order.
    pub fn flush(&mut self) -> Vec<Effect<T>> {
        self.pump_ahead();
        self.stage_batch();
        self.check();
        self.flush_early()
    }

    /// As [`Self::flush`], but what is to be written goes on gathering.
    pub fn flush_early(&mut self) -> Vec<Effect<T>> {
        self.effects.take()
    }

    fn message(&mut self, from: MemberId, incarnation: u64, message: Message) {
        if !self.opened {
            return;
        }
        if let Message::Beacon(beacon) = message {
            return self.beacon(from, &beacon);
        }
        if let Message::Outdated { known } = message {
            // Above one of a view that is not known here there is nothing that could be opened: the
            // view comes first.
            let highest = view_of(known.saturating_add(open::MOST_ABOVE));
            if known > self.log.incarnation && highest <= self.views.view.number {
                self.restart_above = self.restart_above.max(Some(known));
            }
            return;
        }
        if !self.heard(from, incarnation) {
            return;
        }
        let done = match message {
            Message::Append(append) => self.append(from, incarnation, append),
            Message::Ack(ack) => {
                self.acked(from, ack);
                Ok(())
            }
            Message::Gossip(gossip) => {
                self.gossiped(from, gossip);
                Ok(())
            }
            Message::Pull(pull) => self.pulled(from, pull),
            Message::Range(range) => self.range(from, range),
            Message::SnapshotPull(pull) => self.snapshot_pulled(from, &pull),
            Message::SnapshotChunk(chunk) => self.snapshot_chunk(from, chunk),
            Message::Early(early) => self.handed_early(from, early),
            Message::EarlyKept(kept) => {
                self.early_kept(from, &kept);
                Ok(())
            }
            Message::Beacon(_) | Message::Outdated { .. } => Ok(()),
        };
        self.effects.report(done);
    }

    fn tick(&mut self) {
        // Clients are answered in time even by a disk on which nothing gets.
        self.tend_reads();
        self.give_up_writes();
        self.compare_walls();
        if !self.opened {
            return;
        }
        self.expose();
        self.pump_all();
        self.close_gaps();
        self.snapshot_tick();
        self.follow();
        self.compared();
        self.try_serve();
        let dropped = self.drop_leftover();
        self.effects.report(dropped);
        if self.gossip_due() {
            self.finish_logs();
            let chores = self.settle_for_less();
            self.end_cohorts();
            let chores = chores.and_then(|()| self.settle_early());
            let chores = chores.and_then(|()| self.collect_tombstones());
            let chores = chores.and_then(|()| self.tend_index());
            self.effects.report(chores);
            self.renew_promise();
            self.let_orphans_go();
            self.send_gossip(false);
        }
    }

    /// What follows from a batch being durable.
    fn persisted(&mut self, no: u64) {
        let Some(before) = self.settle_batches(no) else {
            return;
        };
        if !std::mem::replace(&mut self.opened, true) {
            self.recovery.asked(self.now);
            self.send_gossip(true);
        }
        self.refresh_stable();
        self.expose();
        self.pump_all();
        self.send_acks(&before);
        self.retry_stalled(before.into_keys());
        self.pull_on();
        self.try_serve();
    }

    fn is_finished(&self, log: LogId) -> bool {
        if self.logs.contains(log) {
            return false;
        }
        match self.views.home(log) {
            Home::Over => true,
            Home::Ahead => false,
            Home::Cohort(_) => self.has_finished(log),
        }
    }

    /// Whether a log of a cohort that is not over was level everywhere, and is not tracked any
    /// more.
    fn has_finished(&self, log: LogId) -> bool {
        let Home::Cohort(id) = self.views.home(log) else {
            return false;
        };
        !self.logs.contains(log) && self.finished.contains(id, log)
    }

    /// How much room the disk has.
    pub(in crate::protocol) fn room(&self) -> &DiskRoom {
        &self.room
    }

    /// Whether nothing is on its way to the disk.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.staging.is_empty()
    }

    /// Whether nothing is on its way to the disk, no client waits for a write and none is hidden:
    /// the replica can be opened again under newer views.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.is_stored() && self.accept.is_empty() && self.hidden.is_empty()
    }

    /// A later incarnation of this node that a peer knows of, if one does: the replica has to be
    /// opened again above it.
    #[inline]
    #[must_use]
    pub fn restart_above(&self) -> Option<u64> {
        self.restart_above
    }
}

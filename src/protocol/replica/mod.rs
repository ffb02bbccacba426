//! The replica: one node's part in its partition, as a pure state machine.
//!
//! Events go in through [`Replica::step`]; [`Replica::flush`] hands out the effects: batches to
//! persist in order, messages to send, answers to give. A write is shown, acknowledged and
//! replicated only after [`Event::Persisted`] said that it is on disk.
//!
//! ```text
//! accept.rs      client writes, and when they may be shown and acknowledged
//! apply.rs       versions on their way to the store: winner, index, counts, batches
//! stream.rs      the own log to every peer, in order
//! pull.rs        gaps: ranges of a log by its index of unstable dots
//! joint.rs       what no single peer has in full
//! early.rs       versions that came ahead of their log
//! snapshot.rs    all keys, for a disk that was lost or is old
//! gossip.rs      who is alive, what is stable, which logs are finished
//! tombstones.rs  when a delete may be forgotten
//! publish.rs     the marks that readers see
//! recovery.rs    from start to serving
//! ties.rs        whose logs are shared, and with whom
//! handover.rs    slots that come here, cohorts that end
//! reads.rs       reads that the fast path could not answer
//! ```

mod accept;
mod apply;
mod early;
mod gossip;
mod handover;
mod joint;
mod publish;
mod pull;
mod reads;
mod recovery;
mod snapshot;
mod stream;
mod ties;
mod tombstones;

use super::clock::{Clock, Timestamp};
use super::context::Context;
use super::ids::{self, Dot, LogId, MemberId};
use super::marks::{Copied, Elsewhere};
use super::message::{Beacon, Message};
use super::op::{Answer, Consistency};
use super::record::{self, Counts, Finished, Identity};
use super::slots::SlotSet;
use super::store::{Batch, Store, StoreError};
use super::teeth::{Rule, broken};
use super::version::{Key, Stamp};
use super::view::PartitionId;
use super::views::{CohortId, Home, Views};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The time of an event, from both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that never jumps, in microseconds since any moment: for time-outs.
    pub mono_us: u64,
    /// The wall clock in milliseconds since 1970: for timestamps only.
    pub wall_ms: u64,
}

/// Something that happened. `T` stands for whoever waits for an answer.
#[derive(Debug)]
pub enum Event<T> {
    /// A client's write, stamped by the node that it talked to. `value` `None` deletes.
    Write {
        ticket: T,
        key: Key,
        value: Option<Bytes>,
        stamp: Stamp,
        context: Context,
    },
    /// A client's read that may wait for missing writes until `until_us`.
    Read {
        ticket: T,
        key: Key,
        context: Context,
        consistency: Consistency,
        until_us: u64,
    },
    /// A message of a member, in an incarnation.
    Message {
        from: MemberId,
        incarnation: u64,
        message: Message,
    },
    /// All batches up to this number are durable.
    Persisted(u64),
    /// The connection to a member is gone.
    Down(MemberId),
    /// There is no room for writes, and why; or there is room again.
    DiskFull(Option<String>),
    /// Whether clients are at work here: what can wait goes slower then.
    Busy(bool),
    /// Time has passed. Wanted every 20 ms or so.
    Tick,
}

/// Something to be done.
#[derive(Debug)]
pub enum Effect<T> {
    /// Make durable, after all earlier batches; then say `Persisted(no)`.
    Persist {
        no: u64,
        batch: Batch,
    },
    /// Send to each of these members.
    Send {
        to: Vec<MemberId>,
        message: Message,
    },
    Answer {
        ticket: T,
        answer: Answer,
    },
    /// Reading the store failed; what was asked for was dropped.
    Fault(StoreError),
    /// A peer knows an incarnation of this node that is not older: start again above it.
    Restart {
        above: u64,
    },
    /// All that the view with this number asks of this replica is here.
    Ready(u64),
    /// Everybody has what was written for this cohort: it can go.
    Over(CohortId),
}

/// What a replica must know about itself.
#[derive(Debug, Clone)]
pub struct Setup {
    pub me: MemberId,
    /// A replica lives under one view: when those that concern it change, it is opened again.
    pub views: Arc<Views>,
    /// A number for this start, larger than earlier ones as far as the wall clock is right, below
    /// `1 <<` [`ids::START_BITS`].
    pub start: u64,
    /// An incarnation of this member that is known to others; 0 when there is none.
    pub above: u64,
    /// The disk is known to be as this process left it, and served until now.
    pub trusted: bool,
    /// What an earlier replica of this process knew of other partitions.
    pub elsewhere: Arc<Elsewhere>,
}

/// An incarnation above the last one that is known, from a number that ought to be but may not.
///
/// Not simply the next one: a disk that was lost may have held that one, used but never heard of.
#[must_use]
pub fn above(last: u64, wanted: u64) -> u64 {
    if wanted > last {
        wanted
    } else {
        last + 1 + (wanted & 0xffff)
    }
}

/// Why a replica cannot start on a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the data belongs to another node (member {found}, this is {me})")]
    OtherNode { found: MemberId, me: MemberId },
    #[error("the data was written by a cluster that started with another VIEW or K")]
    OtherView,
    #[error("the data was written under view {found}, and the newest one known is {known}")]
    NewerView { found: u64, known: u64 },
    #[error("{0} is in no view")]
    NotInView(MemberId),
}

/// Whether a disk is this node's, and not from a future that it does not know.
fn check_identity(id: &Identity, me: MemberId, views: &Views) -> Result<(), OpenError> {
    let known = views.view.number;
    if id.member != me {
        let found = id.member;
        Err(OpenError::OtherNode { found, me })
    } else if id.fingerprint != views.view.fingerprint() {
        Err(OpenError::OtherView)
    } else if id.view > known {
        let found = id.view;
        Err(OpenError::NewerView { found, known })
    } else {
        Ok(())
    }
}

/// How far one log is here, and what is known of it.
#[derive(Debug, Clone, Copy)]
struct Log {
    cohort: CohortId,
    /// Taken in up to here (prefix-closed), durable or not.
    received: u64,
    /// Durable up to here (prefix-closed).
    applied: u64,
    stable: u64,
    exposed: u64,
    /// The index of dots is complete above this seq.
    indexed_from: u64,
    /// The index below this seq has been dropped.
    pruned: u64,
    /// When `received` last moved, or a pull was last sent.
    progress_us: u64,
    /// The pull that is under way.
    pull: Option<pull::PullState>,
    /// Every write with a timestamp up to here was applied when the last promise came.
    complete: Timestamp,
    /// What the writer last promised: no write up to `.1` after seq `.0`.
    promise: (u64, Timestamp),
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
            dirty: true,
        }
    }

    /// Every write with a timestamp up to here is applied.
    fn complete(&self) -> Timestamp {
        if self.applied >= self.promise.0 {
            self.complete.max(self.promise.1)
        } else {
            self.complete
        }
    }

    /// The writer promised to write nothing up to `upto` after seq `head`.
    fn promised(&mut self, head: u64, upto: Timestamp) {
        if upto > self.promise.1 {
            self.complete = self.complete();
            self.promise = (head, upto);
        }
    }
}

/// The replica. `S` reads what is durable; `T` stands for whoever waits for an answer.
pub struct Replica<S, T> {
    me: MemberId,
    log: LogId,
    views: Arc<Views>,
    /// `None` for a node that is not in the view yet, or no more.
    partition: Option<PartitionId>,
    /// The cohort that it opens logs for.
    own: Option<CohortId>,
    ties: BTreeMap<CohortId, ties::Tie>,
    /// The slots of all ties that are kept here.
    kept: SlotSet,
    /// All others with whom logs are shared.
    peer_ids: Vec<MemberId>,
    /// All other members.
    strangers: Vec<MemberId>,
    clock: Arc<Clock>,
    store: S,
    now: Now,

    logs: BTreeMap<LogId, Log>,
    finished: Arc<BTreeMap<(CohortId, MemberId), Finished>>,
    elsewhere: Arc<Elsewhere>,
    peers: BTreeMap<MemberId, gossip::Peer>,
    counts: Counts,

    staged: apply::Staged,
    batches: VecDeque<apply::PendingBatch>,
    next_batch: u64,
    /// The last batch that is durable.
    durable_batch: u64,
    /// Versions that are not durable yet, by store key.
    inflight: BTreeMap<Bytes, apply::Inflight>,
    inflight_bytes: usize,

    /// Versions that came ahead of their log, by their dots.
    early: BTreeMap<Dot, Key>,
    joint: BTreeMap<LogId, joint::Gathered>,
    accept: accept::Accept<T>,
    tail: stream::Tail,
    stalled: Vec<reads::Stalled<T>>,
    recovery: recovery::Recovery,
    snapshot: Option<snapshot::Fetch>,
    /// What came in snapshots so far.
    copied: Copied,
    leftover: handover::Leftover,
    promises: tombstones::Promises,
    gossip: gossip::Schedule,
    disk_full: Option<String>,
    busy: bool,

    /// The incarnation is on disk: others may hear of it.
    opened: bool,
    effects: Vec<Effect<T>>,
    marks_changed: bool,
}

impl<S: Store, T> Replica<S, T> {
    /// Opens the replica on what its disk holds.
    ///
    /// # Errors
    /// When the store cannot be read, or holds another node's or another cluster's data.
    pub fn open(setup: Setup, store: S, clock: Arc<Clock>, now: Now) -> Result<Self, OpenError> {
        let Setup { me, views, .. } = setup;
        // Nothing of what only a node that is out has may be dropped.
        if !views.members().contains_key(&me) {
            return Err(OpenError::NotInView(me));
        }
        let identity: Option<Identity> = record::load_record(&store, record::IDENTITY)?;
        if let Some(id) = &identity {
            check_identity(id, me, &views)?;
        }
        // Never an incarnation twice, whatever the wall clock says.
        let last = identity.as_ref().map_or(0, |id| id.incarnation);
        let wanted = ids::incarnation(views.view.number, setup.start);
        let log = LogId {
            member: me,
            incarnation: if broken(Rule::ReuseLog) {
                ids::incarnation(views.view.number, 1)
            } else {
                above(last.max(setup.above), wanted)
            },
        };
        let filled = identity.map(|id| id.filled).unwrap_or_default();
        let promised: Timestamp =
            record::load_record(&store, record::PROMISED)?.unwrap_or_default();
        clock.observe_wall(now.wall_ms);
        clock.observe(promised);
        // A wall clock that was set back must not put new writes behind old ones.
        clock.observe(record::load_record(&store, record::CLOCK)?.unwrap_or_default());

        let own = views.current(me);
        let ties = ties::ties(&views, me, &filled);
        let intact = own.is_some_and(|id| ties.get(&id).is_some_and(|t| t.filled.is_some()));
        let mut kept = SlotSet::default();
        ties.values().for_each(|tie| kept.join(&tie.part));
        let peers: BTreeSet<MemberId> = ties.values().flat_map(|t| t.peers.clone()).collect();
        let is_stranger = |m: &MemberId| *m != me && !peers.contains(m);
        let strangers = views.members().into_keys().filter(is_stranger).collect();

        let counts = record::load_record(&store, record::COUNTS)?.unwrap_or_default();
        let mut elsewhere = setup.elsewhere;
        Arc::make_mut(&mut elsewhere).retain(&views);
        let mut replica = Self {
            me,
            log,
            partition: own.map(|id| id.partition),
            own,
            ties,
            kept: kept.clone(),
            peer_ids: peers.iter().copied().collect(),
            strangers,
            views,
            clock,
            logs: BTreeMap::new(),
            finished: Arc::new(record::load_finished(&store)?),
            elsewhere,
            peers: peers
                .into_iter()
                .map(|m| (m, gossip::Peer::default()))
                .collect(),
            counts,
            staged: apply::Staged::default(),
            batches: VecDeque::new(),
            next_batch: 1,
            durable_batch: 0,
            inflight: BTreeMap::new(),
            inflight_bytes: 0,
            early: record::load_early(&store)?,
            joint: BTreeMap::new(),
            accept: accept::Accept::default(),
            tail: stream::Tail::default(),
            stalled: Vec::new(),
            recovery: recovery::Recovery::new(intact, intact && setup.trusted),
            snapshot: None,
            copied: Copied::default(),
            leftover: handover::Leftover::of(&kept),
            promises: tombstones::Promises::new(promised),
            gossip: gossip::Schedule::default(),
            disk_full: None,
            busy: false,
            opened: false,
            effects: Vec::new(),
            marks_changed: true,
            store,
            now,
        };
        replica.load_logs()?;
        replica.track(log);
        replica.start();
        Ok(replica)
    }

    /// Goes on with the logs that the disk knows, and forgets those that are over or no business of this replica.
    fn load_logs(&mut self) -> Result<(), StoreError> {
        for (id, known) in record::load_logs(&self.store)? {
            // How far a log is counts for the slots that were kept: when there are more now, it says nothing.
            let tie = self.tie_of(id);
            let tie = tie.filter(|t| t.filled.is_some() || self.own == Some(t.cohort.id));
            let Some(tie) = tie else {
                self.forget_log(id)?;
                continue;
            };
            let log = Log {
                received: known.applied,
                applied: known.applied,
                stable: known.stable,
                exposed: known.applied,
                indexed_from: known.indexed_from,
                dirty: false,
                ..Log::new(tie.cohort.id, self.now)
            };
            self.logs.insert(id, log);
        }
        let (ties, own) = (&self.ties, self.own);
        let finished = Arc::make_mut(&mut self.finished);
        let mut gone = Vec::new();
        finished.retain(|(cohort, member), _| {
            // Which logs are finished is told by those that are not: without these it says nothing.
            let tie = ties.get(cohort);
            let kept = tie.is_some_and(|t| t.filled.is_some() || own == Some(*cohort));
            if !kept {
                gone.push(record::finished_key(*cohort, *member));
            }
            kept
        });
        for key in gone {
            self.staged.records.delete(key);
        }
        Ok(())
    }

    /// Takes all that the disk has about a log off it.
    fn forget_log(&mut self, id: LogId) -> Result<(), StoreError> {
        let records = &mut self.staged.records;
        records.delete(record::log_key(id));
        let (from, to) = (record::index_key(id, 0), record::index_key(id, u64::MAX));
        self.store.scan(&from, &to, &mut |key, _| {
            records.delete(key);
            true
        })
    }

    /// The views that it goes by.
    #[must_use]
    pub fn views(&self) -> Arc<Views> {
        Arc::clone(&self.views)
    }

    /// The log that this incarnation writes.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.log
    }

    /// The last seq of the own log, durable or not.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.logs.get(&self.log).map_or(0, |l| l.received)
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
            } => self.write(ticket, key, value, stamp, context),
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
            Event::DiskFull(reason) => self.disk_full = reason,
            Event::Busy(busy) => self.busy = busy,
            Event::Tick => self.tick(),
        }
    }

    /// What is to be done about the events since the last flush, in order.
    pub fn flush(&mut self) -> Vec<Effect<T>> {
        self.stage_batch();
        self.flush_early()
    }

    /// As [`Self::flush`], but what is to be written goes on gathering.
    pub fn flush_early(&mut self) -> Vec<Effect<T>> {
        std::mem::take(&mut self.effects)
    }

    fn message(&mut self, from: MemberId, incarnation: u64, message: Message) {
        if !self.opened {
            return;
        }
        if let Message::Beacon(beacon) = message {
            return self.beacon(&beacon);
        }
        if let Message::Outdated { known } = message {
            if known > self.log.incarnation {
                self.effects.push(Effect::Restart { above: known });
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
            Message::Beacon(_) | Message::Outdated { .. } => Ok(()),
        };
        if let Err(error) = done {
            self.effects.push(Effect::Fault(error));
        }
    }

    fn tick(&mut self) {
        // Clients are answered in time even by a disk on which nothing gets.
        self.expire_reads();
        self.give_up_writes();
        if !self.opened {
            return;
        }
        self.expose();
        self.pump_all();
        self.close_gaps();
        self.snapshot_tick();
        self.follow();
        self.try_serve();
        if let Err(error) = self.drop_leftover() {
            self.effects.push(Effect::Fault(error));
        }
        if self.gossip_due() {
            self.finish_logs();
            let chores = self.settle_for_less();
            self.end_cohorts();
            let chores = chores.and_then(|()| self.settle_early());
            let chores = chores.and_then(|()| self.collect_tombstones());
            if let Err(error) = chores.and_then(|()| self.prune_index()) {
                self.effects.push(Effect::Fault(error));
            }
            self.renew_promise();
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
        self.retry_stalled();
        self.pull_on();
        self.try_serve();
    }

    fn send(&mut self, to: MemberId, message: Message) {
        self.effects.push(Effect::Send {
            to: vec![to],
            message,
        });
    }

    fn beacon(&mut self, beacon: &Beacon) {
        self.clock.observe(beacon.clock);
        if self.elsewhere.lacks(beacon) {
            Arc::make_mut(&mut self.elsewhere).join(beacon, &self.views);
            self.marks_changed = true;
        }
    }

    fn is_finished(&self, log: LogId) -> bool {
        if self.logs.contains_key(&log) {
            return false;
        }
        match self.views.home(log) {
            Home::Over => true,
            Home::Ahead => false,
            Home::Cohort(id) => {
                let finished = self.finished.get(&(id, log.member));
                finished.is_some_and(|f| f.contains(log.incarnation))
            }
        }
    }

    /// Whether nothing is on its way to the disk and no client waits for a write: the replica can be opened again.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.staged.is_empty() && self.accept.is_empty()
    }

    /// Takes newer views over, if they change nothing for this replica; false when it has to be opened again.
    pub fn take_views(&mut self, views: &Arc<Views>) -> bool {
        if !self.views.is_same_for(views, self.me) {
            return false;
        }
        self.views = Arc::clone(views);
        let peers = &self.peers;
        let is_stranger = |m: &MemberId| *m != self.me && !peers.contains_key(m);
        self.strangers = views.members().into_keys().filter(is_stranger).collect();
        Arc::make_mut(&mut self.elsewhere).retain(views);
        // Where logs belong that were opened under a view not known so far shows now.
        let open = self.peers.iter().filter_map(|(member, peer)| {
            peer.incarnation.map(|incarnation| LogId {
                member: *member,
                incarnation,
            })
        });
        for log in open.collect::<Vec<_>>() {
            self.track(log);
        }
        self.marks_changed = true;
        true
    }

    /// Ends this replica, once it [is idle](Self::is_idle), so that one under newer views takes its place: how to
    /// open that one, and the reads that it has to go on with.
    #[must_use]
    pub fn succeed(&mut self, views: Arc<Views>, start: u64) -> (Setup, Vec<Event<T>>) {
        let setup = Setup {
            me: self.me,
            views,
            start,
            above: self.log.incarnation,
            trusted: self.recovery.serving,
            elsewhere: Arc::clone(&self.elsewhere),
        };
        let reads = std::mem::take(&mut self.stalled).into_iter();
        let reads = reads.map(reads::Stalled::into_event);
        (setup, reads.collect())
    }
}

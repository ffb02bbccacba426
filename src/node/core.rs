//! What runs the replica: events in, effects out, in order.
//!
//! Its thread takes whatever has gathered in its queue (inbox.rs), steps the replica through it and carries
//! out the effects together: one batch for the committer, the new marks for the readers, then answers
//! and messages. It never waits for the disk or the network. What comes while nothing is queued is done at
//! once, on the thread that brings it.

use super::inbox::{Input, Intake};
use super::member::MIN_FREE_BYTES;
use super::reply::{Outbox, Ticket};
use super::wire::Envelope;
use crate::protocol::clock::Clock;
use crate::protocol::ids::MemberId;
use crate::protocol::marks::Marks;
use crate::protocol::message::Message;
use crate::protocol::op::{Answer, Refusal};
use crate::protocol::replica::{Effect, Event, Now, OpenError, Replica, Setup};
use crate::protocol::store::StoreError;
use crate::protocol::version::Version;
use crate::protocol::views::{CohortId, Views};
use crate::storage::Disk;
use crate::storage::{Committer, Numbered};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};

/// Writes that wait for the replica to be opened again, at most.
const HELD: usize = 16_384;
/// What is done at once has at most this many bytes, and this many versions.
const LIGHT_BYTES: usize = 64 * 1024;
const LIGHT_VERSIONS: usize = 16;
/// A batch of this many operations is a sign of load.
const BUSY_OPS: usize = 24;
/// How long the next batch gathers then, beside the time that things take anyway.
const REST: Duration = Duration::from_micros(600);
/// After the engine has run out of room it is tried again this often.
const FULL_RETRY: Duration = Duration::from_secs(2);
/// Without a client's request for this many ticks the node is not busy.
const QUIET_TICKS: u32 = 10;

/// What the council is to hear of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Report {
    /// All that the view with this number asks of it is here.
    Ready(u64),
    /// Everybody has what was written for this cohort.
    Over(CohortId),
}

/// Sends a message to members: must not block.
pub type Sender = Arc<dyn Fn(&[MemberId], Envelope) + Send + Sync>;

/// Both clocks of this process.
#[derive(Debug, Clone, Copy)]
pub struct Clocks(Instant);

impl Clocks {
    /// Clocks whose monotonic time starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn mono_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn wall_ms(self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    /// Both.
    #[must_use]
    pub fn now(self) -> Now {
        Now {
            mono_us: self.mono_us(),
            wall_ms: self.wall_ms(),
        }
    }
}

/// What the core shares with the rest of the node.
pub struct Shared {
    pub clocks: Clocks,
    pub clock: Arc<Clock>,
    pub disk: Arc<Disk>,
    pub marks: ArcSwap<Marks>,
    /// Requests of clients, those that other nodes send on included.
    pub requests: AtomicU64,
    /// The version of the views in the marks.
    pub version: watch::Sender<u64>,
}

impl Shared {
    /// What a replica that has just been opened shares.
    #[must_use]
    pub fn of(
        replica: &Replica<Arc<Disk>, Ticket>,
        disk: Arc<Disk>,
        clock: Arc<Clock>,
        clocks: Clocks,
    ) -> Self {
        let marks = replica.marks();
        Self {
            clocks,
            clock,
            disk,
            requests: AtomicU64::new(0),
            version: watch::Sender::new(marks.views.version),
            marks: ArcSwap::from_pointee(marks),
        }
    }
}

/// The replica and all that it works with.
pub struct Core {
    replica: Replica<Arc<Disk>, Ticket>,
    setup: Setup,
    shared: Arc<Shared>,
    committer: Committer,
    send: Sender,
    reports: mpsc::Sender<Report>,
    outbox: Outbox,
    /// Newer views, under which the replica is opened again as soon as it is idle.
    next: Option<Arc<Views>>,
    /// Writes that wait for that.
    held: Vec<Event<Ticket>>,
    /// The number of the replica's first batch, less one, in the committer's count.
    base: u64,
    submitted: u64,
    /// Operations in the last batch that was submitted.
    submitted_ops: usize,
    /// Operations that became durable in this round.
    settled_ops: usize,
    durable: u64,
    restart_above: Option<u64>,
    /// Since when the engine has had no room; moved on with each attempt to go on.
    full: Option<Instant>,
    failed: Option<StoreError>,
    stopping: bool,
    /// Requests up to the last tick, and ticks since there was one.
    requests: u64,
    quiet: u32,
}

impl Core {
    /// Opens the replica on the disk.
    ///
    /// # Errors
    /// When the disk's content does not fit this node.
    pub fn open(
        setup: &Setup,
        disk: Arc<Disk>,
        clock: Arc<Clock>,
        clocks: Clocks,
    ) -> Result<Replica<Arc<Disk>, Ticket>, OpenError> {
        Replica::open(setup.clone(), disk, clock, clocks.now())
    }

    /// Puts a core together.
    #[must_use]
    pub fn new(
        replica: Replica<Arc<Disk>, Ticket>,
        setup: Setup,
        shared: Arc<Shared>,
        committer: Committer,
        send: Sender,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        Self {
            replica,
            setup,
            shared,
            committer,
            send,
            reports,
            outbox: Outbox::default(),
            next: None,
            held: Vec::new(),
            base: 0,
            submitted: 0,
            submitted_ops: 0,
            settled_ops: 0,
            durable: 0,
            restart_above: None,
            full: None,
            failed: None,
            stopping: false,
            requests: 0,
            quiet: QUIET_TICKS,
        }
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// What made the storage fail for good.
    pub fn run(mut self, intake: Intake) -> Result<(), StoreError> {
        self.carry_out();
        intake.run(self)?.committer.shutdown()
    }

    /// Takes inputs, and what is due when a tick has passed. Whether that was the end.
    ///
    /// # Errors
    /// What made the storage fail for good.
    pub(super) fn round(
        &mut self,
        tick: bool,
        inputs: &mut Vec<Input>,
    ) -> Result<bool, StoreError> {
        if tick {
            self.watch_clients();
            self.step(Event::Tick);
            self.go_on_when_there_is_room();
        }
        for input in inputs.drain(..) {
            match input {
                Input::Event(Event::Persisted(no)) => self.persisted(no),
                Input::Event(event) => self.take(event),
                Input::Views(views) => self.learn(views),
                Input::StorageFailed(error) => self.storage_failed(error),
                Input::Stop => self.stopping = true,
            }
        }
        self.rest();
        self.carry_out();
        self.restart_if_due();
        self.go_over_if_idle();
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        // Stuck on a full disk there is nothing to wait for.
        Ok(self.stopping && (self.durable == self.submitted || self.full.is_some()))
    }

    /// Takes an event with nothing queued before it; gives it back when it has to be queued as well: it takes long, or
    /// there is more to be seen to than the replica.
    pub(super) fn take_now(&mut self, event: Event<Ticket>) -> Option<Event<Ticket>> {
        let plain = self.next.is_none() && self.restart_above.is_none() && self.full.is_none();
        let light = match &event {
            Event::Write { value, .. } => value.as_ref().is_none_or(|v| v.len() <= LIGHT_BYTES),
            Event::Message { message, .. } => match message {
                Message::Append(append) => {
                    let bytes = append.versions.iter().map(Version::size).sum::<usize>();
                    append.versions.len() <= LIGHT_VERSIONS && bytes <= LIGHT_BYTES
                }
                Message::Ack(_) => true,
                _ => false,
            },
            // Under load the next batch is to gather.
            Event::Persisted(_) => self.submitted_ops < BUSY_OPS,
            Event::Read { .. } => true,
            Event::Down(_) | Event::DiskFull(_) | Event::Busy(_) | Event::Tick => false,
        };
        if !plain || !light || self.stopping || self.failed.is_some() {
            return Some(event);
        }
        match event {
            Event::Persisted(no) => {
                self.persisted(no);
                self.settled_ops = 0;
            }
            event => self.step(event),
        }
        self.carry_out();
        None
    }

    /// Steps the replica, unless it is about to be opened again: then nothing new begins.
    fn take(&mut self, event: Event<Ticket>) {
        if self.next.is_none() {
            return self.step(event);
        }
        match event {
            Event::Write { ticket, .. } if self.held.len() >= HELD => {
                self.outbox
                    .put(ticket, Answer::Refused(Refusal::Overloaded));
            }
            Event::Write { .. } => self.held.push(event),
            // What is not acknowledged is sent again.
            Event::Message { ref message, .. } if !matches!(message, Message::Ack(_)) => {}
            event => self.step(event),
        }
    }

    /// Takes newer views over, at once or as soon as the replica is idle.
    fn learn(&mut self, views: Arc<Views>) {
        if self.next.is_none() && self.replica.take_views(&views) {
            self.setup.views = views;
        } else {
            self.next = Some(views);
        }
    }

    fn step(&mut self, event: Event<Ticket>) {
        if let Event::DiskFull(None) = event
            && self.full.take().is_some()
        {
            self.committer.resume();
        }
        self.replica.step(self.shared.clocks.now(), event);
    }

    fn persisted(&mut self, no: u64) {
        self.durable = no;
        self.settled_ops += std::mem::take(&mut self.submitted_ops);
        if let Some(no) = no.checked_sub(self.base).filter(|no| *no > 0) {
            self.step(Event::Persisted(no));
        }
    }

    fn storage_failed(&mut self, error: StoreError) {
        log::error!("storing failed: {error}");
        if let StoreError::Full { .. } = error {
            self.full = Some(Instant::now());
            self.step(Event::DiskFull(Some(error.to_string())));
        } else {
            self.failed = Some(error);
        }
    }

    /// The engine can run out of room while the device has some, by a limit or while it compacts: then
    /// nobody else says when to try again.
    fn go_on_when_there_is_room(&mut self) {
        let due = self.full.is_some_and(|at| at.elapsed() >= FULL_RETRY);
        if due && self.shared.disk.is_nearly_full(MIN_FREE_BYTES) == Ok(false) {
            log::warn!("storing again, after there was no room");
            self.step(Event::DiskFull(None));
        }
    }

    /// Tells the replica when clients begin to be at work, and when they are no more.
    fn watch_clients(&mut self) {
        let requests = self.shared.requests.load(Ordering::Relaxed);
        let some = requests != std::mem::replace(&mut self.requests, requests);
        let was_busy = self.quiet < QUIET_TICKS;
        self.quiet = if some {
            0
        } else {
            self.quiet.saturating_add(1)
        };
        let busy = self.quiet < QUIET_TICKS;
        if busy != was_busy {
            self.step(Event::Busy(busy));
        }
    }

    fn carry_out(&mut self) {
        let effects = self.replica.flush();
        self.carry_out_all(effects);
    }

    /// Under load, answers first and lets a larger batch gather: a sync costs the same for one write
    /// as for a hundred, and the processor has better things to do.
    fn rest(&mut self) {
        if std::mem::take(&mut self.settled_ops) < BUSY_OPS {
            return;
        }
        let effects = self.replica.flush_early();
        self.carry_out_all(effects);
        std::thread::sleep(REST);
    }

    fn carry_out_all(&mut self, effects: Vec<Effect<Ticket>>) {
        // Readers first: who gets an answer may ask again at once.
        if let Some(marks) = self.replica.changed_marks() {
            if let (None, Some(reason)) = (&self.shared.marks.load().recovering, &marks.recovering)
            {
                log::warn!("reads are not served for now: {reason}");
            } else if self.shared.marks.load().recovering.is_some() && marks.recovering.is_none() {
                let partition = marks.partition.map_or(0, |p| p.0);
                log::info!("serving partition {partition}");
            }
            let lost = self.shared.marks.load().gauges.lost;
            if marks.gauges.lost > lost {
                log::error!(
                    "{} writes are lost with nodes that were given up: nobody else got them",
                    marks.gauges.lost - lost
                );
            }
            let version = marks.views.version;
            self.shared.marks.store(marks);
            self.shared.version.send_if_modified(|known| {
                let newer = *known != version;
                *known = version;
                newer
            });
        }
        let incarnation = self.replica.log_id().incarnation;
        for effect in effects {
            match effect {
                Effect::Persist { no, batch } => {
                    self.submitted_ops = batch.ops.len();
                    self.submitted = self.base + no;
                    self.committer.submit(Numbered {
                        no: self.submitted,
                        batch,
                    });
                }
                Effect::Send { to, message } => (self.send)(
                    &to,
                    Envelope {
                        incarnation,
                        message,
                    },
                ),
                Effect::Answer { ticket, answer } => self.outbox.put(ticket, answer),
                Effect::Fault(error) => log::error!("reading the store failed: {error}"),
                Effect::Restart { above } => self.restart_above = Some(above),
                // They are said again and again: what finds no room is not lost.
                Effect::Ready(number) => drop(self.reports.try_send(Report::Ready(number))),
                Effect::Over(cohort) => drop(self.reports.try_send(Report::Over(cohort))),
            }
        }
        self.outbox.deliver();
    }

    /// Opens the replica anew, with a newer incarnation, once all its batches are durable.
    fn restart_if_due(&mut self) {
        let Some(above) = self
            .restart_above
            .filter(|_| self.durable == self.submitted)
        else {
            return;
        };
        log::warn!(
            "a peer knows a later incarnation of this node ({above:x}): opening a newer log"
        );
        self.restart_above = None;
        self.setup.above = above;
        if self.open_again() {
            self.carry_out();
        }
    }

    /// Opens the replica again under newer views, once nothing is on its way under the older ones.
    fn go_over_if_idle(&mut self) {
        if self.restart_above.is_some() || !self.replica.is_idle() {
            return;
        }
        let Some(views) = self.next.take() else {
            return;
        };
        let start = new_start(self.shared.clocks.wall_ms());
        let (setup, reads) = self.replica.succeed(views, start);
        self.setup = setup;
        if !self.open_again() {
            return;
        }
        log::info!(
            "in view {} now, with log {}",
            self.setup.views.view.number,
            self.replica.log_id()
        );
        let held = std::mem::take(&mut self.held);
        for event in reads.into_iter().chain(held) {
            self.step(event);
        }
        self.carry_out();
    }

    fn open_again(&mut self) -> bool {
        let (disk, clock) = (
            Arc::clone(&self.shared.disk),
            Arc::clone(&self.shared.clock),
        );
        match Self::open(&self.setup, disk, clock, self.shared.clocks) {
            Ok(replica) => {
                self.replica = replica;
                self.base = self.submitted;
                self.step(Event::Busy(self.quiet < QUIET_TICKS));
                true
            }
            Err(error) => {
                self.failed = Some(StoreError::Io {
                    what: "opening the replica again".into(),
                    detail: error.to_string(),
                });
                false
            }
        }
    }
}

/// A number for this start, larger than earlier ones as far as the wall clock is right: seconds,
/// then 16 random bits, should a clock that was set back meet a disk that was lost.
pub fn new_start(wall_ms: u64) -> u64 {
    const EPOCH_S: u64 = 1_700_000_000;
    let seconds = (wall_ms / 1_000).saturating_sub(EPOCH_S);
    seconds << 16 | u64::from(rand::random::<u16>())
}

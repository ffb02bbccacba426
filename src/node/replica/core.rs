//! The core runs the replica's driver: events in, effects out, in order.
//!
//! Its thread takes whatever has gathered in its queue (inbox.rs), steps the driver through it and
//! carries out the effects together: one batch for the committer, the new marks for the readers,
//! then answers and messages. It never waits for the disk or the network. What comes while nothing
//! is queued is done at once, on the thread that brings it.

use super::clocks::new_start;
use super::reply::{Outbox, Ticket};
use super::shared::{ReplicaDriver, Shared};
use crate::node::wire::messages::Envelope;
use crate::protocol::driver::Reopened;
use crate::protocol::ids::MemberId;
use crate::protocol::message::Message;
use crate::protocol::replica::{Effect, Event};
use crate::protocol::room::DiskRoom;
use crate::protocol::store::StoreError;
use crate::protocol::version::Version;
use crate::protocol::views::{CohortId, Views};
use crate::storage::{Committer, Numbered, Reserve};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// An event that is taken at once has at most this many bytes, and this many versions.
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

/// The inputs of the core.
pub enum Input {
    /// Something for the replica.
    Event(Event<Ticket>),
    /// Newer views, which are on disk already.
    Views(Arc<Views>),
    /// The committer could not store a batch.
    StorageFailed(StoreError),
    /// End, when everything that was taken is durable.
    Stop,
}

/// A replica's report to the Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaReport {
    /// All that the view with this number asks of it is here.
    Ready(u64),
    /// Everybody has what was written for this cohort.
    Over(CohortId),
}

/// Sends a message to members: must not block.
pub type Sender = Arc<dyn Fn(&[MemberId], Envelope) + Send + Sync>;

/// The replica's driver and all that it works with.
pub struct Core {
    driver: ReplicaDriver,
    shared: Arc<Shared>,
    committer: Committer,
    send: Sender,
    reports: mpsc::Sender<ReplicaReport>,
    reserve: Reserve,
    outbox: Outbox,
    /// Operations in the last batch that was submitted.
    submitted_ops: usize,
    /// Operations that became durable in this round.
    settled_ops: usize,
    /// Since when the engine has had no room; moved on with each attempt to go on.
    full: Option<Instant>,
    failed: Option<StoreError>,
    stopping: bool,
    /// Requests up to the last tick, and ticks since there was one.
    requests: u64,
    quiet: u32,
}

impl Core {
    /// Puts a core together.
    #[must_use]
    pub fn new(
        driver: ReplicaDriver,
        shared: Arc<Shared>,
        committer: Committer,
        send: Sender,
        reports: mpsc::Sender<ReplicaReport>,
        reserve: Reserve,
    ) -> Self {
        Self {
            driver,
            shared,
            committer,
            send,
            reports,
            reserve,
            outbox: Outbox::default(),
            submitted_ops: 0,
            settled_ops: 0,
            full: None,
            failed: None,
            stopping: false,
            requests: 0,
            quiet: QUIET_TICKS,
        }
    }

    /// Does what is due before the first input.
    pub fn begin(&mut self) {
        self.carry_out();
    }

    /// Ends the committer: what was taken is durable.
    ///
    /// # Errors
    /// What made the storage fail for good.
    pub fn end(self) -> Result<(), StoreError> {
        self.committer.shutdown()
    }

    /// Takes inputs, and what is due when a tick has passed. Whether that was the end.
    ///
    /// # Errors
    /// What made the storage fail for good.
    pub fn round(&mut self, tick: bool, inputs: &mut Vec<Input>) -> Result<bool, StoreError> {
        if tick {
            self.watch_clients();
            self.step(Event::Tick);
            self.go_on_when_there_is_room();
        }
        for input in inputs.drain(..) {
            match input {
                Input::Event(event) => self.step(event),
                Input::Views(views) => self.driver.learn(views),
                Input::StorageFailed(error) => self.storage_failed(error),
                Input::Stop => self.stopping = true,
            }
        }
        self.rest();
        self.carry_out();
        self.go_over();
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        // Stuck on a full disk there is nothing to wait for.
        Ok(self.stopping && (self.driver.replica().is_stored() || self.full.is_some()))
    }

    /// Takes an event with nothing queued before it; gives it back when it has to be queued as
    /// well: it takes long, or there is more to be seen to than the replica.
    pub fn take_now(&mut self, event: Event<Ticket>) -> Option<Event<Ticket>> {
        let plain = !self.driver.is_closing() && self.full.is_none();
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
            Event::Down(_) | Event::Room(_) | Event::Busy(_) | Event::Tick => false,
        };
        if !plain || !light || self.stopping || self.failed.is_some() {
            return Some(event);
        }
        let persisted = matches!(event, Event::Persisted(_));
        self.step(event);
        if persisted {
            self.settled_ops = 0;
        }
        self.carry_out();
        None
    }

    fn step(&mut self, event: Event<Ticket>) {
        match &event {
            Event::Persisted(_) => self.settled_ops += std::mem::take(&mut self.submitted_ops),
            Event::Room(room) if room.none().is_none() && self.full.take().is_some() => {
                self.committer.resume();
            }
            _ => {}
        }
        self.driver.step(self.shared.clocks.now(), event);
    }

    fn storage_failed(&mut self, error: StoreError) {
        log::error!("storing failed: {error}");
        if let StoreError::Full { .. } = error {
            self.full = Some(Instant::now());
            self.step(Event::Room(DiskRoom::None(error.to_string())));
        } else {
            self.failed = Some(error);
        }
    }

    /// The engine can run out of room while the device has some, by a limit or while it compacts:
    /// then nobody else says when to try again.
    fn go_on_when_there_is_room(&mut self) {
        let due = self.full.is_some_and(|at| at.elapsed() >= FULL_RETRY);
        if !due {
            return;
        }
        if let Ok(room) = self.shared.disk.room(self.reserve)
            && room.none().is_none()
        {
            log::warn!("storing again, after there was no room");
            self.step(Event::Room(room));
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
        let effects = self.driver.flush();
        self.carry_out_all(effects);
    }

    /// Under load, answers first and lets a larger batch gather: a sync costs the same for one
    /// write as for a hundred, and the processor has better things to do.
    fn rest(&mut self) {
        if std::mem::take(&mut self.settled_ops) < BUSY_OPS {
            return;
        }
        let effects = self.driver.flush_early();
        self.carry_out_all(effects);
        std::thread::sleep(REST);
    }

    fn carry_out_all(&mut self, effects: Vec<Effect<Ticket>>) {
        // Readers first: a client that gets an answer may ask again at once.
        if let Some(marks) = self.driver.changed_marks() {
            if let (None, Some(reason)) = (&self.shared.marks.load().recovering, &marks.recovering)
            {
                log::warn!("reads are not served for now: {reason}");
            } else if self.shared.marks.load().recovering.is_some() && marks.recovering.is_none() {
                let partition = marks.partition.map_or(0, |p| p.0);
                log::info!("serving partition {partition}");
            }
            let (off_ms, was_off) = (
                marks.gauges.clock_off_ms,
                self.shared.marks.load().gauges.clock_off_ms != 0,
            );
            if off_ms != 0 && !was_off {
                log::error!(
                    "the wall clock is {off_ms} ms off those of most other nodes: no writes are stamped here until it is right"
                );
            } else if off_ms == 0 && was_off {
                log::info!("the wall clock is near those of the other nodes again");
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
        let incarnation = self.driver.log_id().incarnation;
        for effect in effects {
            match effect {
                Effect::Persist { no, batch } => {
                    self.submitted_ops = batch.ops.len();
                    self.committer.submit(Numbered { no, batch });
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
                // Dropped if the queue is full: the replica repeats its reports: what finds no room
                // is not lost.
                Effect::Ready(number) => drop(self.reports.try_send(ReplicaReport::Ready(number))),
                Effect::Over(cohort) => drop(self.reports.try_send(ReplicaReport::Over(cohort))),
            }
        }
        self.outbox.deliver();
    }

    /// Goes on with another log, if the replica has to be opened again and nothing is on its way
    /// any more.
    fn go_over(&mut self) {
        let clocks = self.shared.clocks;
        let start = || new_start(clocks.wall_ms());
        match self.driver.go_over(clocks.now(), start) {
            Ok(None) => return,
            Ok(Some(Reopened { log, above })) => {
                if let Some(above) = above {
                    log::warn!("a peer knows a later incarnation of this node ({above:x})");
                }
                let view = self.driver.replica().views().view.number;
                log::info!("in view {view} now, with log {log}");
            }
            Err(error) => {
                self.failed = Some(StoreError::Io {
                    what: "opening the replica again".into(),
                    detail: error.to_string(),
                });
                return;
            }
        }
        self.carry_out();
    }
}

//! The way into the core: what finds it with nothing to do is done at once, on the thread that
//! brings it; all else goes through a queue to the core's own thread.
//!
//! To hand something to a thread that sleeps takes some 40 us, and a write passes through several:
//! here, at its peer, and back. Done at once, a client that is alone waits half as long. Under load
//! things are queued as soon as one meets another, and the more there are, the less each one costs.
//!
//! Nothing is done at once while anything is queued, so what one sender brings is taken in its
//! order.

use super::core::{Core, Input};
use super::heart::Heart;
use super::reply::Ticket;
use crate::protocol::context::Context;
use crate::protocol::ids::LogId;
use crate::protocol::replica::{Event, TICK_US};
use crate::protocol::store::StoreError;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc;

/// Events that may wait before senders have to.
const QUEUE: usize = 16_384;
/// Bytes of clients' requests that may wait in it, or one request. What other nodes send is bounded
/// by them: a replica sends no more than its peers take in.
const QUEUE_BYTES: usize = 64 << 20;
/// Events stepped through before effects are carried out.
const ROUND: usize = 1_024;
/// Without a round for so long the core's thread does not answer: it has one each tick.
const WEDGED: Duration = Duration::from_secs(3);
/// Time between ticks.
const TICK: Duration = Duration::from_micros(TICK_US);

/// The core, as seen by the tasks that bring events.
#[derive(Default)]
struct Desk {
    /// `None` before the core runs, and after it has ended.
    core: Mutex<Option<Core>>,
    /// Inputs that were queued and are not done.
    waiting: AtomicUsize,
    /// Bytes of clients' requests among them.
    bytes: AtomicUsize,
    /// The rounds of the core's thread.
    heart: Heart,
}

/// Bytes that a client's request takes while it waits; nothing for all else.
fn bytes(input: &Input) -> usize {
    let context = |context: &Context| context.len() * size_of::<(LogId, u64)>();
    match input {
        Input::Event(Event::Write {
            key,
            value,
            context: seen,
            ..
        }) => key.len() + value.as_ref().map_or(0, Bytes::len) + context(seen),
        Input::Event(Event::Read {
            key, context: seen, ..
        }) => key.len() + context(seen),
        Input::Event(_) | Input::Views(_) | Input::StorageFailed(_) | Input::Stop => 0,
    }
}

/// The way in.
#[derive(Clone)]
pub struct Inbox {
    queue: mpsc::Sender<Input>,
    desk: Arc<Desk>,
}

/// The core's end of it.
pub struct Intake {
    queue: mpsc::Receiver<Input>,
    desk: Arc<Desk>,
}

impl Inbox {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, Intake) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let desk = Arc::<Desk>::default();
        let intake = Intake {
            queue: receiver,
            desk: Arc::clone(&desk),
        };
        let queue = sender;
        (Self { queue, desk }, intake)
    }

    /// Does an event now or queues it; false when the queue is full, by number or by bytes, or the
    /// core has ended.
    #[must_use]
    pub fn offer(&self, event: Event<Ticket>) -> bool {
        match self.desk.take_now(event) {
            None => true,
            Some(event) => {
                let input = Input::Event(event);
                let bytes = bytes(&input);
                let before = self.desk.bytes.fetch_add(bytes, Ordering::Relaxed);
                let fits = before == 0 || bytes == 0 || before + bytes <= QUEUE_BYTES;
                let queued = fits && self.try_queue(input);
                if !queued {
                    self.desk.bytes.fetch_sub(bytes, Ordering::Relaxed);
                }
                queued
            }
        }
    }

    /// Does an event now, or queues it when there is room.
    pub async fn send(&self, event: Event<Ticket>) {
        if let Some(event) = self.desk.take_now(event) {
            self.input(Input::Event(event)).await;
        }
    }

    /// How long the core's thread has not answered, when that is too long. It may hang itself, or
    /// wait for a thread that brought an event and hangs with it.
    pub fn wedged(&self) -> Option<Duration> {
        let silent = self.desk.heart.silent();
        silent.filter(|silent| *silent >= WEDGED)
    }

    /// Inputs that wait for the core's thread, and bytes of clients' requests among them.
    pub fn waiting(&self) -> (usize, usize) {
        let read = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        (read(&self.desk.waiting), read(&self.desk.bytes))
    }

    /// Keeps the core's thread from its work, as a disk does that hangs.
    #[cfg(test)]
    pub fn hold(&self) -> impl Drop + '_ {
        self.desk.core().unwrap()
    }

    /// Queues an input when there is room.
    pub async fn input(&self, input: Input) {
        // The core ends only when the node does: nobody waits for what comes after.
        if let Ok(place) = self.queue.reserve().await {
            self.desk.waiting.fetch_add(1, Ordering::SeqCst);
            self.desk.bytes.fetch_add(bytes(&input), Ordering::Relaxed);
            place.send(input);
        }
    }

    /// Tells the core to end, without waiting for anything.
    pub fn stop(&self) {
        if !self.try_queue(Input::Stop) && !self.queue.is_closed() {
            let inbox = self.clone();
            std::thread::spawn(move || inbox.queue_blocking(Input::Stop));
        }
    }

    /// Takes the committer's result: on its own thread, and waiting for room there.
    pub fn stored(&self, result: Result<u64, StoreError>) {
        let input = match result.map(|no| self.desk.take_now(Event::Persisted(no))) {
            Ok(None) => return,
            Ok(Some(event)) => Input::Event(event),
            Err(error) => Input::StorageFailed(error),
        };
        self.queue_blocking(input);
    }

    fn try_queue(&self, input: Input) -> bool {
        self.desk.waiting.fetch_add(1, Ordering::SeqCst);
        let queued = self.queue.try_send(input).is_ok();
        if !queued {
            self.desk.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        queued
    }

    fn queue_blocking(&self, input: Input) {
        self.desk.waiting.fetch_add(1, Ordering::SeqCst);
        if self.queue.blocking_send(input).is_err() {
            self.desk.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Desk {
    /// Has the core take an event on this thread, if nobody else is at it and nothing is queued;
    /// else gives it back.
    fn take_now(&self, event: Event<Ticket>) -> Option<Event<Ticket>> {
        let idle = || self.waiting.load(Ordering::SeqCst) == 0;
        if !idle() {
            return Some(event);
        }
        let Ok(mut core) = self.core.try_lock() else {
            return Some(event);
        };
        match core.as_mut() {
            // Looked at again, now that nobody takes from the queue.
            Some(core) if idle() => core.take_now(event),
            _ => Some(event),
        }
    }

    /// The core, for its own thread.
    fn core(&self) -> Result<MutexGuard<'_, Option<Core>>, StoreError> {
        self.core.lock().map_err(|_| StoreError::Io {
            what: "the replica".into(),
            detail: "a thread panicked while it was at it".into(),
        })
    }
}

impl Intake {
    /// Runs a core until it is told to stop.
    ///
    /// # Errors
    /// What made the storage fail for good.
    pub fn run(self, mut core: Core) -> Result<(), StoreError> {
        core.begin();
        let desk = Arc::clone(&self.desk);
        *desk.core()? = Some(core);
        let ended = self.serve();
        // The committer in it has an inbox, which would keep it.
        let core = desk.core()?.take();
        ended?;
        let core = core.ok_or_else(|| StoreError::Io {
            what: "the replica".into(),
            detail: "it is gone".into(),
        })?;
        core.end()
    }

    fn serve(mut self) -> Result<(), StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| StoreError::Io {
                what: "starting the replica's thread".into(),
                detail: e.to_string(),
            })?;
        self.desk.heart.beat();
        runtime.block_on(async {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            let mut inputs = Vec::with_capacity(ROUND);
            loop {
                let tick = tokio::select! {
                    biased;
                    _ = ticks.tick() => true,
                    // The committer can always send: there is no end before the core's.
                    _ = self.queue.recv_many(&mut inputs, ROUND) => false,
                };
                let mut core = self.desk.core()?;
                let Some(core) = core.as_mut() else {
                    return Ok(());
                };
                let count = inputs.len();
                let bytes = inputs.iter().map(bytes).sum();
                let ended = core.round(tick, &mut inputs)?;
                self.desk.waiting.fetch_sub(count, Ordering::SeqCst);
                self.desk.bytes.fetch_sub(bytes, Ordering::Relaxed);
                self.desk.heart.beat();
                if ended {
                    return Ok(());
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::clocks::{Clocks, new_start};
    use super::super::shared::{ReplicaDriver, Shared};
    use super::*;
    use crate::node::replica::reply;
    use crate::protocol::changes::{ViewChanges, ViewCommand};
    use crate::protocol::clock::{Clock, Timestamp};
    use crate::protocol::ids::MemberId;
    use crate::protocol::limits::Limits;
    use crate::protocol::message::{Ack, Message};
    use crate::protocol::op::{Answer, Refusal};
    use crate::protocol::placement::Change;
    use crate::protocol::replica::{Known, Setup};
    use crate::protocol::version::{Key, Stamp};
    use crate::protocol::view::View;
    use crate::storage::{Committer, Disk, Reserve};
    use std::path::Path;

    fn view() -> View {
        View::first(&[([127, 0, 0, 1], 8081).into()], 1).unwrap()
    }

    fn core(dir: &Path, stored: impl Fn(Result<u64, StoreError>) + Send + 'static) -> Core {
        let views = Arc::new(ViewChanges::first(view()).views().clone());
        let (clocks, clock) = (Clocks::start(), Arc::new(Clock::default()));
        let disk = Arc::new(Disk::open(dir).unwrap());
        let setup = Setup {
            me: MemberId(0),
            views: Arc::clone(&views),
            start: new_start(clocks.wall_ms()),
            above: 0,
            trusted: false,
            put_aside: false,
            known: Known::default(),
            limits: Limits::default(),
        };
        let now = clocks.now();
        let driver =
            ReplicaDriver::open(setup, Arc::clone(&disk), Arc::clone(&clock), now).unwrap();
        let shared = Arc::new(Shared::of(&driver, Arc::clone(&disk), clock, clocks));
        let committer = Committer::start(disk, stored).unwrap();
        let (reports, _) = mpsc::channel(1);
        let (send, reserve) = (Arc::new(|_: &[MemberId], _| {}), Reserve::default());
        Core::new(driver, shared, committer, send, reports, reserve)
    }

    fn ack() -> Event<Ticket> {
        let log = LogId {
            member: MemberId(0),
            incarnation: 1,
        };
        let ack = Ack {
            log,
            applied: 0,
            received: 0,
            gap: false,
            met: 0,
        };
        Event::Message {
            from: MemberId(1),
            incarnation: 1,
            message: Message::Ack(ack),
        }
    }

    #[test]
    fn nothing_is_done_at_once_while_something_is_queued_or_somebody_is_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let (inbox, intake) = Inbox::new();
        let stored = inbox.clone();
        let core = core(dir.path(), move |result| stored.stored(result));
        assert!(inbox.offer(ack()), "before it runs");
        assert_eq!(intake.queue.len(), 1);
        *inbox.desk.core.lock().unwrap() = Some(core);
        assert!(inbox.offer(ack()), "behind another");
        assert_eq!(intake.queue.len(), 2);
        inbox.desk.waiting.store(0, Ordering::SeqCst);
        assert!(inbox.offer(ack()), "alone");
        assert_eq!(intake.queue.len(), 2);
        let busy = inbox.desk.core.lock().unwrap();
        assert!(inbox.offer(ack()), "beside another");
        assert_eq!(intake.queue.len(), 3);
        drop(busy);
        inbox.desk.waiting.store(0, Ordering::SeqCst);
        assert!(inbox.offer(Event::Tick), "not at once whenever it comes");
        assert_eq!(intake.queue.len(), 4);
        inbox.desk.core.lock().unwrap().take();
    }

    /// A write of a value, and where its answer comes.
    fn write(value: Bytes) -> (Event<Ticket>, impl Future<Output = Answer>) {
        let (ticket, answer) = reply::ticket();
        let event = Event::Write {
            ticket,
            key: Key::from_static(b"key"),
            value: Some(value),
            stamp: Stamp {
                ts: Timestamp(1),
                by: MemberId(0),
            },
            context: Context::default(),
            orphan: None,
        };
        let answer = tokio::time::timeout(Duration::from_secs(20), answer);
        (event, async move { answer.await.unwrap().unwrap() })
    }

    #[tokio::test]
    async fn few_long_requests_fill_the_queue_as_many_short_ones_do() {
        let dir = tempfile::tempdir().unwrap();
        let (inbox, intake) = Inbox::new();
        let stored = inbox.clone();
        let core = core(dir.path(), move |result| stored.stored(result));
        let long = || write(Bytes::from(vec![b'1'; QUEUE_BYTES / 4]));
        let (mut queued, mut answers) = (0, Vec::new());
        loop {
            let (event, answer) = long();
            if !inbox.offer(event) {
                break;
            }
            queued += 1;
            answers.push(answer);
        }
        assert_eq!(queued, 3, "and their keys");
        assert!(inbox.offer(ack()), "other nodes are not refused for that");
        let running = std::thread::spawn(move || intake.run(core));
        for answer in answers {
            answer.await;
        }
        let (event, answer) = long();
        assert!(inbox.offer(event), "there is room again");
        answer.await;
        inbox.input(Input::Stop).await;
        running.join().unwrap().unwrap();
        assert_eq!(inbox.desk.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_keeps_no_client_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let (inbox, intake) = Inbox::new();
        let core = core(dir.path(), |_| {});
        let running = std::thread::spawn(move || intake.run(core));
        let (event, stored) = write(Bytes::from_static(b"1"));
        inbox.send(event).await;
        // Newer views that have to wait for it.
        let mut changes = ViewChanges::first(view());
        changes.apply(ViewCommand::Change {
            change: Change::Add(([127, 0, 0, 1], 8082).into()),
            give_up: false,
            lose_data: false,
        });
        let views = Arc::new(changes.views().clone());
        inbox.input(Input::Views(views)).await;
        let (event, held) = write(Bytes::from_static(b"1"));
        inbox.send(event).await;
        assert_eq!(held.await, Answer::Refused(Refusal::GoingOver));
        assert_eq!(stored.await, Answer::Refused(Refusal::Undecided));
        let over = StoreError::Io {
            what: "the test".into(),
            detail: "it is over".into(),
        };
        inbox.input(Input::StorageFailed(over)).await;
        assert!(running.join().unwrap().is_err());
    }
}

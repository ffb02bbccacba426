//! One thread's world: tasks, time and chance. Tasks that are ready run in an order that is drawn;
//! when none is, the clock goes on to the next event, of which no two have the same time. So a seed
//! decides everything, whatever order wakes come in.
//!
//! Tasks and events belong to a process. A process that is frozen does nothing, and meets all at
//! once what came meanwhile; one that is killed is gone with all that it had.

use super::rng::Rng;
use causeway::raft::simulated::{Task, Wait, World};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A process, or 0: the world around all of them.
pub type Process = u64;
/// The process of tasks that are nobody's.
pub const NOBODY: Process = 0;

/// A timer is late by less than this.
const SLACK_NS: u64 = 40_000;
/// So many polls without time going on mean that somebody wakes itself.
const POLLS_AT_ONCE: u64 = 200_000;

enum Event {
    Sleep(Arc<Mutex<Sleeper>>),
    Run(Box<dyn FnOnce() + Send>),
}

#[derive(Default)]
struct Sleeper {
    over: bool,
    waker: Option<Waker>,
}

struct Inner {
    began: Instant,
    now_ns: u64,
    events: BTreeMap<(u64, u64), (Process, Event)>,
    ready: BTreeSet<u64>,
    /// The process of each task.
    owners: BTreeMap<u64, Process>,
    frozen: BTreeMap<Process, Vec<Event>>,
    dead: BTreeSet<Process>,
    current: Process,
    last: u64,
    rng: Rng,
    /// Tells runs apart.
    digest: u64,
    polls: u64,
}

/// The world, as everything in it knows it. Clones share it.
#[derive(Clone)]
pub struct Exec(Arc<Mutex<Inner>>);

/// The world, as its thread has it: with the tasks.
struct Tasks {
    exec: Exec,
    tasks: RefCell<BTreeMap<u64, (&'static str, Option<Task>)>>,
}

thread_local! {
    static TASKS: RefCell<Option<Rc<Tasks>>> = const { RefCell::new(None) };
}

struct TaskWaker {
    task: u64,
    exec: Exec,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut inner = self.exec.lock();
        if inner.owners.contains_key(&self.task) {
            inner.ready.insert(self.task);
        }
    }
}

struct Sleep {
    exec: Exec,
    key: (u64, u64),
    sleeper: Arc<Mutex<Sleeper>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleeper = self.sleeper.lock().unwrap();
        if sleeper.over {
            return Poll::Ready(());
        }
        sleeper.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let event = self.exec.lock().events.remove(&self.key);
        drop(event);
    }
}

impl Exec {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            began: Instant::now(),
            now_ns: 0,
            events: BTreeMap::new(),
            ready: BTreeSet::new(),
            owners: BTreeMap::new(),
            frozen: BTreeMap::new(),
            dead: BTreeSet::new(),
            current: NOBODY,
            last: 0,
            rng: Rng::new(seed),
            digest: 0,
            polls: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Microseconds since the beginning.
    pub fn now_us(&self) -> u64 {
        self.lock().now_ns / 1000
    }

    /// Draws.
    pub fn draw<R>(&self, draw: impl FnOnce(&mut Rng) -> R) -> R {
        draw(&mut self.lock().rng)
    }

    /// A digest of the run so far.
    pub fn digest(&self) -> u64 {
        self.lock().digest
    }

    /// A process that nobody is yet.
    pub fn process(&self) -> Process {
        self.lock().next()
    }

    /// Does something after a while, for a process, if it is still there.
    pub fn after(&self, process: Process, time: Duration, what: impl FnOnce() + Send + 'static) {
        self.lock().at(process, time, Event::Run(Box::new(what)));
    }

    /// Lets time go by.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + Sync + 'static {
        let sleeper = Arc::new(Mutex::new(Sleeper::default()));
        let mut inner = self.lock();
        let current = inner.current;
        let key = inner.at(current, time, Event::Sleep(Arc::clone(&sleeper)));
        Sleep {
            exec: self.clone(),
            key,
            sleeper,
        }
    }

    /// Runs a task of a process.
    pub fn spawn(&self, process: Process, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_named(process, "a task of the simulator", Box::pin(task));
    }

    fn spawn_named(&self, process: Process, name: &'static str, task: Task) {
        let mut inner = self.lock();
        if inner.dead.contains(&process) {
            drop(inner);
            return drop(task);
        }
        let id = inner.next();
        inner.owners.insert(id, process);
        inner.ready.insert(id);
        drop(inner);
        let tasks = TASKS.with_borrow(Clone::clone).unwrap();
        tasks.tasks.borrow_mut().insert(id, (name, Some(task)));
    }

    /// From now on the process does nothing.
    pub fn freeze(&self, process: Process) {
        self.lock().frozen.entry(process).or_default();
    }

    /// The process goes on.
    pub fn thaw(&self, process: Process) {
        let mut inner = self.lock();
        for (n, event) in (0..).zip(inner.frozen.remove(&process).unwrap_or_default()) {
            inner.at(process, Duration::from_micros(50 * n), event);
        }
    }

    /// The process is gone, with all that it has.
    pub fn kill(&self, process: Process) {
        let (gone, events) = {
            let mut inner = self.lock();
            inner.dead.insert(process);
            let held = inner.frozen.remove(&process);
            let gone: Vec<u64> = inner
                .owners
                .extract_if(.., |_, owner| *owner == process)
                .map(|(id, _)| id)
                .collect();
            for id in &gone {
                inner.ready.remove(id);
            }
            let events: Vec<_> = inner
                .events
                .extract_if(.., |_, (owner, _)| *owner == process)
                .collect();
            (gone, (events, held))
        };
        let tasks = TASKS.with_borrow(Clone::clone).unwrap();
        for id in gone {
            let task = tasks.tasks.borrow_mut().remove(&id);
            drop(task);
        }
        drop(events);
    }
}

impl Inner {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn at(&mut self, process: Process, time: Duration, event: Event) -> (u64, u64) {
        let ns = u64::try_from(time.as_nanos())
            .unwrap_or(u64::MAX / 4)
            .min(u64::MAX / 4);
        let at = self.now_ns + ns + 1 + self.rng.below(SLACK_NS);
        let key = (at, self.next());
        self.events.insert(key, (process, event));
        key
    }

    fn note(&mut self, what: u64) {
        let mixed = self.digest ^ what ^ self.now_ns.rotate_left(32);
        self.digest = Rng::new(mixed).next();
    }
}

impl World for Tasks {
    fn now(&self) -> Instant {
        let inner = self.exec.lock();
        inner.began + Duration::from_nanos(inner.now_ns)
    }

    fn sleep(&self, until: Instant) -> Wait {
        Box::pin(self.exec.sleep(until - self.now()))
    }

    fn spawn(&self, name: &'static str, task: Task) {
        let current = self.exec.lock().current;
        self.exec.spawn_named(current, name, task);
    }

    fn random(&self) -> u64 {
        self.exec.draw(Rng::next)
    }

    fn work(&self) -> Duration {
        Duration::from_micros(self.exec.draw(|rng| match rng.below(20) {
            0 => rng.within(1_000, 30_000),
            _ => rng.within(10, 400),
        }))
    }
}

impl Tasks {
    /// Does the next thing. False when there is none.
    fn step(&self, polled: &mut (u64, u64)) -> Result<bool, String> {
        let next = {
            let mut inner = self.exec.lock();
            let able = |id: &u64| !inner.frozen.contains_key(&inner.owners[id]);
            let able: Vec<u64> = inner.ready.iter().copied().filter(able).collect();
            match able.is_empty() {
                true => None,
                false => {
                    let chosen = able[inner.rng.index(able.len())];
                    inner.ready.remove(&chosen);
                    inner.current = inner.owners[&chosen];
                    inner.polls += 1;
                    inner.note(chosen);
                    *polled = match *polled {
                        (at, n) if at == inner.now_ns => (at, n + 1),
                        _ => (inner.now_ns, 1),
                    };
                    Some(chosen)
                }
            }
        };
        if let Some(id) = next {
            if polled.1 > POLLS_AT_ONCE {
                let name = self.tasks.borrow().get(&id).map_or("?", |(name, _)| name);
                return Err(format!(
                    "time stands still: {name} is woken again and again"
                ));
            }
            self.poll(id);
            return Ok(true);
        }
        let event = {
            let mut inner = self.exec.lock();
            let Some(((at, no), (process, event))) = inner.events.pop_first() else {
                return Ok(false);
            };
            inner.now_ns = at;
            match inner.frozen.get_mut(&process) {
                Some(held) => {
                    held.push(event);
                    None
                }
                None => {
                    inner.note(no);
                    inner.current = process;
                    Some(event)
                }
            }
        };
        match event {
            Some(Event::Run(what)) => what(),
            Some(Event::Sleep(sleeper)) => {
                let waker = {
                    let mut sleeper = sleeper.lock().unwrap();
                    sleeper.over = true;
                    sleeper.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            None => {}
        }
        Ok(true)
    }

    fn poll(&self, id: u64) {
        let task = self
            .tasks
            .borrow_mut()
            .get_mut(&id)
            .and_then(|t| t.1.take());
        let Some(mut task) = task else {
            return;
        };
        let exec = self.exec.clone();
        let waker = Waker::from(Arc::new(TaskWaker { task: id, exec }));
        let done = task.as_mut().poll(&mut Context::from_waker(&waker));
        if done.is_ready() {
            self.exec.lock().owners.remove(&id);
            self.tasks.borrow_mut().remove(&id);
        } else if let Some(place) = self.tasks.borrow_mut().get_mut(&id) {
            // The task is kept unless it has killed its own process.
            place.1 = Some(task);
            return;
        }
        drop(task);
    }
}

/// Runs a world until what `begin` begins in it is over. Its events are drawn from the seed.
pub fn run<R: Send + 'static, F: Future<Output = R> + Send + 'static>(
    seed: u64,
    begin: impl FnOnce(Exec) -> F,
) -> Result<R, String> {
    let exec = Exec::new(seed);
    let tasks = Rc::new(Tasks {
        exec: exec.clone(),
        tasks: RefCell::default(),
    });
    TASKS.with_borrow_mut(|now| *now = Some(Rc::clone(&tasks)));
    let entered = causeway::raft::simulated::enter(tasks.clone());
    let result = Arc::new(Mutex::new(None));
    let place = Arc::clone(&result);
    let whole = begin(exec.clone());
    exec.spawn(NOBODY, async move {
        let found = whole.await;
        *place.lock().unwrap() = Some(found);
    });
    let mut polled = (0, 0);
    let end = loop {
        if let Some(found) = result.lock().unwrap().take() {
            break Ok(found);
        }
        match tasks.step(&mut polled) {
            Ok(true) => {}
            Ok(false) => break Err("nothing is left to happen".to_owned()),
            Err(why) => break Err(why),
        }
    };
    // Tasks may wake others as they go, and look for the world.
    loop {
        let task = tasks.tasks.borrow_mut().pop_first();
        if task.is_none() {
            break;
        }
        drop(task);
    }
    // Events hold the world that they happen in, also those that wait for a frozen process.
    let events = std::mem::take(&mut exec.lock().events);
    drop(events);
    let held = std::mem::take(&mut exec.lock().frozen);
    drop(held);
    drop(entered);
    let tasks = TASKS.with_borrow_mut(Option::take);
    drop(tasks);
    end
}

//! A simulator in place of tokio, clock and chance, for a thread that has entered one. All other
//! threads have tokio. Only builds for tests have this.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::{Either, FutureExt, TryFutureExt};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// A future that only takes time.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;
/// A future that does a task's work.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The time, tasks and chance that a simulator provides.
pub trait World {
    /// The present moment.
    fn now(&self) -> Instant;
    /// A wait that ends at `until`, and never at once.
    fn sleep(&self, until: Instant) -> Wait;
    /// Runs a task, for the process of the task that asks.
    fn spawn(&self, name: &'static str, task: Task);
    /// Any number.
    fn random(&self) -> u64;
    /// How long blocking work takes.
    fn work(&self) -> Duration;
}

thread_local! {
    static WORLD: RefCell<Option<Rc<dyn World>>> = const { RefCell::new(None) };
}

/// While this value lives, its thread has a simulator.
pub struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        // Taken out first: what the simulator holds may look for it while it is dropped.
        drop(WORLD.with_borrow_mut(Option::take));
    }
}

/// Puts a simulator in the place of tokio, for this thread.
#[must_use]
pub fn enter(world: Rc<dyn World>) -> Entered {
    WORLD.with_borrow_mut(|now| *now = Some(world));
    Entered(())
}

fn world() -> Option<Rc<dyn World>> {
    WORLD.with_borrow(Clone::clone)
}

/// The present moment.
pub fn now() -> Instant {
    world().map_or_else(Instant::now, |world| world.now())
}

/// A number that nobody has drawn before.
pub fn random() -> u64 {
    world().map_or_else(rand::random, |world| world.random())
}

/// Waits for a while.
pub fn sleep(time: Duration) -> Sleep {
    Sleep(match world() {
        Some(world) => world.sleep(world.now() + time),
        None => Box::pin(tokio::time::sleep(time)),
    })
}

/// Runs a task that is waited for at a shutdown.
pub fn spawn<F>(tasks: &TaskTracker, task: F)
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let task = tasks.track_future(task);
    spawn_alone(async move { drop(task.await) });
}

/// Runs a task that nobody waits for.
pub fn spawn_alone<F: Future<Output = ()> + Send + 'static>(task: F) {
    match world() {
        Some(world) => world.spawn(std::any::type_name::<F>(), Box::pin(task)),
        None => drop(tokio::spawn(task)),
    }
}

/// Does blocking work away from all tasks.
///
/// # Errors
/// When the work has panicked.
pub fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> impl Future<Output = Result<R, JoinError>> + Send {
    match world() {
        Some(world) => {
            // The closure is dropped before another task runs.
            let result = work();
            let done = world.sleep(world.now() + world.work());
            Either::Left(done.map(|()| Ok(result)))
        }
        None => Either::Right(tokio::task::spawn_blocking(work).map_err(JoinError::Tokio)),
    }
}

/// A future with a time limit.
pub fn timeout<F: Future>(time: Duration, future: F) -> Timeout<F> {
    Timeout {
        future: Box::pin(future),
        end: sleep(time),
    }
}

/// A wait for a time.
pub struct Sleep(Wait);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// The time is up.
#[derive(Debug)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time is up")
    }
}

/// A future with a time limit.
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    end: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.end).poll(cx).map(|()| Err(Elapsed))
    }
}

/// A task that somebody may wait for.
pub enum JoinHandle<T> {
    /// A task on tokio.
    Tokio(tokio::task::JoinHandle<T>),
    /// A task in the simulator.
    Simulated(oneshot::Receiver<T>),
}

/// Why a task has no result.
#[derive(Debug)]
pub enum JoinError {
    /// As tokio says.
    Tokio(tokio::task::JoinError),
    /// The simulator has dropped the task.
    Gone,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokio(error) => error.fmt(f),
            Self::Gone => f.write_str("the task is gone"),
        }
    }
}

impl std::error::Error for JoinError {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Tokio(task) => Pin::new(task).poll(cx).map_err(JoinError::Tokio),
            Self::Simulated(task) => Pin::new(task).poll(cx).map_err(|_| JoinError::Gone),
        }
    }
}

/// Runs a task that somebody may wait for.
pub(super) fn run<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let Some(world) = world() else {
        return JoinHandle::Tokio(tokio::spawn(task));
    };
    let (back, result) = oneshot::channel();
    let whole = async move { drop(back.send(task.await)) };
    world.spawn(std::any::type_name::<F>(), Box::pin(whole));
    JoinHandle::Simulated(result)
}

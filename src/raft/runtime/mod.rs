//! The runtime, the clock and the source of chance of the Raft group: tokio and the machine's.
//!
//! In a build for tests a simulator can replace all three on its thread ([`simulated`]). Every
//! other build has tokio alone, at no cost.

#[cfg(feature = "teeth")]
mod library;
#[cfg(feature = "teeth")]
pub mod simulated;

#[cfg(not(feature = "teeth"))]
mod real {
    use std::time::Instant;

    use tokio_util::task::TaskTracker;

    pub use openraft::TokioRuntime as Library;
    pub use tokio::task::spawn_blocking as blocking;
    pub use tokio::time::{sleep, timeout};

    /// The present moment.
    pub fn now() -> Instant {
        Instant::now()
    }

    /// A number that nobody has drawn before.
    pub fn random() -> u64 {
        rand::random()
    }

    /// Runs a task that a shutdown waits for.
    pub fn spawn<F>(tasks: &TaskTracker, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tasks.spawn(task);
    }

    /// Runs a task that nobody waits for.
    pub fn spawn_alone(task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }
}

#[cfg(feature = "teeth")]
pub use library::Library;
#[cfg(not(feature = "teeth"))]
pub use real::*;
#[cfg(feature = "teeth")]
pub use simulated::{blocking, now, random, sleep, spawn, spawn_alone, timeout};

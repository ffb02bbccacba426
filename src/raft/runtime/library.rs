//! [`super::simulated`] behind the traits by which the Raft library takes a runtime.

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::{Duration, Instant};

use openraft::{AsyncRuntime, TokioRuntime};
use rand_core::{Error, RngCore};

use super::simulated::{self, Elapsed, JoinError, JoinHandle, Sleep, Timeout};

/// The runtime.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Library;

/// A moment of the simulated clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Instant);

/// The simulated source of chance.
pub struct Chance;

impl AsyncRuntime for Library {
    type JoinError = JoinError;
    type JoinHandle<T: Send + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = Moment;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + Send> = Timeout<T>;
    type ThreadLocalRng = Chance;
    type OneshotSender<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: Send> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(task: T) -> JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        simulated::run(task)
    }

    fn sleep(time: Duration) -> Sleep {
        simulated::sleep(time)
    }

    fn sleep_until(end: Moment) -> Sleep {
        simulated::sleep(end - Moment(simulated::now()))
    }

    fn timeout<R, F: Future<Output = R> + Send>(time: Duration, future: F) -> Timeout<F> {
        simulated::timeout(time, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(end: Moment, future: F) -> Timeout<F> {
        simulated::timeout(end - Moment(simulated::now()), future)
    }

    fn is_panic(error: &JoinError) -> bool {
        matches!(error, JoinError::Tokio(error) if error.is_panic())
    }

    fn thread_rng() -> Chance {
        Chance
    }

    fn oneshot<T: Send>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>) {
        TokioRuntime::oneshot()
    }
}

impl openraft::Instant for Moment {
    fn now() -> Self {
        Self(simulated::now())
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl AddAssign<Duration> for Moment {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, time: Duration) -> Self {
        Self(self.0 - time)
    }
}

impl SubAssign<Duration> for Moment {
    fn sub_assign(&mut self, time: Duration) {
        self.0 -= time;
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

impl RngCore for Chance {
    fn next_u32(&mut self) -> u32 {
        // The upper half of the drawn bits.
        u32::try_from(simulated::random() >> u32::BITS).unwrap_or_default()
    }

    fn next_u64(&mut self) -> u64 {
        simulated::random()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(size_of::<u64>()) {
            let drawn = simulated::random().to_le_bytes();
            part.copy_from_slice(&drawn[..part.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

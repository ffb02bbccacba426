//! The writing side: batches become durable in the order in which they were queued, all that wait
//! with one sync.
//!
//! While the disk is full batches wait. The Raft library is not told of a full disk: it would stop
//! for good. Any other error ends all storing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Durable;
use super::engine::{StoreQueue, Stored};
use crate::protocol::store::{Batch, StoreError};
use crate::storage::Numbered;

/// Called when a batch is durable, or has failed for good. Runs on the thread that stores, so it
/// must not block.
pub type OnDurable = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Numbers batches and queues them for the engine.
pub struct Writer {
    queue: Mutex<Numbering>,
    waiting: Arc<Mutex<Waiting>>,
}

struct Numbering {
    /// `None` once it is stopped.
    queue: Option<Box<dyn StoreQueue>>,
    last: u64,
}

struct Waiting {
    done: VecDeque<(u64, OnDurable)>,
    failed: Option<StoreError>,
    /// Whether a full disk is waited for, and no failure.
    patient: bool,
    /// Is told when the disk is full, has room again, or has failed.
    durable: Durable,
}

impl Writer {
    /// Starts the engine's queue. `durable` is told when the disk is full, has room again, or has
    /// failed.
    ///
    /// # Errors
    /// That of `queue`.
    pub fn start(
        queue: impl FnOnce(Stored) -> Result<Box<dyn StoreQueue>, StoreError>,
        durable: Durable,
    ) -> Result<Self, StoreError> {
        let waiting = Arc::new(Mutex::new(Waiting {
            done: VecDeque::new(),
            failed: None,
            patient: true,
            durable,
        }));
        let told = Arc::clone(&waiting);
        let queue = queue(Box::new(move |result| settle(&told, result)))?;
        let queue = Mutex::new(Numbering {
            queue: Some(queue),
            last: 0,
        });
        Ok(Self { queue, waiting })
    }

    /// Queues a batch. After a failure nothing is stored any more: `done` gets that error.
    pub fn submit(&self, batch: Batch, done: OnDurable) {
        let refused = {
            // Locked until the batch is queued: numbers and callbacks must keep the same order.
            let mut numbering = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let number = numbering.last + 1;
            match (&numbering.queue, lock(&self.waiting)) {
                (None, _) => Some((super::closed(), done)),
                (Some(_), waiting) if waiting.failed.is_some() => {
                    waiting.failed.clone().map(|error| (error, done))
                }
                (Some(queue), mut waiting) => {
                    waiting.done.push_back((number, done));
                    drop(waiting);
                    queue.submit(Numbered { no: number, batch });
                    numbering.last = number;
                    None
                }
            }
        };
        if let Some((error, done)) = refused {
            done(Err(error));
        }
    }

    /// Tries again to store what waits, if the disk was full.
    pub fn retry(&self) {
        let numbering = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = &numbering.queue {
            queue.resume();
        }
    }

    /// A full disk is a failure from now on.
    pub fn end_patience(&self) {
        let full = {
            let mut waiting = lock(&self.waiting);
            waiting.patient = false;
            waiting.durable.room().err()
        };
        if let Some(error) = full {
            settle(&self.waiting, Err(error));
        }
    }

    /// Stores what is queued, and ends the engine's queue. Blocks.
    ///
    /// # Errors
    /// The error that stopped it before.
    pub fn stop(&self) -> Result<(), StoreError> {
        let queue = {
            let mut numbering = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            numbering.queue.take()
        };
        let result = queue.map_or(Ok(()), StoreQueue::stop);
        settle(&self.waiting, Err(super::closed()));
        result
    }
}

fn settle(waiting: &Mutex<Waiting>, result: Result<u64, StoreError>) {
    let (ready, result) = {
        let mut waiting = lock(waiting);
        match result {
            Ok(highest) => {
                waiting.durable.fill(None);
                let count = waiting.done.partition_point(|(no, _)| *no <= highest);
                (waiting.done.drain(..count).collect::<Vec<_>>(), Ok(()))
            }
            Err(error @ StoreError::Full { .. }) if waiting.patient => {
                waiting.durable.fill(Some(error));
                return;
            }
            Err(error) => {
                waiting.durable.fail(error.clone());
                waiting.failed.get_or_insert_with(|| error.clone());
                (waiting.done.drain(..).collect(), Err(error))
            }
        }
    };
    for (_, done) in ready {
        done(result.clone());
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::storage::{Commit, Committer, Memory};

    /// Stores nothing as long as it has an error to give.
    #[derive(Default)]
    struct Failing {
        inner: Memory,
        error: Mutex<Option<StoreError>>,
    }

    impl Failing {
        fn fail(&self, error: Option<StoreError>) {
            *self.error.lock().unwrap() = error;
        }
    }

    impl Commit for Failing {
        fn commit(&self, batches: &[Batch]) -> Result<(), StoreError> {
            let error = self.error.lock().unwrap().clone();
            error.map_or_else(|| self.inner.commit(batches), Err)
        }

        fn reopen(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    fn start(disk: &Arc<Failing>, durable: &Durable) -> Writer {
        let queue = |stored| {
            let committer = Committer::start(Arc::clone(disk), stored)?;
            Ok(Box::new(committer) as Box<dyn StoreQueue>)
        };
        Writer::start(queue, durable.clone()).unwrap()
    }

    fn full() -> StoreError {
        StoreError::Full {
            what: "a test".to_owned(),
            detail: String::new(),
        }
    }

    fn broken() -> StoreError {
        StoreError::Io {
            what: "a test".to_owned(),
            detail: String::new(),
        }
    }

    fn until(holds: impl Fn() -> bool) {
        while !holds() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_finds_no_room_waits_and_is_stored_in_order_when_there_is_some() {
        let (disk, durable) = (Arc::new(Failing::default()), Durable::new(0));
        let writer = start(&disk, &durable);
        let (done, results) = channel();
        let submit = |no| {
            let done = done.clone();
            let tell = move |result| drop(done.send((no, result)));
            writer.submit(Batch::default(), Box::new(tell));
        };
        disk.fail(Some(full()));
        submit(1);
        until(|| durable.room().is_err());
        submit(2);
        // There is still no room.
        writer.retry();
        assert!(results.try_recv().is_err());
        disk.fail(None);
        writer.retry();
        assert_eq!(results.recv(), Ok((1, Ok(()))));
        assert_eq!(results.recv(), Ok((2, Ok(()))));
        assert_eq!(durable.room(), Ok(()));
        assert_eq!(durable.sound(), Ok(()));
        writer.stop().unwrap();
    }

    #[test]
    fn whoever_waits_for_room_is_told_when_it_ends() {
        let (disk, durable) = (Arc::new(Failing::default()), Durable::new(0));
        let writer = start(&disk, &durable);
        let (done, results) = channel();
        disk.fail(Some(full()));
        writer.submit(Batch::default(), Box::new(move |r| drop(done.send(r))));
        until(|| durable.room().is_err());
        writer.end_patience();
        assert_eq!(results.recv(), Ok(Err(full())));
        assert_eq!(writer.stop(), Err(full()));
    }

    #[test]
    fn any_other_error_is_the_end() {
        let (disk, durable) = (Arc::new(Failing::default()), Durable::new(0));
        let writer = start(&disk, &durable);
        let (done, results) = channel();
        disk.fail(Some(broken()));
        writer.submit(Batch::default(), Box::new(move |r| drop(done.send(r))));
        assert_eq!(results.recv(), Ok(Err(broken())));
        assert_eq!(durable.sound(), Err(broken()));
    }
}

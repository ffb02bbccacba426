//! The writing thread: batches become durable in the order in which they were queued, as many as wait with one sync.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::store::{Batch, StoreError};
use crate::storage::{Committer, Disk, Numbered};

/// Called when a batch is durable, or never will be acknowledged.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Queues batches for the committer's thread.
pub struct Writer {
    queue: Mutex<Queue>,
    waiting: Arc<Mutex<Waiting>>,
}

struct Queue {
    /// `None` once it is stopped.
    committer: Option<Committer>,
    last: u64,
}

#[derive(Default)]
struct Waiting {
    done: VecDeque<(u64, Done)>,
    failed: Option<StoreError>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system refuses one.
    pub fn start(disk: Arc<Disk>) -> Result<Self, StoreError> {
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let told = Arc::clone(&waiting);
        let committer = Committer::start(disk, move |result| settle(&told, result))?;
        let queue = Mutex::new(Queue {
            committer: Some(committer),
            last: 0,
        });
        Ok(Self { queue, waiting })
    }

    /// Queues a batch. After a failure nothing is stored any more: `done` gets that error.
    pub fn submit(&self, batch: Batch, done: Done) {
        let refused = {
            // Held until the batch is queued: numbers and callbacks must keep the same order.
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let number = queue.last + 1;
            match (&queue.committer, lock(&self.waiting)) {
                (None, _) => Some((super::closed(), done)),
                (Some(_), waiting) if waiting.failed.is_some() => {
                    waiting.failed.clone().map(|error| (error, done))
                }
                (Some(committer), mut waiting) => {
                    waiting.done.push_back((number, done));
                    drop(waiting);
                    committer.submit(Numbered { no: number, batch });
                    queue.last = number;
                    None
                }
            }
        };
        if let Some((error, done)) = refused {
            done(Err(error));
        }
    }

    /// Stores what is queued, and ends the thread. Blocks.
    ///
    /// # Errors
    /// The error that stopped the thread before.
    pub fn stop(&self) -> Result<(), StoreError> {
        let committer = {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.committer.take()
        };
        let result = committer.map_or(Ok(()), Committer::shutdown);
        settle(&self.waiting, Err(super::closed()));
        result
    }
}

fn settle(waiting: &Mutex<Waiting>, result: Result<u64, StoreError>) {
    let (ready, result) = {
        let mut waiting = lock(waiting);
        match result {
            Ok(highest) => {
                let count = waiting.done.partition_point(|(no, _)| *no <= highest);
                (waiting.done.drain(..count).collect::<Vec<_>>(), Ok(()))
            }
            Err(error) => {
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

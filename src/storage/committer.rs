//! The group committer: one thread per node that stores everything that waits with one sync.
//!
//! While one sync runs the next batches gather, so the number of syncs per second does not bound
//! the number of writes. Order is kept: batches become durable in the order in which they were
//! submitted. After an error nothing more is stored, and everything waits in order, until
//! [`Committer::resume`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::commit::Commit;
use crate::protocol::store::{Batch, StoreError};

/// Bytes of keys and values that one sync stores at most, unless a single batch is larger.
const ROUND_BYTES: usize = 8 << 20;

/// A batch and its place in the order: numbers ascend.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// Greater than the number of every batch before.
    pub no: u64,
    /// The changes to be stored.
    pub batch: Batch,
}

/// Work of the committer since its start. All numbers are totals.
#[derive(Debug, Default)]
pub struct CommitterStats {
    /// Successful commits, each with one sync.
    pub commits: AtomicU64,
    /// Batches stored.
    pub batches: AtomicU64,
    /// Operations stored.
    pub ops: AtomicU64,
    /// Bytes of keys and values stored.
    pub bytes: AtomicU64,
    /// Time in successful commits, in nanoseconds.
    pub nanoseconds: AtomicU64,
    /// When the commit began that is under way.
    began: Mutex<Option<Instant>>,
}

impl CommitterStats {
    /// How long the commit that is under way has taken so far.
    pub fn under_way(&self) -> Option<Duration> {
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        began.map(|began| began.elapsed())
    }

    fn is_at(&self, began: Option<Instant>) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }
}

/// The committer's handle. Dropping it is a shutdown.
pub struct Committer {
    queue: Sender<Message>,
    thread: Option<JoinHandle<Result<(), StoreError>>>,
    stats: Arc<CommitterStats>,
}

enum Message {
    Commit(Numbered),
    Resume,
    Stop,
}

impl Committer {
    /// Starts the thread. `done` is called on it after each commit: with the highest number that is
    /// now durable, or with the error that stopped it. It must not block.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start<D: Commit>(
        disk: Arc<D>,
        done: impl Fn(Result<u64, StoreError>) + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (queue, messages) = channel();
        let stats = Arc::new(CommitterStats::default());
        let worker = Worker {
            disk,
            done,
            stats: Arc::clone(&stats),
            waiting: VecDeque::new(),
            failed: None,
        };
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || worker.run(&messages))
            .map_err(|e| StoreError::Io {
                what: "starting the committer".to_owned(),
                detail: e.to_string(),
            })?;
        Ok(Self {
            queue,
            thread: Some(thread),
            stats,
        })
    }

    /// Queues a batch. The queue has no bound of its own: the caller bounds what it has in flight.
    pub fn submit(&self, commit: Numbered) {
        self.send(Message::Commit(commit));
    }

    /// After an error: reopens the store, then stores what failed and what waits since, in order.
    /// When that fails `done` gets the error, and the committer stays stopped. Meant for a device
    /// that was full; after other errors the node should stop.
    pub fn resume(&self) {
        self.send(Message::Resume);
    }

    /// The committer's totals.
    pub fn stats(&self) -> &Arc<CommitterStats> {
        &self.stats
    }

    /// Stores everything submitted before, and ends the thread.
    ///
    /// # Errors
    /// The error that stopped the committer: what was not acknowledged is lost.
    pub fn shutdown(mut self) -> Result<(), StoreError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), StoreError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        self.send(Message::Stop);
        thread.join().unwrap_or_else(|_| {
            Err(StoreError::Io {
                what: "the committer".to_owned(),
                detail: "its thread panicked".to_owned(),
            })
        })
    }

    fn send(&self, message: Message) {
        // The thread outlives the handle unless `done` panicked, which `shutdown` reports.
        if self.queue.send(message).is_err() {
            log::error!("the committer is gone");
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            log::error!("the committer ended with an error: {error}");
        }
    }
}

struct Worker<D, F> {
    disk: Arc<D>,
    done: F,
    stats: Arc<CommitterStats>,
    waiting: VecDeque<Numbered>,
    failed: Option<StoreError>,
}

impl<D: Commit, F: Fn(Result<u64, StoreError>)> Worker<D, F> {
    fn run(mut self, messages: &Receiver<Message>) -> Result<(), StoreError> {
        let mut stop = false;
        loop {
            let idle = self.waiting.is_empty() || self.failed.is_some();
            if idle && stop {
                return self.failed.map_or(Ok(()), Err);
            }
            if idle {
                match messages.recv() {
                    Ok(message) => stop |= self.take(message),
                    Err(_) => stop = true,
                }
            }
            while let Ok(message) = messages.try_recv() {
                stop |= self.take(message);
            }
            if self.failed.is_none() {
                self.commit_round();
            }
        }
    }

    /// Returns whether the thread should end.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Commit(commit) => {
                debug_assert!(self.waiting.back().is_none_or(|last| last.no < commit.no));
                self.waiting.push_back(commit);
            }
            Message::Resume => {
                if self.failed.is_some() {
                    self.failed = self.disk.reopen().err();
                    if let Some(error) = &self.failed {
                        (self.done)(Err(error.clone()));
                    }
                }
            }
            Message::Stop => return true,
        }
        false
    }

    fn commit_round(&mut self) {
        let (mut batches, mut numbers, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = self.waiting.front() {
            let size = next.batch.bytes();
            if !batches.is_empty() && bytes + size > ROUND_BYTES {
                break;
            }
            bytes += size;
            if let Some(next) = self.waiting.pop_front() {
                batches.push(next.batch);
                numbers.push(next.no);
            }
        }
        let Some(&highest) = numbers.last() else {
            return;
        };
        let began = Instant::now();
        self.stats.is_at(Some(began));
        let stored = self.disk.commit(&batches);
        self.stats.is_at(None);
        match stored {
            Ok(()) => {
                self.count(&batches, bytes, began);
                (self.done)(Ok(highest));
            }
            Err(error) => {
                // Back to the head of the queue: they go first after a resume.
                for (no, batch) in numbers.into_iter().zip(batches).rev() {
                    self.waiting.push_front(Numbered { no, batch });
                }
                self.failed = Some(error.clone());
                (self.done)(Err(error));
            }
        }
    }

    fn count(&self, batches: &[Batch], bytes: usize, began: Instant) {
        let add = |total: &AtomicU64, n: u64| {
            total.fetch_add(n, Ordering::Relaxed);
        };
        let ops: usize = batches.iter().map(|batch| batch.ops.len()).sum();
        let nanoseconds = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        add(&self.stats.commits, 1);
        add(&self.stats.batches, batches.len() as u64);
        add(&self.stats.ops, ops as u64);
        add(&self.stats.bytes, bytes as u64);
        add(&self.stats.nanoseconds, nanoseconds);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::protocol::store::Store;
    use crate::storage::Memory;

    /// A store that can be told to fail, and notes the size of each commit.
    #[derive(Default)]
    struct Failing {
        inner: Memory,
        full: AtomicBool,
        /// Held by a test: commits hang.
        hangs: Mutex<()>,
        rounds: Mutex<Vec<usize>>,
    }

    impl Commit for Failing {
        fn commit(&self, batches: &[Batch]) -> Result<(), StoreError> {
            if self.full.load(Ordering::SeqCst) {
                return Err(StoreError::Full {
                    what: "a test".to_owned(),
                    detail: String::new(),
                });
            }
            drop(self.hangs.lock().unwrap());
            self.rounds.lock().unwrap().push(batches.len());
            self.inner.commit(batches)
        }

        fn reopen(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    fn numbered(no: u64) -> Numbered {
        let mut batch = Batch::default();
        batch.put("last", no.to_be_bytes().to_vec());
        batch.put(no.to_be_bytes().to_vec(), "value");
        Numbered { no, batch }
    }

    #[test]
    fn it_drains_at_shutdown_in_order() {
        let disk = Arc::new(Failing::default());
        let (done, reports) = channel();
        let committer = Committer::start(Arc::clone(&disk), move |r| drop(done.send(r))).unwrap();
        for no in 1..=1000 {
            committer.submit(numbered(no));
        }
        let stats = Arc::clone(committer.stats());
        committer.shutdown().unwrap();
        let reports: Vec<u64> = reports.iter().map(Result::unwrap).collect();
        assert!(reports.is_sorted() && reports.last() == Some(&1000));
        let last = disk.inner.get(b"last").unwrap().unwrap();
        assert_eq!(last[..], 1000_u64.to_be_bytes());
        assert_eq!(stats.batches.load(Ordering::Relaxed), 1000);
        assert_eq!(stats.ops.load(Ordering::Relaxed), 2000);
        assert_eq!(
            stats.commits.load(Ordering::Relaxed) as usize,
            disk.rounds.lock().unwrap().len()
        );
    }

    #[test]
    fn after_an_error_it_waits_and_then_stores_everything_in_order() {
        let disk = Arc::new(Failing::default());
        disk.full.store(true, Ordering::SeqCst);
        let (done, reports) = channel();
        let committer = Committer::start(Arc::clone(&disk), move |r| drop(done.send(r))).unwrap();
        committer.submit(numbered(1));
        assert!(matches!(
            reports.recv().unwrap(),
            Err(StoreError::Full { .. })
        ));
        disk.full.store(false, Ordering::SeqCst);
        committer.submit(numbered(2));
        // Space alone does not resume it.
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(reports.try_recv().is_err());
        committer.resume();
        committer.shutdown().unwrap();
        assert_eq!(reports.iter().last().unwrap(), Ok(2));
        for no in 1..=2_u64 {
            assert!(disk.inner.get(&no.to_be_bytes()).unwrap().is_some());
        }
    }

    #[test]
    fn a_commit_that_hangs_is_seen_to_be_under_way() {
        let disk = Arc::new(Failing::default());
        let (done, reports) = channel();
        let committer = Committer::start(Arc::clone(&disk), move |r| drop(done.send(r))).unwrap();
        assert_eq!(committer.stats().under_way(), None);
        let hangs = disk.hangs.lock().unwrap();
        committer.submit(numbered(1));
        let long = Duration::from_millis(20);
        while committer.stats().under_way().is_none_or(|t| t < long) {
            assert!(reports.try_recv().is_err());
            std::thread::yield_now();
        }
        drop(hangs);
        assert_eq!(reports.recv().unwrap(), Ok(1));
        assert_eq!(committer.stats().under_way(), None);
    }

    #[test]
    fn a_round_is_bounded_by_its_bytes() {
        let disk = Arc::new(Failing::default());
        let messages = channel().1;
        let mut worker = Worker {
            disk: Arc::clone(&disk),
            done: |_| {},
            stats: Arc::default(),
            waiting: VecDeque::new(),
            failed: None,
        };
        for no in 1..=5 {
            let mut batch = Batch::default();
            batch.put("key", vec![0; 3 << 20]);
            worker.take(Message::Commit(Numbered { no, batch }));
        }
        worker.run(&messages).unwrap();
        assert_eq!(*disk.rounds.lock().unwrap(), [2, 2, 1]);
    }
}

//! Log compaction: a snapshot is made once the log has grown by as many bytes as the last snapshot
//! has, or by a least number of them if that is more. So no more is written for snapshots than for
//! the log itself, however large the state is, and a start reads no more of the log than of the
//! snapshot.
//!
//! The entries between the last two snapshots stay in the log, for nodes that are a little behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::types::Raft;

/// How far the log has grown since the last snapshot. Clones share it.
#[derive(Clone)]
pub struct Growth(Arc<Shared>);

struct Shared {
    /// In bytes: the least growth between two snapshots, the growth since the last one, and the
    /// size of the last one.
    least: u64,
    grown: AtomicU64,
    last: AtomicU64,
    reached: Notify,
}

impl Growth {
    /// `least` bytes of the log are between two snapshots at least.
    pub fn new(least: u64) -> Self {
        Self(Arc::new(Shared {
            least,
            grown: AtomicU64::new(0),
            last: AtomicU64::new(0),
            reached: Notify::new(),
        }))
    }

    /// Adds the bytes of entries that were applied.
    pub fn add(&self, bytes: usize) {
        let shared = &*self.0;
        let grown = shared.grown.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if grown >= shared.least.max(shared.last.load(Ordering::Relaxed)) {
            shared.reached.notify_one();
        }
    }

    /// Counts from zero: a snapshot stands for everything that was applied.
    pub fn restart(&self) {
        self.0.grown.store(0, Ordering::Relaxed);
    }

    /// Notes the size of the last snapshot, in bytes.
    pub fn snapshot(&self, bytes: usize) {
        self.0.last.store(bytes as u64, Ordering::Relaxed);
    }

    /// Room for the next snapshot, in bytes: most are a little larger than the one before.
    pub fn room(&self) -> usize {
        let last = usize::try_from(self.0.last.load(Ordering::Relaxed)).unwrap_or(0);
        last + last / 8
    }
}

/// Has snapshots made and the log cut, until the library ends.
pub async fn keep_short(raft: Raft, growth: Growth) {
    let mut metrics = raft.data_metrics();
    loop {
        growth.0.reached.notified().await;
        let before = metrics.borrow_and_update().snapshot;
        // A snapshot may be under way already, for a node that is far behind: that one counts.
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let made = tokio::select! {
            biased;
            made = metrics.wait_for(|now| now.snapshot > before) => made.is_ok(),
            // The library made none, as when one was received just before; now the log has grown
            // enough for another.
            () = growth.0.reached.notified() => {
                growth.0.reached.notify_one();
                continue;
            }
        };
        if !made {
            return;
        }
        if let Some(before) = before
            && raft.trigger().purge_log(before.index).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn it_is_enough_when_the_log_has_grown_by_the_least_or_by_the_last_snapshot() {
        let growth = Growth::new(100);
        let enough = |bytes| {
            growth.add(bytes);
            growth.0.reached.notified().now_or_never().is_some()
        };
        assert!(!enough(99));
        assert!(enough(1));
        growth.restart();
        growth.snapshot(250);
        assert!(!enough(249));
        assert!(enough(1));
        growth.restart();
        growth.snapshot(10);
        assert!(!enough(99));
        assert!(enough(1));
    }
}

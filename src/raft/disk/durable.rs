//! How far a node's log is on its disk.
//!
//! The library goes on as soon as an entry is in memory, so that a leader's disk and its followers'
//! work at the same time (Ongaro, "Consensus: Bridging Theory and Practice", section 10.2.1). What
//! may not run ahead of the disk waits here: what a node confirms, what a leader counts as
//! confirmed, what is applied, and what others are told to be decided.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::protocol::store::StoreError;
use crate::raft::runtime;

/// Clones share it.
#[derive(Clone)]
pub struct Durable(watch::Sender<State>);

struct State {
    /// Entries below this index are durable.
    next: u64,
    /// Since when the disk owes the next one, if it does.
    owes: Option<Instant>,
    /// Nothing is stored until there is room again.
    full: Option<StoreError>,
    failed: Option<StoreError>,
}

impl Durable {
    /// Entries below `next` are durable.
    pub fn new(next: u64) -> Self {
        Self(watch::Sender::new(State {
            next,
            owes: None,
            full: None,
            failed: None,
        }))
    }

    /// Entries below this index are durable.
    pub fn next(&self) -> u64 {
        self.0.borrow().next
    }

    /// Entries were queued.
    pub fn queued(&self) {
        self.0.send_if_modified(|state| {
            state.owes.get_or_insert_with(runtime::now);
            false
        });
    }

    /// Entries below `next` became durable. Nothing more is `owed` when those are all.
    pub fn reached(&self, next: u64, owed: bool) {
        self.0.send_modify(|state| {
            state.next = state.next.max(next);
            state.owes = owed.then(runtime::now);
        });
    }

    /// Entries from this index on were cut off, or, where a snapshot stands for all below, `next`
    /// is where the log begins.
    pub fn set(&self, next: u64) {
        self.0.send_modify(|state| {
            state.next = next;
            state.owes = None;
        });
    }

    /// The disk has no room, or has again.
    pub fn fill(&self, full: Option<StoreError>) {
        self.0.send_if_modified(|state| {
            let changed = state.full.is_some() != full.is_some();
            state.full = full;
            changed
        });
    }

    /// Whether the disk has room, as far as storing has shown.
    ///
    /// # Errors
    /// The writer's, until it stores again.
    pub fn room(&self) -> Result<(), StoreError> {
        self.0.borrow().full.clone().map_or(Ok(()), Err)
    }

    /// Returns when the disk is full, or is no more.
    pub async fn until_full(&self, full: bool) {
        let mut states = self.0.subscribe();
        // An error would mean that the sender is gone, which is held here.
        let _ = states.wait_for(|state| state.full.is_some() == full).await;
    }

    /// Nothing will become durable any more.
    pub fn fail(&self, error: StoreError) {
        self.0.send_modify(|state| {
            state.failed.get_or_insert(error);
        });
    }

    /// Returns when nothing will become durable any more, with the reason.
    pub async fn failure(&self) -> StoreError {
        let mut states = self.0.subscribe();
        loop {
            if let Some(error) = &states.borrow_and_update().failed {
                return error.clone();
            }
            // As above.
            let _ = states.changed().await;
        }
    }

    /// Whether entries can become durable.
    ///
    /// # Errors
    /// The writer's, once it has failed.
    pub fn sound(&self) -> Result<(), StoreError> {
        self.0.borrow().failed.clone().map_or(Ok(()), Err)
    }

    /// Whether the disk has stored nothing for this long, though it should, or has no room to.
    pub fn hangs(&self, time: Duration) -> bool {
        let state = self.0.borrow();
        state.full.is_some()
            || state
                .owes
                .is_some_and(|since| runtime::now() - since > time)
    }

    /// Returns when entries below `next` are durable. An entry that is cut off counts when another
    /// one has taken its place: it was durable before. A node cuts entries off only for a leader of
    /// a later term, and by then has stored that term behind them.
    ///
    /// # Errors
    /// The writer's, once it has failed.
    pub async fn wait(&self, next: u64) -> Result<(), StoreError> {
        let done = |state: &State| {
            let failed = state.failed.clone().map(Err);
            (state.next >= next).then_some(Ok(())).or(failed)
        };
        if let Some(result) = done(&self.0.borrow()) {
            return result;
        }
        let mut states = self.0.subscribe();
        let mut result = Ok(());
        // An error would mean that the sender is gone, which is held here.
        let _ = states
            .wait_for(|state| match done(state) {
                Some(found) => {
                    result = found;
                    true
                }
                None => false,
            })
            .await;
        result
    }
}

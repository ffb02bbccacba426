//! How far a node's log is on its disk.
//!
//! The library goes on as soon as an entry is in memory, so that a leader's disk and its followers'
//! work at the same time (Ongaro, "Consensus: Bridging Theory and Practice", section 10.2.1). Four
//! things may not run ahead of the disk, and wait here: a follower confirms, a leader counts its
//! own copy, a node applies, a leader tells others the commit index.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::protocol::store::StoreError;
use crate::raft::runtime;

/// The mark of what is durable, and how the disk does. Clones share it.
#[derive(Clone)]
pub struct Durable(watch::Sender<State>);

struct State {
    /// Entries below this index are durable.
    next: u64,
    /// Since when the disk has owed the next entry, if it does.
    owes: Option<Instant>,
    /// The disk is full: nothing is stored until there is room again.
    full: Option<StoreError>,
    failed: Option<StoreError>,
}

impl Durable {
    /// A mark: entries below `next` are durable.
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

    /// Notes that entries were queued.
    pub fn queued(&self) {
        self.0.send_if_modified(|state| {
            state.owes.get_or_insert_with(runtime::now);
            false
        });
    }

    /// Notes that entries below `next` became durable. `owed`: more are queued.
    pub fn reached(&self, next: u64, owed: bool) {
        self.0.send_modify(|state| {
            state.next = state.next.max(next);
            state.owes = owed.then(runtime::now);
        });
    }

    /// Moves the mark to `next`: entries from there on were cut off, or a snapshot stands for all
    /// below it and the log begins there.
    pub fn set(&self, next: u64) {
        self.0.send_modify(|state| {
            state.next = next;
            state.owes = None;
        });
    }

    /// Notes that the disk has no room, or has room again.
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

    /// Returns when the disk is full (`full`), or has room again.
    pub async fn until_full(&self, full: bool) {
        let mut states = self.0.subscribe();
        // Cannot fail: `self` holds the sender.
        let _ = states.wait_for(|state| state.full.is_some() == full).await;
    }

    /// Notes that nothing will become durable any more.
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
            // Cannot fail: `self` holds the sender.
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

    /// Whether the disk is full, or has stored nothing for this long though entries wait.
    pub fn hangs(&self, time: Duration) -> bool {
        let state = self.0.borrow();
        state.full.is_some()
            || state
                .owes
                .is_some_and(|since| runtime::now() - since > time)
    }

    /// Returns when entries below `next` are durable. An entry that was cut off counts as durable
    /// when another one has taken its place: a node cuts entries off only for a leader of a later
    /// term, and has stored that term behind them by then.
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
        // Cannot fail: `self` holds the sender.
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

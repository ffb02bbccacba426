//! When a node cannot go on in the Raft group: not now, since its disk is full, or never again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::disk::Durable;
use super::error::ConsensusError;
use super::machine::Machine;
use super::rejoin::eligibility::Eligibility;
use super::rpc::RaftRequest;
use super::transport::Transport;
use super::types::{EntryId, Raft};
use super::{RaftNode, ended};
use crate::protocol::store::StoreError;
use crate::storage::Disk;

/// Why a node's part in the Raft group ended though nobody shut it down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupFailure {
    /// Nothing can be stored any more, or the store contradicts what is decided.
    #[error(transparent)]
    Store(StoreError),
    /// The Raft library gave up, for this reason, though storing never failed.
    #[error("the Raft library gave up: {0}")]
    Library(String),
}

impl<M: Machine, T: Transport> RaftNode<M, T> {
    /// Resolves when this node can take part no more until it is opened again, with the reason.
    /// After a shutdown it never does.
    pub async fn failed(&self) -> GroupFailure {
        let inner = &self.inner;
        let mut changes = inner.raft.server_metrics();
        let ended = async { while changes.changed().await.is_ok() {} };
        let failed = tokio::select! {
            biased;
            error = inner.durable.failure() => GroupFailure::Store(error),
            () = ended => self.end_of_library(),
        };
        if inner.stop.is_cancelled() {
            std::future::pending::<()>().await;
        }
        failed
    }

    /// Why this node takes part no more, if so.
    pub fn failure(&self) -> Option<GroupFailure> {
        let inner = &self.inner;
        if inner.stop.is_cancelled() {
            return None;
        }
        let ended = inner.raft.metrics().borrow().running_state.is_err();
        let stored = inner.durable.sound().err().map(GroupFailure::Store);
        stored.or_else(|| ended.then(|| self.end_of_library()))
    }

    /// Whether the disk has stored nothing of the log for this long though something waits, or is
    /// full.
    pub fn hangs(&self, time: Duration) -> bool {
        self.inner.durable.hangs(time)
    }

    /// Ends this node's part, as storing does that fails.
    #[cfg(test)]
    pub fn fail(&self, error: StoreError) {
        self.inner.durable.fail(error);
    }

    fn end_of_library(&self) -> GroupFailure {
        if let Err(error) = self.inner.durable.sound() {
            return GroupFailure::Store(error);
        }
        GroupFailure::Library(match &self.inner.raft.metrics().borrow().running_state {
            Err(fatal) => ended(fatal).to_string(),
            // The library's task leaves no error behind when it panics.
            Ok(()) => "its task panicked".to_owned(),
        })
    }

    /// Has the library give up, as it may by itself.
    #[cfg(test)]
    pub async fn give_up(&self) {
        let ended = self.inner.raft.shutdown().await;
        assert!(ended.is_ok(), "it had ended before");
    }

    /// The disk that has the log, for as long as this node takes part.
    pub fn disk(&self) -> Weak<Disk> {
        self.inner.disk.real()
    }

    /// Whether the disk has room for the log, as far as storing has shown.
    ///
    /// # Errors
    /// `Full`.
    pub fn has_room(&self) -> Result<(), ConsensusError> {
        let room = self.inner.durable.room();
        room.map_err(|error| ConsensusError::Full(error.to_string()))
    }

    /// Whether a leader is sound, as far as its request shows. A leader with another entry in the
    /// place of a decided one makes this node's part in the Raft group fail: most voters have lost
    /// what they confirmed. The library assumes that they have not. It would take the leader's
    /// entries for its own, and panic when they are decided.
    pub(super) fn is_sound(&self, request: &RaftRequest) -> bool {
        let inner = &self.inner;
        let (vote, prev, entries) = match request {
            RaftRequest::Append(rpc) => (rpc.vote, rpc.prev_log_id, &rpc.entries[..]),
            RaftRequest::Snapshot(rpc) => (rpc.vote, rpc.meta.last_log_id, &[][..]),
            // Other requests show no part of the leader's log.
            _ => return true,
        };
        // A deposed leader may have entries that were never decided. The library refuses them.
        let Some(decided) = inner.log.decided_before(&vote) else {
            return true;
        };
        let sent = entries.iter().map(|entry| entry.log_id);
        let mut sent = prev.into_iter().chain(sent);
        let Some(other) = sent.find(|id| contradicts(*id, decided)) else {
            return true;
        };
        let error = StoreError::Io {
            what: "following the council's leader".to_owned(),
            detail: format!(
                "entry {decided} is decided here, and the leader of term {} has {other} in its log: most voters have \
                 lost their disks, or were given old copies",
                vote.leader_id.term
            ),
        };
        log::error!("{error}");
        inner.durable.fail(error);
        false
    }
}

/// Whether the two entries cannot be in one log.
fn contradicts(sent: EntryId, decided: EntryId) -> bool {
    match sent.index.cmp(&decided.index) {
        // Terms only grow along a log.
        std::cmp::Ordering::Less => sent.leader_id > decided.leader_id,
        std::cmp::Ordering::Equal => sent != decided,
        std::cmp::Ordering::Greater => false,
    }
}

/// Keeps the node from standing for election while its disk is full: it could store no vote.
pub async fn abstain_while_full(raft: Raft, durable: Durable, eligibility: Arc<Eligibility>) {
    loop {
        durable.until_full(true).await;
        raft.runtime_config().elect(false);
        durable.until_full(false).await;
        raft.runtime_config().elect(eligibility.votes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::CommittedLeaderId;

    #[test]
    fn an_entry_of_a_later_term_in_the_place_of_a_decided_one_contradicts_it() {
        let id = |term, index| EntryId::new(CommittedLeaderId::new(term, 1), index);
        let decided = id(3, 7);
        for (sent, wanted) in [
            (id(3, 7), false),
            (id(4, 7), true),
            (id(2, 7), true),
            (id(4, 6), true),
            (id(3, 6), false),
            (id(2, 6), false),
            (id(4, 8), false),
            (id(3, 8), false),
        ] {
            assert_eq!(contradicts(sent, decided), wanted, "{sent}");
        }
    }
}

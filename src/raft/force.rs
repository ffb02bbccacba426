//! Disaster recovery: a majority of the voters is gone for good, and one node that is left goes on
//! alone.
//!
//! Raft has no such step, for no step can be safe: entries that only the lost nodes had are lost,
//! and if those nodes come back there are two Raft groups. The step is the least that works. The
//! node's log stays as it is, and one entry behind it makes the node the only voter, in a later
//! term than any that the node knows of. When its part is opened again the node elects itself, and
//! thereby everything in its log is decided, also entries that never were.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, EntryPayload};

#[cfg(feature = "teeth")]
use super::disk::Engine;
use super::disk::{LogStore, RaftDisk};
use super::error::RaftOpenError;
use super::rejoin::eligibility::Eligibility;
use super::runtime;
use super::types::{Entry, EntryId, Vote, node_id};
use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;

/// Makes `me` the only voter of the Raft group in `dir`, which must not be open. Call it on one
/// node only, by decision of an operator who has made sure that
///
/// - the other voters do not run and never will again with the Raft group's data they have (wipe it
///   before they come back);
/// - of the nodes that are left this is the one with the longest log (`last_log` in its status, the
///   later term first).
///
/// Afterwards the other nodes that are left join again by themselves, as the reconciler finds them.
///
/// # Errors
/// When the directory cannot be used, or holds no Raft group.
pub async fn force(me: MemberId, dir: &Path) -> Result<(), RaftOpenError> {
    let dir = dir.to_owned();
    force_on(me, move || RaftDisk::open(&dir)).await
}

/// As [`force`], on a disk that a simulator has.
///
/// # Errors
/// As [`force`].
#[cfg(feature = "teeth")]
pub async fn force_simulated(me: MemberId, disk: Arc<dyn Engine>) -> Result<(), RaftOpenError> {
    force_on(me, || RaftDisk::on(disk)).await
}

async fn force_on(
    me: MemberId,
    open: impl FnOnce() -> Result<RaftDisk, StoreError> + Send + 'static,
) -> Result<(), RaftOpenError> {
    let open = runtime::blocking(move || {
        let disk = Arc::new(open()?);
        let log = LogStore::open(Arc::clone(&disk), node_id(me))?;
        Ok::<_, RaftOpenError>((disk, log))
    });
    let cannot = |error: &dyn std::error::Error| RaftOpenError::Start(error.to_string());
    let (disk, log) = open.await.map_err(|e| cannot(&e))??;
    disk.end_patience();
    let mut result = rewrite(me, log).await;
    if result.is_ok() {
        result = may_vote(Arc::clone(&disk)).await;
    }
    let closed = runtime::blocking(move || disk.close()).await;
    result?;
    closed.map_err(|e| cannot(&e))??;
    Ok(())
}

/// Gains the vote. A node that came without its log votes when it has caught up with a leader, and
/// there will be no leader but this node.
async fn may_vote(disk: Arc<RaftDisk>) -> Result<(), RaftOpenError> {
    let eligibility = runtime::blocking(move || Eligibility::open(disk)).await;
    let eligibility = eligibility.map_err(|e| RaftOpenError::Start(e.to_string()))??;
    Ok(eligibility.gain().await?)
}

async fn rewrite(me: MemberId, mut log: LogStore) -> Result<(), RaftOpenError> {
    let cannot = |error: &dyn std::error::Error| RaftOpenError::Start(error.to_string());
    let vote = log.read_vote().await.map_err(|e| cannot(&e))?;
    let state = log.get_log_state().await.map_err(|e| cannot(&e))?;
    let (Some(vote), Some(last)) = (vote, state.last_log_id) else {
        return Err(RaftOpenError::Start(
            "there is no council to go on with".to_owned(),
        ));
    };
    let id = node_id(me);
    let term = vote.leader_id().term.max(last.leader_id.term) + 1;
    let log_id = EntryId::new(CommittedLeaderId::new(term, id), last.index + 1);
    let members = openraft::Membership::new(vec![BTreeSet::from([id])], None);
    log::warn!(
        "FORCED: {me} goes on as the only voter of the council, with entry {log_id} after {last}. What only the other \
         voters had is lost. They must never run again with the council's data they have."
    );
    // The vote first: the log must hold no entry of a term that was not promised.
    log.save_vote(&Vote::new(term, id))
        .await
        .map_err(|e| cannot(&e))?;
    let entry = Entry {
        log_id,
        payload: EntryPayload::Membership(members),
    };
    log.blocking_append([entry]).await.map_err(|e| cannot(&e))
}

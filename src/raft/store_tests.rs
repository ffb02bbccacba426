//! The Raft library's own suite for storage, and what it does not ask: restarts and failures.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader, StorageError};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::apply::Applier;
use super::compact::Growth;
use super::disk::{Durable, LogStore, RaftDisk, Snapshots};
use super::machine::Machine;
use super::types::{Entry, EntryId, SnapshotMeta, Types, Vote};
use super::{
    ConsensusError, RaftConfig, RaftNode, RaftRole, Rpc, RpcReply, Transport, TransportError,
};
use crate::protocol::ids::MemberId;
use crate::protocol::store::{Batch, StoreError};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Nothing;

impl Machine for Nothing {
    type Command = ();
    type Outcome = ();
    type Followed = ();

    fn apply(&mut self, (): ()) {}

    fn followed(&self) {}

    fn members(&self) -> BTreeSet<MemberId> {
        BTreeSet::new()
    }
}

struct Builder;

impl StoreBuilder<Types, LogStore, Applier<Nothing>, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Applier<Nothing>), StorageError<u64>> {
        let dir = tempfile::tempdir().unwrap();
        let (disk, log) = open(dir.path());
        let snapshots = Snapshots::open(disk).unwrap();
        Ok((
            dir,
            log,
            // The suite applies what it has not appended.
            Applier::open(snapshots, Durable::new(u64::MAX), Growth::new(u64::MAX)).await?,
        ))
    }
}

fn open(dir: &Path) -> (Arc<RaftDisk>, LogStore) {
    let disk = Arc::new(RaftDisk::open(dir).unwrap());
    let log = LogStore::open(Arc::clone(&disk), 1).unwrap();
    (disk, log)
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId::new(openraft::CommittedLeaderId::new(term, 1), index)
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: id(term, index),
        payload: EntryPayload::Blank,
    }
}

#[test]
fn the_librarys_suite() {
    Suite::test_all(Builder).unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut log) = open(dir.path());
    let vote = Vote::new(3, 1);
    log.save_vote(&vote).await.unwrap();
    let entries: Vec<Entry> = (0..10).map(|n| entry(1, n)).collect();
    log.blocking_append(entries).await.unwrap();
    log.save_committed(Some(id(1, 6))).await.unwrap();
    log.purge(id(1, 2)).await.unwrap();
    log.truncate(id(1, 8)).await.unwrap();
    log.blocking_append([entry(3, 8)]).await.unwrap();
    disk.close().unwrap();

    let (_disk, mut log) = open(dir.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 6)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(id(1, 2)));
    assert_eq!(state.last_log_id, Some(id(3, 8)));
    let found = log.try_get_log_entries(0..100).await.unwrap();
    let found: Vec<EntryId> = found.into_iter().map(|entry| entry.log_id).collect();
    let mut wanted: Vec<EntryId> = (3..8).map(|n| id(1, n)).collect();
    wanted.push(id(3, 8));
    assert_eq!(found, wanted);
}

/// A node that was sent a snapshot crashes while it stores it.
#[tokio::test]
async fn the_log_is_cut_when_the_snapshot_is_stored_that_stands_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, log) = open(dir.path());
    let snapshots = Snapshots::open(Arc::clone(&disk)).unwrap();
    let mut log = log.with(&snapshots);
    let entries: Vec<Entry> = (0..3).map(|n| entry(1, n)).collect();
    log.blocking_append(entries).await.unwrap();
    let mut cut = Box::pin(log.purge(id(1, 8)));
    assert!(cut.as_mut().now_or_never().is_none());
    assert!(disk.get(b"p").unwrap().is_none());
    let meta = |last| SnapshotMeta {
        last_log_id: Some(last),
        ..SnapshotMeta::default()
    };
    let data = Bytes::from_static(b"data");
    snapshots.save(&meta(id(1, 2)), data.clone()).await.unwrap();
    assert!(cut.as_mut().now_or_never().is_none());
    snapshots.save(&meta(id(1, 8)), data).await.unwrap();
    cut.await.unwrap();
    assert!(disk.get(b"p").unwrap().is_some());
    // A task that waits for a snapshot that will not come gets an error.
    disk.durable().fail(StoreError::Io {
        what: "a test".to_owned(),
        detail: String::new(),
    });
    assert!(log.purge(id(1, 9)).await.is_err());
}

#[tokio::test]
async fn what_takes_the_place_of_what_was_cut_off_is_durable_when_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut log) = open(dir.path());
    let entries: Vec<Entry> = (0..10).map(|n| entry(1, n)).collect();
    log.blocking_append(entries).await.unwrap();
    log.durable().wait(10).await.unwrap();
    log.truncate(id(1, 5)).await.unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    disk.submit(Batch::default(), move |_| {
        let _ = held.recv();
    });
    log.blocking_append([entry(2, 5)]).await.unwrap();
    assert_eq!(log.durable().next(), 5);
    assert!(log.durable().wait(6).now_or_never().is_none());
    drop(release);
    log.durable().wait(6).await.unwrap();
}

#[tokio::test]
async fn who_led_when_it_crashed_does_not_lead_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let mine = Vote::new_committed(3, 1);
    let (disk, mut log) = open(dir.path());
    log.save_vote(&mine).await.unwrap();
    disk.close().unwrap();
    drop((disk, log));

    // It was closed before, and is now left by a crash.
    let (disk, mut log) = open(dir.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(mine));
    assert!(!log.led());
    drop((disk, log));

    let (disk, mut log) = open(dir.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
    assert!(log.led());
    disk.close().unwrap();
    drop((disk, log));

    let (disk, mut log) = open(dir.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(3, 1)));
    let theirs = Vote::new_committed(4, 2);
    log.save_vote(&theirs).await.unwrap();
    drop((disk, log));
    let (_disk, mut log) = open(dir.path());
    assert_eq!(log.read_vote().await.unwrap(), Some(theirs));
    assert!(!log.led());
}

#[tokio::test]
async fn a_closed_store_gives_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, mut log) = open(dir.path());
    log.blocking_append([entry(1, 0)]).await.unwrap();
    disk.close().unwrap();
    assert!(log.save_vote(&Vote::new(1, 1)).await.is_err());
    assert_eq!(
        log.read_vote().await.unwrap(),
        None,
        "a vote that is not stored"
    );
    assert!(log.blocking_append([entry(1, 1)]).await.is_err());
}

/// There is nobody else.
#[derive(Clone)]
struct Alone;

impl Transport for Alone {
    async fn call(&self, to: MemberId, _: Rpc, _: Duration) -> Result<RpcReply, TransportError> {
        Err(TransportError::Unreachable(to))
    }

    fn alive(&self, _: MemberId) -> bool {
        false
    }
}

#[tokio::test]
async fn a_raft_group_whose_storage_failed_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let me = MemberId(1);
    let raft: RaftNode<Nothing, Alone> =
        RaftNode::open(RaftConfig::default(), me, Alone, dir.path())
            .await
            .unwrap();
    raft.initialize(&BTreeSet::from([me])).await.unwrap();
    raft.propose(()).await.unwrap();
    raft.inner.disk.close().unwrap();
    let failed = raft.propose(()).await;
    assert!(
        matches!(failed, Err(ConsensusError::Storage(_))),
        "{failed:?}"
    );
    let failed = raft.read().await.map(drop);
    assert!(
        matches!(failed, Err(ConsensusError::Storage(_))),
        "{failed:?}"
    );
    let status = raft.status().await;
    assert_eq!(status.role, RaftRole::Stopped);
    assert!(status.failure.is_some());
    raft.shutdown().await.unwrap();
}

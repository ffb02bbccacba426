//! Vote and log on disk, for the Raft library.
//!
//! Entries can be read as soon as they are appended, and the library goes on then: see [`Durable`]
//! for what has to wait. Entries that are not yet durable, and the latest others, are kept in
//! memory. Older ones are read from disk.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, LogState, RaftLogReader, StorageError};

use tokio::sync::watch;

use super::index::{LogIndex, next};
use super::{Durable, Engine, RaftDisk, Snapshots, decode, encode, fatal, no_encoding};
use crate::protocol::store::{Batch, StoreError};
use crate::raft::rpc;
use crate::raft::teeth::{RaftRule, broken};
use crate::raft::types::{Entry, EntryId, LeaderId, Types, Vote};

/// Bytes of entries that are sent to another node at once, unless one entry is larger.
const SEND_BYTES: usize = 1 << 20;

type Failure = StorageError<u64>;

/// The log. Clones share it.
#[derive(Clone)]
pub struct LogStore {
    disk: Arc<RaftDisk>,
    index: Arc<Mutex<LogIndex>>,
    durable: Durable,
    /// The last entry that a snapshot on the disk stands for.
    snapshot: Option<watch::Receiver<Option<EntryId>>>,
    led: bool,
}

impl LogStore {
    /// Reads where the log of the node with this number stands. Blocks.
    ///
    /// # Errors
    /// `Corrupt` when the log has a gap or cannot be decoded; and those of reading.
    pub fn open(disk: Arc<RaftDisk>, me: u64) -> Result<Self, StoreError> {
        let store = disk.disk()?;
        let purged: Option<EntryId> = load(&*store, b"p", "the council's purged mark")?;
        let mut last = purged;
        let mut damage = None;
        store.scan(&key(next(purged)), &key(u64::MAX), &mut |_, value| {
            match decode::<Entry>("an entry of the council's log", &value) {
                Ok(entry) if entry.log_id.index == next(last) => last = Some(entry.log_id),
                Ok(entry) => damage = Some(gap(last, entry.log_id)),
                Err(error) => damage = Some(error),
            }
            damage.is_none()
        })?;
        if let Some(damage) = damage {
            return Err(damage);
        }
        let mut vote: Option<Vote> = load(&*store, b"v", "the council's vote")?;
        let led = !disk.was_closed()
            && !broken(RaftRule::LeadOnAfterCrash)
            && vote.as_ref().is_some_and(|vote| leads(vote, me));
        if let Some(vote) = vote.as_mut().filter(|_| led) {
            vote.committed = false;
            // Stored, for this time the log may be closed in order.
            let mut batch = Batch::default();
            batch.put(&b"v"[..], encode("a vote", vote)?);
            store.commit_now(batch)?;
        }
        let index = LogIndex {
            vote,
            committed: load(&*store, b"c", "the council's commit mark")?,
            purged,
            last,
            tail: VecDeque::new(),
            tail_bytes: 0,
        };
        let durable = disk.durable().clone();
        durable.set(next(last));
        Ok(Self {
            disk,
            index: Arc::new(Mutex::new(index)),
            durable,
            snapshot: None,
            led,
        })
    }

    /// The log with these snapshots: it drops only entries that one of them stands for.
    pub fn with(mut self, snapshots: &Snapshots) -> Self {
        self.snapshot = Some(snapshots.stored());
        self
    }

    /// Returns when a snapshot on the disk stands for all entries up to `last`. The library stores
    /// a snapshot from another node and cuts the log at the same time: without this, a crash in
    /// between would leave neither.
    async fn stands_for(&self, last: EntryId) -> Result<(), StoreError> {
        let Some(mut stored) = self.snapshot.clone() else {
            return Ok(());
        };
        let stored = async { stored.wait_for(|id| *id >= Some(last)).await.is_ok() };
        tokio::select! {
            biased;
            there = stored => there.then_some(()).ok_or_else(super::closed),
            error = self.durable.failure() => Err(error),
        }
    }

    /// Whether this node led when it crashed. It has to be elected again: entries that it had sent
    /// may be missing here, and in the same term other entries would take their numbers.
    pub fn led(&self) -> bool {
        self.led
    }

    /// How far the log is on the disk.
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// The last entry, stored or not.
    pub fn last(&self) -> Option<EntryId> {
        self.lock().last
    }

    /// The leader or candidate whom this node has promised itself to, as its disk has it.
    pub fn promised(&self) -> LeaderId {
        let vote = self.lock().vote;
        vote.map(|vote| vote.leader_id).unwrap_or_default()
    }

    /// The last entry that this node knows to be decided, unless it has promised another vote that
    /// is later than this one.
    pub fn decided_before(&self, vote: &Vote) -> Option<EntryId> {
        let index = self.lock();
        let later = index.vote.as_ref().is_some_and(|promised| promised > vote);
        index.decided().filter(|_| !later)
    }

    fn lock(&self) -> MutexGuard<'_, LogIndex> {
        lock(&self.index)
    }

    /// The entries in `range` that are there. With `limit`, as many of the first as fit into that
    /// many bytes, and at least one.
    async fn entries(
        &self,
        range: Range<u64>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut room = limit.unwrap_or(usize::MAX);
        // An entry in memory might never be on the disk: a sender has to learn of that.
        self.durable.sound()?;
        let (older, range) = {
            let index = self.lock();
            let range = range.start.max(next(index.purged))..range.end.min(next(index.last));
            (range.start..range.end.min(index.tail_start()), range)
        };
        let mut found = Vec::new();
        if !older.is_empty() {
            let read = older.clone();
            let scan = move |disk: &dyn Engine| scan(disk, read.clone(), room);
            (found, room) = self.disk.read(scan).await?;
        }
        let nowhere = older.end.max(range.start);
        let from = found.last().map_or(nowhere, |e| e.log_id.index + 1);
        let index = self.lock();
        for (entry, bytes) in index.recent(from..range.end) {
            if *bytes > room && !found.is_empty() {
                break;
            }
            room = room.saturating_sub(*bytes);
            found.push(entry.clone());
        }
        Ok(found)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, Failure> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start..end, None).await.map_err(cannot_read)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, Failure> {
        self.entries(start..end, Some(SEND_BYTES))
            .await
            .map_err(cannot_read)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, Failure> {
        let index = self.lock();
        Ok(LogState {
            last_purged_log_id: index.purged,
            last_log_id: index.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), Failure> {
        let failed = |error| fatal(ErrorSubject::Vote, ErrorVerb::Write, &error);
        let mut batch = Batch::default();
        if !broken(RaftRule::ForgetVote) {
            batch.put(&b"v"[..], encode("a vote", vote).map_err(failed)?);
        }
        self.disk.write(batch).await.map_err(failed)?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, Failure> {
        Ok(self.lock().vote)
    }

    /// Put off until the next batch: the stored commit index may be behind, never ahead, and is
    /// stored behind the entries that it names.
    async fn save_committed(&mut self, committed: Option<EntryId>) -> Result<(), Failure> {
        let Some(id) = committed else {
            return Ok(());
        };
        let mut batch = Batch::default();
        batch.put(
            &b"c"[..],
            encode("a commit mark", &id).map_err(cannot_write)?,
        );
        self.disk.put_off(batch);
        self.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<EntryId>, Failure> {
        Ok(self.lock().committed())
    }

    /// Calls back before the entries are durable.
    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), Failure>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut batch = Batch::default();
        let below = {
            let mut index = self.lock();
            for entry in entries {
                let at = entry.log_id.index;
                if at < next(index.purged) {
                    // A snapshot stands for it already.
                    continue;
                }
                // The library may leave a gap only below, where a snapshot stands for what is
                // missing.
                if index.last.is_some() && at != next(index.last) {
                    return Err(cannot_write(gap(index.last, entry.log_id)));
                }
                let bytes = rpc::encode(&entry, rpc::entry_size(&entry));
                let bytes =
                    bytes.map_err(|error| cannot_write(no_encoding("a log entry", error)))?;
                index.push(entry, bytes.len());
                batch.put(key(at), bytes);
            }
            next(index.last)
        };
        self.durable.queued();
        // The callback holds no disk: the writer cannot be ended on its own thread.
        let (index, durable) = (Arc::clone(&self.index), self.durable.clone());
        self.disk.submit(batch, move |result| {
            // A failure is told by the writer.
            if result.is_ok() {
                let mut index = lock(&index);
                durable.reached(below, next(index.last) > below);
                index.shrink(below);
            }
        });
        self.durable.sound().map_err(cannot_write)?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: EntryId) -> Result<(), Failure> {
        let from = log_id.index;
        let kept = match from.checked_sub(1) {
            None => None,
            Some(before) => {
                let found = self.entries(before..from, None).await;
                let entry = found.map_err(cannot_read)?.pop();
                entry.map_or_else(|| self.lock().purged, |entry| Some(entry.log_id))
            }
        };
        let mut batch = Batch::default();
        {
            let mut index = self.lock();
            for at in from..next(index.last) {
                batch.delete(key(at));
            }
            index.cut_from(from);
            index.last = kept;
        }
        // Waits: a sync that is under way would count the entries that are cut off as durable.
        self.disk.write(batch).await.map_err(cannot_write)?;
        self.durable.set(self.durable.next().min(from));
        Ok(())
    }

    async fn purge(&mut self, log_id: EntryId) -> Result<(), Failure> {
        self.stands_for(log_id).await.map_err(cannot_write)?;
        let mut batch = Batch::default();
        batch.put(
            &b"p"[..],
            encode("a purged mark", &log_id).map_err(cannot_write)?,
        );
        {
            let mut index = self.lock();
            let below = log_id.index + 1;
            // A snapshot stands for the whole log, also for what is in it of earlier terms.
            let whole = index.last < Some(log_id);
            let end = if whole { u64::MAX } else { below };
            for at in next(index.purged)..end.min(next(index.last)) {
                batch.delete(key(at));
            }
            index.cut_below(end);
            index.purged = Some(log_id);
            if whole {
                index.last = Some(log_id);
                self.durable.set(below);
            }
        }
        self.disk.write(batch).await.map_err(cannot_write)
    }
}

/// Locks the index. Nothing that can panic half-way runs under this lock, so a poisoned index is
/// still whole.
fn lock(index: &Mutex<LogIndex>) -> MutexGuard<'_, LogIndex> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(b'l');
    key.extend(index.to_be_bytes());
    key
}

/// Whether the node with this number leads by this vote.
fn leads(vote: &Vote, me: u64) -> bool {
    vote.committed && vote.leader_id.voted_for() == Some(me)
}

fn load<T: serde::de::DeserializeOwned>(
    disk: &dyn Engine,
    key: &[u8],
    what: &str,
) -> Result<Option<T>, StoreError> {
    disk.get(key)?.map(|bytes| decode(what, &bytes)).transpose()
}

/// Entries from disk as long as there is room, at least one, and the room that is left.
fn scan(
    disk: &dyn Engine,
    range: Range<u64>,
    mut room: usize,
) -> Result<(Vec<Entry>, usize), StoreError> {
    let mut found = Vec::new();
    let mut damage = None;
    disk.scan(&key(range.start), &key(range.end), &mut |_, value| {
        if value.len() > room && !found.is_empty() {
            room = 0;
            return false;
        }
        room = room.saturating_sub(value.len());
        match decode("an entry of the council's log", &value) {
            Ok(entry) => found.push(entry),
            Err(error) => damage = Some(error),
        }
        damage.is_none()
    })?;
    damage.map_or(Ok((found, room)), Err)
}

fn gap(last: Option<EntryId>, found: EntryId) -> StoreError {
    StoreError::Corrupt {
        what: "the council's log".to_owned(),
        detail: format!("{found} comes after {last:?}"),
    }
}

fn cannot_read(error: StoreError) -> Failure {
    fatal(ErrorSubject::Logs, ErrorVerb::Read, &error)
}

fn cannot_write(error: StoreError) -> Failure {
    fatal(ErrorSubject::Logs, ErrorVerb::Write, &error)
}

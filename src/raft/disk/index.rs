//! The bounds and marks of the Raft log, and the latest entries in memory.

use std::collections::VecDeque;
use std::ops::Range;

use crate::raft::types::{Entry, EntryId, Vote};

/// Bytes of durable entries kept in memory.
const TAIL_BYTES: usize = 8 << 20;

/// The bounds and marks of the log, and its latest entries.
pub struct LogIndex {
    pub vote: Option<Vote>,
    pub committed: Option<EntryId>,
    pub purged: Option<EntryId>,
    pub last: Option<EntryId>,
    /// The latest entries without a gap, each with its size in bytes.
    pub tail: VecDeque<(Entry, usize)>,
    pub tail_bytes: usize,
}

impl LogIndex {
    /// The commit index as stored. A stored index beyond the log does not count: a snapshot stands
    /// for its entry.
    pub fn committed(&self) -> Option<EntryId> {
        self.committed.filter(|id| id.index < next(self.last))
    }

    /// The last entry that is known to be decided.
    pub fn decided(&self) -> Option<EntryId> {
        self.committed().max(self.purged)
    }

    /// Index of the first entry in memory, or of the next one to come.
    pub fn tail_start(&self) -> u64 {
        self.tail
            .front()
            .map_or(next(self.last), |(entry, _)| entry.log_id.index)
    }

    /// The entries of `range` that are in memory, if its first one is.
    pub fn recent(&self, range: Range<u64>) -> impl Iterator<Item = &(Entry, usize)> {
        let skip = range.start.checked_sub(self.tail_start());
        let count = range.end.saturating_sub(range.start);
        // An index that does not fit is beyond the end of any memory.
        let skip = skip.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.tail.iter().skip(skip).take(count)
    }

    pub fn push(&mut self, entry: Entry, bytes: usize) {
        self.last = Some(entry.log_id);
        self.tail.push_back((entry, bytes));
        self.tail_bytes += bytes;
    }

    /// Drops old entries from memory, but none that are not `durable`: those are nowhere else.
    pub fn shrink(&mut self, durable: u64) {
        while self.tail_bytes > TAIL_BYTES
            && self
                .tail
                .front()
                .is_some_and(|(entry, _)| entry.log_id.index < durable)
        {
            if let Some((_, bytes)) = self.tail.pop_front() {
                self.tail_bytes -= bytes;
            }
        }
    }

    pub fn cut_from(&mut self, index: u64) {
        while self
            .tail
            .back()
            .is_some_and(|(entry, _)| entry.log_id.index >= index)
        {
            if let Some((_, bytes)) = self.tail.pop_back() {
                self.tail_bytes -= bytes;
            }
        }
    }

    pub fn cut_below(&mut self, index: u64) {
        while self
            .tail
            .front()
            .is_some_and(|(entry, _)| entry.log_id.index < index)
        {
            if let Some((_, bytes)) = self.tail.pop_front() {
                self.tail_bytes -= bytes;
            }
        }
    }
}

/// The index after a log id.
pub fn next(id: Option<EntryId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

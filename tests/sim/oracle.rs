//! What is true of the writes, known from outside: who made them after having seen what, which
//! dots they got, and which of them are still somewhere.

use causeway::protocol::ids::{Dot, LogId};
use causeway::protocol::version::{Key, Stamp};
use causeway::protocol::view::{PartitionId, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A write of a client, however often it was tried.
pub type WriteId = usize;

/// A set of writes: a client's whole past, with nothing pruned.
#[derive(Debug, Clone, Default)]
pub struct Past(Vec<u64>);

impl Past {
    pub fn insert(&mut self, write: WriteId) {
        let word = write / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (write % 64);
    }

    pub fn contains(&self, write: WriteId) -> bool {
        self.0
            .get(write / 64)
            .is_some_and(|w| w >> (write % 64) & 1 == 1)
    }

    pub fn join(&mut self, other: &Past) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }
}

/// A write.
pub struct Write {
    pub key: Key,
    pub stamp: Stamp,
    /// A value, not a delete.
    pub live: bool,
    pub past: Past,
    pub dots: Vec<Dot>,
    /// When each dot was given.
    pub taken_us: Vec<u64>,
    /// The most copies that a client was told of.
    pub copies: u8,
    /// It was on a lost disk only.
    pub gone: bool,
}

/// All writes, and what has become of them.
pub struct Oracle {
    view: Arc<View>,
    pub writes: Vec<Write>,
    stamps: BTreeMap<(Key, Stamp), WriteId>,
    pub dots: BTreeMap<Dot, WriteId>,
    pub of_key: BTreeMap<Key, Vec<WriteId>>,
    /// Incarnations that have been started.
    started: BTreeSet<LogId>,
    /// The newest tombstone of each key that a replica has dropped.
    pub collected: BTreeMap<Key, Stamp>,
    /// How far each log is durable, by node.
    pub applied: BTreeMap<(usize, LogId), u64>,
}

impl Oracle {
    pub fn new(view: Arc<View>) -> Self {
        Self {
            view,
            writes: Vec::new(),
            stamps: BTreeMap::new(),
            dots: BTreeMap::new(),
            of_key: BTreeMap::new(),
            started: BTreeSet::new(),
            collected: BTreeMap::new(),
            applied: BTreeMap::new(),
        }
    }

    pub fn partition(&self, write: WriteId) -> PartitionId {
        self.view.partition_of_key(&self.writes[write].key)
    }

    /// A log is opened.
    pub fn started(&mut self, log: LogId) -> Result<(), String> {
        // A start that wrote nothing may be repeated: no dot is named twice.
        let used = self.dots.range(Dot { log, seq: 0 }..).next();
        if !self.started.insert(log) && used.is_some_and(|(dot, _)| dot.log == log) {
            return Err(format!("I1: log {log} is opened a second time"));
        }
        Ok(())
    }

    pub fn logs_started(&self) -> usize {
        self.started.len()
    }

    /// A write gets its stamp at the node that its client talks to.
    pub fn stamped(
        &mut self,
        key: Key,
        stamp: Stamp,
        live: bool,
        past: Past,
    ) -> Result<WriteId, String> {
        let write = self.writes.len();
        let newest = (0..write)
            .filter(|w| past.contains(*w))
            .map(|w| self.writes[w].stamp.ts)
            .max();
        if newest.is_some_and(|ts| ts >= stamp.ts) {
            return Err(format!("I4: write {write} is stamped before its past"));
        }
        self.stamps.insert((key.clone(), stamp), write);
        self.of_key.entry(key.clone()).or_default().push(write);
        self.writes.push(Write {
            key,
            stamp,
            live,
            past,
            dots: Vec::new(),
            taken_us: Vec::new(),
            copies: 0,
            gone: false,
        });
        Ok(write)
    }

    pub fn by_stamp(&self, key: &Key, stamp: Stamp) -> Option<WriteId> {
        self.stamps.get(&(key.clone(), stamp)).copied()
    }

    /// A replica took a write in.
    pub fn took(&mut self, write: WriteId, dot: Dot, now: u64) -> Result<(), String> {
        if let Some(other) = self.dots.insert(dot, write) {
            return Err(format!("I1: {dot} names writes {other} and {write}"));
        }
        let w = &mut self.writes[write];
        w.dots.push(dot);
        w.taken_us.push(now);
        if let Some(collected) = self.collected.get(&w.key)
            && *collected > w.stamp
        {
            return Err(format!(
                "I9: write {write} is taken as {dot}, older than a collected tombstone"
            ));
        }
        Ok(())
    }

    /// The stamp that an answer about a key must have at least, for a client with this past.
    pub fn least(&self, key: &Key, past: &Past) -> Option<WriteId> {
        self.of_key
            .get(key)?
            .iter()
            .copied()
            .filter(|w| past.contains(*w) && !self.writes[*w].gone)
            .max_by_key(|w| self.writes[*w].stamp)
    }

    /// How far a log is durable at a node.
    pub fn applied(&self, node: usize, log: LogId) -> u64 {
        self.applied.get(&(node, log)).copied().unwrap_or(0)
    }

    /// Whether a node has a write, or a newer one of its key, by its marks.
    pub fn has(&self, node: usize, write: WriteId) -> bool {
        let dots = &self.writes[write].dots;
        dots.iter().any(|d| self.applied(node, d.log) >= d.seq)
    }
}

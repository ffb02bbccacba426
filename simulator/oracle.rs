//! The truth about writes, known from outside: who made them after having seen what, which dots
//! they got, and which of them are still somewhere.

use causeway::protocol::clock::Timestamp;
use causeway::protocol::ids::{Dot, LogId, MemberId};
use causeway::protocol::version::{Key, Stamp, Version};
use std::collections::{BTreeMap, BTreeSet};

/// A write of a client, however often it was tried.
pub type WriteId = usize;

/// How far each log is on a disk.
pub type Applied = Vec<(LogId, u64)>;

/// A set of writes: a client's whole past, with nothing pruned.
#[derive(Debug, Clone, Default)]
pub struct Past {
    bits: Vec<u64>,
    newest: Timestamp,
}

impl Past {
    pub fn insert(&mut self, write: WriteId, stamp: Stamp) {
        let word = write / 64;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (write % 64);
        self.newest = self.newest.max(stamp.ts);
    }

    pub fn contains(&self, write: WriteId) -> bool {
        self.bits
            .get(write / 64)
            .is_some_and(|w| w >> (write % 64) & 1 == 1)
    }

    pub fn join(&mut self, other: &Past) {
        if self.bits.len() < other.bits.len() {
            self.bits.resize(other.bits.len(), 0);
        }
        for (mine, theirs) in self.bits.iter_mut().zip(&other.bits) {
            *mine |= theirs;
        }
        self.newest = self.newest.max(other.newest);
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
    /// The write was on a lost disk only.
    pub gone: bool,
    /// An offer brought it back after that: it lasts again, though who had seen it before need not
    /// see it.
    back: bool,
}

impl Write {
    /// Whether nothing that lasts keeps the write.
    pub fn is_lost(&self) -> bool {
        self.gone && !self.back
    }
}

/// All writes, and what has become of them.
pub struct Oracle {
    pub writes: Vec<Write>,
    /// Two writes may have one stamp: of a node that started again with a clock that had been set
    /// back.
    stamps: BTreeSet<(Key, Stamp, WriteId)>,
    pub dots: BTreeMap<Dot, WriteId>,
    /// Incarnations that have been started.
    started: BTreeSet<LogId>,
    /// The newest tombstone of each key that a replica has dropped.
    pub collected: BTreeMap<Key, Stamp>,
    /// Deletes that are lost, or of which only a partition knew that is dead for good.
    pub unknown: BTreeMap<Key, Stamp>,
    /// When writes were lost with a node's disk.
    pub lost: BTreeMap<(usize, WriteId), u64>,
    /// How far each log is durable, by node.
    pub applied: BTreeMap<(usize, LogId), u64>,
    /// Members that have been given up: what only they have does not count.
    pub given_up: BTreeSet<MemberId>,
}

impl Oracle {
    pub fn new() -> Self {
        Self {
            writes: Vec::new(),
            stamps: BTreeSet::new(),
            dots: BTreeMap::new(),
            started: BTreeSet::new(),
            collected: BTreeMap::new(),
            unknown: BTreeMap::new(),
            lost: BTreeMap::new(),
            applied: BTreeMap::new(),
            given_up: BTreeSet::new(),
        }
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
        if past.newest >= stamp.ts {
            return Err(format!("I4: write {write} is stamped before its past"));
        }
        self.stamps.insert((key.clone(), stamp, write));
        self.writes.push(Write {
            key,
            stamp,
            live,
            past,
            dots: Vec::new(),
            taken_us: Vec::new(),
            copies: 0,
            gone: false,
            back: false,
        });
        Ok(write)
    }

    /// The write of a client that has this stamp. Deletes with one stamp are alike: one that is
    /// gone with a node's disk does not stand for one that the node has stamped since.
    pub fn of_stamp(&self, key: &Key, stamp: Stamp, value: Option<&[u8]>) -> Option<WriteId> {
        let mut of_stamp = self
            .of_key(key, stamp)
            .take_while(|w| self.writes[*w].stamp == stamp);
        match value {
            Some(value) => of_stamp.find(|w| write_of(value) == Some(*w)),
            None => {
                let deletes = of_stamp.filter(|w| !self.writes[*w].live);
                deletes.max_by_key(|w| (!self.writes[*w].gone, *w))
            }
        }
    }

    /// The write that a version is of: that of its dot, if it looks like it.
    pub fn of_version(&self, version: &Version) -> Option<WriteId> {
        let write = *self.dots.get(&version.dot)?;
        let w = &self.writes[write];
        let value = version.value.as_deref().map(write_of);
        let expected = w.live.then_some(Some(write));
        let same = w.key == version.key && w.stamp == version.stamp && value == expected;
        same.then_some(write)
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
            && self.unknown.get(&w.key) < Some(collected)
            && !self.given_up.contains(&dot.log.member)
        {
            return Err(format!(
                "I9: write {write} is taken as {dot}, older than a collected tombstone"
            ));
        }
        Ok(())
    }

    /// A write is on no disk any more that counts.
    pub fn lose(&mut self, write: WriteId) {
        let w = &mut self.writes[write];
        (w.gone, w.back) = (true, false);
    }

    /// An offer of a write was taken: what is lost counts from now on as it was acknowledged now.
    pub fn came_back(&mut self, write: WriteId, copies: u8) {
        let w = &mut self.writes[write];
        if w.is_lost() {
            (w.back, w.copies) = (true, copies);
        }
    }

    /// The writes of a key from a stamp on, the oldest first.
    pub fn of_key(&self, key: &Key, from: Stamp) -> impl DoubleEndedIterator<Item = WriteId> {
        let newest = Stamp {
            ts: Timestamp(u64::MAX),
            by: MemberId(u16::MAX),
        };
        let range = (key.clone(), from, 0)..=(key.clone(), newest, WriteId::MAX);
        self.stamps.range(range).map(|(.., write)| *write)
    }

    /// The write that an answer about a key must not be older than, for a client with this past.
    pub fn least(&self, key: &Key, past: &Past) -> Option<WriteId> {
        let mut newest_first = self.of_key(key, Stamp::default()).rev();
        newest_first.find(|w| past.contains(*w) && !self.writes[*w].gone)
    }

    /// The common past of these writes; `None` when there are none.
    pub fn common_past(&self, mut writes: impl Iterator<Item = WriteId>) -> Option<Past> {
        let mut common = self.writes[writes.next()?].past.clone();
        for write in writes {
            let past = &self.writes[write].past.bits;
            common.bits.truncate(past.len());
            for (mine, theirs) in common.bits.iter_mut().zip(past) {
                *mine &= theirs;
            }
        }
        let seen = (0..self.writes.len()).filter(|w| common.contains(*w));
        let newest = seen.map(|w| self.writes[w].stamp.ts).max();
        common.newest = newest.unwrap_or_default();
        Some(common)
    }

    /// How far each log is durable at a node.
    pub fn applied_at(&self, node: usize) -> Applied {
        let of_node = self.applied.iter().filter(|((n, _), _)| *n == node);
        of_node.map(|((_, log), seq)| (*log, *seq)).collect()
    }

    /// A node has another disk now.
    pub fn set_applied(&mut self, node: usize, applied: Applied) {
        self.applied.retain(|(n, _), _| *n != node);
        let of_node = applied.into_iter().map(|(log, seq)| ((node, log), seq));
        self.applied.extend(of_node);
    }

    /// Whether a disk that is so far has a write, or a newer one of its key.
    pub fn is_in(&self, write: WriteId, applied: &Applied) -> bool {
        let has = |dot: &Dot| {
            applied
                .iter()
                .any(|(log, s)| *log == dot.log && *s >= dot.seq)
        };
        self.writes[write].dots.iter().any(has)
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

/// The write that a value is of: every value is its write's number.
pub fn write_of(value: &[u8]) -> Option<WriteId> {
    std::str::from_utf8(value).ok()?.trim_end().parse().ok()
}

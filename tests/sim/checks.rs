//! The invariants, checked as things happen. Names I1 to I13 are those of ARCHITECTURE.md.

use super::node::Ticket;
use super::oracle::WriteId;
use super::world::{Failed, World};
use causeway::protocol::ids::{Dot, LogId, MemberId};
use causeway::protocol::marks::Marks;
use causeway::protocol::op::{Answer, Read};
use causeway::protocol::record::{self, Finished, LogRecord};
use causeway::protocol::replica::Effect;
use causeway::protocol::store::Batch;
use causeway::protocol::version::{Key, Stamp, Version};
use causeway::protocol::view::PartitionId;
use std::collections::BTreeMap;

/// How long an unacknowledged write is hidden while a second replica lives, in microseconds.
const DEGRADE_US: u64 = 100_000;
/// Every operation is answered within this time, in microseconds.
const ANSWER_US: u64 = 1_000_000;

impl World {
    /// The nodes of a partition.
    pub fn nodes_of(&self, partition: PartitionId) -> Vec<usize> {
        let replicas = self.view.replicas(partition).iter();
        replicas.map(|m| usize::from(m.0)).collect()
    }

    pub fn version_at(&self, node: usize, key: &Key) -> Result<Option<Version>, Failed> {
        record::load(&self.nodes[node].disk, key).map_err(|e| e.to_string())
    }

    /// Learns which dots the writes got that were handed to a replica since its last flush.
    pub fn note_accepted(
        &mut self,
        node: usize,
        handed: Vec<(Ticket, WriteId, u64)>,
        effects: &[Effect<Ticket>],
    ) -> Result<(), Failed> {
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let answered = |t: &Ticket| {
            effects
                .iter()
                .any(|e| matches!(e, Effect::Answer { ticket, .. } if ticket == t))
        };
        let taken: Vec<(WriteId, u64)> = handed
            .into_iter()
            .filter(|(ticket, ..)| !answered(ticket))
            .map(|(_, write, at)| (write, at))
            .collect();
        let log = process.replica.log_id();
        // What was taken goes with this flush's batch, or with the next one.
        let last = process.seq + taken.len() as u64;
        for effect in effects {
            let Effect::Persist { batch, .. } = effect else {
                continue;
            };
            for (id, record) in logs_in(batch)? {
                if id == log && record.applied != last {
                    return Err(format!(
                        "node {node}: {} writes were taken, its log went from {} to {}",
                        taken.len(),
                        process.seq,
                        record.applied
                    ));
                }
            }
        }
        let first = process.seq + 1;
        process.seq = last;
        for (seq, (write, at)) in (first..).zip(taken) {
            self.oracle.took(write, Dot { log, seq }, at)?;
        }
        Ok(())
    }

    /// Looks at what a batch will remove: the versions there before.
    pub fn before_sync(&mut self, node: usize, batch: &Batch) -> Result<Vec<Version>, Failed> {
        let mut removed = Vec::new();
        for (key, value) in &batch.ops {
            if key.first() == Some(&b'd') && value.is_none() {
                removed.extend(self.version_at(node, &record::key_of(key))?);
            }
        }
        Ok(removed)
    }

    /// Checks what a batch made durable.
    pub fn after_sync(
        &mut self,
        node: usize,
        batch: &Batch,
        removed: Vec<Version>,
    ) -> Result<(), Failed> {
        for version in removed {
            self.check_removed(node, &version)?;
        }
        for (key, value) in &batch.ops {
            if key.first() == Some(&b'd')
                && let Some(bytes) = value
            {
                let version = record::decode_version(record::key_of(key), bytes)
                    .map_err(|e| e.to_string())?;
                self.check_version(node, &version)?;
            }
        }
        for (log, record) in logs_in(batch)? {
            let before = self.oracle.applied(node, log);
            if record.applied < before {
                return Err(format!(
                    "I2: node {node} goes back from {before} to {} in {log}",
                    record.applied
                ));
            }
            self.advance(node, log, record.applied)?;
        }
        self.check_finished(node, batch)
    }

    /// A log is durable further at a node: every write up to there, or a newer one of its key.
    fn advance(&mut self, node: usize, log: LogId, to: u64) -> Result<(), Failed> {
        let from = self.oracle.applied(node, log);
        for seq in from + 1..=to {
            let dot = Dot { log, seq };
            let Some(&write) = self.oracle.dots.get(&dot) else {
                return Err(format!("I2: node {node} has {dot}, which nobody wrote"));
            };
            let (key, stamp) = (
                self.oracle.writes[write].key.clone(),
                self.oracle.writes[write].stamp,
            );
            if !self.holds(node, &key, stamp)? {
                return Err(format!(
                    "I2: node {node} moves past {dot} (write {write} of {key:?}) without it"
                ));
            }
        }
        if to > from {
            self.oracle.applied.insert((node, log), to);
        }
        Ok(())
    }

    /// Whether a node has a version of a key at least this new, or dropped a newer tombstone.
    pub fn holds(&self, node: usize, key: &Key, stamp: Stamp) -> Result<bool, Failed> {
        let version = self.version_at(node, key)?;
        let collected = self.oracle.collected.get(key);
        Ok(version.is_some_and(|v| v.stamp >= stamp) || collected.is_some_and(|c| *c >= stamp))
    }

    fn check_version(&self, node: usize, version: &Version) -> Result<(), Failed> {
        let write = self.oracle.by_stamp(&version.key, version.stamp);
        let named = self.oracle.dots.get(&version.dot).copied();
        if named.is_none() || named != write {
            return Err(format!(
                "I1: node {node} stores {} as write {write:?}, it is {named:?}",
                version.dot
            ));
        }
        Ok(())
    }

    /// A key left a store: a tombstone that nobody needs, or a value that one of those beats.
    fn check_removed(&mut self, node: usize, version: &Version) -> Result<(), Failed> {
        let Version { key, stamp, .. } = version;
        if version.value.is_some() {
            let known = self.oracle.collected.get(key);
            if known.is_none_or(|c| c < stamp) {
                return Err(format!(
                    "I9: node {node} drops a value of {key:?} that no delete covers"
                ));
            }
            return Ok(());
        }
        for other in self.nodes_of(self.view.partition_of_key(key)) {
            if other != node && !self.nodes[other].lost && !self.holds(other, key, *stamp)? {
                return Err(format!(
                    "I9: node {node} drops a tombstone of {key:?} that node {other} lacks"
                ));
            }
        }
        let known = self.oracle.collected.entry(key.clone()).or_default();
        *known = (*known).max(*stamp);
        Ok(())
    }

    /// Finished logs count as durable in full.
    fn check_finished(&mut self, node: usize, batch: &Batch) -> Result<(), Failed> {
        for (key, value) in &batch.ops {
            let (Some(b'f'), Some(bytes)) = (key.first(), value) else {
                continue;
            };
            let finished: Finished = record::decode("f", bytes).map_err(|e| e.to_string())?;
            let member = MemberId(u16::from_be_bytes([key[1], key[2]]));
            let mut ends: BTreeMap<LogId, u64> = BTreeMap::new();
            for (&(_, log), &end) in &self.oracle.applied {
                if log.member == member && finished.contains(log.incarnation) {
                    let known = ends.entry(log).or_default();
                    *known = (*known).max(end);
                }
            }
            let tracked = record::load_logs(&self.nodes[node].disk).map_err(|e| e.to_string())?;
            for (log, end) in ends {
                if !tracked.iter().any(|(id, _)| *id == log) {
                    let end = finished.last_seq(log.incarnation).unwrap_or(end);
                    self.advance(node, log, end)?;
                }
            }
        }
        Ok(())
    }

    /// Checks a replica's marks against what is on the disks.
    pub fn check_marks(
        &mut self,
        node: usize,
        before: &Marks,
        after: &Marks,
    ) -> Result<(), Failed> {
        for (id, mark) in &after.logs {
            if after.recovering.is_none() && mark.stable > mark.applied {
                return Err(format!("I3: node {node} has {id} {mark:?}"));
            }
            let known = before.logs.get(id).copied().unwrap_or_default();
            if mark.stable > known.stable {
                for other in self.nodes_of(after.partition) {
                    let there = self.oracle.applied(other, *id);
                    if there < mark.stable && !self.nodes[other].lost {
                        return Err(format!(
                            "I3: node {node} calls {id} stable up to {}, node {other} has {there}",
                            mark.stable
                        ));
                    }
                }
            }
        }
        self.check_exposed(node, before, after)
    }

    fn check_exposed(&mut self, node: usize, before: &Marks, after: &Marks) -> Result<(), Failed> {
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let log = process.replica.log_id();
        let downed = std::mem::take(&mut process.downed);
        let alone = |m: &Marks| !m.peers.iter().any(|p| p.alive && p.serving);
        let exposed = |m: &Marks| m.logs.get(&log).map_or(0, |l| l.exposed);
        if downed || alone(before) || alone(after) {
            return Ok(());
        }
        for seq in exposed(before) + 1..=exposed(after) {
            let dot = Dot { log, seq };
            let Some(&write) = self.oracle.dots.get(&dot) else {
                continue;
            };
            let w = &self.oracle.writes[write];
            let at = w.dots.iter().position(|d| *d == dot);
            let taken = at.map_or(0, |at| w.taken_us[at]);
            let second = self
                .nodes_of(after.partition)
                .into_iter()
                .any(|n| n != node && (self.nodes[n].lost || self.oracle.applied(n, log) >= seq));
            if !second && self.now < taken + DEGRADE_US {
                return Err(format!(
                    "two copies: node {node} shows {dot} while only it has it"
                ));
            }
        }
        Ok(())
    }

    /// Checks an answer at the moment at which a replica gives it; the tombstone behind a "not
    /// found" is part of what was read.
    pub fn check_reply(&mut self, node: usize, op: usize, answer: &Answer) -> Result<(), Failed> {
        match answer {
            Answer::Written(written) => {
                let Some(write) = self.ops[op].write else {
                    return Ok(());
                };
                let holders = self.nodes_of(self.oracle.partition(write));
                let copies = holders
                    .into_iter()
                    // One that was lost after it confirmed the write is the one loss allowed for.
                    .filter(|n| self.nodes[*n].lost || self.oracle.has(*n, write))
                    .count();
                if copies < usize::from(written.copies) {
                    return Err(format!(
                        "I7: write {write} is said to have {} copies, it has {copies}",
                        written.copies
                    ));
                }
                let known = &mut self.oracle.writes[write].copies;
                *known = (*known).max(written.copies);
            }
            Answer::Read(read) if read.found.is_none() => {
                let version = self.version_at(node, &self.ops[op].key)?;
                let marks = self.nodes[node].process.as_ref().map(|p| &p.marks);
                if let (Some(version), Some(marks)) = (version, marks)
                    && version.value.is_none()
                    && (marks.is_stable(version.dot.log, version.dot.seq)
                        || read.context.get(version.dot.log) >= Some(version.dot.seq))
                {
                    let write = self.oracle.by_stamp(&version.key, version.stamp);
                    self.ops[op].tombstone = write;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks an operation's answer as its client gets it, and what the client has seen by it.
    pub fn check_answer(&mut self, op: usize, answer: &Answer) -> Result<(), Failed> {
        let (now, entry) = (self.now, self.ops[op].entry);
        let started = self.ops[op].started_us;
        let paused = self.nodes[entry].paused_until >= started;
        if now > started + ANSWER_US && !paused {
            return Err(format!("I11: op {op} took {} us", now - started));
        }
        let context = match answer {
            Answer::Read(read) => {
                self.check_read(op, read)?;
                Some(&read.context)
            }
            Answer::Written(written) => {
                if let Some(write) = self.ops[op].write {
                    self.ops[op].past.insert(write);
                }
                Some(&written.context)
            }
            Answer::NothingToDelete(context) => {
                self.check_absent(op)?;
                Some(context)
            }
            Answer::Refused(refusal) => {
                if self.ops[op].must {
                    return Err(format!("I13: op {op} fails after the faults: {refusal}"));
                }
                None
            }
        };
        if let Some(context) = context {
            if context.len() > self.oracle.logs_started() {
                return Err(format!("I10: op {op} ends with {} entries", context.len()));
            }
            self.ops[op].context = context.clone();
        }
        Ok(())
    }

    fn check_read(&mut self, op: usize, read: &Read) -> Result<(), Failed> {
        let Some(found) = &read.found else {
            if !read.stale {
                self.check_absent(op)?;
            }
            if let Some(tombstone) = self.ops[op].tombstone {
                self.saw(op, tombstone);
            }
            return Ok(());
        };
        let write: Option<WriteId> = std::str::from_utf8(&found.value)
            .ok()
            .and_then(|v| v.parse().ok());
        let key = &self.ops[op].key;
        let Some(write) = write.filter(|w| self.oracle.writes[*w].key == *key) else {
            return Err(format!("op {op} reads a value that nobody wrote there"));
        };
        let least = self.oracle.least(key, &self.ops[op].past);
        if let Some(least) = least
            && self.oracle.writes[write].stamp < self.oracle.writes[least].stamp
            && !read.stale
        {
            return Err(format!(
                "I5: op {op} reads write {write} of {key:?}, its client has seen {least}"
            ));
        }
        self.saw(op, write);
        Ok(())
    }

    /// "Not found" is right when nothing that the client has seen says otherwise.
    fn check_absent(&self, op: usize) -> Result<(), Failed> {
        let key = &self.ops[op].key;
        let writes = &self.oracle.writes;
        let Some(least) = self.oracle.least(key, &self.ops[op].past) else {
            return Ok(());
        };
        let deleted = |w: &WriteId| {
            let w = &writes[*w];
            !w.live && !w.dots.is_empty() && w.stamp >= writes[least].stamp
        };
        if !self.oracle.of_key[key].iter().any(deleted) {
            return Err(format!(
                "I5: op {op} does not find {key:?}, its client has seen write {least}"
            ));
        }
        Ok(())
    }

    fn saw(&mut self, op: usize, write: WriteId) {
        let past = &mut self.ops[op].past;
        past.join(&self.oracle.writes[write].past);
        past.insert(write);
    }
}

fn logs_in(batch: &Batch) -> Result<Vec<(LogId, LogRecord)>, Failed> {
    let mut found = Vec::new();
    for (key, value) in &batch.ops {
        let (Some(b'l'), Some(bytes)) = (key.first(), value) else {
            continue;
        };
        let record: LogRecord = record::decode("log", bytes).map_err(|e| e.to_string())?;
        let mut incarnation = [0; 8];
        incarnation.copy_from_slice(&key[3..11]);
        let log = LogId {
            member: MemberId(u16::from_be_bytes([key[1], key[2]])),
            incarnation: u64::from_be_bytes(incarnation),
        };
        found.push((log, record));
    }
    Ok(found)
}

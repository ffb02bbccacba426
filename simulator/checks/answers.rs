//! Answers to clients: none below its client's past (I5, I8), nor of one copy too many (I7), all in
//! time (I11), with small contexts (I10).

use super::super::oracle::{WriteId, write_of};
use super::super::world::{Failed, World};
use super::kept::replicas_of;
use causeway::protocol::ids::Dot;
use causeway::protocol::op::{Answer, Read};
use std::collections::BTreeSet;

/// Every operation is answered within this time, in microseconds.
const ANSWER_US: u64 = 1_000_000;

impl World {
    /// Checks an answer at the moment at which a replica gives it; the tombstone behind a "not
    /// found" is part of what was read.
    pub fn check_reply(
        &mut self,
        node: usize,
        op: usize,
        attempt: u32,
        answer: &Answer,
    ) -> Result<(), Failed> {
        match answer {
            Answer::Written(written) => {
                let Some(write) = self.ops[op].write else {
                    return Ok(());
                };
                let dots = &self.oracle.writes[write].dots;
                let mut holders = BTreeSet::new();
                if let Some(process) = &self.nodes[node].process {
                    let marks = process.driver.replica().marks();
                    holders.extend(self.replicas_at(&marks));
                    // The published marks may be the last ones under the views before, and tell of
                    // a log that the new marks no longer name.
                    for marks in [&marks, &process.marks] {
                        holders.extend(dots.iter().flat_map(|d| replicas_of(marks, d.log)));
                    }
                }
                let has = |n: &usize| {
                    let lost = self.nodes[*n].lost || self.was_lost_lately(*n, write);
                    lost || self.oracle.has(*n, write)
                };
                let copies = holders.into_iter().filter(has).count();
                if copies < usize::from(written.copies) {
                    return Err(format!(
                        "I7: write {write} is said to have {} copies, it has {copies}",
                        written.copies
                    ));
                }
                let known = &mut self.oracle.writes[write].copies;
                *known = (*known).max(written.copies);
            }
            Answer::Read(Read {
                found: Some(found),
                context,
                ..
            }) => {
                let write = write_of(&found.value).filter(|w| *w < self.oracle.writes.len());
                let dots = write.map_or(&[][..], |w| &self.oracle.writes[w].dots);
                let mut elsewhere = false;
                for other in (0..self.nodes.len()).filter(|n| *n != node) {
                    // A copy that came ahead of its log counts, and one that was there until its
                    // disk was lost.
                    let stored = self.version_at(other, &self.ops[op].key)?;
                    let has = |w: WriteId| {
                        let stamp = self.oracle.writes[w].stamp;
                        self.oracle.has(other, w) || stored.is_some_and(|v| v.stamp >= stamp)
                    };
                    elsewhere |= self.nodes[other].lost || write.is_some_and(has);
                }
                let exposed = self.nodes[node].process.as_ref().map(|p| {
                    let marks = p.driver.replica().marks();
                    let log = p.driver.log_id();
                    (log, marks.logs.get(&log).map_or(0, |m| m.exposed))
                });
                let hidden = |dot: &Dot| {
                    let asked = self.ops[op].context.get(dot.log) >= Some(dot.seq);
                    !asked && exposed.is_some_and(|(log, upto)| dot.log == log && dot.seq > upto)
                };
                // A write may be here under several dots; one that is exposed is enough.
                if !dots.is_empty() && !elsewhere && dots.iter().all(hidden) {
                    return Err(format!(
                        "two copies: node {node} lets op {op} read {dots:?}, which only it has ({context:?})"
                    ));
                }
            }
            Answer::Read(read) if read.found.is_none() => {
                let version = self.version_at(node, &self.ops[op].key)?;
                let marks = self.nodes[node].process.as_ref().map(|p| &p.marks);
                if let (Some(version), Some(marks)) = (version, marks)
                    && version.value.is_none()
                    && (marks.is_stable(version.dot.log, version.dot.seq)
                        || read.context.get(version.dot.log) >= Some(version.dot.seq))
                {
                    let write = self.oracle.of_version(&version);
                    self.ops[op].tombstone = write;
                }
            }
            Answer::NothingToDelete(context) => {
                let there = self.version_at(node, &self.ops[op].key)?;
                let own = self.ops[op].write.map(|w| self.oracle.writes[w].stamp);
                // A later delete, which may not be durable yet, is another matter. And nobody
                // listens to an earlier attempt: the delete may have got another stamp since.
                let listens = self.ops[op].attempt == attempt;
                let own = own.filter(|_| listens);
                let found = own.filter(|own| there.is_some_and(|v| v.stamp == *own));
                if found.is_some_and(|own| context.clock <= own.ts) {
                    return Err(format!("op {op} finds its own delete at node {node}"));
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
                    let stamp = self.oracle.writes[write].stamp;
                    self.ops[op].past.insert(write, stamp);
                }
                Some(&written.context)
            }
            Answer::Declined(_, context) => Some(context),
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
        let write = write_of(&found.value);
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
    fn check_absent(&mut self, op: usize) -> Result<(), Failed> {
        let key = &self.ops[op].key;
        let writes = &self.oracle.writes;
        let Some(least) = self.oracle.least(key, &self.ops[op].past) else {
            return Ok(());
        };
        let deletes = self.oracle.of_key(key, writes[least].stamp);
        let deletes = deletes.filter(|w| !writes[*w].live && !writes[*w].dots.is_empty());
        // A client that has seen the value has seen one of the deletes, and so the common past of
        // all of them.
        let Some(seen) = self.oracle.common_past(deletes) else {
            return Err(format!(
                "I5: op {op} does not find {key:?}, its client has seen write {least}"
            ));
        };
        self.ops[op].past.join(&seen);
        Ok(())
    }

    fn saw(&mut self, op: usize, write: WriteId) {
        let (past, seen) = (&mut self.ops[op].past, &self.oracle.writes[write]);
        past.join(&seen.past);
        past.insert(write, seen.stamp);
    }
}

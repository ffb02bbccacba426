//! The invariants, checked as things happen. Names I1 to I13 are those of docs/testing.md.

use super::oracle::{Oracle, WriteId, write_of};
use super::world::{Failed, World};
use causeway::protocol::ids::{Dot, LogId, MemberId};
use causeway::protocol::marks::Marks;
use causeway::protocol::op::{Answer, Read};
use causeway::protocol::record::{self, Finished, LogRecord, ReplicaIdentity};
use causeway::protocol::slots::Slot;
use causeway::protocol::store::Batch;
use causeway::protocol::version::{Key, Stamp, Version};
use causeway::protocol::view::PartitionId;
use causeway::protocol::views::{CohortId, Home, Views};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long an unacknowledged write is hidden while a second replica lives, in microseconds.
const DEGRADE_US: u64 = 100_000;
/// No message is on its way for longer, in microseconds.
const IN_FLIGHT_US: u64 = 500_000;
/// Every operation is answered within this time, in microseconds.
const ANSWER_US: u64 = 1_000_000;

impl World {
    /// The nodes of a partition.
    pub fn nodes_of(&self, partition: PartitionId) -> Vec<usize> {
        nodes(self.view().replicas(partition))
    }

    /// The nodes of a partition, as a node knows it.
    fn replicas_at(&self, marks: &Marks) -> Vec<usize> {
        let partition = marks.partition;
        partition.map_or(Vec::new(), |p| nodes(marks.view().replicas(p)))
    }

    /// The nodes that hold a key in the view in force.
    pub fn holders(&self, key: &Key) -> Vec<usize> {
        self.nodes_of(self.view().partition_of_key(key))
    }

    /// Whether a node keeps a key's slot: the node holds the slot now or next, or held it and still
    /// helps.
    fn keeps(&self, node: usize, key: &Key) -> bool {
        self.keeps_of(node, key, None)
    }

    /// Whether a node keeps a key's slot for the sake of a log's cohort, or of any.
    fn keeps_of(&self, node: usize, key: &Key, log: Option<LogId>) -> bool {
        let Some(views) = self.views_at(node) else {
            return false;
        };
        let (slot, member) = (Slot::of(key), self.nodes[node].member);
        let cohorts = views.cohorts_of(member);
        cohorts.iter().any(|c| {
            let asked = log.is_none_or(|log| views.home(log) == Home::Cohort(c.id));
            asked && c.slots.contains(slot) && views.part(c, member).contains(slot)
        })
    }

    /// The views that a node's replica goes by.
    fn views_at(&self, node: usize) -> Option<Arc<Views>> {
        let process = self.nodes[node].process.as_ref();
        let views = process.map(|p| p.driver.replica().views());
        views.or_else(|| self.nodes[node].known.clone())
    }

    pub fn version_at(&self, node: usize, key: &Key) -> Result<Option<Version>, Failed> {
        record::load(&self.nodes[node].disk, key).map_err(|e| e.to_string())
    }

    /// Takes note of the dots that a replica has given to writes: those that it took from clients,
    /// at once or after it had held them, and those that it logs again, since nobody else can.
    pub fn note_taken(&mut self, node: usize) -> Result<(), Failed> {
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let replica = process.driver.replica();
        let (log, seq) = (replica.log_id(), replica.head());
        let known = std::mem::replace(&mut process.noted, Dot { log, seq });
        let known = if known.log == log { known.seq } else { 0 };
        if seq == known {
            return Ok(());
        }
        let mut taken: Vec<Version> = replica.hidden().cloned().collect();
        taken.retain(|v| v.dot.seq > known);
        taken.sort_by_key(|v| v.dot);
        if taken.len() as u64 != seq - known {
            return Err(format!("I1: node {node} gives dots of {log} to nothing"));
        }
        for version in taken {
            let (dot, value) = (version.dot, version.value.as_deref());
            let Some(write) = self.oracle.of_stamp(&version.key, version.stamp, value) else {
                return Err(format!("I1: node {node} gives {dot} to a write of nobody"));
            };
            if !self.oracle.writes[write].dots.is_empty() {
                self.note(|| format!("m{node} takes write {write} again as {dot}"));
            }
            self.oracle.took(write, dot, self.now)?;
        }
        Ok(())
    }

    /// Looks at what a batch will remove: the versions there before.
    pub fn before_sync(&mut self, node: usize, batch: &Batch) -> Result<Vec<Version>, Failed> {
        let mut removed = Vec::new();
        for (key, value) in &batch.ops {
            if record::is_data(key) && value.is_none() {
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
            if record::is_data(key)
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
        self.check_finished(node, batch)?;
        let finished = record::load_finished(&self.nodes[node].disk).map_err(|e| e.to_string())?;
        let views = self.views_at(node);
        let is_finished = |log: &LogId| match views.as_ref().map(|v| v.home(*log)) {
            Some(Home::Cohort(id)) => finished
                .get(&(id, log.member))
                .is_some_and(|f| f.contains(log.incarnation)),
            _ => false,
        };
        for log in forgotten_in(batch).into_iter().filter(|l| !is_finished(l)) {
            self.oracle.applied.remove(&(node, log));
        }
        Ok(())
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
            // Lost writes are passed over: nobody has them any more.
            if self.oracle.writes[write].is_lost() {
                continue;
            }
            if !self.holds(node, &key, stamp)? && self.keeps_of(node, &key, Some(log)) {
                if self.ended_with_writers(write)? {
                    self.oracle.lose(write);
                    continue;
                }
                if self.is_helped_no_more(node, write)? {
                    continue;
                }
                return Err(format!(
                    "I2: node {node} moves past {dot} (write {write} of {key:?}) without it"
                ));
            }
        }
        if to > from {
            self.oracle.applied.insert((node, log), to);
        }
        if self.oracle.given_up.contains(&self.nodes[node].member) {
            for seq in from + 1..=to {
                if let Some(&write) = self.oracle.dots.get(&Dot { log, seq }) {
                    self.note_gone(write)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a write ended with each process that took it: the write was durable nowhere yet. A
    /// replica that does not keep its key may have moved past the write all the same.
    fn ended_with_writers(&self, write: WriteId) -> Result<bool, Failed> {
        let w = &self.oracle.writes[write];
        let over = w.dots.iter().zip(&w.taken_us).all(|(dot, taken_us)| {
            let writer = &self.nodes[usize::from(dot.log.member.0)];
            writer.process.is_none() || *taken_us < writer.up_us
        });
        Ok(over && w.copies < 2 && !self.is_kept_anywhere(write)?)
    }

    /// Whether a node only helps with a key, and those have the write who hold the key now.
    ///
    /// A replica keeps all slots of a cohort that was its own, also those that it does not hold any
    /// more. When it has lost its disk, or the end of its own log, and no disk is left that has all
    /// of the cohort, it gathers what is left of the slots that others hold. The holder of the
    /// other slots may have lost its disk too, and say that it has nothing: then the gathering
    /// replica passes over what is there. Nobody lacks the write.
    fn is_helped_no_more(&self, node: usize, write: WriteId) -> Result<bool, Failed> {
        let w = &self.oracle.writes[write];
        let slots = self
            .views_at(node)
            .map(|v| v.slots_of(self.nodes[node].member));
        let helps = slots.is_some_and(|slots| !slots.contains(Slot::of(&w.key)));
        let mut holders = self.holders(&w.key);
        holders.retain(|n| !self.nodes[*n].lost && !self.is_given_up(*n));
        if !helps || holders.is_empty() {
            return Ok(false);
        }
        for holder in holders {
            if !self.holds(holder, &w.key, w.stamp)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a node that counts, for it holds the key or helped to, has a write or a newer one of
    /// its key. A member that is to hold the key only in the next view may be turned away again. A
    /// later write that came to a node in the place of one that it helps with does not count: the
    /// node shares no log of the later write, and drops that write when it helps no more. Nor does
    /// the rest of a copy on a disk that was lost: before all of the copy is there, nobody asks for
    /// it, and the next copy takes its place.
    pub fn is_kept_at(&self, node: usize, write: WriteId) -> Result<bool, Failed> {
        let w = &self.oracle.writes[write];
        let (views, slot) = (self.decisions.changes.views(), Slot::of(&w.key));
        let member = self.nodes[node].member;
        let holds = views.view.partition_of(member) == Some(views.view.partition(slot));
        let mut closing = views.closing.iter();
        let written_by = |until: u64| w.dots.iter().any(|d| d.log.view() < until);
        let held = closing.any(|c| {
            let holder = c.replicas.contains(&member) && c.slots.contains(slot);
            holder && c.until.is_some_and(written_by)
        });
        let counts = !self.nodes[node].out && views.is_present(member) && (holds || held);
        let counts = counts && (!self.nodes[node].replaced || self.claims(node, slot));
        Ok(counts && self.keeps(node, &w.key) && self.holds(node, &w.key, w.stamp)?)
    }

    /// Whether a node's disk says that it has everything of a cohort with a slot.
    fn claims(&self, node: usize, slot: Slot) -> bool {
        let views = self.decisions.changes.views();
        let has = |id: &CohortId| views.cohort(*id).is_some_and(|c| c.slots.contains(slot));
        self.identity_at(node)
            .is_some_and(|identity| identity.filled.keys().any(has))
    }

    /// Whether any node that counts keeps a write.
    pub fn is_kept_anywhere(&self, write: WriteId) -> Result<bool, Failed> {
        for node in 0..self.nodes.len() {
            if self.is_kept_at(node, write)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a node was given up at some time.
    pub fn is_given_up(&self, node: usize) -> bool {
        self.oracle.given_up.contains(&self.nodes[node].member)
    }

    /// Whether another node keeps a write, so that it outlives this one's disk.
    pub fn is_kept_without(&self, node: usize, write: WriteId) -> Result<bool, Failed> {
        for other in (0..self.nodes.len()).filter(|n| *n != node) {
            if self.is_kept_at(other, write)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a node has a version of a key at least this new, or dropped a newer tombstone.
    pub fn holds(&self, node: usize, key: &Key, stamp: Stamp) -> Result<bool, Failed> {
        let version = self.version_at(node, key)?;
        let collected = self.oracle.collected.get(key);
        Ok(version.is_some_and(|v| v.stamp >= stamp) || collected.is_some_and(|c| *c >= stamp))
    }

    fn check_version(&self, node: usize, version: &Version) -> Result<(), Failed> {
        if self.oracle.of_version(version).is_none() {
            let named = self.oracle.dots.get(&version.dot);
            return Err(format!(
                "I1: node {node} stores {version:?}, its dot names {named:?}"
            ));
        }
        Ok(())
    }

    /// A key left a store: a tombstone that nobody needs, or a value that such a tombstone beats.
    ///
    /// Or a version that counts as lost, as when all nodes of its partition were given up. A node
    /// that held the version's slot before and was away may still have the version, while others
    /// have dropped it. When these nodes get the slot back, one copies from the other and drops
    /// what that one does not have: they have to be equal, and nobody counts on the version.
    fn check_removed(&mut self, node: usize, version: &Version) -> Result<(), Failed> {
        let Version { key, stamp, .. } = version;
        if !self.keeps(node, key) {
            return Ok(());
        }
        let write = self.oracle.of_version(version);
        let lost = write.is_some_and(|w| self.oracle.writes[w].is_lost());
        if version.value.is_some() {
            let known = self.oracle.collected.get(key);
            if known.is_none_or(|c| c < stamp) && !lost {
                return Err(format!(
                    "I9: node {node} drops a value of {key:?} that no delete covers"
                ));
            }
            return Ok(());
        }
        let holders = self.views_at(node);
        let holders = holders.map(|v| nodes(v.view.replicas(v.view.partition_of_key(key))));
        for other in holders.unwrap_or_default() {
            let counts = !self.nodes[other].lost && !self.is_given_up(other);
            if other != node && counts && !lost && !self.holds(other, key, *stamp)? {
                return Err(format!(
                    "I9: node {node} drops a tombstone of {key:?} that node {other} lacks"
                ));
            }
        }
        let Oracle {
            collected, unknown, ..
        } = &mut self.oracle;
        // Others may know nothing of a delete that is lost, and take what that delete beats.
        let unknown = Some(unknown).filter(|_| lost);
        for deletes in [Some(collected), unknown].into_iter().flatten() {
            let known = deletes.entry(key.clone()).or_default();
            *known = (*known).max(*stamp);
        }
        Ok(())
    }

    /// Finished logs count as durable in full.
    fn check_finished(&mut self, node: usize, batch: &Batch) -> Result<(), Failed> {
        for (key, value) in &batch.ops {
            if key.first() != Some(&b'f') {
                continue;
            }
            let (cohort, member) =
                record::cohort_of(key).ok_or("a key of finished logs is too short")?;
            let home = Home::Cohort(cohort);
            let views = self.views_at(node);
            let of_cohort = |log| views.as_ref().is_some_and(|v| v.home(log) == home);
            let Some(bytes) = value else {
                // The record of the cohort's data in its slots is gone: the node will fetch that
                // data anew.
                let applied = &mut self.oracle.applied;
                applied
                    .retain(|(n, log), _| *n != node || log.member != member || !of_cohort(*log));
                continue;
            };
            let finished: Finished = record::decode("f", bytes).map_err(|e| e.to_string())?;
            let mut ends: BTreeMap<LogId, u64> = BTreeMap::new();
            for (&(holder, log), &end) in &self.oracle.applied {
                if self.nodes[holder].out || self.is_given_up(holder) {
                    continue;
                }
                if log.member == member && finished.contains(log.incarnation) && of_cohort(log) {
                    let known = ends.entry(log).or_default();
                    *known = (*known).max(end);
                }
            }
            let tracked = record::load_logs(&self.nodes[node].disk).map_err(|e| e.to_string())?;
            for (log, end) in ends {
                if !tracked.iter().any(|(id, _)| *id == log) {
                    let said = finished.last_seq(log.incarnation).unwrap_or(end);
                    self.advance(node, log, said.max(end))?;
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
            if is_filled(after, *id) && mark.stable > mark.applied {
                return Err(format!("I3: node {node} has {id} {mark:?}"));
            }
            let known = before.logs.get(id).copied().unwrap_or_default();
            if mark.stable > known.stable {
                for other in sharing(after, *id) {
                    let there = self.oracle.applied(other, *id);
                    if there < mark.stable && self.counts(other, after, *id) {
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

    /// Whether a node may answer clients by what it has of a log, now or later. No write that such
    /// a node lacks may be stable, since contexts do not name stable writes any more.
    ///
    /// A node that is out answers nobody, and one that knows that it is given up never will again.
    /// A node that fetched data for the sake of a view that was dropped fetches it anew before it
    /// answers anybody by it.
    fn counts(&self, node: usize, marks: &Marks, log: LogId) -> bool {
        let it = &self.nodes[node];
        !it.lost
            && !it.out
            && !self.knows_to_be_given_up(node)
            && self.is_filled_at(node, marks, log)
            && !self.was_turned_away(node, log)
    }

    /// Whether a node goes by views in which it is given up: it serves nobody, for ever.
    fn knows_to_be_given_up(&self, node: usize) -> bool {
        let views = self.views_at(node);
        views.is_some_and(|v| v.given_up.contains(&self.nodes[node].member))
    }

    /// Whether a node shares a log for the sake of a next view alone, and what it has fetched for
    /// that will never be served: the Raft group has dropped the view, or given the node up. The
    /// node may not have heard.
    fn was_turned_away(&self, node: usize, log: LogId) -> bool {
        let it = &self.nodes[node];
        let Some(views) = self.views_at(node) else {
            return false;
        };
        let (next, known) = match &it.process {
            Some(_) => (views.coming(it.member), u64::MAX),
            None => match self.identity_at(node) {
                Some(identity) => (identity.next, identity.view),
                None => return false,
            },
        };
        let Home::Cohort(id) = views.home(log) else {
            return false;
        };
        let held = views.cohort(id);
        let held = held.is_some_and(|c| views.has_shared(&c, it.member, known));
        let dropped = |number| self.decisions.is_dropped(number) || self.is_given_up(node);
        !held && next.is_some_and(dropped)
    }

    /// A node's identity on its disk.
    fn identity_at(&self, node: usize) -> Option<ReplicaIdentity> {
        record::load_record(&self.nodes[node].disk, record::IDENTITY).unwrap_or(None)
    }

    /// Whether a node's disk has everything of a log's cohort, as far as the node knows.
    fn is_filled_at(&self, node: usize, marks: &Marks, log: LogId) -> bool {
        if let Some(process) = &self.nodes[node].process {
            return is_filled(&process.marks, log);
        }
        match (marks.views.home(log), self.identity_at(node)) {
            (Home::Cohort(id), Some(identity)) => {
                let cohort = marks.views.cohort(id);
                let member = self.nodes[node].member;
                let kept = cohort.map(|c| marks.views.part(&c, member));
                let filled = identity.filled.get(&id);
                filled.zip(kept).is_some_and(|(f, kept)| kept.is_within(f))
            }
            _ => false,
        }
    }

    /// A node has everything of a cohort now, or serves again on a disk that it had lost: nobody
    /// may call stable what this node lacks.
    pub fn check_counted_on(&self, node: usize) -> Result<(), Failed> {
        for other in (0..self.nodes.len()).filter(|n| *n != node) {
            let Some(process) = &self.nodes[other].process else {
                continue;
            };
            // A write that only a given-up member has may be lost, even a stable one: the member
            // may have shared its log with nobody, or with disks that were lost since.
            if self.is_given_up(other) {
                continue;
            }
            for (log, mark) in &process.marks.logs {
                if !sharing(&process.marks, *log).contains(&node) {
                    continue;
                }
                let here = self.oracle.applied(node, *log);
                if mark.stable > here && self.counts(node, &process.marks, *log) {
                    return Err(format!(
                        "I3: node {node} serves with {here} of {log}, node {other} calls it stable up to {}",
                        mark.stable
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a node lost a write with its disk so lately that its word from before may still be
    /// under way. The node may serve again by then. No other loss is allowed for.
    fn was_lost_lately(&self, node: usize, write: WriteId) -> bool {
        let lost = self.oracle.lost.get(&(node, write));
        lost.is_some_and(|at| self.now < at + IN_FLIGHT_US)
    }

    fn check_exposed(&mut self, node: usize, before: &Marks, after: &Marks) -> Result<(), Failed> {
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let log = process.driver.log_id();
        let downed = std::mem::take(&mut process.downed);
        let serve = |m: &Marks| -> BTreeSet<MemberId> {
            let serving = m.peers.iter().filter(|p| p.replica && p.alive && p.serving);
            serving.map(|p| p.member).collect()
        };
        let exposed = |m: &Marks| m.logs.get(&log).map_or(0, |l| l.exposed);
        // Between two marks one peer may have fallen silent before another one was heard.
        if downed || serve(before).is_disjoint(&serve(after)) {
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
            let replicas = self.replicas_at(after);
            let has = |n: usize| {
                let lost = self.nodes[n].lost || self.was_lost_lately(n, write);
                n != node && (lost || self.oracle.applied(n, log) >= seq)
            };
            let second = replicas.into_iter().any(has);
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

fn nodes(members: &[MemberId]) -> Vec<usize> {
    members.iter().map(|m| usize::from(m.0)).collect()
}

/// Whether everything of a log's cohort is said to be here.
fn is_filled(marks: &Marks, log: LogId) -> bool {
    match marks.views.home(log) {
        Home::Cohort(id) => marks.cohorts.get(&id) == Some(&true),
        Home::Over | Home::Ahead => false,
    }
}

/// The nodes that share a log, as a node knows it.
fn sharing(marks: &Marks, log: LogId) -> Vec<usize> {
    let Home::Cohort(id) = marks.views.home(log) else {
        return Vec::new();
    };
    let cohort = marks.views.cohort(id);
    let members = cohort.map(|c| marks.views.sharing(&c));
    nodes(&members.into_iter().flatten().collect::<Vec<_>>())
}

/// The nodes that are the replicas of a log's cohort, as a node knows it.
fn replicas_of(marks: &Marks, log: LogId) -> Vec<usize> {
    match marks.views.home(log) {
        Home::Cohort(id) => nodes(&marks.views.cohort(id).map_or(Vec::new(), |c| c.replicas)),
        Home::Over | Home::Ahead => Vec::new(),
    }
}

/// The logs whose marks a batch takes off the disk.
fn forgotten_in(batch: &Batch) -> Vec<LogId> {
    let gone = batch.ops.iter().filter(|(_, value)| value.is_none());
    let gone = gone.filter(|(key, _)| key.first() == Some(&b'l'));
    gone.filter_map(|(key, _)| record::log_of(key)).collect()
}

fn logs_in(batch: &Batch) -> Result<Vec<(LogId, LogRecord)>, Failed> {
    let mut found = Vec::new();
    for (key, value) in &batch.ops {
        let (Some(b'l'), Some(bytes)) = (key.first(), value) else {
            continue;
        };
        let record: LogRecord = record::decode("log", bytes).map_err(|e| e.to_string())?;
        let log = record::log_of(key).ok_or("a log's key is too short")?;
        found.push((log, record));
    }
    Ok(found)
}

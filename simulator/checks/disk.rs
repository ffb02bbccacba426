//! Disks: the dots of writes that are taken (I1), how far logs are durable (I2), versions that
//! leave a store (I9), logs that are over.

use super::super::oracle::Oracle;
use super::super::world::{Failed, World};
use super::kept::nodes;
use causeway::protocol::ids::{Dot, LogId};
use causeway::protocol::record::{self, Finished, LogRecord};
use causeway::protocol::store::Batch;
use causeway::protocol::version::Version;
use causeway::protocol::views::Home;
use std::collections::BTreeMap;

impl World {
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

//! After the faults: everything comes right again, and within stated times.

use super::client::key;
use super::world::{Failed, World};
use bytes::Bytes;
use causeway::protocol::op::{Consistency, Op};
use causeway::protocol::record;
use causeway::protocol::store::Store;
use causeway::protocol::version::{Key, Stamp, Version};
use std::collections::BTreeMap;

/// All replicas of a partition are equal this long after healing, in microseconds.
const LEVEL_US: u64 = 5_000_000;
/// Tombstones are gone this long after the last delete, in microseconds, however far clocks were
/// ahead.
const COLLECT_US: u64 = 10_000_000;

impl World {
    /// A whole run: faults, then calm.
    pub fn run(&mut self) -> Result<(), Failed> {
        self.run_until(1_000_000 + self.plan.healed_us())?;
        // Clients go on for a while, then the cluster is left alone.
        self.run_until(self.now + 1_000_000)?;
        self.busy = false;
        self.run_until(self.now + LEVEL_US)?;
        self.check_views()?;
        self.check_offers()?;
        self.check_level()?;
        self.check_kept()?;
        self.everyone_asks_everything()?;
        self.run_until(self.now + 2_000_000)?;
        self.everyone_asks_everything()?;
        self.check_contexts()?;
        self.check_collected()?;
        self.check_level()?;
        self.check_history()
    }

    /// The part of a node's store that clients can see: versions by key.
    fn content(&self, node: usize) -> Result<BTreeMap<Key, Bytes>, Failed> {
        let mut content = BTreeMap::new();
        let (from, to) = record::DATA;
        self.nodes[node]
            .disk
            .scan(from, to, &mut |key, value| {
                content.insert(key, value);
                true
            })
            .map_err(|e| e.to_string())?;
        Ok(content)
    }

    /// I6, I13: replicas of a partition are equal, nothing is open any more, all serve.
    fn check_level(&mut self) -> Result<(), Failed> {
        for node in self.members() {
            let Some(process) = &self.nodes[node].process else {
                return Err(format!("I13: node {node} is not running"));
            };
            let marks = &process.marks;
            if let Some(reason) = &marks.recovering {
                return Err(format!("I13: node {node} does not serve: {reason}"));
            }
            if marks.gauges.unstable > 0 {
                return Err(format!(
                    "I13: node {node} has unstable dots: {:?}, peers {:?}",
                    marks.logs, marks.peers
                ));
            }
            let replicas = marks.partition.map_or(0, |p| self.view().replicas(p).len());
            if marks.logs.len() != replicas {
                return Err(format!(
                    "I13: node {node} tracks {} logs of {replicas} replicas: {:?}",
                    marks.logs.len(),
                    marks.logs
                ));
            }
        }
        let partitions: Vec<_> = self.view().partitions().map(|(id, _)| id).collect();
        for partition in partitions {
            let nodes = self.nodes_of(partition);
            let first = self.content(nodes[0])?;
            for node in &nodes[1..] {
                let other = self.content(*node)?;
                let keys = first.keys().chain(other.keys());
                for key in keys {
                    if self.differs(key, first.get(key), other.get(key))? {
                        return Err(format!(
                            "I6: nodes {} and {node} differ in {key:?}: {:?}, {:?}",
                            nodes[0],
                            self.version_at(nodes[0], &record::key_of(key)),
                            self.version_at(*node, &record::key_of(key)),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether two replicas' versions of a key differ. One replica may have dropped a tombstone
    /// before the other; stored dependencies may be pruned differently. A write that was logged
    /// again has several dots, and a replica may name any of them: the others are of logs that are
    /// over, or everywhere.
    fn differs(&self, at: &Key, a: Option<&Bytes>, b: Option<&Bytes>) -> Result<bool, Failed> {
        let version = |bytes: Option<&Bytes>| {
            bytes
                .map(|b| record::decode_version(record::key_of(at), b))
                .transpose()
                .map_err(|e| e.to_string())
        };
        Ok(match (version(a)?, version(b)?) {
            (Some(a), Some(b)) => {
                let write = |v: &Version| self.oracle.dots.get(&v.dot);
                let one = a.dot == b.dot || write(&a).is_some_and(|w| write(&b) == Some(w));
                !one || (a.stamp, &a.value) != (b.stamp, &b.value)
            }
            (Some(only), None) | (None, Some(only)) => only.value.is_some(),
            (None, None) => false,
        })
    }

    /// I7, I12: what was acknowledged, and not lost with the only disk that had it, is still there.
    fn check_kept(&mut self) -> Result<(), Failed> {
        for write in 0..self.oracle.writes.len() {
            let w = &self.oracle.writes[write];
            if w.copies == 0 || w.is_lost() {
                continue;
            }
            for node in self.holders(&w.key) {
                if !self.holds(node, &w.key, w.stamp)? {
                    return Err(format!(
                        "I7: write {write} of {:?} had {} copies, node {node} lacks it",
                        w.key, w.copies
                    ));
                }
            }
        }
        Ok(())
    }

    /// Every session reads some keys from anywhere and writes one, and must succeed.
    fn everyone_asks_everything(&mut self) -> Result<(), Failed> {
        for round in 0..4 {
            for session in 0..self.sessions.len() {
                if self.sessions[session].op.is_some() {
                    return Err(format!("I11: session {session} still waits"));
                }
                let members = self.members();
                let entry = members[self.rng.index(members.len())];
                let key = key(self.rng.index(self.plan.load.keys));
                let op = if round == 1 {
                    Op::Write {
                        key,
                        value: Some(Bytes::new()),
                        stamp: Stamp::default(),
                        orphan: None,
                    }
                } else {
                    Op::Get {
                        key,
                        consistency: Consistency::Causal,
                    }
                };
                self.start_op(session, entry, op, true);
            }
            self.run_until(self.now + 1_000_000)?;
        }
        Ok(())
    }

    /// I10: contexts are small again.
    fn check_contexts(&mut self) -> Result<(), Failed> {
        for (i, session) in self.sessions.iter().enumerate() {
            if session.context.len() > 2 {
                return Err(format!(
                    "I10: session {i} still has {:?} after the faults",
                    session.context
                ));
            }
        }
        Ok(())
    }

    /// Tombstones go.
    fn check_collected(&mut self) -> Result<(), Failed> {
        let end = self.now + COLLECT_US;
        loop {
            let left = |n: &super::node::Node| {
                let process = n.process.as_ref();
                process.map_or(0, |p| p.marks.gauges.tombstones)
            };
            let most = self.nodes.iter().map(left).max().unwrap_or(0);
            if most == 0 {
                return Ok(());
            }
            if self.now >= end {
                return Err(format!("I13: a node still has {most} tombstones"));
            }
            self.run_until(self.now + 500_000)?;
        }
    }
}

//! Clients that read several keys as one causal cut, and what must hold of what they get.

use super::client::key;
use super::operation::Operation;
use super::oracle::{Past, WriteId};
use super::rng::Rng;
use super::world::{Failed, What, World};
use causeway::protocol::collect::Collect;
use causeway::protocol::context::Context;
use causeway::protocol::op::{Answer, Consistency, Op, Read};
use std::collections::BTreeSet;

/// A snapshot ends within this time, as in the node.
const WITHIN_US: u64 = 1_000_000;

/// A client that makes one snapshot after the other.
pub struct Snapshooter {
    rng: Rng,
    context: Context,
    /// The full past that the context stands for.
    past: Past,
    now: Option<Snapshot>,
}

/// A snapshot under way.
struct Snapshot {
    entry: usize,
    keys: Vec<usize>,
    began_us: u64,
    collect: Collect,
    /// The writes that the client has seen with the rounds so far.
    past: Past,
    /// The operations of this round, and what each read: a write, or nothing.
    ops: Vec<usize>,
    reads: Vec<Option<(Read, Option<WriteId>)>>,
}

impl Snapshooter {
    /// A client with its own source of chance.
    pub fn new(rng: Rng) -> Self {
        Self {
            rng,
            context: Context::default(),
            past: Past::default(),
            now: None,
        }
    }
}

impl World {
    /// The next snapshot of a client.
    pub fn begin_snapshot(&mut self, client: usize) -> Result<(), Failed> {
        if !self.busy || self.snapshooters[client].now.is_some() {
            return Ok(());
        }
        let members = self.members();
        let all = self.plan.load.keys;
        let Snapshooter {
            rng, context, past, ..
        } = &mut self.snapshooters[client];
        let entry = members[rng.index(members.len())];
        let count = 2 + rng.index(4);
        let keys: BTreeSet<usize> = (0..count).map(|_| rng.index(all)).collect();
        if rng.percent(30) {
            (*context, *past) = (Context::default(), Past::default());
        }
        if self.nodes[entry].process.is_none() {
            self.snapshot_later(client);
            return Ok(());
        }
        let client_state = &self.snapshooters[client];
        self.snapshooters[client].now = Some(Snapshot {
            entry,
            keys: keys.into_iter().collect(),
            began_us: self.now,
            collect: Collect::new(client_state.context.clone()),
            past: client_state.past.clone(),
            ops: Vec::new(),
            reads: Vec::new(),
        });
        self.next_round(client)
    }

    fn snapshot_later(&mut self, client: usize) {
        let think_us = self.plan.load.think_us;
        let delay = self.snapshooters[client].rng.below(think_us * 2) + 1_000;
        self.after(delay, What::Snapshot(client));
    }

    /// Reads all keys at once.
    fn next_round(&mut self, client: usize) -> Result<(), Failed> {
        let Some(snapshot) = &mut self.snapshooters[client].now else {
            return Ok(());
        };
        let (entry, first) = (snapshot.entry, self.ops.len());
        let count = snapshot.keys.len();
        snapshot.ops = (first..first + count).collect();
        snapshot.reads = (0..count).map(|_| None).collect();
        let life = self.nodes[entry].life;
        for at in snapshot.keys.clone() {
            let Some(snapshot) = &self.snapshooters[client].now else {
                break;
            };
            let what = Op::Get {
                key: key(at),
                consistency: Consistency::Causal,
            };
            let context = snapshot.collect.context().clone();
            let mut op = Operation::new(entry, life, what, context, self.now);
            (op.snapshooter, op.past) = (Some(client), snapshot.past.clone());
            self.ops.push(op);
        }
        for op in first..first + count {
            // One that is refused at once ends the snapshot.
            if self.snapshooters[client].now.is_some() {
                self.begin(op)?;
            }
        }
        Ok(())
    }

    /// A read of a snapshot is over.
    pub fn snapshot_read(
        &mut self,
        client: usize,
        op: usize,
        answer: &Answer,
    ) -> Result<(), Failed> {
        let Some(snapshot) = &mut self.snapshooters[client].now else {
            return Ok(());
        };
        let Some(at) = snapshot.ops.iter().position(|o| *o == op) else {
            return Ok(());
        };
        let Answer::Read(read) = answer else {
            self.snapshooters[client].now = None;
            self.snapshot_later(client);
            return Ok(());
        };
        let key = key(snapshot.keys[at]);
        let write = read.stamp.and_then(|stamp| {
            let value = read.found.as_ref().map(|found| &found.value[..]);
            self.oracle.of_stamp(&key, stamp, value)
        });
        snapshot.past.join(&self.ops[op].past);
        snapshot.reads[at] = Some((read.clone(), write));
        if snapshot.reads.iter().any(Option::is_none) {
            return Ok(());
        }
        let reads: Vec<(Read, Option<WriteId>)> = snapshot.reads.drain(..).flatten().collect();
        let round: Vec<Read> = reads.iter().map(|(read, _)| read.clone()).collect();
        if snapshot.collect.take(&round) {
            return self.end_snapshot(client, &reads);
        }
        if self.now > snapshot.began_us + WITHIN_US {
            self.snapshooters[client].now = None;
            self.snapshot_later(client);
            return Ok(());
        }
        self.next_round(client)
    }

    fn end_snapshot(
        &mut self,
        client: usize,
        reads: &[(Read, Option<WriteId>)],
    ) -> Result<(), Failed> {
        let Some(snapshot) = self.snapshooters[client].now.take() else {
            return Ok(());
        };
        self.check_cut(&snapshot, reads)?;
        let state = &mut self.snapshooters[client];
        state.context = snapshot.collect.context().clone();
        state.past = snapshot.past;
        self.snapshot_later(client);
        Ok(())
    }

    /// I14: no value of a snapshot is older than what another one of them depends on.
    fn check_cut(
        &self,
        snapshot: &Snapshot,
        reads: &[(Read, Option<WriteId>)],
    ) -> Result<(), Failed> {
        for (_, write) in reads {
            let Some(write) = *write else {
                continue;
            };
            let past = &self.oracle.writes[write].past;
            for (at, (read, _)) in snapshot.keys.iter().zip(reads) {
                let key = key(*at);
                let Some(least) = self.oracle.least(&key, past) else {
                    continue;
                };
                let needed = self.oracle.writes[least].stamp;
                // A tombstone that every replica had may be forgotten.
                let writes = &self.oracle.writes;
                let forgotten = || {
                    let mut later = self.oracle.of_key(&key, needed);
                    later.any(|w| !writes[w].live && !writes[w].dots.is_empty())
                };
                let new_enough = match read.stamp {
                    Some(stamp) => stamp >= needed,
                    None => forgotten(),
                };
                if !new_enough {
                    return Err(format!(
                        "I14: a snapshot of {:?} has write {write}, which depends on {least} of {key:?}, and {:?} there",
                        snapshot.keys, read.stamp
                    ));
                }
            }
        }
        Ok(())
    }

    /// The snapshots that a node was busy with when its process ended: their clients go on.
    pub fn lose_snapshots_of(&mut self, node: usize) {
        for client in 0..self.snapshooters.len() {
            let lost = |s: &Snapshot| s.entry == node;
            if self.snapshooters[client].now.as_ref().is_some_and(lost) {
                self.snapshooters[client].now = None;
                self.snapshot_later(client);
            }
        }
    }
}

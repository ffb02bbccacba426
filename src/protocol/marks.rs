//! How far a replica is, as one immutable snapshot: what reads are checked and contexts pruned by.
//!
//! The replica publishes a new snapshot when something moved. All marks only grow, so a reader
//! with an old snapshot is more careful than needed, never less.

use super::context::Context;
use super::ids::{LogId, MemberId};
use super::message::Beacon;
use super::op::Missing;
use super::record::Finished;
use super::teeth::{Rule, broken};
use super::view::{PartitionId, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far one log is at this replica.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// Every write up to this seq, or a newer one of the same key, is durable here.
    pub applied: u64,
    /// Every write up to this seq is applied at every replica of the partition.
    pub stable: u64,
    /// Writes up to this seq may be shown to any client: two replicas have them.
    pub exposed: u64,
}

/// Another replica of the partition, as last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerMark {
    pub member: MemberId,
    pub alive: bool,
    pub serving: bool,
    pub applied: BTreeMap<LogId, u64>,
}

/// Members whose logs are in one part of [`Elsewhere`].
const PART: u16 = 32;

/// What is known of other partitions' logs.
///
/// In parts, by member: readers hold on to what was published, so what a beacon changes has to be copied first. That
/// is one small part then, not what is known of the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    parts: BTreeMap<u16, Arc<Part>>,
}

/// What is known of some members' logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Part {
    /// Stable marks of logs that are tracked there.
    stable: BTreeMap<LogId, u64>,
    /// Logs of a member up to this incarnation are finished, but for those that are tracked.
    over: BTreeMap<MemberId, u64>,
}

impl Elsewhere {
    /// Whether every replica there has a log's writes up to `seq`.
    #[must_use]
    pub fn is_stable(&self, log: LogId, seq: u64) -> bool {
        self.part(log.member).is_some_and(|p| p.is_stable(log, seq))
    }

    /// Whether a beacon tells anything new.
    #[must_use]
    pub fn lacks(&self, beacon: &Beacon) -> bool {
        let unstable = |(log, s): &(LogId, u64)| !self.is_stable(*log, *s);
        let more = |(m, o): &(MemberId, u64)| self.over(*m) < *o;
        beacon.stable.iter().any(unstable) || beacon.over.iter().any(more)
    }

    /// Takes a beacon in. What one replica has finished all others may: a log that is not
    /// tracked any more is stable in full, and need not be named.
    pub fn join(&mut self, beacon: &Beacon) {
        for &(log, stable) in &beacon.stable {
            if !self.is_stable(log, stable.max(1)) {
                let known = self.part_mut(log.member).stable.entry(log).or_default();
                *known = (*known).max(stable);
            }
        }
        for &(member, over) in &beacon.over {
            let ended = self.ended(member, over, beacon);
            if self.over(member) < over || !ended.is_empty() {
                let part = self.part_mut(member);
                let known = part.over.entry(member).or_default();
                *known = (*known).max(over);
                for log in ended {
                    part.stable.remove(&log);
                }
            }
        }
    }

    /// The logs of a member up to an incarnation that are known here and not tracked there any more.
    fn ended(&self, member: MemberId, over: u64, beacon: &Beacon) -> Vec<LogId> {
        let log = |incarnation| LogId {
            member,
            incarnation,
        };
        let known = self
            .part(member)
            .map(|p| p.stable.range(log(0)..=log(over)));
        let tracked = |log: &LogId| beacon.stable.iter().any(|(tracked, _)| tracked == log);
        let logs = known.into_iter().flatten().map(|(log, _)| *log);
        logs.filter(|log| !tracked(log)).collect()
    }

    fn over(&self, member: MemberId) -> u64 {
        let over = self.part(member).and_then(|p| p.over.get(&member));
        over.copied().unwrap_or(0)
    }

    fn part(&self, member: MemberId) -> Option<&Part> {
        self.parts.get(&(member.0 / PART)).map(|p| &**p)
    }

    fn part_mut(&mut self, member: MemberId) -> &mut Part {
        Arc::make_mut(self.parts.entry(member.0 / PART).or_default())
    }
}

impl Part {
    fn is_stable(&self, log: LogId, seq: u64) -> bool {
        match self.stable.get(&log) {
            Some(stable) => seq <= *stable,
            None => self
                .over
                .get(&log.member)
                .is_some_and(|o| log.incarnation <= *o),
        }
    }
}

/// Numbers for people and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    pub live_keys: u64,
    pub tombstones: u64,
    /// Dots that some replica of the partition may still lack.
    pub unstable: u64,
    pub stalled_reads: u64,
}

/// A replica's marks at one moment.
#[derive(Debug, Clone)]
pub struct Marks {
    pub view: Arc<View>,
    pub me: MemberId,
    pub partition: PartitionId,
    /// Why reads are not served, when they are not.
    pub recovering: Option<String>,
    /// Logs of the own partition that are tracked.
    pub logs: BTreeMap<LogId, Mark>,
    pub finished: Arc<BTreeMap<MemberId, Finished>>,
    /// Stable marks of other partitions' logs.
    pub elsewhere: Arc<Elsewhere>,
    pub peers: Vec<PeerMark>,
    pub gauges: Gauges,
}

impl Marks {
    /// Whether a log belongs to this replica's partition.
    #[must_use]
    pub fn is_mine(&self, log: LogId) -> bool {
        self.view.replicas(self.partition).contains(&log.member)
    }

    /// Whether a log is over and was level everywhere. What is tracked is not finished.
    #[must_use]
    pub fn is_finished(&self, log: LogId) -> bool {
        !self.logs.contains_key(&log)
            && !broken(Rule::ForgetFinished)
            && self
                .finished
                .get(&log.member)
                .is_some_and(|f| f.contains(log.incarnation))
    }

    /// Whether every replica that could ever be asked has a log's writes up to `seq`.
    #[must_use]
    pub fn is_stable(&self, log: LogId, seq: u64) -> bool {
        match self.logs.get(&log) {
            Some(mark) if broken(Rule::PruneEarly) => seq <= mark.applied,
            Some(mark) => seq <= mark.stable,
            None => self.elsewhere.is_stable(log, seq) || self.is_finished(log),
        }
    }

    /// Drops what is stable from a context. The clock stays, so that order is kept.
    pub fn prune(&self, context: &mut Context) {
        context.retain(|log, seq| !self.is_stable(log, seq));
    }

    /// What a read with this context would need and this replica lacks. Entries of other
    /// partitions' logs never block.
    #[must_use]
    pub fn missing(&self, context: &Context) -> Vec<Missing> {
        context
            .iter()
            .filter_map(|(log, need)| {
                let have = match self.logs.get(&log) {
                    Some(mark) => mark.applied,
                    None if !self.is_mine(log) || self.is_finished(log) => return None,
                    None => 0,
                };
                (have < need).then(|| Missing {
                    log,
                    have,
                    need,
                    holders: self.holders(log, need),
                })
            })
            .collect()
    }

    /// Whether a read with this context may be answered here.
    #[must_use]
    pub fn covers(&self, context: &Context) -> bool {
        context.is_empty() || broken(Rule::ReadUnchecked) || self.missing(context).is_empty()
    }

    /// Replicas that have a log's writes up to `seq`, as far as is known; else its writer.
    fn holders(&self, log: LogId, seq: u64) -> Vec<MemberId> {
        let known: Vec<MemberId> = self
            .peers
            .iter()
            .filter(|p| p.applied.get(&log).is_some_and(|a| *a >= seq))
            .map(|p| p.member)
            .collect();
        if known.is_empty() && log.member != self.me {
            vec![log.member]
        } else {
            known
        }
    }

    /// Peers that are alive and known to be far enough for a read with this context.
    pub fn far_enough<'a>(&'a self, context: &'a Context) -> impl Iterator<Item = MemberId> + 'a {
        let enough = |p: &PeerMark| {
            context.iter().all(|(log, need)| {
                !self.is_mine(log)
                    || self.is_stable(log, need)
                    || p.applied.get(&log).is_some_and(|a| *a >= need)
            })
        };
        self.peers
            .iter()
            .filter(move |p| p.alive && p.serving && enough(p))
            .map(|p| p.member)
    }
}

//! Marks: how far a replica is, as one immutable snapshot. Reads are checked by it, and contexts
//! pruned.
//!
//! The replica publishes a new snapshot when something moved. All marks only grow, so a reader
//! with an old snapshot is more careful than needed, never less.

use super::context::Context;
use super::ids::{LogId, MemberId};
use super::message::Beacon;
use super::op::Missing;
use super::record::{Finished, Seal};
use super::replica::fold;
use super::slots::Slot;
use super::teeth::{Rule, broken};
use super::view::{PartitionId, View};
use super::views::{CohortId, Home, Views};
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
    /// How far the log is wherever a later one of its writer has begun, if that is known.
    pub seal: Option<Seal>,
}

/// Another member that shares logs with this replica, as last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerMark {
    /// Its number.
    pub member: MemberId,
    /// Whether it is a replica of the same partition.
    pub replica: bool,
    /// Whether it was heard of lately.
    pub alive: bool,
    /// Whether it serves reads of its partition.
    pub serving: bool,
    /// How far it has each log, durable there.
    pub applied: BTreeMap<LogId, u64>,
}

/// Members whose logs are in one part of [`Elsewhere`].
const PART: u16 = 32;

/// What is known of other partitions' logs.
///
/// In parts, by member: readers hold on to what was published, so a part has to be copied before a
/// beacon changes it. That is one small part then, not what is known of the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elsewhere {
    parts: BTreeMap<u16, Arc<Part>>,
}

/// What is known of some members' logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Part {
    /// Stable marks of logs that are tracked there.
    stable: BTreeMap<LogId, u64>,
    /// Logs of a member for a cohort up to this incarnation are finished, but for those that are
    /// tracked.
    over: BTreeMap<(MemberId, CohortId), u64>,
}

impl Elsewhere {
    /// Whether everybody who shares the logs of a cohort has one's writes up to `seq`.
    #[must_use]
    pub fn is_stable(&self, log: LogId, cohort: CohortId, seq: u64) -> bool {
        let part = self.part(log.member);
        part.is_some_and(|p| p.is_stable(log, cohort, seq))
    }

    /// Whether a beacon tells anything new.
    #[must_use]
    pub fn lacks(&self, beacon: &Beacon) -> bool {
        let unstable = |(log, s): &(LogId, u64)| {
            let part = self.part(log.member);
            part.and_then(|p| p.stable.get(log)).is_none_or(|k| k < s)
        };
        let more = |&(m, c, o): &(MemberId, CohortId, u64)| self.over(m, c) < o;
        beacon.stable.iter().any(unstable) || beacon.over.iter().any(more)
    }

    /// Takes a beacon in. What one replica has finished all others may: a log that is not
    /// tracked any more is stable in full, and need not be named.
    pub fn join(&mut self, beacon: &Beacon, views: &Views) {
        for &(log, stable) in &beacon.stable {
            if let Home::Cohort(cohort) = views.home(log)
                && !self.is_stable(log, cohort, stable.max(1))
            {
                let known = self.part_mut(log.member).stable.entry(log).or_default();
                *known = (*known).max(stable);
            }
        }
        for &(member, cohort, over) in &beacon.over {
            let ended = self.ended(member, cohort, over, beacon, views);
            if self.over(member, cohort) < over || !ended.is_empty() {
                let part = self.part_mut(member);
                let known = part.over.entry((member, cohort)).or_default();
                *known = (*known).max(over);
                for log in ended {
                    part.stable.remove(&log);
                }
            }
        }
    }

    /// Forgets what is over.
    pub fn retain(&mut self, views: &Views) {
        for part in self.parts.values_mut() {
            let part = Arc::make_mut(part);
            part.stable
                .retain(|log, _| matches!(views.home(*log), Home::Cohort(_)));
            part.over.retain(|(_, id), _| views.cohort(*id).is_some());
        }
    }

    /// The logs of a member for a cohort up to an incarnation that are known here and not tracked
    /// there any more.
    fn ended(
        &self,
        member: MemberId,
        cohort: CohortId,
        over: u64,
        beacon: &Beacon,
        views: &Views,
    ) -> Vec<LogId> {
        let log = |incarnation| LogId {
            member,
            incarnation,
        };
        let known = self
            .part(member)
            .map(|p| p.stable.range(log(0)..=log(over)));
        let tracked = |log: &LogId| beacon.stable.iter().any(|(tracked, _)| tracked == log);
        let logs = known.into_iter().flatten().map(|(log, _)| *log);
        logs.filter(|log| views.home(*log) == Home::Cohort(cohort) && !tracked(log))
            .collect()
    }

    fn over(&self, member: MemberId, cohort: CohortId) -> u64 {
        let part = self.part(member);
        let over = part.and_then(|p| p.over.get(&(member, cohort)));
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
    fn is_stable(&self, log: LogId, cohort: CohortId, seq: u64) -> bool {
        match self.stable.get(&log) {
            Some(stable) => seq <= *stable,
            None => self
                .over
                .get(&(log.member, cohort))
                .is_some_and(|o| log.incarnation <= *o),
        }
    }
}

/// Numbers for people and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Keys with a value.
    pub live_keys: u64,
    /// Deleted keys whose tombstones are still here.
    pub tombstones: u64,
    /// Writes that were lost with nodes that were given up, as far as those had told of them.
    pub lost: u64,
    /// Dots that some replica of the partition may still lack.
    pub unstable: u64,
    /// Dots that the index holds: those of them that can be pulled, and those that are still to be
    /// dropped.
    pub indexed: u64,
    /// Reads that wait for missing writes.
    pub stalled_reads: u64,
    /// How far the wall clock is ahead of most others', or behind when negative, in milliseconds; 0
    /// when it is near enough to be gone by.
    pub clock_off_ms: i64,
    /// Keys in slots that are not kept here any more are still to be dropped.
    pub dropping: bool,
    /// What came in snapshots since the replica was opened under its views.
    pub copied: Copied,
    /// The snapshot that is on its way here.
    pub copying: Option<Copying>,
}

/// How much came in snapshots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// Keys, deleted ones included.
    pub keys: u64,
    /// Bytes of these keys and their values.
    pub bytes: u64,
}

/// A snapshot on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copying {
    /// The peer that sends it.
    pub from: MemberId,
    /// The cohort that it is of.
    pub cohort: CohortId,
    /// Everything in the slots before this one is here.
    pub upto: Slot,
}

/// A replica's marks at one moment.
#[derive(Debug, Clone)]
pub struct Marks {
    /// The views that the replica goes by.
    pub views: Arc<Views>,
    /// The log that the replica writes.
    pub own: LogId,
    /// `None` for a node that is not in the view yet, or no more.
    pub partition: Option<PartitionId>,
    /// The cohorts whose logs are tracked, and whether everything of them is here, up to the marks
    /// of their logs.
    pub cohorts: BTreeMap<CohortId, bool>,
    /// Why reads are not served, when they are not.
    pub recovering: Option<String>,
    /// Logs that are tracked.
    pub logs: BTreeMap<LogId, Mark>,
    /// Logs that are finished, by cohort and writer.
    pub finished: Arc<BTreeMap<(CohortId, MemberId), Finished>>,
    /// Stable marks of other partitions' logs.
    pub elsewhere: Arc<Elsewhere>,
    /// The members that share logs with this replica.
    pub peers: Vec<PeerMark>,
    /// Numbers for people and metrics.
    pub gauges: Gauges,
}

impl Marks {
    /// The view in force, as far as this replica knows.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.views.view
    }

    /// The cohort of a log, when its logs are tracked here.
    fn cohort(&self, log: LogId) -> Option<CohortId> {
        match self.views.home(log) {
            Home::Cohort(id) if self.cohorts.contains_key(&id) => Some(id),
            _ => None,
        }
    }

    /// The partition that a log was opened for, while that is known.
    #[must_use]
    pub fn partition_of(&self, log: LogId) -> Option<PartitionId> {
        match self.views.home(log) {
            Home::Cohort(id) => Some(id.partition),
            Home::Over | Home::Ahead => None,
        }
    }

    /// Whether the logs of its cohort are tracked here.
    #[must_use]
    pub fn is_tracked(&self, log: LogId) -> bool {
        self.cohort(log).is_some()
    }

    /// Whether a log is over and was level everywhere. What is tracked is not finished.
    #[must_use]
    pub fn is_finished(&self, log: LogId) -> bool {
        if self.logs.contains_key(&log) {
            return false;
        }
        match self.views.home(log) {
            Home::Over => true,
            Home::Ahead => false,
            Home::Cohort(id) => {
                let finished = self.finished.get(&(id, log.member));
                finished.is_some_and(|f| f.contains(log.incarnation))
                    && !broken(Rule::ForgetFinished)
            }
        }
    }

    /// Whether every replica that could ever be asked has a log's writes up to `seq`.
    #[must_use]
    pub fn is_stable(&self, log: LogId, seq: u64) -> bool {
        match self.logs.get(&log) {
            Some(mark) if broken(Rule::PruneEarly) => seq <= mark.applied,
            Some(mark) => seq <= mark.stable,
            None if self.is_finished(log) => true,
            None => match self.views.home(log) {
                Home::Cohort(id) => self.elsewhere.is_stable(log, id, seq),
                Home::Over | Home::Ahead => false,
            },
        }
    }

    /// Drops what is stable from a context. The clock stays, so that order is kept.
    pub fn prune(&self, context: &mut Context) {
        context.retain(|log, seq| !self.is_stable(log, seq));
        context.view = context.view.max(self.view().number);
        self.fold(context);
    }

    /// Drops the entries that are said by those of later logs.
    pub fn fold(&self, context: &mut Context) {
        fold(context, |log| {
            self.logs.get(&log).and_then(|mark| mark.seal)
        });
    }

    /// What a read in a slot with this context would need and this replica lacks. Entries of logs
    /// that have no writes in the slot never block.
    #[must_use]
    pub fn missing(&self, slot: Slot, context: &Context) -> Vec<Missing> {
        let lacks = |(log, need): (LogId, u64)| {
            let have = self.logs.get(&log).map_or(0, |mark| mark.applied);
            if have >= need || self.is_finished(log) {
                return None;
            }
            // What is ahead of all views known here is waited for with the view.
            let cohort = self.cohort(log)?;
            self.views.holds(cohort, slot).then(|| Missing {
                log,
                have,
                need,
                holders: self.holders(log, need),
            })
        };
        context.iter().filter_map(lacks).collect()
    }

    /// Whether the context comes from a view that is not known here yet.
    #[must_use]
    pub fn is_behind(&self, context: &Context) -> bool {
        context.view > self.view().number && !broken(Rule::ServeOldView)
    }

    /// Whether a read in a slot with this context may be answered here.
    #[must_use]
    pub fn covers(&self, slot: Slot, context: &Context) -> bool {
        broken(Rule::ReadUnchecked)
            || (!self.is_behind(context)
                && (context.is_empty() || self.missing(slot, context).is_empty()))
    }

    /// Replicas that have a log's writes up to `seq`, as far as is known; else its writer.
    fn holders(&self, log: LogId, seq: u64) -> Vec<MemberId> {
        let known: Vec<MemberId> = self
            .peers
            .iter()
            .filter(|p| p.applied.get(&log).is_some_and(|a| *a >= seq))
            .map(|p| p.member)
            .collect();
        if known.is_empty() && log.member != self.own.member {
            vec![log.member]
        } else {
            known
        }
    }

    /// Peers that are alive and known to be far enough for a read with this context.
    pub fn far_enough<'a>(&'a self, context: &'a Context) -> impl Iterator<Item = MemberId> + 'a {
        let enough = |p: &PeerMark| {
            context.iter().all(|(log, need)| {
                self.cohort(log).is_none()
                    || self.is_stable(log, need)
                    || p.applied.get(&log).is_some_and(|a| *a >= need)
            })
        };
        self.peers
            .iter()
            .filter(move |p| p.replica && p.alive && p.serving && enough(p))
            .map(|p| p.member)
    }
}

//! Gossip: who is alive, what is stable.
//!
//! Replicas of a partition tell each other their marks ten times a second, and at once after a
//! start. Liveness is nothing but having been heard of lately. Nodes of other partitions get a
//! beacon with what is stable, so that contexts can be pruned anywhere.

use super::super::clock::Timestamp;
use super::super::ids::{LogId, MemberId};
use super::super::message::{Gossip, Message};
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::super::views::CohortId;
use super::cohorts::CohortState;
use super::peers::{Agreed, Peer};
use super::sharing::Sharing;
use super::{Now, Replica, TICK_US, cannot_be};
use std::collections::{BTreeMap, BTreeSet};

/// Time between gossips, in microseconds.
pub const INTERVAL_US: u64 = 100_000;
/// A peer that was not heard of for this long is taken for dead, in microseconds.
pub const DEAD_US: u64 = 500_000;
// One gossip may be lost, and the next be late, without the peer being taken for dead.
const _: () = assert!(2 * INTERVAL_US + 2 * TICK_US < DEAD_US);

/// When gossip is due.
#[derive(Default)]
pub(super) struct Schedule {
    last_us: Option<u64>,
    /// Gossip was due, since this was last asked for.
    moved: bool,
}

impl Schedule {
    /// Whether readers have to be told, since the last call: which peers live is part of the marks,
    /// and changes by time alone.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Whether gossip is due now; the next one is then due after [`INTERVAL_US`].
    fn is_due(&mut self, now: Now) -> bool {
        let passed = |last| now.mono_us.saturating_sub(last) >= INTERVAL_US;
        let due = self.last_us.is_none_or(passed);
        if due {
            self.last_us = Some(now.mono_us);
            self.moved = true;
        }
        due
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Notes that a peer lives. False when the message is of an incarnation that is over, or of
    /// no replica of this partition.
    pub(super) fn heard(&mut self, from: MemberId, incarnation: u64) -> bool {
        let known = self.newest_incarnation(from);
        let open = LogId {
            member: from,
            incarnation,
        };
        // A log must not be opened below one that is known, or the order of incarnations would not
        // tell any more which logs are closed. A finished log is not opened again either: this
        // replica may itself have been opened again since, and then knows of no later log that it
        // does not share.
        let finished = self.has_finished(open) && !broken(Rule::HearTheFinished);
        if !self.peers.contains(from) {
            return false;
        }
        if incarnation < known || finished {
            let known = known.max(incarnation + 1);
            self.effects.send(from, Message::Outdated { known });
            return false;
        }
        if self.peers.incarnation(from) != Some(incarnation) {
            self.meet(open);
        }
        self.peers.heard(from, self.now);
        true
    }

    /// A peer has started again, as this replica has heard from the peer itself.
    ///
    /// Another member's word for a start does not count: that member may have heard of a start that
    /// is over. A start that follows the loss of a disk may have a lower number, when the wall
    /// clock was set back or both are of one second. If this replica has refilled the new disk and
    /// then took the earlier start for the newest one, its marks would count as if the lost disk
    /// were there.
    fn meet(&mut self, open: LogId) {
        self.peers.meet(open);
        // Under its view it may write for a cohort that is not shared here.
        self.track(open);
        self.abandon_snapshot_of(open.member);
    }

    /// Takes other members' word for who has started, as no replica may (a tooth).
    fn meet_through(&mut self, from: MemberId, gossip: &Gossip) {
        for &open in &gossip.open {
            let is_news = open.member != from
                && self.peers.contains(open.member)
                && open.incarnation > self.newest_incarnation(open.member);
            if is_news {
                self.meet(open);
            }
        }
    }

    /// The other replicas of the own partition.
    pub(super) fn replicas(&self) -> impl Iterator<Item = &Peer> {
        let members = self
            .cohorts
            .own()
            .map_or(&[][..], |state| &state.cohort.replicas);
        members.iter().filter_map(|m| self.peers.get(*m))
    }

    /// The latest incarnation of a member that is known: from itself, from its logs here, or from
    /// those that are finished.
    fn newest_incarnation(&self, member: MemberId) -> u64 {
        let log = |incarnation| LogId {
            member,
            incarnation,
        };
        let tracked = self.logs.range(log(0)..=log(u64::MAX)).next_back();
        let tracked = tracked.map_or(0, |(id, _)| id.incarnation);
        let finished = self.finished.newest(member);
        let heard = self.peers.incarnation(member);
        tracked.max(finished).max(heard.unwrap_or(0))
    }

    /// The connection to a member is gone: it counts as dead until it is heard again.
    pub(super) fn down(&mut self, member: MemberId) {
        if self.peers.contains(member) {
            self.peers.down(member);
            self.expose();
        }
    }

    /// Whether gossip is due now.
    pub(super) fn gossip_due(&mut self) -> bool {
        self.gossip.is_due(self.now)
    }

    /// Tells all peers how this replica is, and some strangers what concerns them.
    pub(super) fn send_gossip(&mut self, reply: bool) {
        let to = self.peers.ids().collect();
        self.send_gossip_to(to, reply);
        self.send_beacons();
    }

    /// Tells members of the cohorts that each of them shares.
    ///
    /// And of no others. By older views, in which a follower was not turned away yet, a member may
    /// take itself for one that shares a cohort. That cohort goes on without the member; if it
    /// heard what is stable there, or over, it would find that it lacks that: it would take its
    /// good disk for an old one, and prune contexts that others like it still need.
    pub(super) fn send_gossip_to(&mut self, to: Vec<MemberId>, reply: bool) {
        let mut alike: BTreeMap<Vec<CohortId>, Vec<MemberId>> = BTreeMap::new();
        for member in to {
            let cohorts = self.shared_with(member);
            alike.entry(cohorts).or_default().push(member);
        }
        for (cohorts, to) in alike {
            let gossip = self.gossip_about(&cohorts, reply);
            self.effects.send_to(to, Message::Gossip(gossip));
        }
    }

    /// The cohorts whose logs are shared with a member.
    fn shared_with(&self, member: MemberId) -> Vec<CohortId> {
        let all = broken(Rule::TellOfAllCohorts);
        let shared = |state: &CohortState| all || state.peers.contains(&member);
        let cohorts = self.cohorts.iter().filter(|(_, state)| shared(state));
        cohorts.map(|(id, _)| id).collect()
    }

    /// The gossip for a member that shares these cohorts.
    fn gossip_about(&self, cohorts: &[CohortId], reply: bool) -> Gossip {
        let told = |id: &CohortId| cohorts.contains(id);
        let finished = self.finished.iter().filter(|(id, _, _)| told(id));
        let logs = self.logs.iter().filter(|(_, log)| told(&log.cohort));
        Gossip {
            // A tick each time: receivers tell by the clock which of two was sent later.
            clock: self.clock.tick(self.now, Timestamp::default()),
            wall_ms: self.now.wall_ms,
            serving: self.recovery.serving,
            fresh: self.is_fresh(),
            empty: self.has_lost_all(),
            open: self.open_logs(),
            met: cohorts
                .iter()
                .filter(|id| !self.is_unproven(**id))
                .map(|id| (*id, self.sharing().met(*id)))
                .collect(),
            filled: cohorts
                .iter()
                .copied()
                .filter(|id| self.is_filled(*id))
                .collect(),
            logs: logs.map(|(id, log)| log.report(id)).collect(),
            finished: finished
                .map(|(cohort, member, f)| (cohort, member, f.clone()))
                .collect(),
            head: self.head(),
            promise: self.promises.told(),
            floor: self.floor(),
            reply,
        }
    }

    /// The open log of each replica, as far as this one knows. If a closed log is still on its way
    /// to the disk, or has versions ahead of it that others may lack, that log is named instead: it
    /// must not end yet.
    fn open_logs(&self) -> Vec<LogId> {
        let newest = self.peers.open_logs().chain([self.log]);
        let mut open: BTreeMap<MemberId, u64> =
            newest.map(|log| (log.member, log.incarnation)).collect();
        for (id, log) in self.logs.iter().filter(|(id, _)| *id != self.log) {
            if log.received > log.applied || self.has_early_alone(id) {
                let named = open.entry(id.member).or_insert(id.incarnation);
                *named = id.incarnation.min(*named);
            }
        }
        let log = |(member, incarnation)| LogId {
            member,
            incarnation,
        };
        open.into_iter().map(log).collect()
    }

    /// Takes a peer's gossip in, and does what follows from it.
    pub(super) fn gossiped(&mut self, from: MemberId, gossip: Gossip) {
        if !self.peers.is_latest(from, gossip.clock) {
            // Later gossip overtook this one, and that one counts: by the earlier one a replica
            // that serves by now would seem to be recovering still, and writes would do with one
            // copy.
            if gossip.reply {
                self.send_gossip_to(vec![from], false);
            }
            return;
        }
        self.heard_clock(from, gossip.wall_ms, gossip.clock);
        if broken(Rule::TrustHearsay) {
            self.meet_through(from, &gossip);
        }
        // First of all this disk is compared with what the peer counts on: all else goes by its
        // outcome.
        self.compare(from, &gossip);
        self.track_reported(&gossip);
        let agreed = self.agreed(from, &gossip);
        let logs = &self.logs;
        let cohort = |log| logs.get(log).map(|l| l.cohort);
        self.peers.gossiped(from, &gossip, &agreed, cohort);
        // Gossip stands in for acknowledgements that were lost.
        let acked = self.peers.get(from).map_or(0, |p| p.applied(self.log));
        if let Some(stream) = self.peers.stream_mut(from) {
            stream.acknowledged(acked, self.now.mono_us);
        }
        let Some(incarnation) = self.peers.incarnation(from) else {
            cannot_be("gossip of nobody who was met");
            return;
        };
        let theirs = LogId {
            member: from,
            incarnation,
        };
        self.logs.promised(theirs, gossip.head, gossip.promise);
        self.logs.hear_head(theirs, gossip.head);
        self.finish_known(&gossip);
        for report in gossip.logs {
            self.logs.hear_stable(report.log, report.stable);
        }
        self.refresh_stable();
        self.expose();
        self.pump_all();
        self.close_gaps();
        self.try_serve();
        if gossip.reply {
            self.send_gossip_to(vec![from], false);
        }
    }

    /// Tracks the logs that a peer has something of.
    fn track_reported(&mut self, gossip: &Gossip) {
        let reports = gossip.logs.iter();
        let some = reports.filter(|r| r.applied.max(r.stable) > 0);
        let new: Vec<_> = some
            .map(|r| r.log)
            .filter(|log| !self.logs.contains(*log) && self.may_be_log(*log))
            .collect();
        for log in new {
            self.track(log);
        }
    }

    /// In what a peer's gossip can be taken at its word.
    fn agreed(&self, from: MemberId, gossip: &Gossip) -> Agreed {
        let same = |(id, met): &&(CohortId, u64)| {
            self.sharing().met(*id) == *met || broken(Rule::StableAcrossStarts)
        };
        let level: BTreeSet<CohortId> = gossip.met.iter().filter(same).map(|(id, _)| *id).collect();
        let mut shared = self.cohorts.iter().filter(|(_, t)| t.peers.contains(&from));
        Agreed {
            // A cohort that the peer does not name is not level either.
            all_level: shared.all(|(id, _)| level.contains(&id)),
            level,
        }
    }

    /// Tracks a log from now on, if its cohort is shared here; false if not. The disk must know it
    /// before it learns that older or unknown logs of the member are finished, or the next start
    /// would count this one among them.
    pub(super) fn track(&mut self, id: LogId) -> bool {
        let Some(cohort) = self.cohort_of(id).map(|state| state.cohort.id) else {
            return false;
        };
        self.logs.track(id, cohort, self.now);
        true
    }

    /// Whether a log that is not tracked may exist: its cohort is shared here, and it is not
    /// finished.
    pub(super) fn may_be_log(&self, log: LogId) -> bool {
        self.cohort_of(log).is_some() && !self.is_finished(log)
    }

    /// Moves `stable` to the least of `applied` of all who share the log.
    pub(super) fn refresh_stable(&mut self) {
        let sharing = Sharing {
            views: &self.views,
            log: self.log,
            cohorts: &self.cohorts,
            peers: &self.peers,
        };
        let now = self.now;
        self.logs
            .stabilize(|id, log| sharing.least_level(id, log, now));
    }
}

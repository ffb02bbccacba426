//! Gossip: who is alive, what is stable, which logs are finished.
//!
//! Replicas of a partition tell each other their marks ten times a second, and at once after a
//! start. Liveness is nothing but having been heard of lately. Nodes of other partitions get a
//! beacon with what is stable, so that contexts can be pruned anywhere.

use super::super::clock::Timestamp;
use super::super::ids::{LogId, MemberId};
use super::super::message::{Beacon, Gossip, Message};
use super::super::record::{self, Finished};
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::stream::Stream;
use super::{Effect, Log, Now, Replica};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Time between gossips, in microseconds.
pub const INTERVAL_US: u64 = 100_000;
/// A peer that was not heard of for this long is taken for dead, in microseconds.
pub const DEAD_US: u64 = 500_000;
/// Members of other partitions that get a beacon in one interval; the next ones get the next.
const BEACONS: usize = 64;

/// Another replica of the partition.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) incarnation: Option<u64>,
    heard_us: Option<u64>,
    pub(super) serving: bool,
    pub(super) fresh: bool,
    /// Durable there, as it said in this incarnation.
    pub(super) applied: BTreeMap<LogId, u64>,
    /// The part of `applied` that stability may count on: said by a peer that had met no later
    /// incarnation of any replica than this one has. A replica that lost its disk is refilled
    /// by one that has met it; what that one got afterwards must not be taken for being
    /// everywhere by somebody who still counts on what the lost disk held.
    pub(super) level: BTreeMap<LogId, u64>,
    /// The open logs that it knows of.
    open: BTreeMap<MemberId, u64>,
    /// The incarnations that it had met when it last gossiped.
    told: Option<u64>,
    pub(super) floor: Timestamp,
    pub(super) stream: Stream,
}

impl Peer {
    /// Whether it has told what it has since it knows these incarnations of all replicas.
    pub(super) fn has_told(&self, met: u64) -> bool {
        self.serving && self.told == Some(met)
    }

    /// Whether it was heard of lately.
    pub(super) fn alive(&self, now: Now) -> bool {
        self.heard_us
            .is_some_and(|at| now.mono_us.saturating_sub(at) < DEAD_US)
    }
}

/// When gossip is due.
#[derive(Default)]
pub(super) struct Schedule {
    last_us: Option<u64>,
    next_stranger: usize,
}

impl Log {
    /// Whether nothing of it is on its way to the disk, and its index is gone.
    fn is_settled(&self, indexed: bool) -> bool {
        self.received == self.applied && (!indexed || self.pruned >= self.applied)
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Notes that a peer lives. False when the message is of an incarnation that is over, or of
    /// no replica of this partition.
    pub(super) fn heard(&mut self, from: MemberId, incarnation: u64) -> bool {
        let now = self.now;
        let known = self.newest_incarnation(from);
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        // A log must not be opened below one that is known, or the order of incarnations would
        // not tell any more which logs are closed.
        if incarnation < known {
            self.send(from, Message::Outdated { known });
            return false;
        }
        let was_alive = peer.alive(now);
        if peer.incarnation != Some(incarnation) {
            self.meet(LogId {
                member: from,
                incarnation,
            });
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heard_us = Some(now.mono_us);
        }
        self.marks_changed |= !was_alive;
        true
    }

    /// A peer has started again.
    fn meet(&mut self, open: LogId) {
        // What it said before counts no more: it may have lost its disk.
        let peer = Peer {
            incarnation: Some(open.incarnation),
            ..Peer::default()
        };
        let before = self.peers.insert(open.member, peer);
        if broken(Rule::PeerKeepsItsWord)
            && let (Some(before), Some(peer)) = (before, self.peers.get_mut(&open.member))
        {
            (peer.applied, peer.level) = (before.applied, before.level);
        }
        self.track(open);
        self.abandon_snapshot_of(open.member);
        self.marks_changed = true;
    }

    /// Meets the peers that have started again and that another one has heard before.
    ///
    /// Not on a disk that was refilled: with the old one, the knowledge of a still later start may be lost, and
    /// what this replica says would count as if it had been said in ignorance of that start. It waits to hear each
    /// peer itself.
    fn meet_through(&mut self, from: MemberId, gossip: &Gossip) {
        if self.recovery.refilled && !broken(Rule::TrustHearsay) {
            return;
        }
        for &open in &gossip.open {
            let is_news = open.member != from
                && self.peers.contains_key(&open.member)
                && open.incarnation > self.newest_incarnation(open.member);
            if is_news {
                self.meet(open);
            }
        }
    }

    /// The incarnations of the partition's replicas that are known, in one number.
    pub(super) fn met(&self) -> u64 {
        let peers = self.peers.values().filter_map(|p| p.incarnation);
        peers.fold(self.log.incarnation, u64::wrapping_add)
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
        let finished = self.finished.get(&member).map_or(0, Finished::newest);
        let heard = self.peers.get(&member).and_then(|p| p.incarnation);
        tracked.max(finished).max(heard.unwrap_or(0))
    }

    /// The connection to a member is gone: it counts as dead until it is heard again.
    pub(super) fn down(&mut self, member: MemberId) {
        if let Some(peer) = self.peers.get_mut(&member) {
            peer.heard_us = None;
            self.marks_changed = true;
            self.expose();
        }
    }

    pub(super) fn gossip_due(&mut self) -> bool {
        let now = self.now.mono_us;
        let due = self
            .gossip
            .last_us
            .is_none_or(|last| now.saturating_sub(last) >= INTERVAL_US);
        if due {
            self.gossip.last_us = Some(now);
            // Liveness is part of the marks and changes by time alone.
            self.marks_changed = true;
        }
        due
    }

    pub(super) fn send_gossip(&mut self, reply: bool) {
        let to = self.peer_ids.clone();
        self.send_gossip_to(to, reply);
        self.send_beacons();
    }

    pub(super) fn send_gossip_to(&mut self, to: Vec<MemberId>, reply: bool) {
        if to.is_empty() {
            return;
        }
        let gossip = Gossip {
            clock: self.clock.observe_wall(self.now.wall_ms),
            serving: self.recovery.serving,
            fresh: self.is_fresh(),
            open: self.open_logs(),
            met: self.met(),
            logs: self.reports(),
            finished: self.finished_logs(),
            head: self.logs.get(&self.log).map_or(0, |l| l.received),
            promise: self.promises.given(),
            floor: self.floor(),
            reply,
        };
        self.effects.push(Effect::Send {
            to,
            message: Message::Gossip(gossip),
        });
    }

    /// The open log of each replica, as far as is known here. A closed one that is still on its way
    /// to the disk, or that versions came ahead of, is named instead: it must not end yet.
    fn open_logs(&self) -> Vec<LogId> {
        let newest = self.peers.iter().filter_map(|(member, peer)| {
            peer.incarnation.map(|incarnation| LogId {
                member: *member,
                incarnation,
            })
        });
        let unsettled = |open: LogId| {
            let of_member = LogId {
                incarnation: 0,
                ..open
            }..open;
            let mut closed = self.logs.range(of_member);
            closed.find(|(id, log)| log.received > log.applied || self.has_early(**id))
        };
        newest
            .map(|open| unsettled(open).map_or(open, |(id, _)| *id))
            .chain([self.log])
            .collect()
    }

    fn send_beacons(&mut self) {
        let count = self.strangers.len().min(BEACONS);
        if count == 0 {
            return;
        }
        let first = self.gossip.next_stranger;
        let to = (first..first + count)
            .map(|i| self.strangers[i % self.strangers.len()])
            .collect();
        self.gossip.next_stranger = (first + count) % self.strangers.len();
        let beacon = Beacon {
            clock: self.clock.observe_wall(self.now.wall_ms),
            serving: self.recovery.serving,
            stable: self.logs.iter().map(|(id, l)| (*id, l.stable)).collect(),
            over: self
                .finished
                .iter()
                .map(|(m, f)| (*m, f.newest()))
                .collect(),
        };
        self.effects.push(Effect::Send {
            to,
            message: Message::Beacon(beacon),
        });
    }

    pub(super) fn gossiped(&mut self, from: MemberId, gossip: Gossip) {
        self.clock.observe(gossip.clock);
        self.meet_through(from, &gossip);
        self.compare(from, &gossip);
        let now = self.now;
        let own = self.log;
        let tracked: Vec<_> = gossip
            .logs
            .iter()
            .filter(|r| r.applied > 0 && !self.logs.contains_key(&r.log))
            .map(|r| r.log)
            .filter(|log| self.may_be_log(*log))
            .collect();
        for log in tracked {
            self.track(log);
        }
        let counts = gossip.met == self.met() || broken(Rule::StableAcrossStarts);
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        peer.serving = gossip.serving;
        peer.fresh = gossip.fresh;
        // What is finished here would stay in the table for ever.
        for report in &gossip.logs {
            if self.logs.contains_key(&report.log) {
                let applied = peer.applied.entry(report.log).or_default();
                *applied = (*applied).max(report.applied);
                if counts {
                    let level = peer.level.entry(report.log).or_default();
                    *level = (*level).max(report.applied);
                }
            }
        }
        peer.open = gossip
            .open
            .iter()
            .map(|l| (l.member, l.incarnation))
            .collect();
        peer.floor = gossip.floor;
        peer.told = Some(gossip.met);
        let acked = peer.applied.get(&own).copied().unwrap_or(0);
        peer.stream.acknowledged(acked, now.mono_us);
        let Some(incarnation) = peer.incarnation else {
            return;
        };
        let theirs = LogId {
            member: from,
            incarnation,
        };
        if let Some(log) = self.logs.get_mut(&theirs) {
            log.promised(gossip.head, gossip.promise);
        }
        self.finish_known(&gossip);
        for report in gossip.logs {
            if let Some(log) = self.logs.get_mut(&report.log) {
                log.stable = log.stable.max(report.stable);
            }
        }
        self.refresh_stable();
        self.expose();
        self.pump_all();
        self.close_gaps();
        self.try_serve();
        self.marks_changed = true;
        if gossip.reply {
            self.send_gossip_to(vec![from], false);
        }
    }

    /// Tracks a log from now on. The disk must know it before it learns that older or unknown logs of
    /// the member are finished, or the next start would count this one among them.
    pub(super) fn track(&mut self, id: LogId) {
        let progress_us = self.now.mono_us;
        self.logs.entry(id).or_insert_with(|| Log {
            progress_us,
            dirty: true,
            ..Log::default()
        });
    }

    /// Whether a log that is not tracked may exist: it is a replica's, and not finished.
    pub(super) fn may_be_log(&self, log: LogId) -> bool {
        self.view.replicas(self.partition).contains(&log.member) && !self.is_finished(log)
    }

    /// Moves `stable` to the least of all replicas' `applied`.
    pub(super) fn refresh_stable(&mut self) {
        let (peers, now) = (&self.peers, self.now);
        let mut changed = false;
        for (id, log) in &mut self.logs {
            let least = peers
                .values()
                .filter(|p| p.alive(now) || !broken(Rule::StableWithoutTheDead))
                .map(|p| p.level.get(id).copied().unwrap_or(0))
                .fold(log.applied, u64::min);
            if least > log.stable {
                log.stable = least;
                changed = true;
            }
        }
        self.marks_changed |= changed;
    }

    /// Forgets closed logs that every replica has in full.
    ///
    /// A log is closed for a replica that has met a later incarnation of its writer: it takes
    /// nothing from the earlier one any more. When all replicas say that it is closed and that they
    /// are equally far, nobody can ever get more of it.
    pub(super) fn finish_logs(&mut self) {
        let own = self.log;
        let current = |member: MemberId| {
            if member == own.member {
                Some(own.incarnation)
            } else {
                self.peers.get(&member).and_then(|p| p.incarnation)
            }
        };
        let met = self.met();
        let closed = |id: &LogId| current(id.member).is_some_and(|c| id.incarnation < c);
        let level = |id: &LogId, end: u64| {
            self.peers.iter().all(|(member, p)| {
                let knows = *member == id.member
                    || p.open.get(&id.member).is_some_and(|c| id.incarnation < *c);
                // What it does not name it has nothing of; but it must have told.
                let told = p.has_told(met) || broken(Rule::FinishUntold);
                let level = p.level.get(id).copied().unwrap_or(0);
                told && knows && (level == end || broken(Rule::FinishUntold))
            })
        };
        let indexed = !self.peer_ids.is_empty();
        let finished: Vec<(LogId, u64)> = self
            .logs
            .iter()
            .filter(|(id, log)| log.is_settled(indexed) && !self.has_early(**id))
            .map(|(id, log)| (*id, log.applied))
            .filter(|(id, end)| closed(id) && level(id, *end))
            .collect();
        if !self.recovery.serving {
            return;
        }
        for (id, end) in finished {
            self.finish(id, end);
        }
        self.write_off_lost_logs();
    }

    /// Declares logs finished of which no replica has anything.
    ///
    /// A write that only its writer had is gone with that one's disk, and clients who have seen
    /// it name a log that nobody can ever supply. When every replica has told, in its present
    /// incarnation, what it has, and takes nothing more from a writer's earlier incarnations, then
    /// those of them that nobody named do not exist.
    fn write_off_lost_logs(&mut self) {
        let own = self.log;
        let met = self.met();
        if !self.peers.values().all(|p| p.has_told(met)) {
            return;
        }
        let mut open = BTreeMap::from([(own.member, own.incarnation)]);
        open.extend(
            self.peers
                .iter()
                .filter_map(|(m, p)| Some((*m, p.incarnation?))),
        );
        for (member, incarnation) in open {
            let met = |p: &Peer| p.open.get(&member).is_some_and(|met| *met >= incarnation);
            let known = self.finished.get(&member).map_or(0, |f| f.below);
            if known >= incarnation || !self.peers.values().all(met) {
                continue;
            }
            let finished = Arc::make_mut(&mut self.finished);
            let of_member = finished.entry(member).or_default();
            of_member.below = incarnation;
            let value = record::encode(of_member);
            let records = &mut self.staged.records;
            records.put(record::finished_key(member), value);
            self.marks_changed = true;
        }
    }

    /// What a peer has finished was level everywhere, here too.
    fn finish_known(&mut self, gossip: &Gossip) {
        if !self.recovery.serving {
            return;
        }
        let indexed = !self.peer_ids.is_empty();
        let known: Vec<(LogId, u64)> = self
            .logs
            .iter()
            .filter(|(id, log)| **id != self.log && log.received == log.applied)
            .filter(|(id, _)| !self.has_early(**id))
            .filter(|(id, log)| {
                let finished = gossip.finished.iter().find(|(m, _)| *m == id.member);
                let tracked = gossip.logs.iter().any(|r| r.log == **id);
                // Of those that finished long ago the last seq is forgotten; they were level too.
                finished.is_some_and(|(_, f)| match f.last_seq(id.incarnation) {
                    Some(last) => last == log.applied,
                    None => !tracked && f.contains(id.incarnation),
                })
            })
            .map(|(id, log)| (*id, log.applied))
            .collect();
        for (id, end) in known {
            let Some(log) = self.logs.get_mut(&id) else {
                continue;
            };
            // Its index goes first; nobody will report the log any more.
            log.stable = log.stable.max(end);
            if log.is_settled(indexed) {
                self.finish(id, end);
            }
        }
    }

    fn finish(&mut self, id: LogId, end: u64) {
        self.logs.remove(&id);
        let finished = Arc::make_mut(&mut self.finished);
        let of_member = finished.entry(id.member).or_default();
        of_member.insert(id.incarnation, end);
        let value = record::encode(of_member);
        let records = &mut self.staged.records;
        records.put(record::finished_key(id.member), value);
        records.delete(record::log_key(id));
        for peer in self.peers.values_mut() {
            peer.applied.remove(&id);
            peer.level.remove(&id);
        }
        self.marks_changed = true;
    }
}

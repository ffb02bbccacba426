//! The other members that share logs with this replica, as last heard of.
//!
//! [`Peers`] takes down what each of them says, and is the only writer of that. Everybody else
//! reads a [`Peer`]. What follows from a peer's word, for stability and for the end of logs, is
//! decided elsewhere (gossip.rs, log_end.rs).

use super::gossip::DEAD_US;
use super::stream::Stream;
use super::{Now, cannot_be};
use crate::protocol::clock::Timestamp;
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::message::{Ack, Gossip};
use crate::protocol::teeth::{Rule, broken};
use crate::protocol::views::CohortId;
use std::collections::{BTreeMap, BTreeSet};

/// Another member that shares logs with this replica.
#[derive(Default)]
pub(super) struct Peer {
    /// The start of the peer that was heard last, from itself.
    pub(super) incarnation: Option<u64>,
    heard_us: Option<u64>,
    /// The clock of its latest gossip.
    gossiped: Timestamp,
    /// The peer serves reads of its partition.
    pub(super) serving: bool,
    /// The peer's disk was empty, and it knows of nobody who has data.
    pub(super) fresh: bool,
    /// Nothing on the peer's disk can be counted on.
    pub(super) empty: bool,
    /// Durable there, as the peer said in this incarnation.
    pub(super) applied: BTreeMap<LogId, u64>,
    /// The part of `applied` that stability may count on: said by a peer that had met no later
    /// incarnation of any replica than this one has. A replica that lost its disk is refilled by
    /// one that has met it; what that one got afterwards must not be taken for being everywhere by
    /// a replica that still counts on what the lost disk held.
    pub(super) level: BTreeMap<LogId, u64>,
    /// The open log of each member that the peer knows of, by incarnation.
    pub(super) open: BTreeMap<MemberId, u64>,
    /// The cohorts of which the peer had met the same incarnations as this replica when it last
    /// gossiped, and their digests.
    told: BTreeMap<CohortId, u64>,
    /// The cohorts of which the peer has everything, up to its marks.
    pub(super) filled: Vec<CohortId>,
    /// The timestamp up to which the peer has every write, if that counts here.
    pub(super) floor: Timestamp,
    /// How far the own log has been sent to the peer.
    pub(super) stream: Stream,
}

impl Peer {
    /// A peer of which the earlier replica of this process knew that it serves, and when it heard
    /// the peer last; or of which it did not.
    fn heard_before(heard_us: Option<u64>) -> Self {
        Self {
            heard_us,
            serving: heard_us.is_some(),
            ..Self::default()
        }
    }

    /// Whether the peer has gossiped in this incarnation.
    pub(super) fn has_gossiped(&self) -> bool {
        self.gossiped > Timestamp::default()
    }

    /// Whether the peer has everything of a cohort, and said so knowing these incarnations of all
    /// who share it.
    pub(super) fn has_told(&self, cohort: CohortId, met: u64) -> bool {
        self.filled.contains(&cohort) && self.told.get(&cohort) == Some(&met)
    }

    /// Whether the peer has nothing of a cohort, and said so knowing these incarnations of all who
    /// share it.
    pub(super) fn has_nothing(&self, cohort: CohortId, met: u64) -> bool {
        !self.filled.contains(&cohort) && self.told.get(&cohort) == Some(&met)
    }

    /// Whether the peer was heard of lately.
    pub(super) fn alive(&self, now: Now) -> bool {
        self.heard_us
            .is_some_and(|at| now.mono_us.saturating_sub(at) < DEAD_US)
    }

    /// How far the peer has a log; 0 when it said nothing of it.
    pub(super) fn applied(&self, log: LogId) -> u64 {
        self.applied.get(&log).copied().unwrap_or(0)
    }

    /// How far the peer has a log as far as stability may count on it.
    pub(super) fn level(&self, log: LogId) -> u64 {
        self.level.get(&log).copied().unwrap_or(0)
    }

    /// Takes the peer's word of how far it has a log. `level` says whether stability may count on
    /// that.
    fn reached(&mut self, log: LogId, upto: u64, level: bool) {
        let applied = self.applied.entry(log).or_default();
        *applied = (*applied).max(upto);
        if level {
            let level = self.level.entry(log).or_default();
            *level = (*level).max(upto);
        }
    }
}

/// In what a peer's gossip can be taken at its word, as far as this replica knows who has started.
pub(super) struct Agreed {
    /// The cohorts of which both have met the same incarnations.
    pub(super) level: BTreeSet<CohortId>,
    /// That holds of all the cohorts that both share.
    pub(super) all_level: bool,
}

/// All members that share logs with this replica. Who they are does not change while the replica
/// lives.
pub(super) struct Peers {
    peers: BTreeMap<MemberId, Peer>,
    /// Readers have to be told, since this was last asked for.
    moved: bool,
}

impl Peers {
    /// These members, with when those that serve were last heard by an earlier replica of this
    /// process.
    pub(super) fn new(members: BTreeSet<MemberId>, heard: &BTreeMap<MemberId, u64>) -> Self {
        let peer = |m: MemberId| (m, Peer::heard_before(heard.get(&m).copied()));
        Self {
            peers: members.into_iter().map(peer).collect(),
            moved: false,
        }
    }

    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// A peer.
    pub(super) fn get(&self, member: MemberId) -> Option<&Peer> {
        self.peers.get(&member)
    }

    /// Whether a member shares logs with this replica.
    pub(super) fn contains(&self, member: MemberId) -> bool {
        self.peers.contains_key(&member)
    }

    /// Whether there is no peer.
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Their numbers, ascending.
    pub(super) fn ids(&self) -> impl Iterator<Item = MemberId> {
        self.peers.keys().copied()
    }

    /// All of them, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (MemberId, &Peer)> {
        self.peers.iter().map(|(member, peer)| (*member, peer))
    }

    /// Whether a member is a peer that was heard of lately.
    pub(super) fn is_alive(&self, member: MemberId, now: Now) -> bool {
        self.get(member).is_some_and(|p| p.alive(now))
    }

    /// The start of a peer that was heard last.
    pub(super) fn incarnation(&self, member: MemberId) -> Option<u64> {
        self.get(member).and_then(|p| p.incarnation)
    }

    /// The open logs of those that have been heard.
    pub(super) fn open_logs(&self) -> impl Iterator<Item = LogId> {
        let log = |(member, peer): (MemberId, &Peer)| {
            let incarnation = peer.incarnation?;
            Some(LogId {
                member,
                incarnation,
            })
        };
        self.iter().filter_map(log)
    }

    /// The highest seq of a log that any of them reported.
    pub(super) fn known_end(&self, log: LogId) -> u64 {
        let reported = self.peers.values().map(|p| p.applied(log));
        reported.max().unwrap_or(0)
    }

    /// Those that serve, and when they were last heard of.
    pub(super) fn serving(&self) -> BTreeMap<MemberId, u64> {
        let serving = self.iter().filter(|(_, p)| p.serving);
        serving
            .filter_map(|(m, p)| Some((m, p.heard_us?)))
            .collect()
    }

    /// Takes note that a peer lives.
    pub(super) fn heard(&mut self, member: MemberId, now: Now) {
        if let Some(peer) = self.peers.get_mut(&member) {
            self.moved |= !peer.alive(now);
            peer.heard_us = Some(now.mono_us);
        }
    }

    /// Takes note that the connection to a peer is gone. The peer counts as dead until it is heard
    /// again.
    pub(super) fn down(&mut self, member: MemberId) {
        if let Some(peer) = self.peers.get_mut(&member) {
            peer.heard_us = None;
            self.moved = true;
        }
    }

    /// Takes note of a peer's start.
    pub(super) fn meet(&mut self, open: LogId) {
        let Some(peer) = self.peers.get_mut(&open.member) else {
            return;
        };
        // What the peer said before counts no more: it may have lost its disk.
        let before = std::mem::take(peer);
        peer.incarnation = Some(open.incarnation);
        // Until it says otherwise, or falls silent: with no other peer that serves, writes would do
        // with one copy.
        (peer.heard_us, peer.serving) = (before.heard_us, before.serving);
        if broken(Rule::PeerKeepsItsWord) {
            (peer.applied, peer.level) = (before.applied, before.level);
        }
        self.moved = true;
    }

    /// Takes note that gossip with this clock has come. False if the peer sent it before other
    /// gossip that is here.
    pub(super) fn is_latest(&mut self, from: MemberId, clock: Timestamp) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            cannot_be("gossip of nobody who was heard");
            return false;
        };
        let latest = clock > peer.gossiped || broken(Rule::BelieveLateGossip);
        if latest {
            peer.gossiped = clock;
        }
        latest
    }

    /// Takes a peer's gossip down; `cohort` is that of a log that is tracked here.
    pub(super) fn gossiped(
        &mut self,
        from: MemberId,
        gossip: &Gossip,
        agreed: &Agreed,
        cohort: impl Fn(LogId) -> Option<CohortId>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        peer.serving = gossip.serving;
        peer.fresh = gossip.fresh;
        peer.empty = gossip.empty;
        for report in &gossip.logs {
            // What is finished here would stay in the table for ever.
            if let Some(cohort) = cohort(report.log) {
                let level = agreed.level.contains(&cohort);
                peer.reached(report.log, report.applied, level);
            }
        }
        let open = gossip.open.iter();
        peer.open = open.map(|l| (l.member, l.incarnation)).collect();
        // A peer that knows others than this replica does may count on more than this replica can.
        peer.floor = match agreed.all_level {
            true => gossip.floor,
            false => Timestamp::default(),
        };
        // If the peer knows of a start that is news here, what it has counts for nothing yet; nor
        // does its having told. Otherwise it might seem to have nothing of a log when this replica
        // has heard of that start too.
        let told = gossip.met.iter().copied();
        let told = told.filter(|(id, _)| agreed.level.contains(id) || broken(Rule::ToldAhead));
        peer.told = told.collect();
        peer.filled.clone_from(&gossip.filled);
        self.moved = true;
    }

    /// Takes a peer's acknowledgement down. `level` says whether stability may count on it.
    pub(super) fn acknowledged(&mut self, from: MemberId, ack: &Ack, level: bool) {
        let Some(peer) = self.peers.get_mut(&from) else {
            cannot_be("an acknowledgement of nobody who was heard");
            return;
        };
        peer.reached(ack.log, ack.applied, level);
        self.moved = true;
    }

    /// The stream of the own log to a peer.
    pub(super) fn stream_mut(&mut self, to: MemberId) -> Option<&mut Stream> {
        self.peers.get_mut(&to).map(|p| &mut p.stream)
    }

    /// Forgets how far the peers have a log that is over.
    pub(super) fn forget(&mut self, log: LogId) {
        for peer in self.peers.values_mut() {
            peer.applied.remove(&log);
            peer.level.remove(&log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::LogReport;
    use crate::protocol::view::PartitionId;

    const COHORT: CohortId = CohortId {
        partition: PartitionId(0),
        since: 1,
    };
    const PEER: MemberId = MemberId(1);
    const LOG: LogId = LogId {
        member: MemberId(0),
        incarnation: 7,
    };

    fn at(mono_us: u64) -> Now {
        Now {
            mono_us,
            wall_ms: 1_000,
        }
    }

    fn peers() -> Peers {
        let mut peers = Peers::new([PEER].into(), &BTreeMap::new());
        peers.meet(LogId {
            member: PEER,
            incarnation: 3,
        });
        assert!(peers.take_moved());
        peers
    }

    /// Gossip of a peer that has a log up to a seq.
    fn gossip(ms: u64, applied: u64) -> Gossip {
        Gossip {
            clock: Timestamp::from_ms(ms),
            wall_ms: ms,
            serving: true,
            fresh: false,
            empty: false,
            open: vec![LOG],
            met: vec![(COHORT, 42)],
            filled: vec![COHORT],
            logs: vec![LogReport {
                log: LOG,
                applied,
                stable: 0,
            }],
            finished: Vec::new(),
            head: 0,
            promise: Timestamp::default(),
            floor: Timestamp::from_ms(ms),
            reply: false,
        }
    }

    fn agreed(level: bool) -> Agreed {
        Agreed {
            level: level.then_some(COHORT).into_iter().collect(),
            all_level: level,
        }
    }

    fn ack(applied: u64) -> Ack {
        Ack {
            log: LOG,
            applied,
            received: applied,
            gap: false,
            met: 42,
        }
    }

    #[test]
    fn a_peer_is_alive_until_it_is_silent_for_too_long_or_its_connection_is_gone() {
        let mut peers = peers();
        assert!(!peers.is_alive(PEER, at(1)));
        peers.heard(PEER, at(1));
        assert!(peers.take_moved(), "it is back");
        peers.heard(PEER, at(2));
        assert!(!peers.take_moved(), "that is no news");
        assert!(peers.is_alive(PEER, at(1 + DEAD_US)));
        assert!(!peers.is_alive(PEER, at(2 + DEAD_US)));
        peers.heard(PEER, at(2 + DEAD_US));
        assert!(peers.take_moved());
        peers.down(PEER);
        assert!(peers.take_moved() && !peers.is_alive(PEER, at(2 + DEAD_US)));
        peers.heard(MemberId(9), at(5));
        assert!(!peers.take_moved(), "that is no peer");
    }

    #[test]
    fn stability_counts_only_on_what_a_peer_said_with_the_same_starts_in_mind() {
        let mut peers = peers();
        peers.gossiped(PEER, &gossip(10, 4), &agreed(true), |_| Some(COHORT));
        peers.gossiped(PEER, &gossip(20, 9), &agreed(false), |_| Some(COHORT));
        let peer = peers.get(PEER).unwrap();
        assert_eq!((peer.applied(LOG), peer.level(LOG)), (9, 4));
        assert_eq!(peer.floor, Timestamp::default());
        assert!(!peer.has_told(COHORT, 42), "it knows of another start");
        peers.acknowledged(PEER, &ack(9), true);
        peers.acknowledged(PEER, &ack(6), true);
        assert_eq!(peers.get(PEER).unwrap().level(LOG), 9, "marks only grow");
        assert_eq!(peers.known_end(LOG), 9);
    }

    #[test]
    fn a_peer_that_starts_again_loses_all_it_said_but_that_it_serves() {
        let mut peers = peers();
        peers.heard(PEER, at(1));
        peers.gossiped(PEER, &gossip(10, 4), &agreed(true), |_| Some(COHORT));
        assert!(peers.get(PEER).unwrap().has_told(COHORT, 42));
        let open = LogId {
            member: PEER,
            incarnation: 5,
        };
        peers.meet(open);
        let peer = peers.get(PEER).unwrap();
        assert_eq!((peer.applied(LOG), peer.level(LOG)), (0, 0));
        assert!(!peer.has_told(COHORT, 42) && !peer.has_gossiped());
        assert!(peer.serving && peer.alive(at(2)));
        assert_eq!(peers.open_logs().collect::<Vec<_>>(), [open]);
    }

    #[test]
    fn gossip_that_was_overtaken_is_not_the_latest() {
        let mut peers = peers();
        assert!(peers.is_latest(PEER, Timestamp::from_ms(10)));
        assert!(!peers.is_latest(PEER, Timestamp::from_ms(9)));
        assert!(!peers.is_latest(PEER, Timestamp::from_ms(10)));
        assert!(peers.get(PEER).unwrap().has_gossiped());
        peers.meet(LogId {
            member: PEER,
            incarnation: 5,
        });
        assert!(
            peers.is_latest(PEER, Timestamp::from_ms(1)),
            "its clock may be behind now"
        );
    }

    #[test]
    fn nothing_is_kept_of_logs_that_are_not_tracked() {
        let mut peers = peers();
        peers.gossiped(PEER, &gossip(10, 4), &agreed(true), |_| None);
        assert!(peers.get(PEER).unwrap().applied.is_empty());
        peers.acknowledged(PEER, &ack(4), true);
        peers.forget(LOG);
        let peer = peers.get(PEER).unwrap();
        assert!(peer.applied.is_empty() && peer.level.is_empty());
    }

    #[test]
    fn what_an_earlier_replica_of_the_process_heard_goes_on() {
        let members = BTreeSet::from([PEER, MemberId(2)]);
        let peers = Peers::new(members, &[(PEER, 100)].into());
        assert!(peers.is_alive(PEER, at(101)) && !peers.is_alive(MemberId(2), at(101)));
        assert_eq!(peers.serving(), [(PEER, 100)].into());
        assert_eq!(peers.incarnation(PEER), None, "it has to be met again");
    }
}

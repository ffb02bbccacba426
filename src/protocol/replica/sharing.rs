//! What follows from whom this replica shares logs with and what those said last.
//!
//! The rules of stability, of the end of logs and of the end of cohorts all ask the same few
//! questions: have both met the same starts, has everybody told what it has, can anybody still get
//! more of a log? [`Sharing`] answers them, from the views, the cohorts and the peers, and changes
//! none of these.

use super::cohorts::Cohorts;
use super::logs::Log;
use super::peers::{Peer, Peers};
use super::{Now, Replica};
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::store::Store;
use crate::protocol::teeth::{Rule, broken};
use crate::protocol::views::{CohortId, Views};

/// Whom this replica shares logs with, and what they said.
#[derive(Clone, Copy)]
pub(super) struct Sharing<'a> {
    pub(super) views: &'a Views,
    /// The log that this replica writes.
    pub(super) log: LogId,
    pub(super) cohorts: &'a Cohorts,
    pub(super) peers: &'a Peers,
}

impl<'a> Sharing<'a> {
    /// The digest of a cohort: who shares its logs, as far as is known here, and in which
    /// incarnations.
    pub(super) fn met(self, id: CohortId) -> u64 {
        let Some(state) = self.cohorts.get(id) else {
            return 0;
        };
        let one = |member: MemberId, incarnation: u64| {
            let salt = (u64::from(member.0) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            incarnation.wrapping_add(salt)
        };
        let peers = state.peers.iter().map(|m| {
            let heard = self.peers.incarnation(*m);
            one(*m, heard.unwrap_or(0))
        });
        let closed = state.cohort.until.unwrap_or(0) << 1;
        let own = one(self.log.member, self.log.incarnation).wrapping_add(closed);
        peers.fold(own, u64::wrapping_add)
    }

    /// The others who share the logs of a cohort.
    pub(super) fn peers(self, id: CohortId) -> impl Iterator<Item = (MemberId, &'a Peer)> {
        let state = self.cohorts.get(id);
        let members = state.map_or(&[][..], |state| &state.peers);
        let known = move |m: &MemberId| Some((*m, self.peers.get(*m)?));
        members.iter().filter_map(known)
    }

    /// The incarnation in which a member was last heard.
    pub(super) fn incarnation(self, member: MemberId) -> Option<u64> {
        if member == self.log.member {
            return Some(self.log.incarnation);
        }
        self.peers.incarnation(member)
    }

    /// Whether nothing more can be written to a log: its writer has started again, or is out of the
    /// view for good.
    pub(super) fn is_closed(self, id: LogId) -> bool {
        let newest = self.incarnation(id.member);
        newest.is_some_and(|newest| id.incarnation < newest) || !self.views.is_present(id.member)
    }

    /// Whether a peer takes nothing more of a log, and holds nothing that came ahead of it.
    pub(super) fn has_settled(self, peer: &Peer, id: LogId) -> bool {
        let gone = !self.views.is_present(id.member);
        let open = peer.open.get(&id.member);
        open.map_or(gone, |open| id.incarnation < *open)
    }

    /// Whether a member that only helped with a cohort has lost all it had of it.
    pub(super) fn is_excused(self, id: CohortId, member: MemberId, peer: &Peer) -> bool {
        let state = self.cohorts.get(id);
        let helps = state.is_some_and(|state| state.helpers.contains(&member));
        helps && peer.has_nothing(id, self.met(id))
    }

    /// Whether all who share a cohort have it, and said so knowing all starts that are known here.
    /// A helper that has lost all it had is not waited for.
    pub(super) fn all_have_told(self, id: CohortId) -> bool {
        let met = self.met(id);
        self.peers(id)
            .all(|(m, p)| p.has_told(id, met) || self.is_excused(id, m, p))
    }

    /// Whether all who share a cohort have told what they have of it, or that they have nothing.
    pub(super) fn all_answered(self, id: CohortId) -> bool {
        let met = self.met(id);
        self.peers(id)
            .all(|(_, p)| p.has_told(id, met) || p.has_nothing(id, met))
    }

    /// How far everybody who shares a log has it, as far as stability may count on that.
    pub(super) fn least_level(self, id: LogId, log: &Log, now: Now) -> u64 {
        let counts = |(member, p): &(MemberId, &Peer)| {
            (p.alive(now) || !broken(Rule::StableWithoutTheDead))
                && !self.is_excused(log.cohort, *member, p)
        };
        let peers = self.peers(log.cohort).filter(counts);
        peers.map(|(_, p)| p.level(id)).fold(log.applied, u64::min)
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Whom this replica shares logs with, and what they said.
    pub(super) fn sharing(&self) -> Sharing<'_> {
        Sharing {
            views: &self.views,
            log: self.log,
            cohorts: &self.cohorts,
            peers: &self.peers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::clock::Timestamp;
    use crate::protocol::message::Gossip;
    use crate::protocol::placement::Change;
    use crate::protocol::placement::tests::addresses;
    use crate::protocol::replica::cohorts::tests::changed;
    use crate::protocol::replica::logs::Logs;
    use crate::protocol::replica::peers::Agreed;
    use crate::protocol::view::View;
    use std::collections::BTreeMap;

    const NOW: Now = Now {
        mono_us: 1,
        wall_ms: 1_000,
    };

    fn log(member: u16, incarnation: u64) -> LogId {
        LogId {
            member: MemberId(member),
            incarnation,
        }
    }

    /// Whom one member shares logs with.
    struct Known {
        views: Views,
        log: LogId,
        cohorts: Cohorts,
        peers: Peers,
    }

    impl Known {
        fn new(views: Views, log: LogId) -> Self {
            let cohorts = Cohorts::open(&views, log.member, None);
            let peers = Peers::new(cohorts.peers(), &BTreeMap::new());
            Self {
                views,
                log,
                cohorts,
                peers,
            }
        }

        /// One of three replicas of one partition.
        fn of_three(log: LogId) -> Self {
            let view = View::first(&addresses(3), 3).unwrap();
            Self::new(Views::first(view), log)
        }

        fn sharing(&self) -> Sharing<'_> {
            Sharing {
                views: &self.views,
                log: self.log,
                cohorts: &self.cohorts,
                peers: &self.peers,
            }
        }

        /// A peer gossips that it knows what is known here, and has a cohort, or nothing of it.
        fn hear(&mut self, from: MemberId, id: CohortId, has: bool, open: Vec<LogId>) {
            let gossip = Gossip {
                clock: Timestamp::from_ms(1),
                wall_ms: 1,
                serving: has,
                fresh: false,
                empty: !has,
                open,
                met: vec![(id, self.sharing().met(id))],
                filled: has.then_some(id).into_iter().collect(),
                logs: Vec::new(),
                finished: Vec::new(),
                head: 0,
                promise: Timestamp::default(),
                floor: Timestamp::default(),
                reply: false,
            };
            let agreed = Agreed {
                level: [id].into(),
                all_level: true,
            };
            self.peers.gossiped(from, &gossip, &agreed, |_| None);
        }
    }

    #[test]
    fn members_that_have_met_the_same_starts_have_the_same_digest() {
        let starts = [log(0, 7), log(1, 8), log(2, 9)];
        let met = |own: LogId, heard: &[LogId]| {
            let mut known = Known::of_three(own);
            for start in heard.iter().filter(|s| s.member != own.member) {
                known.peers.meet(*start);
            }
            known.sharing().met(known.cohorts.own_id().unwrap())
        };
        let all = met(starts[0], &starts);
        assert!(starts.iter().all(|own| met(*own, &starts) == all));
        assert_ne!(met(starts[0], &starts[..2]), all, "one is not met yet");
        let later = [starts[0], starts[1], log(2, 10)];
        assert_ne!(met(starts[0], &later), all, "one has started again");
    }

    #[test]
    fn a_log_is_stable_as_far_as_the_last_of_its_peers_has_it() {
        use crate::protocol::message::Ack;
        let own = log(0, 7);
        let mut known = Known::of_three(own);
        let id = known.cohorts.own_id().unwrap();
        let mut logs = Logs::new(own);
        logs.track(own, id, NOW);
        for seq in 1..=9 {
            let dot = crate::protocol::ids::Dot { log: own, seq };
            logs.take_in(dot, true, NOW);
        }
        logs.stored(own, 9);
        let least = |known: &Known| {
            let log = logs.own().unwrap();
            known.sharing().least_level(own, log, NOW)
        };
        let ack = |known: &mut Known, from, applied, level| {
            let ack = Ack {
                log: own,
                applied,
                received: applied,
                gap: false,
                met: 0,
            };
            known.peers.acknowledged(MemberId(from), &ack, level);
        };
        ack(&mut known, 1, 6, true);
        assert_eq!(least(&known), 0, "the other peer has said nothing");
        ack(&mut known, 2, 8, true);
        assert_eq!(least(&known), 6);
        ack(&mut known, 1, 9, false);
        assert_eq!(least(&known), 6, "that does not count");
        ack(&mut known, 1, 9, true);
        assert_eq!(least(&known), 8, "dead or alive: nobody was heard");
    }

    #[test]
    fn a_log_is_closed_when_its_writer_has_started_again() {
        let mut known = Known::of_three(log(0, 7));
        let id = known.cohorts.own_id().unwrap();
        assert!(
            !known.sharing().is_closed(log(1, 8)),
            "it was not heard yet"
        );
        known.peers.meet(log(1, 9));
        assert!(known.sharing().is_closed(log(1, 8)) && !known.sharing().is_closed(log(1, 9)));
        assert!(known.sharing().is_closed(log(0, 6)) && !known.sharing().is_closed(log(0, 7)));
        // A peer takes nothing more of a log when it knows of a later one.
        known.hear(MemberId(2), id, true, vec![log(1, 9)]);
        let peer = known.peers.get(MemberId(2)).unwrap();
        assert!(known.sharing().has_settled(peer, log(1, 8)));
        assert!(!known.sharing().has_settled(peer, log(1, 9)));
        assert!(
            !known.sharing().has_settled(peer, log(0, 6)),
            "it named none"
        );
    }

    #[test]
    fn all_have_told_when_each_peer_spoke_knowing_all_starts() {
        let mut known = Known::of_three(log(0, 7));
        let id = known.cohorts.own_id().unwrap();
        known.peers.meet(log(1, 8));
        known.peers.meet(log(2, 9));
        known.hear(MemberId(1), id, true, Vec::new());
        assert!(!known.sharing().all_have_told(id) && !known.sharing().all_answered(id));
        known.hear(MemberId(2), id, false, Vec::new());
        assert!(known.sharing().all_answered(id));
        assert!(
            !known.sharing().all_have_told(id),
            "a replica is waited for until it has all"
        );
        known.hear(MemberId(2), id, true, Vec::new());
        assert!(known.sharing().all_have_told(id));
        known.peers.meet(log(1, 10));
        assert!(
            !known.sharing().all_have_told(id),
            "none of them has met that start"
        );
    }

    #[test]
    fn a_helper_that_has_lost_all_is_not_waited_for() {
        let gone = MemberId(1);
        let views = changed(Change::Remove(gone), MemberId(0), true);
        let own = log(0, crate::protocol::ids::incarnation(views.view.number, 1));
        let mut known = Known::new(views, own);
        let helped = known.cohorts.iter().find(|(_, s)| s.helpers == [gone]);
        let (id, _) = helped.unwrap();
        known.peers.meet(log(1, 8));
        assert!(!known.sharing().all_have_told(id));
        known.hear(gone, id, false, Vec::new());
        assert!(known.sharing().all_have_told(id));
        let peer = known.peers.get(gone).unwrap();
        assert!(known.sharing().is_excused(id, gone, peer));
    }
}

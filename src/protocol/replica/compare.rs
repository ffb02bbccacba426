//! Whether a disk has what its peers count on. A disk that was lost is empty, and one that was put
//! back is older than what peers have heard of it: either must be filled again before it serves.

use super::super::ids::{LogId, MemberId};
use super::super::message::Gossip;
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::super::views::CohortId;
use super::Replica;
use super::cohorts::CohortState;
use super::peers::Peer;
use std::collections::BTreeMap;

/// The first peer that was heard: where it was, and where this replica was then.
pub(super) struct Contact {
    peer: MemberId,
    theirs: BTreeMap<LogId, u64>,
    ours: BTreeMap<LogId, u64>,
}

/// The writes that a peer knows to be everywhere: for each log the last of them.
fn counted_on(gossip: &Gossip) -> impl Iterator<Item = (LogId, u64)> {
    let finished = gossip.finished.iter().flat_map(|(_, member, finished)| {
        let log = |incarnation| LogId {
            member: *member,
            incarnation,
        };
        finished
            .recent
            .iter()
            .map(move |&(incarnation, last)| (log(incarnation), last))
    });
    gossip
        .logs
        .iter()
        .map(|r| (r.log, r.stable))
        .chain(finished)
}

impl<S: Store, T> Replica<S, T> {
    /// Learns from gossip how this disk compares.
    pub(super) fn compare(&mut self, from: MemberId, gossip: &Gossip) {
        self.copy_again(gossip);
        let old = self.is_older_than(gossip);
        let told = self.recovery.is_told();
        let believed = told || self.cohorts.iter().any(|(_, t)| t.filled.is_some());
        if old && believed {
            // The disk is an old copy: none of what it says about cohorts counts.
            self.cohorts.empty_all();
        }
        let replica = self.is_replica(from);
        let empty = !self.recovery.intact && !self.recovery.fetched && !broken(Rule::ServeEmpty);
        let empty = empty && replica && !gossip.empty;
        let alone = self.replicas().next().is_none();
        if old || (empty && !alone && !self.recovery.fetch) {
            // A replica that is alone in its partition can only follow those that held its slots
            // before.
            self.recovery.distrust(!alone);
            if told || (old && believed) {
                // The next start must not believe this disk either.
                self.stage_identity();
            }
        }
        if self.recovery.fetch {
            // A key that was deleted and collected while this replica was away must not come back.
            // The replica's own promises are lost with its disk, but a peer that counted on one had
            // heard of a later clock.
            self.keep_promise(gossip.clock);
            if let Some(own) = self.cohorts.own_id().filter(|_| gossip.serving && replica) {
                self.fetch_snapshot_from(from, own);
            }
        }
        // Of the others, only one that shares the partition is worth waiting for, if there is one.
        if !replica && !alone {
            return;
        }
        let contact = self.recovery.contact.as_ref();
        let gone = contact.is_some_and(|c| !self.peers.is_alive(c.peer, self.now));
        // Gossip that the peer sent before it knew of this start may have been on its way for long.
        // By a word that an old disk does not remember to have given, the peer may call more stable
        // by now.
        let knows = gossip.open.contains(&self.log) || broken(Rule::CompareWithEarlier);
        if (contact.is_none() || gone) && knows && !self.recovery.serving {
            let own = |log: &LogId| {
                let cohort = self.cohort_of(*log).map(|t| t.cohort.id);
                cohort == self.cohorts.own_id()
                    || (alone && cohort.is_some_and(|id| self.claims(id)))
            };
            // A third member may call stable what the peer has and does not call so, in the logs of
            // closing cohorts as well.
            let claimed = |log: &LogId| {
                let mut cohort = self.cohort_of(*log).map(|t| t.cohort.id).into_iter();
                own(log) || cohort.any(|id| self.claims(id) && !broken(Rule::CompareOwnAlone))
            };
            let theirs = gossip.logs.iter().map(|r| (r.log, r.applied));
            let ours = self.logs.iter().map(|(id, l)| (id, l.applied));
            self.recovery.contact = Some(Contact {
                peer: from,
                theirs: theirs.filter(|(log, _)| claimed(log)).collect(),
                ours: ours.filter(|(log, _)| own(log)).collect(),
            });
        }
        self.try_serve();
    }

    /// Whether the peer counts on something that is not here: the peer knows a write to be at every
    /// replica, and this one lacks it.
    fn is_older_than(&self, gossip: &Gossip) -> bool {
        counted_on(gossip).any(|(log, seq)| self.lacks(log, seq))
    }

    /// Whether a write that is everywhere is missing here, though everything of its cohort is said
    /// to be here.
    fn lacks(&self, log: LogId, seq: u64) -> bool {
        // A cohort that is still to be fetched misses nothing.
        let claimed = self
            .cohort_of(log)
            .is_some_and(|t| self.claims(t.cohort.id));
        match self.logs.get(log) {
            _ if !claimed || broken(Rule::TrustOldDisk) => false,
            // Not `applied`: what a snapshot has just brought is on its way to the disk.
            Some(l) => l.received < seq,
            None => seq > 0 && !self.is_finished(log),
        }
    }

    /// Copies a cohort that is followed for the next view again, if something of it is missing that
    /// the peer counts on. That is no sign of an old disk: that view may have been cancelled, and
    /// another one may ask this replica to follow once more, without its having heard of either.
    /// Meanwhile nobody counted on it.
    fn copy_again(&mut self, gossip: &Gossip) {
        let is_followed =
            |t: &CohortState| t.followed && self.cohorts.own_id() != Some(t.cohort.id);
        // Mostly nothing is.
        if !self.cohorts.iter().any(|(_, state)| is_followed(state)) {
            return;
        }
        let lacking = counted_on(gossip).filter(|(log, seq)| self.lacks(*log, *seq));
        let cohorts = lacking.filter_map(|(log, _)| self.cohort_of(log));
        let followed = cohorts.filter(|t| is_followed(t));
        let again: Vec<CohortId> = followed.map(|t| t.cohort.id).collect();
        if again.is_empty() || broken(Rule::FollowersDiskIsOld) {
            return;
        }
        for id in again {
            self.cohorts.empty(id);
        }
        self.stage_identity();
    }

    /// Whether the disk may be an old one that does not have all of another cohort, though it says
    /// so. Nobody is to copy from it then, and nobody may take it for one that has nothing. All who
    /// share the cohort are heard before, for a second at most.
    pub(super) fn is_unproven(&self, id: CohortId) -> bool {
        let state = self.cohorts.get(id);
        let from_disk =
            self.cohorts.own_id() != Some(id) && state.is_some_and(|t| t.filled == Some(0));
        if !from_disk || self.recovery.proven || broken(Rule::SupplyUncompared) {
            return false;
        }
        let own = self.log;
        let knows = |p: &Peer| p.open.get(&own.member) == Some(&own.incarnation);
        !self.sharing().peers(id).all(|(_, p)| knows(p))
    }

    /// Takes note that the disk has been compared with all who answer.
    pub(super) fn compared(&mut self) {
        if !self.recovery.proven && self.has_waited() {
            self.recovery.prove();
        }
    }

    /// Whether this replica has caught up with the first peer it heard, and that peer has all
    /// that was only here.
    pub(super) fn level_with_contact(&self) -> bool {
        let Some(contact) = &self.recovery.contact else {
            return false;
        };
        let applied = |id: &LogId| self.logs.applied(*id);
        let peer = self.peers.get(contact.peer);
        let peer_applied = |id: &LogId| peer.map_or(0, |p| p.applied(*id));
        let done = |id: &LogId| self.is_finished(*id);
        contact
            .theirs
            .iter()
            .all(|(id, seq)| done(id) || applied(id) >= *seq)
            && contact
                .ours
                .iter()
                .all(|(id, seq)| done(id) || peer_applied(id) >= *seq)
    }
}

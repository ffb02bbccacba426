//! The end of logs: of closed ones that everybody who shares them has in full, and of those of
//! which nobody has anything.

use super::super::ids::{self, LogId};
use super::super::message::Gossip;
use super::super::record;
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::logs::Log;
use super::peers::Peer;
use super::{Replica, cannot_be};

impl<S: Store, T> Replica<S, T> {
    /// Forgets closed logs that everybody who shares them has in full.
    ///
    /// A log is closed for a member that has met a later incarnation of its writer: the member
    /// takes nothing more from the earlier one. When all members say that the log is closed and
    /// that they are equally far, none of them can ever get more of it.
    ///
    /// A node that is given up shares its logs with nobody, so all of them would be level at once.
    /// Such a node keeps its logs, and offers what is in them when it is out of the view: without
    /// logs it has nothing to offer.
    pub(super) fn finish_logs(&mut self) {
        if self.is_given_up() {
            return;
        }
        let indexed = !self.is_alone();
        let finished: Vec<(LogId, u64)> = self
            .logs
            .iter()
            .filter(|(id, log)| log.is_settled(indexed) && !self.has_early(*id))
            .filter(|(id, log)| self.sharing().is_closed(*id) && self.is_filled(log.cohort))
            .filter(|(id, log)| self.is_level(*id, log))
            .map(|(id, log)| (id, log.applied))
            .collect();
        for (id, end) in finished {
            self.finish(id, end);
        }
        self.write_off_lost_logs();
    }

    /// Whether all who share a log take nothing more of it and are as far as this replica.
    fn is_level(&self, id: LogId, log: &Log) -> bool {
        let sharing = self.sharing();
        let met = sharing.met(log.cohort);
        sharing.peers(log.cohort).all(|(member, p)| {
            let knows = sharing.has_settled(p, id);
            // A peer that does not name the log has nothing of it; but the peer must have told.
            let told = p.has_told(log.cohort, met) || broken(Rule::FinishUntold);
            let level = p.level(id);
            let level = level == log.applied || broken(Rule::FinishUntold);
            (told && knows && level) || sharing.is_excused(log.cohort, member, p)
        })
    }

    /// Declares logs finished of which nobody has anything.
    ///
    /// A write that only its writer had is gone with the writer's disk, and clients that have seen
    /// the write name a log that nobody can ever supply. When all who share a cohort have told, in
    /// their present incarnations, what they have, and take nothing more from a writer's earlier
    /// incarnations, then those earlier logs that nobody named do not exist. A log that was opened
    /// under a view which this replica does not know is not tracked, whoever names it: of such logs
    /// nothing is said.
    fn write_off_lost_logs(&mut self) {
        let ahead = ids::incarnation(self.views.view.number + 1, 0);
        let mut lost = Vec::new();
        let sharing = self.sharing();
        for (id, state) in self.cohorts.iter() {
            if !self.is_filled(id) || !sharing.all_have_told(id) {
                continue;
            }
            for member in &state.cohort.replicas {
                let newest = sharing.incarnation(*member);
                let gone = !self.views.is_present(*member);
                let out = state.cohort.until.map(|until| ids::incarnation(until, 0));
                let Some(closed) = newest.or(out.filter(|_| gone)) else {
                    // A writer that was not heard yet, and may write.
                    continue;
                };
                let closed = closed.min(ahead);
                let knows = |p: &Peer| p.open.get(member).is_some_and(|met| *met >= closed);
                let known = self.finished.below(id, *member);
                if known < closed && (gone || sharing.peers(id).all(|(_, p)| knows(p))) {
                    lost.push((id, *member, closed));
                }
            }
        }
        for (cohort, member, closed) in lost {
            let staging = &mut self.staging;
            self.finished.add_below(cohort, member, closed, staging);
            self.stalled.any_may_go();
        }
    }

    /// Ends the logs that a peer has finished: those were level everywhere, here too.
    pub(super) fn finish_known(&mut self, gossip: &Gossip) {
        let indexed = !self.is_alone();
        let known: Vec<(LogId, u64)> = self
            .logs
            .iter()
            .filter(|(id, log)| *id != self.log && log.received == log.applied)
            .filter(|(id, log)| !self.has_early(*id) && self.is_filled(log.cohort))
            .filter(|(id, log)| {
                let place = (log.cohort, id.member);
                let mut finished = gossip.finished.iter();
                let finished = finished.find(|(c, m, _)| (*c, *m) == place);
                let tracked = gossip.logs.iter().any(|r| r.log == *id);
                // The last seq of a log that finished long ago is forgotten; that log was level
                // too.
                finished.is_some_and(|(_, _, f)| match f.last_seq(id.incarnation) {
                    Some(last) => last == log.applied,
                    None => !tracked && f.contains(id.incarnation),
                })
            })
            .map(|(id, log)| (id, log.applied))
            .collect();
        for (id, end) in known {
            // The index goes first, and what is stable leaves it; nobody will report the log any
            // more.
            self.logs.hear_stable(id, end);
            if self.logs.get(id).is_some_and(|log| log.is_settled(indexed)) {
                self.finish(id, end);
            }
        }
    }

    /// Ends a log after `end` writes: forgets all about it but that it has ended.
    fn finish(&mut self, id: LogId, end: u64) {
        let Some(log) = self.logs.remove(id) else {
            cannot_be("a log ends that is not tracked");
            return;
        };
        self.gathering.drop_part(id);
        if !self.views.is_present(id.member) {
            // The writer is gone for good, and with it the writes that it told of and nobody has.
            self.finished.lose(log.head.saturating_sub(end));
        }
        let (most, staging) = (self.limits.finished, &mut self.staging);
        self.finished.add(log.cohort, id, end, most, staging);
        self.staging.delete(record::log_key(id));
        self.peers.forget(id);
        self.stalled.any_may_go();
    }
}

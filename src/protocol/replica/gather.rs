//! Gathering: what no single peer has in full is fetched from several.
//!
//! While cohorts are closing, members keep different slots of one. The writer of a late write
//! streams it to all of them. If the writer then loses its disk, only members that got the write
//! are left, and each of them has it only if it keeps the write's slot. Or all members that kept
//! everything lose their disks. Then a replica gathers what each of the others has, when no peer
//! can supply all of it: all who share the cohort have told what they have, and take no more from
//! the writer. A write that none of them has is lost, and the replica passes over its dot. If
//! several replicas could settle for what is left, one of them does, and the others copy from it.

use super::super::ids::{LogId, MemberId};
use super::super::message::Range;
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::views::CohortId;
use super::cohorts::CohortState;
use super::snapshot::Start;
use super::{Replica, logs::Log};
use std::collections::BTreeSet;

/// How long a live peer is given to settle first for what is left of a cohort, in microseconds.
const SETTLE_US: u64 = 1_000_000;

impl<S: Store, T> Replica<S, T> {
    /// Asks the next of several peers for what it has of a log, or goes on with the log when all
    /// have answered.
    pub(super) fn gather(&mut self, id: LogId) {
        let Some(sources) = self.sources(id) else {
            self.gathering.drop_part(id);
            return;
        };
        let after = self.logs.received(id);
        self.gathering.begin(id, after);
        let come = |m: &MemberId| self.gathering.come(id, after, *m).unwrap_or(after);
        let mut lacking = sources.iter().filter(|(m, end)| come(m) < *end);
        // A peer that is away is waited for, after the others have answered.
        let alive = |m: &MemberId| self.peers.is_alive(*m, self.now);
        if let Some((from, _)) = lacking.clone().find(|(m, _)| alive(m)) {
            let (from, come) = (*from, come(from));
            let state = self.cohort_of(id);
            let slots = state.map(|t| t.part.common(&self.views.part(&t.cohort, from)));
            self.send_pull(from, id, come, slots.unwrap_or_default());
        } else if lacking.next().is_none() {
            let end = sources.iter().map(|(_, end)| *end).max();
            self.gathering.ends(id, end);
            self.pass_over(id);
        }
    }

    /// The peers from which a log is to be gathered, and how far each of them is; `None` while one
    /// peer alone may supply it, or somebody has not told yet.
    fn sources(&self, id: LogId) -> Option<Vec<(MemberId, u64)>> {
        let (log, state) = self.logs.get(id).zip(self.cohort_of(id))?;
        let sharing = self.sharing();
        if !sharing.is_closed(id) || !sharing.all_answered(log.cohort) {
            return None;
        }
        let peers = sharing.peers(log.cohort).map(|(m, p)| (m, p.applied(id)));
        let further: Vec<_> = peers.filter(|(_, end)| *end > log.received).collect();
        let several = further.iter().all(|(m, _)| !state.suppliers.contains(m));
        several.then_some(further)
    }

    /// Takes in what one of several peers has.
    pub(super) fn gathered(&mut self, from: MemberId, range: Range) -> Result<(), StoreError> {
        let id = range.log;
        let received = self.logs.received(id);
        if self.gathering.come(id, received, from) != Some(range.after) {
            return Ok(());
        }
        // The versions first: without them their dots must not count as here.
        let came = self.take_versions(range.versions)?;
        self.note_early(came);
        self.gathering
            .add(id, from, range.after, range.keys, range.seals);
        self.gather(id);
        Ok(())
    }

    /// Takes note that a snapshot of a part of a cohort has come.
    pub(super) fn gathered_part(&mut self, from: MemberId, cohort: CohortId, start: Start) {
        if !self.takes(cohort) {
            self.cohorts.gather(cohort, from, start);
            return;
        }
        let logs = &self.logs;
        self.gathering.add_unnamed(from, |id| {
            let log = logs.get(id).filter(|l| l.cohort == cohort);
            log.map(|_| start.applied(id).unwrap_or(u64::MAX))
        });
    }

    /// Goes on with a log of which all that is left has come, when nobody holds more that came
    /// ahead of it.
    fn pass_over(&mut self, id: LogId) {
        let Some(end) = self.gathering.end(id) else {
            return;
        };
        let is_here_alone = || {
            let mut early = self.early.upto(id, end);
            early.any(|dot| self.gathering.lacks(dot))
        };
        let sharing = self.sharing();
        let mut peers = self.cohort_of(id).into_iter().flat_map(|t| &t.peers);
        let settled = peers.all(|m| {
            self.peers
                .get(*m)
                .is_some_and(|p| sharing.has_settled(p, id))
        });
        if !settled || is_here_alone() {
            return;
        }
        let seals = self.gathering.seals(id).to_vec();
        let received = self.logs.received(id);
        if received == 0 && !self.is_begun_right(id, &seals) {
            return;
        }
        let Some(part) = self.gathering.take(id) else {
            return;
        };
        for (dot, key) in part.dots {
            self.stage_dot(dot, key.unwrap_or_default());
        }
        if part.unnamed {
            self.close_run(id);
            self.logs.unindex(id, end);
        }
    }

    /// The peers that have parts of a cohort of which some is to be kept here; `None` while one of
    /// them alone, or somebody else, may supply all of it.
    fn partial_suppliers(&self, id: CohortId, state: &CohortState) -> Option<Vec<MemberId>> {
        let mut replicas = state.cohort.replicas.iter();
        let closed = state.cohort.until.is_some() || !replicas.any(|m| self.views.is_present(*m));
        let sharing = self.sharing();
        if state.filled.is_some()
            || !closed
            || !sharing.all_answered(id)
            || !self.is_all_earlier_here(state)
        {
            return None;
        }
        let filled = sharing.peers(id).filter(|(_, p)| p.filled.contains(&id));
        let filled: Vec<MemberId> = filled.map(|(m, _)| m).collect();
        if filled.iter().any(|m| state.suppliers.contains(m)) {
            // One of them has all of it: nothing has to be gathered.
            return None;
        }
        // A peer that keeps none of the slots that are kept here is asked all the same: it tells
        // which logs have ended. A replica that did not know would seem to lack them.
        Some(filled)
    }

    /// Whether this replica has what a cohort took over from earlier ones, as it has when those are
    /// over. A cohort that is held back is an exception: it is not over before others hold its
    /// slots, and those do not hold them before they have all that is left of it.
    fn is_all_earlier_here(&self, state: &CohortState) -> bool {
        let mut earlier = self.views.predecessors(&state.cohort).peekable();
        if earlier.peek().is_none() {
            return true;
        }
        let held_back = self.views.held_back();
        // A helper without what it is to hand over fetches nothing of that: nobody is to wait for
        // it to come here.
        let helps_empty = |id| {
            let earlier = self.cohorts.get(id);
            earlier.is_some_and(|state| !state.holder && state.filled.is_none())
        };
        earlier.all(|c| {
            let here = self.is_filled(c.id) || !c.slots.meets(&state.part) || helps_empty(c.id);
            held_back.contains(&c.id) && here
        })
    }

    /// The next peer to fetch a part of a cohort from.
    pub(super) fn next_partial_supplier(
        &self,
        id: CohortId,
        state: &CohortState,
    ) -> Option<MemberId> {
        let mut suppliers = self.partial_suppliers(id, state)?.into_iter();
        let alive = |m: &MemberId| self.peers.is_alive(*m, self.now);
        suppliers.find(|m| !state.gathered.contains_key(m) && alive(m))
    }

    /// Waits no longer for what nobody has: all parts of a cohort that are left are here, even if
    /// there are none.
    pub(super) fn settle_for_less(&mut self) -> Result<(), StoreError> {
        // Only a holder settles: a helper may also lack what was there before the cohort.
        let all_here = |(id, state): &(CohortId, &CohortState)| {
            let suppliers = self.partial_suppliers(*id, state).filter(|_| state.holder);
            suppliers.is_some_and(|s| s.iter().all(|m| state.gathered.contains_key(m)))
                && !self.is_more_to_come(state)
        };
        let cohorts = self.cohorts.iter().filter(all_here);
        let ready: BTreeSet<CohortId> = cohorts.map(|(id, _)| id).collect();
        self.cohorts.all_here(&ready, self.now);
        for id in ready {
            if self.leaves_it_to_another(id) && !broken(Rule::SettleApart) {
                continue;
            }
            let mut start = Start::joined(self.cohorts.take_gathered(id));
            // A stable write that is in none of the parts is lost. Its log goes on after it: nobody
            // can take back that the write was stable.
            let stable = |log: &&Log| log.cohort == id && log.stable > 0;
            let logs = self.logs.iter().filter(|(_, log)| stable(log));
            start.reach(logs.map(|(id, log)| (id, log.stable)));
            self.adopt(id, start)?;
        }
        Ok(())
    }

    /// Whether another replica is to settle for less of a cohort, and this one to copy from it
    /// then.
    ///
    /// What this replica has of the slots may be something that nobody counts on: the beginning of
    /// a copy that did not come to its end, or slots that were held long ago and are not dropped
    /// yet. Other replicas have other such rests. If each replica took its own for what is left,
    /// they would differ for ever. A replica that is away is waited for: it may have settled
    /// already.
    fn leaves_it_to_another(&self, id: CohortId) -> bool {
        let Some(state) = self.cohorts.get(id) else {
            return false;
        };
        let waited = state.all_here_us.is_some_and(|since| {
            let waited_us = self.now.mono_us.saturating_sub(since);
            waited_us >= SETTLE_US
        });
        let mut peers = self.sharing().peers(id);
        peers.any(|(m, peer)| {
            let holds = !state.helpers.contains(&m) && !peer.filled.contains(&id);
            let meets = self.views.part(&state.cohort, m).meets(&state.part);
            // A live peer that has not settled in this time waits for something else.
            m < self.me && holds && meets && !(waited && peer.alive(self.now))
        })
    }

    /// Whether a later holder of a cohort's slots can supply what it has of them, newer versions
    /// included, or will when it has found its disk to be good.
    fn is_more_to_come(&self, state: &CohortState) -> bool {
        let mut others = self.cohorts.iter().filter(|(id, other)| {
            *id != state.cohort.id && other.part.meets(&state.part) && !self.has_all(*id)
        });
        others.any(|(id, other)| {
            let has = |m: &MemberId| self.peers.get(*m).is_some_and(|p| p.filled.contains(&id));
            let may_have = |m: &MemberId| self.peers.get(*m).is_some_and(|p| !p.empty);
            match other.cohort.until {
                None => other.cohort.replicas.iter().any(may_have),
                Some(_) => other.suppliers.iter().any(has),
            }
        })
    }
}

//! Slots that come here and slots that have gone, and the end of cohorts.
//!
//! A member that is to hold a slot next, or holds it since the view changed, fetches the slot's
//! keys from a member that has them (snapshot.rs), and then takes in the logs as every replica
//! does. The former holder helps until everybody has everything, and then drops the slot.

use super::super::ids::{self, MemberId};
use super::super::limits::{Bound, met};
use super::super::record;
use super::super::slots::{Slot, SlotSet};
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::views::CohortId;
use super::cohorts::CohortState;
use super::{Effect, Replica};
use bytes::Bytes;
use std::collections::VecDeque;

/// Runs of slots that are looked through at a tick.
const LOOKED_THROUGH: usize = 1_000;

/// The slots that may be on the disk and are not kept here any more.
pub(super) struct Leftover {
    /// Store keys from one up to another.
    ranges: VecDeque<(Bytes, Bytes)>,
    /// What readers were told of it.
    told_empty: bool,
}

impl Leftover {
    /// Whether there may be something to drop.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// All but the slots that are kept.
    pub(super) fn of(kept: &SlotSet) -> Self {
        let all: SlotSet = Slot::all().collect();
        let place = |slot: u16| record::slot_key(Slot(slot), b"");
        let runs = all.without(kept).runs().into_iter();
        let ranges = runs.map(|(first, end)| (place(first), place(end)));
        let ranges: VecDeque<_> = ranges.collect();
        Self {
            told_empty: ranges.is_empty(),
            ranges,
        }
    }

    /// Whether readers have to be told, since the last call: the last of it is gone.
    pub(super) fn take_moved(&mut self) -> bool {
        let empty = self.is_empty();
        std::mem::replace(&mut self.told_empty, empty) != empty
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Fetches what is to be held here and is not here yet, one cohort after the other.
    pub(super) fn follow(&mut self) {
        if self.snapshots.fetch().is_some() || !self.room.is_ample() || self.disk_is_behind() {
            return;
        }
        let source = self.cohorts.iter().find_map(|(id, state)| {
            // A helper fetches nothing, and what is here is not fetched again.
            if !state.holder || self.cohorts.claims(id) {
                return None;
            }
            let source = self.supplier(id, state);
            let source = source.or_else(|| self.next_partial_supplier(id, state));
            source.map(|source| (id, source))
        });
        if let Some((cohort, source)) = source {
            self.fetch_snapshot_from(source, cohort);
        }
    }

    /// A peer from which all of a cohort that is to be kept here can be fetched.
    fn supplier(&self, id: CohortId, state: &CohortState) -> Option<MemberId> {
        let met = self.sharing().met(id);
        let owns = |m: &&MemberId| !state.helpers.contains(m) && self.holds_now(**m, state);
        // Holders go first: a helper may still have what was deleted since.
        let left = state.suppliers.iter().filter(owns).all(|m| {
            let peer = self.peers.get(*m);
            peer.is_some_and(|p| p.has_nothing(id, met))
        });
        let mut sources = state.suppliers.iter().filter(|m| {
            let peer = self.peers.get(**m);
            let filled = peer.is_some_and(|p| p.alive(self.now) && p.filled.contains(&id));
            filled && (left || owns(m))
        });
        sources.next().copied()
    }

    /// Whether a member holds slots of a cohort in the view in force.
    fn holds_now(&self, member: MemberId, state: &CohortState) -> bool {
        let view = &self.views.view;
        let partition = view.partition_of(member);
        partition.is_some_and(|p| state.part.iter().any(|slot| view.partition(slot) == p))
    }

    /// Everything of a cohort, up to the marks of its logs, has been taken in.
    pub(super) fn adopted(&mut self, cohort: CohortId) {
        if self.cohorts.own_id() == Some(cohort) {
            self.recovery.fetched();
        } else {
            self.cohorts.fill(cohort, self.staging.next_batch());
            self.stage_identity();
        }
    }

    /// Tells when all that the next view asks of this replica is here, and which cohorts are over.
    pub(super) fn end_cohorts(&mut self) {
        // A replica may have come into the view in force without all that it is to hold: it says so
        // when it has it.
        let now = Some(&self.views.view).filter(|_| !self.views.closing.is_empty());
        let asked = self.views.next.as_ref().or(now);
        if let Some(view) = asked.filter(|v| v.address(self.me).is_some())
            && (self.is_ready() || broken(Rule::ReadyUnfilled))
        {
            self.effects.push(Effect::Ready(view.number));
        }
        let over: Vec<CohortId> = self
            .cohorts
            .iter()
            .map(|(id, _)| id)
            .filter(|id| self.is_over(*id))
            .collect();
        for id in over {
            self.effects.push(Effect::Over(id));
        }
    }

    /// Whether everything that is to be held here is, as far as is known.
    fn is_ready(&self) -> bool {
        let filled = |(id, state): (CohortId, &CohortState)| !state.holder || self.is_filled(id);
        self.cohorts.iter().all(filled)
            && self
                .logs
                .iter()
                .all(|(id, log)| log.applied >= self.known_end(id))
    }

    /// Whether everybody has all that was written for a cohort, and nothing more can be.
    fn is_over(&self, id: CohortId) -> bool {
        let Some(state) = self.cohorts.get(id) else {
            return false;
        };
        let Some(until) = state.cohort.until else {
            return false;
        };
        let sharing = self.sharing();
        let started_since = |incarnation: u64| ids::view_of(incarnation) >= until;
        let closed = state.cohort.replicas.iter().all(|m| {
            let newest = sharing.incarnation(*m);
            !self.views.is_present(*m) || newest.is_some_and(started_since)
        });
        closed
            && self.is_filled(id)
            && self.logs.iter().all(|(_, log)| log.cohort != id)
            && !self.has_early_of(id)
            && sharing.all_have_told(id)
            && (self.views.dead_owner(&state.cohort).is_none() || broken(Rule::ForgetFormerHolders))
    }

    /// Drops keys that are not kept here any more, some at a time.
    pub(super) fn drop_leftover(&mut self) -> Result<(), StoreError> {
        if self.disk_is_behind() {
            return Ok(());
        }
        let most = match self.busy {
            true => self.limits.busy_dropped,
            false => self.limits.dropped,
        };
        let mut found: Vec<(Bytes, Bytes)> = Vec::new();
        let mut unread = None;
        for _ in 0..LOOKED_THROUGH {
            if found.len() >= most {
                break;
            }
            let Some((from, to)) = self.leftover.ranges.pop_front() else {
                break;
            };
            let scanned = self.store.scan(&from, &to, &mut |place, value| {
                found.push((place, value));
                found.len() < most
            });
            if let Err(error) = scanned {
                self.leftover.ranges.push_front((from, to));
                unread = Some(error);
                break;
            }
            if found.len() == most
                && let Some((last, _)) = found.last()
            {
                met(Bound::Dropped);
                self.leftover.ranges.push_front((last.clone(), to));
            }
        }
        for (place, value) in found {
            // The disk's version may be replaced by one that is on its way.
            let current = match self.staging.contains(&place) {
                true => self.current(&place)?,
                false => Some(record::decode_version(record::key_of(&place), &value)?),
            };
            if let Some(current) = current {
                self.staging.remove(place, &current);
            }
        }
        // The pairs found before the error are dropped, and not looked through again.
        unread.map_or(Ok(()), Err)
    }
}

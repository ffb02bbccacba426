//! The cohorts whose logs this replica shares, and with whom.
//!
//! In quiet times there is one: the replicas of the own partition. While a view changes there are more: those of the
//! slots that come here, and those of earlier views until everybody has what was written under them.

use super::super::ids::{LogId, MemberId};
use super::super::record::ReplicaIdentity;
use super::super::slots::{Slot, SlotSet};
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::super::views::{Cohort, CohortId, Home, Views};
use super::Replica;
use super::snapshot::Start;
use std::collections::BTreeMap;

/// What this replica has to do with one cohort.
pub(super) struct Tie {
    pub(super) cohort: Cohort,
    /// The others who share its logs.
    pub(super) peers: Vec<MemberId>,
    /// Those of them who keep all of its slots that are kept here.
    pub(super) suppliers: Vec<MemberId>,
    /// Those who only help: replicas of old that hold none of its slots any more.
    pub(super) helpers: Vec<MemberId>,
    /// Its slots that are kept here.
    pub(super) part: SlotSet,
    /// Everything up to the marks of its logs has been taken in, and is durable once this batch is.
    pub(super) filled: Option<u64>,
    /// Of the own cohort: the slots of which everything is here that was written before it.
    pub(super) inherited: SlotSet,
    /// The parts of it that have come from peers of which none has all of it.
    pub(super) gathered: BTreeMap<MemberId, Start>,
    /// Since when all that is left of it is here, in microseconds.
    pub(super) all_here_us: Option<u64>,
    /// Slots of it are to be served here, now or next.
    pub(super) holder: bool,
    /// Its logs are shared here for the sake of the next view alone.
    pub(super) followed: bool,
}

impl Tie {
    fn new(views: &Views, cohort: Cohort, me: MemberId, filled: Option<&SlotSet>) -> Self {
        let part = views.part(&cohort, me);
        let peers: Vec<MemberId> = views
            .sharing(&cohort)
            .into_iter()
            .filter(|m| *m != me)
            .collect();
        let holds = |m: MemberId| !views.slots_of(m).common(&cohort.slots).is_empty();
        let supplies = |m: &MemberId| part.is_within(&views.part(&cohort, *m));
        Self {
            suppliers: peers.iter().copied().filter(supplies).collect(),
            helpers: peers.iter().copied().filter(|m| !holds(*m)).collect(),
            holder: holds(me),
            followed: !views.has_shared(&cohort, me, u64::MAX),
            filled: filled.filter(|f| part.is_within(f)).map(|_| 0),
            inherited: SlotSet::default(),
            gathered: BTreeMap::new(),
            all_here_us: None,
            peers,
            part,
            cohort,
        }
    }

    /// Whether what a member's disk says of the logs is still true of the slots that are kept here.
    ///
    /// How far a log is counts for the slots that were kept: when there are more now, it says nothing. One of the
    /// cohort's replicas has kept all of them from the start, so what it once confirmed to a peer holds on.
    pub(super) fn knows_logs(&self, me: MemberId) -> bool {
        self.filled.is_some() || self.cohort.replicas.contains(&me)
    }
}

/// Whether what a member fetched of a cohort for the sake of a next view may lack something, since that view was
/// cancelled and another one asks for the same: meanwhile nobody counted on the member. A view of which nothing can be
/// seen any more may have been cancelled.
fn has_lapsed(views: &Views, cohort: &Cohort, me: MemberId, disk: &ReplicaIdentity) -> bool {
    let Some(next) = disk.next.filter(|_| !broken(Rule::KeepCopyForCancelled)) else {
        return false;
    };
    let shared = views.has_shared(cohort, me, disk.view);
    !shared && views.coming(me) != Some(next) && !views.shows(next)
}

/// The ties of a member, from what its disk says.
pub(super) fn ties(
    views: &Views,
    me: MemberId,
    disk: Option<&ReplicaIdentity>,
) -> BTreeMap<CohortId, Tie> {
    let filled = |id: &CohortId| {
        let lapsed = |d: &&ReplicaIdentity| {
            let cohort = views.cohort(*id);
            cohort.is_some_and(|c| has_lapsed(views, &c, me, d))
        };
        disk.filter(|d| !lapsed(d)).and_then(|d| d.filled.get(id))
    };
    let cohorts = views.cohorts_of(me).into_iter();
    let mut ties: BTreeMap<CohortId, Tie> = cohorts
        .map(|c| (c.id, Tie::new(views, c.clone(), me, filled(&c.id))))
        .collect();
    let Some(own) = views.current(me) else {
        return ties;
    };
    // A new cohort starts with what its replicas have of the ones before, be it not all that is kept of those now. Of
    // a cohort that was its own a replica may have that alone, without what the others wrote. But of slots that it held
    // earlier it has nothing that was written for a later cohort of others. That may be stable among those, and then no
    // context names it.
    let mut here = SlotSet::default();
    for (id, tie) in ties.iter().filter(|(id, _)| **id != own) {
        if tie.filled.is_some() || !tie.cohort.replicas.contains(&me) {
            let of_others = |(later, tie): &(&CohortId, &Tie)| {
                let since = later.since > id.since && !broken(Rule::InheritFromEarlier);
                since && tie.filled.is_none() && !tie.cohort.replicas.contains(&me)
            };
            let slots = filled(id).cloned().unwrap_or_default();
            let lacking = ties.iter().filter(of_others);
            here.join(&lacking.fold(slots, |slots, (_, tie)| slots.without(&tie.cohort.slots)));
        }
    }
    let inherited = disk.and_then(|d| d.inherited.as_ref());
    if let Some((_, slots)) = inherited.filter(|(id, _)| *id == own) {
        here.join(slots);
    }
    let new = disk.is_some_and(|d| d.view < own.since);
    if let Some(tie) = ties.get_mut(&own) {
        tie.inherited = tie.part.common(&here);
        // Later than at its first start in a cohort a replica may lack what the others have written meanwhile.
        if tie.inherited == tie.part && (new || tie.cohort.replicas.len() == 1) {
            tie.filled = Some(0);
        }
    }
    ties
}

impl<S: Store, T> Replica<S, T> {
    /// The tie to the cohort of a log, when its logs are tracked here.
    pub(super) fn tie_of(&self, log: LogId) -> Option<&Tie> {
        match self.views.home(log) {
            Home::Cohort(id) => self.ties.get(&id),
            Home::Over | Home::Ahead => None,
        }
    }

    /// The tie to the cohort that this replica opens logs for.
    pub(super) fn own_tie(&self) -> Option<&Tie> {
        self.own.and_then(|id| self.ties.get(&id))
    }

    /// Whether a member is a replica of the own partition.
    pub(super) fn is_replica(&self, member: MemberId) -> bool {
        let own = self.own_tie();
        own.is_some_and(|t| t.cohort.replicas.contains(&member))
    }

    /// Whether what is in a slot is kept here.
    pub(super) fn keeps(&self, slot: Slot) -> bool {
        self.kept.contains(slot)
    }

    /// Whether logs of a cohort can be taken in: what they go on from is here.
    pub(super) fn takes(&self, id: CohortId) -> bool {
        if self.own == Some(id) {
            return !self.recovery.fetch;
        }
        self.ties.get(&id).is_some_and(|t| t.filled.is_some())
    }

    /// Whether everything of a cohort is here, or on its way to the disk.
    pub(super) fn has_all(&self, id: CohortId) -> bool {
        match self.own == Some(id) {
            true => self.recovery.intact,
            false => self.takes(id),
        }
    }

    /// The slots of which everything is here that a later cohort had. What an earlier one's members lack of them is
    /// not gone for that.
    pub(super) fn known_since(&self, id: CohortId) -> SlotSet {
        let mut slots = SlotSet::default();
        let later = self.ties.iter().filter(|(other, _)| other.since > id.since);
        for (_, tie) in later.filter(|(other, _)| self.has_all(**other)) {
            slots.join(&tie.part);
        }
        slots
    }

    /// Whether everything of a cohort is durable here, up to the marks of its logs.
    pub(super) fn is_filled(&self, id: CohortId) -> bool {
        if self.own == Some(id) {
            return self.recovery.serving;
        }
        let filled = self.ties.get(&id).and_then(|t| t.filled);
        filled.is_some_and(|no| self.staging.is_durable(no)) && !self.is_unproven(id)
    }

    /// Whether logs are shared with nobody.
    pub(super) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }
}

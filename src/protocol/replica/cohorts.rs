//! The cohorts whose logs this replica shares, and with whom.
//!
//! In quiet times there is one: the replicas of the own partition. While a view changes there are
//! more: those of the slots that come here, and those of earlier views until everybody has what was
//! written under them.

use super::super::ids::{LogId, MemberId};
use super::super::record::ReplicaIdentity;
use super::super::slots::SlotSet;
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::super::views::{Cohort, CohortId, Home, Views};
use super::snapshot::Start;
use super::{Now, Replica};
use std::collections::{BTreeMap, BTreeSet};

/// What this replica has to do with one cohort.
pub(super) struct CohortState {
    /// Whose logs these are, and which slots they are about.
    pub(super) cohort: Cohort,
    /// The others who share its logs.
    pub(super) peers: Vec<MemberId>,
    /// The peers that keep all of its slots that are kept here.
    pub(super) suppliers: Vec<MemberId>,
    /// The peers that only help: former replicas that hold none of its slots any more.
    pub(super) helpers: Vec<MemberId>,
    /// Its slots that are kept here.
    pub(super) part: SlotSet,
    /// Everything up to the marks of its logs has been taken in, and is durable once this batch is.
    pub(super) filled: Option<u64>,
    /// Own cohort only: the slots for which every write from earlier cohorts is here.
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

impl CohortState {
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
    /// The disk says how far a log is in the slots that were kept at the time. If more slots are
    /// kept now, that proves nothing about the new ones. A replica of the cohort has kept all of
    /// its slots from the start, so what the replica once confirmed to a peer holds on.
    pub(super) fn knows_logs(&self, me: MemberId) -> bool {
        self.filled.is_some() || self.cohort.replicas.contains(&me)
    }
}

/// Whether the copy of a cohort that a member fetched for a next view may lack something: that view
/// was cancelled, and another one asks for the same copy. Meanwhile nobody counted on the member. A
/// view that has left no trace may have been cancelled.
fn has_lapsed(views: &Views, cohort: &Cohort, me: MemberId, disk: &ReplicaIdentity) -> bool {
    let Some(next) = disk.next.filter(|_| !broken(Rule::KeepCopyForCancelled)) else {
        return false;
    };
    let shared = views.has_shared(cohort, me, disk.view);
    !shared && views.coming(me) != Some(next) && !views.shows(next)
}

/// All cohorts whose logs this replica shares. Which ones these are does not change while the
/// replica lives.
pub(super) struct Cohorts {
    /// The cohort that the replica opens logs for.
    own: Option<CohortId>,
    states: BTreeMap<CohortId, CohortState>,
    /// The slots of all of them that are kept here.
    kept: SlotSet,
    /// Readers have to be told, since this was last asked for.
    moved: bool,
}

impl Cohorts {
    /// The cohorts of a member, from what its disk says.
    pub(super) fn open(views: &Views, me: MemberId, disk: Option<&ReplicaIdentity>) -> Self {
        let states = states(views, me, disk);
        let mut kept = SlotSet::default();
        states.values().for_each(|state| kept.join(&state.part));
        Self {
            own: views.current(me),
            states,
            kept,
            // All marks of a new replica are news.
            moved: true,
        }
    }

    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The cohort that the replica opens logs for.
    pub(super) fn own_id(&self) -> Option<CohortId> {
        self.own
    }

    /// The state of the cohort that the replica opens logs for.
    pub(super) fn own(&self) -> Option<&CohortState> {
        self.own.and_then(|id| self.states.get(&id))
    }

    /// The state of a cohort.
    pub(super) fn get(&self, id: CohortId) -> Option<&CohortState> {
        self.states.get(&id)
    }

    /// The state of a log's cohort, when its logs are tracked here.
    pub(super) fn of(&self, log: LogId, views: &Views) -> Option<&CohortState> {
        match views.home(log) {
            Home::Cohort(id) => self.states.get(&id),
            Home::Over | Home::Ahead => None,
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CohortId, &CohortState)> {
        self.states.iter().map(|(id, state)| (*id, state))
    }

    /// All members with whom any logs are shared.
    pub(super) fn peers(&self) -> BTreeSet<MemberId> {
        let peers = self.states.values().flat_map(|state| &state.peers);
        peers.copied().collect()
    }

    /// The slots that are kept here.
    pub(super) fn kept(&self) -> &SlotSet {
        &self.kept
    }

    /// Whether everything of a cohort is said to be on this disk.
    pub(super) fn claims(&self, id: CohortId) -> bool {
        self.own == Some(id) || self.get(id).is_some_and(|state| state.filled.is_some())
    }

    /// Takes note that everything of another cohort than the own one is here, once a batch is
    /// durable.
    pub(super) fn fill(&mut self, id: CohortId, batch: u64) {
        debug_assert!(self.own != Some(id), "the own cohort is filled by recovery");
        let mut part = SlotSet::default();
        if let Some(state) = self.states.get_mut(&id) {
            state.filled = Some(batch);
            part = state.part.clone();
        }
        // When the cohort is over nothing else tells that this is here.
        if let Some(own) = self.own.and_then(|id| self.states.get_mut(&id)) {
            own.inherited.join(&own.part.common(&part));
        }
        self.moved = true;
    }

    /// Takes back that everything of a cohort is here.
    pub(super) fn empty(&mut self, id: CohortId) {
        if let Some(state) = self.states.get_mut(&id) {
            state.filled = None;
            self.moved = true;
        }
    }

    /// Takes back all that the disk says to be here.
    pub(super) fn empty_all(&mut self) {
        for state in self.states.values_mut() {
            (state.filled, state.inherited) = (None, SlotSet::default());
        }
        self.moved = true;
    }

    /// Keeps where a peer was that has sent what it has of a cohort.
    pub(super) fn gather(&mut self, id: CohortId, from: MemberId, start: Start) {
        if let Some(state) = self.states.get_mut(&id) {
            state.gathered.insert(from, start);
        }
    }

    /// Where the peers were that have sent what they have of a cohort.
    pub(super) fn take_gathered(&mut self, id: CohortId) -> Vec<Start> {
        let state = self.states.get_mut(&id);
        let parts = state.map(|state| std::mem::take(&mut state.gathered));
        parts.unwrap_or_default().into_values().collect()
    }

    /// Takes note that all that is left of these cohorts is here, and of no others.
    pub(super) fn all_here(&mut self, ready: &BTreeSet<CohortId>, now: Now) {
        for (id, state) in &mut self.states {
            let since = state.all_here_us.unwrap_or(now.mono_us);
            state.all_here_us = ready.contains(id).then_some(since);
        }
    }
}

/// The states of a member's cohorts, from what its disk says.
fn states(
    views: &Views,
    me: MemberId,
    disk: Option<&ReplicaIdentity>,
) -> BTreeMap<CohortId, CohortState> {
    let filled = |id: &CohortId| {
        let lapsed = |d: &&ReplicaIdentity| {
            let cohort = views.cohort(*id);
            cohort.is_some_and(|c| has_lapsed(views, &c, me, d))
        };
        disk.filter(|d| !lapsed(d)).and_then(|d| d.filled.get(id))
    };
    let cohorts = views.cohorts_of(me).into_iter();
    let mut states: BTreeMap<CohortId, CohortState> = cohorts
        .map(|c| (c.id, CohortState::new(views, c.clone(), me, filled(&c.id))))
        .collect();
    let Some(own) = views.current(me) else {
        return states;
    };
    // A new cohort starts with what its replicas have of the cohorts before, even if that is not
    // all that is kept of those now. Of a cohort of its own, a replica may have only its own
    // writes, without those of the others. Of slots that the replica held earlier, it lacks what
    // was written for a later cohort of other members: those writes may be stable among these, and
    // then no context names them.
    let mut here = SlotSet::default();
    for (id, state) in states.iter().filter(|(id, _)| **id != own) {
        if state.filled.is_some() || !state.cohort.replicas.contains(&me) {
            let of_others = |(later, state): &(&CohortId, &CohortState)| {
                let since = later.since > id.since && !broken(Rule::InheritFromEarlier);
                since && state.filled.is_none() && !state.cohort.replicas.contains(&me)
            };
            let slots = filled(id).cloned().unwrap_or_default();
            let lacking = states.iter().filter(of_others);
            here.join(&lacking.fold(slots, |slots, (_, state)| {
                slots.without(&state.cohort.slots)
            }));
        }
    }
    let inherited = disk.and_then(|d| d.inherited.as_ref());
    if let Some((_, slots)) = inherited.filter(|(id, _)| *id == own) {
        here.join(slots);
    }
    let new = disk.is_some_and(|d| d.view < own.since);
    if let Some(state) = states.get_mut(&own) {
        state.inherited = state.part.common(&here);
        // At a later start in the cohort, the replica may lack what the others have written
        // meanwhile.
        if state.inherited == state.part && (new || state.cohort.replicas.len() == 1) {
            state.filled = Some(0);
        }
    }
    states
}

impl<S: Store, T> Replica<S, T> {
    /// The state of a log's cohort, when its logs are tracked here.
    pub(super) fn cohort_of(&self, log: LogId) -> Option<&CohortState> {
        self.cohorts.of(log, &self.views)
    }

    /// Whether a member is a replica of the own partition.
    pub(super) fn is_replica(&self, member: MemberId) -> bool {
        let own = self.cohorts.own();
        own.is_some_and(|state| state.cohort.replicas.contains(&member))
    }

    /// Whether logs of a cohort can be taken in: what they go on from is here.
    pub(super) fn takes(&self, id: CohortId) -> bool {
        match self.cohorts.own_id() == Some(id) {
            true => !self.recovery.fetch,
            false => self.cohorts.claims(id),
        }
    }

    /// Whether everything of a cohort is here, or on its way to the disk.
    pub(super) fn has_all(&self, id: CohortId) -> bool {
        match self.cohorts.own_id() == Some(id) {
            true => self.recovery.intact,
            false => self.takes(id),
        }
    }

    /// The slots for which this replica has everything of some later cohort. If members of an
    /// earlier cohort lack a version in these slots, that does not mean that the version was
    /// deleted.
    pub(super) fn known_since(&self, id: CohortId) -> SlotSet {
        let mut slots = SlotSet::default();
        let later = self
            .cohorts
            .iter()
            .filter(|(other, _)| other.since > id.since);
        for (_, state) in later.filter(|(other, _)| self.has_all(*other)) {
            slots.join(&state.part);
        }
        slots
    }

    /// Whether everything of a cohort is durable here, up to the marks of its logs.
    pub(super) fn is_filled(&self, id: CohortId) -> bool {
        if self.cohorts.own_id() == Some(id) {
            return self.recovery.serving;
        }
        let filled = self.cohorts.get(id).and_then(|state| state.filled);
        filled.is_some_and(|no| self.staging.is_durable(no)) && !self.is_unproven(id)
    }

    /// Whether logs are shared with nobody.
    pub(super) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::changes::{ViewChanges, ViewCommand, ViewOutcome};
    use crate::protocol::placement::Change;
    use crate::protocol::placement::tests::addresses;
    use crate::protocol::view::View;

    /// Two nodes that are alone in their partitions, and a change of that view. `enact` puts its
    /// outcome in force.
    pub fn changed(change: Change, gaining: MemberId, enact: bool) -> Views {
        let mut changes = ViewChanges::first(View::first(&addresses(2), 1).unwrap());
        let outcome = changes.apply(ViewCommand::Change {
            change,
            give_up: false,
            lose_data: false,
        });
        let ViewOutcome::Started { number } = outcome else {
            panic!("{outcome:?}");
        };
        if enact {
            changes.apply(ViewCommand::Ready {
                member: gaining,
                number,
            });
            let outcome = changes.apply(ViewCommand::Enact {
                number,
                without: BTreeSet::new(),
            });
            assert!(
                matches!(outcome, ViewOutcome::InForce { .. }),
                "{outcome:?}"
            );
        }
        changes.views().clone()
    }

    /// The third node is added.
    fn added(enact: bool) -> Views {
        changed(Change::Add(addresses(3)[2]), NEW, enact)
    }

    const NEW: MemberId = MemberId(2);

    fn at(mono_us: u64) -> Now {
        Now {
            mono_us,
            wall_ms: 1_000,
        }
    }

    #[test]
    fn a_node_that_is_being_added_follows_the_owners_of_its_slots() {
        let cohorts = Cohorts::open(&added(false), NEW, None);
        assert_eq!(cohorts.own_id(), None);
        assert_eq!(cohorts.peers(), [MemberId(0), MemberId(1)].into());
        for (id, state) in cohorts.iter() {
            assert!(state.holder && state.followed && !cohorts.claims(id));
            assert_eq!(state.peers, state.cohort.replicas);
            assert_eq!(state.suppliers, state.peers);
            assert!(state.helpers.is_empty() && !state.part.is_empty());
        }
    }

    #[test]
    fn a_new_cohort_inherits_what_has_come_of_those_before_it() {
        let mut cohorts = Cohorts::open(&added(true), NEW, None);
        let own = cohorts.own_id().unwrap();
        assert!(cohorts.own().unwrap().inherited.is_empty());
        assert!(cohorts.take_moved() && !cohorts.take_moved());
        let before: Vec<_> = cohorts.iter().map(|(id, _)| id).collect();
        for id in before.into_iter().filter(|id| *id != own) {
            assert!(!cohorts.claims(id));
            cohorts.fill(id, 4);
            assert!(cohorts.claims(id) && cohorts.take_moved());
            assert_eq!(cohorts.get(id).unwrap().filled, Some(4));
        }
        let state = cohorts.own().unwrap();
        assert_eq!(state.inherited, state.part);
        assert_eq!(*cohorts.kept(), state.part);
    }

    #[test]
    fn what_an_old_disk_says_is_taken_back() {
        let mut cohorts = Cohorts::open(&added(true), NEW, None);
        let own = cohorts.own_id().unwrap();
        let other = cohorts.iter().map(|(id, _)| id).find(|id| *id != own);
        let other = other.unwrap();
        cohorts.fill(other, 4);
        cohorts.take_moved();
        cohorts.empty_all();
        assert!(cohorts.take_moved() && !cohorts.claims(other));
        assert!(cohorts.own().unwrap().inherited.is_empty());
        assert!(cohorts.claims(own), "recovery decides about the own cohort");
    }

    #[test]
    fn the_time_since_all_is_here_starts_again_when_something_is_missing() {
        let mut cohorts = Cohorts::open(&added(false), NEW, None);
        let (id, _) = cohorts.iter().next().unwrap();
        let since = |cohorts: &Cohorts| cohorts.get(id).unwrap().all_here_us;
        cohorts.all_here(&[id].into(), at(5));
        cohorts.all_here(&[id].into(), at(9));
        assert_eq!(since(&cohorts), Some(5));
        cohorts.all_here(&BTreeSet::new(), at(10));
        assert_eq!(since(&cohorts), None);
    }

    #[test]
    fn the_parts_that_have_come_are_taken_once() {
        let mut cohorts = Cohorts::open(&added(false), NEW, None);
        let (id, _) = cohorts.iter().next().unwrap();
        cohorts.gather(id, MemberId(0), Start::joined(Vec::new()));
        cohorts.gather(id, MemberId(0), Start::joined(Vec::new()));
        assert_eq!(cohorts.take_gathered(id).len(), 1, "one of each peer");
        assert_eq!(cohorts.take_gathered(id).len(), 0);
    }
}

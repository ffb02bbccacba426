//! The view in force, the one that is coming, and what is left of earlier ones.
//!
//! A *cohort* is a partition for as long as its replicas and slots stay the same: the replicas open
//! logs for it, and each log belongs to one cohort for ever. When a view changes a partition, its
//! cohort is closed: its replicas open new logs for the next one. What was written to the closed
//! logs still has to reach all who hold the slots now, so a closed cohort goes on, without new
//! logs, until each of them has everything. Then it is over.
//!
//! ```text
//!           next view decided            next view in force            all logs level
//! current ---------------------> followed ------------------> closing ---------------> over
//! ```

use super::cluster::Cluster;
use super::ids::{LogId, MemberId};
use super::slots::{Slot, SlotSet};
use super::sound::checked_when_read;
use super::teeth::{Rule, broken};
use super::view::{PartitionId, View};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Names a cohort: a partition, from the first view on in which it had these replicas and slots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CohortId {
    /// The partition.
    pub partition: PartitionId,
    /// The number of the first view with these replicas and slots.
    pub since: u64,
}

/// A partition for as long as its replicas and slots are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cohort {
    /// Its name.
    pub id: CohortId,
    /// The number of the view that closed it.
    pub until: Option<u64>,
    /// The slots that it held.
    pub slots: SlotSet,
    /// The members that opened logs for it.
    pub replicas: Vec<MemberId>,
}

impl Cohort {
    /// Whether a log was opened for this cohort.
    #[must_use]
    pub fn wrote(&self, log: LogId) -> bool {
        self.replicas.contains(&log.member)
            && log.view() >= self.id.since
            && self.until.is_none_or(|until| log.view() < until)
    }

    /// Whether it held slots after an earlier, closed one had held them.
    fn took_over_from(&self, earlier: &Self) -> bool {
        let after = earlier.until.is_some_and(|until| self.id.since >= until);
        after && self.slots.meets(&earlier.slots)
    }
}

/// Where a log belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// The log of a cohort that is open or still closing.
    Cohort(CohortId),
    /// Everybody has what is left of it.
    Over,
    /// The log was opened under a view that is not known here yet.
    Ahead,
}

/// Everything that is decided about views at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Views {
    /// Grows whenever anything in here changes.
    pub version: u64,
    /// The cluster whose views these are; `None` before it is born.
    pub cluster: Option<Cluster>,
    /// The view in force.
    pub view: View,
    /// The view that comes into force when its replicas have what they need.
    pub next: Option<View>,
    /// Cohorts of earlier views that are not over.
    pub closing: Vec<Cohort>,
    /// Members of the view in force that are dead and to be removed: nobody waits for what only
    /// they have, and they serve nothing, whether they are back or not.
    pub given_up: BTreeSet<MemberId>,
    /// Members that are out of the view, but still help to hand over what was written under earlier
    /// ones.
    pub leaving: BTreeMap<MemberId, SocketAddr>,
}

checked_when_read!(Views);

impl Views {
    /// Those of a cluster that is not born yet.
    #[must_use]
    pub fn first(view: View) -> Self {
        Self {
            version: 1,
            cluster: None,
            view,
            next: None,
            closing: Vec::new(),
            given_up: BTreeSet::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// Gives members of the view in force up. From now on the others do not count on them, so what
    /// they serve must not be taken for current: the view in force gets a new number, and a member
    /// that has not heard of that answers no read for a client of those that have.
    pub(super) fn fence(&mut self, members: impl IntoIterator<Item = MemberId>, number: u64) {
        let known = self.given_up.len();
        self.given_up.extend(members);
        if self.given_up.len() > known && !broken(Rule::GiveUpTooSoon) {
            debug_assert!(number > self.view.number);
            self.view.number = number;
        }
    }

    /// Those of a cluster that has just been born.
    #[must_use]
    pub fn born(view: View, cluster: Cluster) -> Self {
        Self {
            version: 2,
            cluster: Some(cluster),
            ..Self::first(view)
        }
    }

    /// Whether the cluster is born.
    #[must_use]
    pub fn is_born(&self) -> bool {
        self.cluster.is_some()
    }

    /// Whether somebody's newer views are of the same cluster, so that a node that goes by these
    /// may go over to them. Before the birth it is told by the first view.
    #[must_use]
    pub fn may_become(&self, newer: &Self) -> bool {
        let same = match (&self.cluster, &newer.cluster) {
            (Some(own), Some(theirs)) => theirs.goes_on_from(own.id),
            (None, _) => true,
            (Some(_), None) => false,
        };
        let follows = newer.version > self.version && newer.view.number >= self.view.number;
        let same = same && newer.view.fingerprint() == self.view.fingerprint();
        (same || broken(Rule::BelieveStranger)) && follows
    }

    /// Lets those go that were leaving and wrote for no closing cohort.
    pub(super) fn forget_leavers(&mut self) {
        let closing = &self.closing;
        let needed = |member: &MemberId| closing.iter().any(|c| c.replicas.contains(member));
        self.leaving.retain(|member, _| needed(member));
    }

    /// The cohort that a log was opened for.
    #[must_use]
    pub fn home(&self, log: LogId) -> Home {
        if log.view() > self.view.number {
            return Home::Ahead;
        }
        if let Some(id) = self.current(log.member)
            && id.since <= log.view()
        {
            return Home::Cohort(id);
        }
        let closing = self.closing.iter().find(|c| c.wrote(log));
        closing.map_or(Home::Over, |c| Home::Cohort(c.id))
    }

    /// The cohort that a member opens logs for.
    #[must_use]
    pub fn current(&self, member: MemberId) -> Option<CohortId> {
        let partition = self.view.partition_of(member)?;
        let since = self.view.since(partition)?;
        Some(CohortId { partition, since })
    }

    /// A cohort that is not over.
    #[must_use]
    pub fn cohort(&self, id: CohortId) -> Option<Cohort> {
        if self.view.since(id.partition) == Some(id.since) {
            return Some(Cohort {
                id,
                until: None,
                slots: self.view.slots_of(id.partition),
                replicas: self.view.replicas(id.partition).to_vec(),
            });
        }
        self.closing.iter().find(|c| c.id == id).cloned()
    }

    /// Whether a cohort holds a slot.
    #[must_use]
    pub fn holds(&self, id: CohortId, slot: Slot) -> bool {
        if self.view.since(id.partition) == Some(id.since) {
            return self.view.partition(slot) == id.partition;
        }
        let mut closing = self.closing.iter();
        closing.any(|c| c.id == id && c.slots.contains(slot))
    }

    /// The slots that a member holds now or is to hold next.
    #[must_use]
    pub fn slots_of(&self, member: MemberId) -> SlotSet {
        let mut slots = SlotSet::default();
        for view in [Some(&self.view), self.next.as_ref()].into_iter().flatten() {
            if let Some(partition) = view.partition_of(member) {
                slots.join(&view.slots_of(partition));
            }
        }
        slots
    }

    /// The part of a cohort's slots that a member keeps.
    #[must_use]
    pub fn part(&self, cohort: &Cohort, member: MemberId) -> SlotSet {
        if cohort.replicas.contains(&member) {
            return cohort.slots.clone();
        }
        let mut kept = self.slots_of(member);
        for later in self.successors(cohort) {
            if later.replicas.contains(&member) {
                kept.join(&later.slots);
            }
        }
        cohort.slots.common(&kept)
    }

    /// The closing cohorts that held some of a closing cohort's slots after it.
    fn successors<'a>(&'a self, cohort: &'a Cohort) -> impl Iterator<Item = &'a Cohort> {
        let later = self.closing.iter();
        later.filter(|c| c.took_over_from(cohort))
    }

    /// The closing cohorts whose slots a closing one took over, so that they have to be over first:
    /// their late writes may have come to the later one's replicas alone.
    pub fn predecessors<'a>(&'a self, cohort: &'a Cohort) -> impl Iterator<Item = &'a Cohort> {
        let is_closing = cohort.until.is_some();
        let earlier = self.closing.iter().filter(move |_| is_closing);
        earlier.filter(|c| cohort.took_over_from(c))
    }

    /// The first partition of the view in force that holds some of a cohort's slots and whose
    /// replicas are all given up. Until others hold these slots, their earlier holders have all
    /// that is left.
    #[must_use]
    pub fn dead_owner(&self, cohort: &Cohort) -> Option<PartitionId> {
        // Mostly nobody is, and then no slot is looked at.
        if self.given_up.is_empty() {
            return None;
        }
        let given_up = |m: &MemberId| self.given_up.contains(m);
        let mut owners = self.view.owners(&cohort.slots).into_iter();
        owners.find(|p| self.view.replicas(*p).iter().all(given_up))
    }

    /// The closing cohorts that are not over as long as the dead hold slots of them, or of one
    /// whose slots they took over.
    #[must_use]
    pub fn held_back(&self) -> BTreeSet<CohortId> {
        // A cohort that took slots over began later.
        let mut oldest_first: Vec<&Cohort> = self.closing.iter().collect();
        oldest_first.sort_by_key(|c| c.id.since);
        let mut held = BTreeSet::new();
        for cohort in oldest_first {
            let mut earlier = self.predecessors(cohort);
            if self.dead_owner(cohort).is_some() || earlier.any(|c| held.contains(&c.id)) {
                held.insert(cohort.id);
            }
        }
        held
    }

    /// The members that must have what is in a cohort's logs: its replicas and those of the closing
    /// cohorts after it, as far as they are still there, and everybody who holds some of its slots
    /// now or is to hold them next.
    #[must_use]
    pub fn sharing(&self, cohort: &Cohort) -> BTreeSet<MemberId> {
        let later = self.successors(cohort).flat_map(|c| c.replicas.iter());
        let replicas = cohort.replicas.iter().chain(later).copied();
        let mut members: BTreeSet<_> = replicas.filter(|m| self.is_present(*m)).collect();
        for view in [Some(&self.view), self.next.as_ref()].into_iter().flatten() {
            let owners = view.owners(&cohort.slots).into_iter();
            let owners = owners.flat_map(|p| view.replicas(p));
            members.extend(owners.filter(|m| !self.given_up.contains(m)));
        }
        members
    }

    /// Whether a member shares a cohort's logs for what it holds or held in this view or an earlier
    /// one, whatever became of those that were to come next.
    #[must_use]
    pub fn has_shared(&self, cohort: &Cohort, member: MemberId, view: u64) -> bool {
        let current = self.current(member).filter(|id| id.since <= view);
        let owns = current.and_then(|id| self.cohort(id));
        let mut later = self.successors(cohort).filter(|c| c.id.since <= view);
        cohort.replicas.contains(&member)
            || later.any(|c| c.replicas.contains(&member))
            || owns.is_some_and(|own| own.slots.meets(&cohort.slots))
    }

    /// The cohorts whose logs a member has to do with.
    #[must_use]
    pub fn cohorts_of(&self, member: MemberId) -> Vec<Cohort> {
        let mut owned = self.slots_of(member);
        // Slots of its own partition are no reason to look at the other partitions.
        let mut ids = BTreeSet::new();
        if let Some(id) = self.current(member) {
            ids.insert(id);
            owned = owned.without(&self.view.slots_of(id.partition));
        }
        for partition in self.view.owners(&owned) {
            let since = self.view.since(partition);
            ids.extend(since.map(|since| CohortId { partition, since }));
        }
        let current = ids.into_iter().filter_map(|id| self.cohort(id));
        let closing = self.closing.iter().cloned();
        let closing = closing.filter(|c| self.sharing(c).contains(&member));
        current.chain(closing).collect()
    }

    /// The number of the next view, if a member is in that.
    #[must_use]
    pub fn coming(&self, member: MemberId) -> Option<u64> {
        let next = self.next.as_ref();
        let next = next.filter(|v| v.address(member).is_some());
        next.map(|v| v.number)
    }

    /// Whether it can be seen that a view came into force: a cohort began or ended with it.
    #[must_use]
    pub fn shows(&self, number: u64) -> bool {
        let mut partitions = self.view.partitions();
        let mut closing = self.closing.iter();
        partitions.any(|(p, _)| self.view.since(p) == Some(number))
            || closing.any(|c| c.id.since == number || c.until == Some(number))
    }

    /// Whether newer views ask of a member, and tell it of those it shares logs with, just what
    /// these do.
    #[must_use]
    pub fn is_same_for(&self, newer: &Self, member: MemberId) -> bool {
        let (before, after) = (self.cohorts_of(member), newer.cohorts_of(member));
        let same = |cohort: &Cohort| {
            let sharing = self.sharing(cohort);
            let part = |m: &MemberId| self.part(cohort, *m) == newer.part(cohort, *m);
            sharing == newer.sharing(cohort) && sharing.iter().all(part)
        };
        self.current(member) == newer.current(member)
            && self.coming(member) == newer.coming(member)
            && before == after
            && before.iter().all(same)
    }

    /// Whether a member is in the view or leaving it, and not given up.
    #[must_use]
    pub fn is_present(&self, member: MemberId) -> bool {
        let named = self.view.address(member).is_some() || self.leaving.contains_key(&member);
        named && !self.given_up.contains(&member)
    }

    /// All members that somebody may have to talk to, with their addresses.
    #[must_use]
    pub fn members(&self) -> BTreeMap<MemberId, SocketAddr> {
        let next = self.next.iter().flat_map(|v| v.members());
        let leaving = self.leaving.iter().map(|(m, a)| (*m, *a));
        leaving.chain(next).chain(self.view.members()).collect()
    }
}

impl fmt::Display for CohortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}.{}", self.partition.0, self.since)
    }
}

impl fmt::Debug for CohortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

//! View changes: the views that the nodes agree on, the change that runs, and how the last one
//! ended.
//!
//! A replicated state machine without time and liveness: commands go in, in one order on all nodes,
//! and every node comes to the same state. The leader decides when to wait no longer
//! ([`policy`](super::policy)), and says so with a command.
//!
//! ```text
//!           Change           Enact                   Over of all closed cohorts
//! (nothing) ------> running -------> in force ---------------------------------> done
//!                      | Cancel
//!                      +-------> cancelled
//! ```

#[cfg(test)]
mod case_tests;
mod commands;
#[cfg(test)]
mod tests;
mod waiting;

pub use commands::{End, FinishedChange, RunningChange, ViewCommand, ViewOutcome, ViewRefusal};

use super::cluster::Cluster;
use super::ids::MemberId;
use super::invariants;
use super::placement::{Change, ChangeError};
use super::teeth::{Rule, broken, is_any_broken};
use super::view::View;
use super::views::{Cohort, CohortId, Views};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The state machine of view changes: the same on every node that has applied the same commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewChanges {
    views: Views,
    running: Option<RunningChange>,
    last: Option<FinishedChange>,
    /// Members of the view in force that came into it without the data that they are to hold, and
    /// have not got it since.
    behind: BTreeSet<MemberId>,
    /// The newest view number that was given out. The number of a cancelled view is not used again:
    /// a late message about it must not be taken for one about the next view.
    newest: u64,
}

impl ViewChanges {
    /// The state of a cluster that has never changed its view.
    #[must_use]
    pub fn first(view: View) -> Self {
        Self::of(Views::first(view))
    }

    /// The state of a cluster with these views, before any change.
    #[must_use]
    pub fn of(views: Views) -> Self {
        Self {
            newest: views.view.number,
            views,
            running: None,
            last: None,
            behind: BTreeSet::new(),
        }
    }

    /// The views as they are decided.
    #[must_use]
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// The change that runs, if any.
    #[must_use]
    pub fn running(&self) -> Option<&RunningChange> {
        self.running.as_ref()
    }

    /// The last change that has ended.
    #[must_use]
    pub fn last(&self) -> Option<&FinishedChange> {
        self.last.as_ref()
    }

    /// Members of the view in force that do not have yet what they are to hold.
    #[must_use]
    pub fn behind(&self) -> &BTreeSet<MemberId> {
        &self.behind
    }

    /// Partitions of the view in force.
    #[must_use]
    pub fn number_of_partitions(&self) -> usize {
        self.views.view.partitions().count()
    }

    /// All nodes that take part: members of the view in force and of the next one, and leaving
    /// members.
    #[must_use]
    pub fn members(&self) -> BTreeMap<MemberId, SocketAddr> {
        self.views.members()
    }

    /// The member at an address, one that is being added or is leaving included.
    #[must_use]
    pub fn member_at(&self, address: SocketAddr) -> Option<MemberId> {
        let views = [Some(&self.views.view), self.views.next.as_ref()];
        let mut views = views.into_iter().flatten();
        let found = views.find_map(|view| view.member_at(address));
        found.or_else(|| self.leaving_at(address))
    }

    /// The view that a change would lead to if it began now, whether another one is running or not.
    ///
    /// # Errors
    /// When the change makes no sense, or its node is still handing over what it has.
    pub fn plan(&self, change: &Change) -> Result<View, ViewRefusal> {
        self.is_free_to(change)?;
        let number = match change {
            // The number between is that of the view in force once the node is given up.
            Change::Remove(_) => self.newest + 2,
            Change::Add(_) | Change::SetK(_) => self.newest + 1,
        };
        let given_up = &self.views.given_up;
        Ok(self.views.view.changed_without(number, change, given_up)?)
    }

    /// Takes the next command.
    pub fn apply(&mut self, command: ViewCommand) -> ViewOutcome {
        let outcome = match command {
            ViewCommand::Change {
                change,
                give_up,
                lose_data,
            } => self.start(change, give_up, lose_data),
            ViewCommand::Ready { member, number } => Ok(self.ready(member, number)),
            ViewCommand::Enact { number, without } => self.enact(number, without),
            ViewCommand::Over { cohort } => self.over(cohort),
            ViewCommand::GiveUp { member } => self.give_up(member),
            ViewCommand::Cancel { number } => self.cancel(number),
            ViewCommand::Dead { members } => self.give_up_dead(members),
        };
        if cfg!(debug_assertions) && !is_any_broken() {
            invariants::check(&self.views, self.running(), &self.behind, self.newest);
        }
        outcome.unwrap_or_else(ViewOutcome::Refused)
    }

    /// Makes it another cluster, if that goes on from this one.
    pub fn renew(&mut self, cluster: Cluster) {
        let own = self.views.cluster.map(|own| own.id);
        if own.is_some_and(|own| own != cluster.id && cluster.goes_on_from(own)) {
            self.views.cluster = Some(cluster);
            self.views.version += 1;
        }
    }

    fn start(
        &mut self,
        change: Change,
        give_up: bool,
        lose_data: bool,
    ) -> Result<ViewOutcome, ViewRefusal> {
        let removal = matches!(change, Change::Remove(_));
        if let Some(running) = &mut self.running {
            let (running_change, number) = (running.change, running.number);
            if removal && lose_data && running_change == change {
                running.lose_data = true;
                return Ok(ViewOutcome::Agreed { number });
            }
            if self.undoes(&change) {
                return self.cancel(number);
            }
            let change = running_change;
            return Err(ViewRefusal::Busy { change, number });
        }
        let next = self.plan(&change)?;
        let number = next.number;
        let node = match change {
            Change::Add(address) => Some(address),
            Change::Remove(member) => self.views.view.address(member),
            Change::SetK(_) => None,
        };
        self.newest = number;
        self.views.next = Some(next);
        self.views.version += 1;
        let mut running = RunningChange {
            change,
            node,
            number,
            given_up: false,
            lose_data: lose_data && removal,
            ready: BTreeSet::new(),
        };
        if let Change::Remove(member) = change
            && (give_up || self.views.given_up.contains(&member))
        {
            running.given_up = true;
            self.views.fence([member], number - 1);
        }
        self.running = Some(running);
        Ok(ViewOutcome::Started { number })
    }

    /// Whether a change removes the node that the running one adds.
    fn undoes(&self, change: &Change) -> bool {
        let running = self.running.as_ref().map(|r| r.change);
        let (Change::Remove(member), Some(Change::Add(address))) = (*change, running) else {
            return false;
        };
        let next = self.views.next.as_ref();
        next.is_some_and(|view| view.member_at(address) == Some(member))
    }

    /// Whether the change may begin. A leaving node cannot be added or removed again: one process
    /// is never two members. A given-up member that is still in the view has to be removed before
    /// any other change, since nobody serves its slots.
    fn is_free_to(&self, change: &Change) -> Result<(), ViewRefusal> {
        let given_up = &self.views.given_up;
        let removes = |m: &MemberId| *change == Change::Remove(*m);
        let stuck = self.running.is_none() && !given_up.iter().any(removes);
        let other = given_up.first().filter(|_| stuck);
        if let Some((member, address)) =
            other.and_then(|m| Some((*m, self.views.view.address(*m)?)))
        {
            return Err(ViewRefusal::GivenUp { address, member });
        }
        let leaving =
            |member: MemberId, address: SocketAddr| ViewRefusal::Leaving { address, member };
        match *change {
            Change::Add(address) => match self.leaving_at(address) {
                Some(member) => Err(leaving(member, address)),
                None => Ok(()),
            },
            Change::Remove(member) => match self.views.leaving.get(&member) {
                Some(address) => Err(leaving(member, *address)),
                None => Ok(()),
            },
            Change::SetK(_) => Ok(()),
        }
    }

    fn leaving_at(&self, address: SocketAddr) -> Option<MemberId> {
        let mut leaving = self.views.leaving.iter();
        let found = leaving.find(|(_, at)| **at == address);
        found.map(|(member, _)| *member)
    }

    fn ready(&mut self, member: MemberId, number: u64) -> ViewOutcome {
        let next = self.views.next.as_ref();
        let named = next.is_some_and(|view| view.address(member).is_some());
        let running = self
            .running
            .as_mut()
            .filter(|r| r.number == number && named);
        let new = match running {
            Some(running) => running.ready.insert(member),
            None => number == self.views.view.number && self.behind.remove(&member),
        };
        if new {
            ViewOutcome::Changed
        } else {
            ViewOutcome::Unchanged
        }
    }

    fn enact(
        &mut self,
        number: u64,
        without: BTreeSet<MemberId>,
    ) -> Result<ViewOutcome, ViewRefusal> {
        if number == self.views.view.number {
            return Ok(ViewOutcome::Unchanged);
        }
        if self.running.as_ref().is_none_or(|r| r.number != number) {
            return Err(ViewRefusal::NotRunning(number));
        }
        let members = self.awaited(&without);
        if !members.is_empty() {
            return Err(ViewRefusal::Waiting { number, members });
        }
        let gaining = self.gaining();
        let decided = self.running.take().zip(self.views.next.take());
        let (running, next) = decided.ok_or(ViewRefusal::NotRunning(number))?;
        self.close(&next);
        let lacking = gaining.into_keys().filter(|m| !running.ready.contains(m));
        self.behind = lacking.collect();
        let named = |member: &MemberId| next.address(*member).is_some();
        self.views.given_up.retain(named);
        self.views.view = next;
        self.views.version += 1;
        let without = self.behind.clone();
        self.last = Some(running.finished(End::InForce, without));
        self.forget_lost();
        self.note_done();
        Ok(ViewOutcome::InForce { number })
    }

    /// Closes the cohorts that the next view changes, and lets those go that are not in it.
    fn close(&mut self, next: &View) {
        let before = &self.views.view;
        let closed = before.partitions().filter_map(|(partition, replicas)| {
            let since = before.since(partition)?;
            (next.since(partition) != Some(since)).then(|| Cohort {
                id: CohortId { partition, since },
                until: Some(next.number),
                slots: before.slots_of(partition),
                replicas: replicas.to_vec(),
            })
        });
        self.views.closing.extend(closed);
        let gone = before.members().filter(|(m, _)| next.address(*m).is_none());
        let given_up = &self.views.given_up;
        let leaving = gone.filter(|(m, _)| !given_up.contains(m));
        self.views.leaving.extend(leaving);
    }

    /// Drops cohorts whose members are all given up: no member is left to say that they are over.
    fn forget_lost(&mut self) {
        let views = &self.views;
        let shared = |c: &&Cohort| !views.sharing(c).is_empty();
        let closing: Vec<Cohort> = views.closing.iter().filter(shared).cloned().collect();
        self.views.closing = closing;
        self.views.forget_leavers();
    }

    fn over(&mut self, id: CohortId) -> Result<ViewOutcome, ViewRefusal> {
        let views = &mut self.views;
        let Some(cohort) = views.closing.iter().find(|c| c.id == id) else {
            return Ok(ViewOutcome::Unchanged);
        };
        if let Some(earlier) = views.predecessors(cohort).next().map(|c| c.id) {
            return Err(ViewRefusal::TooEarly {
                cohort: id,
                earlier,
            });
        }
        let dead = views.dead_owner(cohort);
        if let Some(partition) = dead.filter(|_| !broken(Rule::ForgetFormerHolders)) {
            return Err(ViewRefusal::LastHolder {
                cohort: id,
                partition,
            });
        }
        views.closing.retain(|c| c.id != id);
        views.forget_leavers();
        views.version += 1;
        self.note_done();
        Ok(ViewOutcome::Changed)
    }

    fn give_up(&mut self, member: MemberId) -> Result<ViewOutcome, ViewRefusal> {
        if self.views.leaving.remove(&member).is_some() {
            if let Some(last) = &mut self.last {
                last.given_up |= last.change == Change::Remove(member);
            }
            self.views.version += 1;
            return Ok(ViewOutcome::Changed);
        }
        let running = self.running.as_mut();
        if let Some(running) = running.filter(|r| r.change == Change::Remove(member)) {
            if std::mem::replace(&mut running.given_up, true) {
                return Ok(ViewOutcome::Unchanged);
            }
            self.views.fence([member], running.number - 1);
            self.views.version += 1;
            return Ok(ViewOutcome::Changed);
        }
        if self.views.given_up.contains(&member) {
            return Ok(ViewOutcome::Unchanged);
        }
        if self.views.members().contains_key(&member) {
            return Err(ViewRefusal::InView(member));
        }
        Ok(ViewOutcome::Unchanged)
    }

    /// Gives up members of the view that an operator has declared dead, before their removals
    /// begin: so one change can do without all of them.
    fn give_up_dead(&mut self, members: BTreeSet<MemberId>) -> Result<ViewOutcome, ViewRefusal> {
        if let Some(RunningChange { change, number, .. }) = self.running {
            return Err(ViewRefusal::Busy { change, number });
        }
        let views = &mut self.views;
        let counts = |m: &MemberId| views.view.address(*m).is_some() && !views.given_up.contains(m);
        let dead: BTreeSet<MemberId> = members.into_iter().filter(counts).collect();
        let Some(last) = dead.last() else {
            return Ok(ViewOutcome::Unchanged);
        };
        if views.view.members().count() == views.given_up.len() + dead.len() {
            return Err(ChangeError::LastNode(*last).into());
        }
        self.newest += 1;
        views.fence(dead, self.newest);
        views.version += 1;
        self.forget_lost();
        self.note_done();
        Ok(ViewOutcome::Changed)
    }

    /// Drops the running change. A given-up member stays given up: the others have gone on without
    /// it, so its data can no longer be told from what it should have.
    fn cancel(&mut self, number: u64) -> Result<ViewOutcome, ViewRefusal> {
        let Some(running) = self.running.take_if(|r| r.number == number) else {
            let last = self.last.as_ref();
            let again = last.is_some_and(|l| l.number == number && l.end == End::Cancelled);
            let refusal = ViewRefusal::NotRunning(number);
            return if again {
                Ok(ViewOutcome::Unchanged)
            } else {
                Err(refusal)
            };
        };
        if let Some(next) = self.views.next.take() {
            // The member number stays used up: the node that was to come may have named it to
            // others.
            self.views.view.next_member = next.next_member;
        }
        if broken(Rule::BelieveGivenUp) {
            self.views.given_up.clear();
        }
        self.views.version += 1;
        self.last = Some(running.finished(End::Cancelled, BTreeSet::new()));
        Ok(ViewOutcome::Cancelled { number })
    }

    fn note_done(&mut self) {
        if let Some(last) = &mut self.last
            && last.end == End::InForce
            && self.views.closing.is_empty()
        {
            last.end = End::Done;
        }
    }
}

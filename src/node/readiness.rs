//! Whether a member serves, and why not.

use super::member::Member;
use super::membership::part::ClusterRaft;
use super::wire::messages::{Condition, Order};
use crate::protocol::replica::GIVEN_UP;

/// Why a member does not serve clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// The member comes into the cluster with the next view.
    Joining,
    /// The member is out of the view, and hands over its data.
    Left {
        /// The number of the view.
        view: u64,
    },
    /// The member was given up while it was to be removed: the others go on without it.
    GivenUp,
}

impl Member {
    /// Why the member serves nobody, although it works.
    pub fn absence(&self) -> Option<Absence> {
        if self.membership().knowledge().is_given_up() {
            return Some(Absence::GivenUp);
        }
        let marks = self.marks();
        if marks.partition.is_some() {
            return None;
        }
        let view = marks.view();
        Some(match marks.views.leaving.contains_key(&self.me()) {
            true => Absence::Left { view: view.number },
            false => Absence::Joining,
        })
    }

    /// Why this node serves no client yet: its cluster is not born.
    pub fn forming(&self) -> Option<String> {
        // As soon as the replica goes by the birth, it is on the disk.
        let born = self.marks().views.is_born();
        (!born).then(|| self.membership().forming())
    }

    /// Whether reads are served, and writes of clients stamped.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(forming) = self.forming() {
            return Err(forming);
        }
        if let Some(reason) = &self.marks().recovering {
            return Err(reason.clone());
        }
        let clock = self.router().admission().check_clock();
        clock.map_err(|refusal| refusal.to_string())?;
        // With a full disk the node serves all the same, as far as it can: reads, and where it is
        // only the Raft group's, writes.
        self.has_room()?;
        // As a node that is cut off does.
        match self.membership().peers().refused() {
            None => Ok(()),
            Some(why) => Err(format!("no other node talks to this one ({why})")),
        }
    }

    /// Whether what this node is to store finds room.
    fn has_room(&self) -> Result<(), String> {
        if let Some(full) = self.room().lacks(false) {
            return Err(format!("writes are refused, the disk is full: {full}"));
        }
        let raft = self.membership().raft();
        let raft = raft.map_or(Ok(()), ClusterRaft::has_room);
        raft.map_err(|full| format!("the council stores nothing here, {full}"))
    }

    /// Takes an order from another node.
    pub(super) fn obey(&self, order: Order) -> Condition {
        self.switch().take(order);
        self.condition()
    }

    /// How the node is.
    pub(super) fn condition(&self) -> Condition {
        if self.switch().is_down() {
            return Condition::Starting("it is about to fail".to_owned());
        }
        match (self.absence(), self.ready()) {
            (None, Ok(())) => Condition::Serving,
            (None, Err(why)) => Condition::Starting(why),
            (Some(Absence::Joining), _) => Condition::Starting("it is being added".to_owned()),
            (Some(Absence::GivenUp), _) => Condition::Starting(GIVEN_UP.to_owned()),
            (Some(Absence::Left { view }), _) => {
                Condition::Starting(format!("it is not in view {view} any more"))
            }
        }
    }
}

//! The price of a change when members are dead: which of them it gives up, and which it would wait
//! for.
//!
//! A partition is *dead* when none of its members answers. Nobody can copy its slots, nor fill it
//! with others, so a change that does either waits until it is back, which may be never. An
//! operator can give it up, by the removal of one of its members: then it takes no part in
//! placement, and is to be removed member by member.

use super::changes::{ViewChanges, ViewCommand, ViewOutcome, ViewRefusal};
use super::ids::MemberId;
use super::placement::Change;
use super::view::PartitionId;
use std::collections::BTreeSet;

/// The dead members that a change gives up, and those that it would wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toll {
    /// Members to be [given up](super::changes::ViewCommand::Dead) first: all members of the
    /// removed one's partition, which is dead, and of other dead partitions that its removal
    /// changes.
    pub gives_up: BTreeSet<MemberId>,
    /// The change would wait for these.
    pub needs: Vec<Needed>,
}

/// Dead members that a change would wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The partition that they are replicas of.
    pub partition: PartitionId,
    /// All of its members that are not given up.
    pub members: BTreeSet<MemberId>,
    /// Whether the partition is a dead one of the view in force. Else it is one of the next view
    /// that would have dead members only.
    pub is_dead: bool,
}

impl Toll {
    /// The members that it is about.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        let needed = self.needs.iter().flat_map(|n| &n.members);
        self.gives_up.iter().chain(needed).copied()
    }
}

impl ViewChanges {
    /// The toll of a change that begins now, while the members in `dead` are dead.
    ///
    /// # Errors
    /// When the change makes no sense, or may not begin now.
    pub fn toll(&self, change: &Change, dead: &BTreeSet<MemberId>) -> Result<Toll, ViewRefusal> {
        let view = &self.views().view;
        let partition = match *change {
            Change::Remove(member) => view.partition_of(member),
            Change::Add(_) | Change::SetK(_) => None,
        };
        // A removal from a partition that is dead as a whole gives up all of its members.
        let lost = partition.filter(|p| self.is_dead(view.replicas(*p), dead));
        let lost = lost.map(|p| self.not_given_up(view.replicas(p)));
        let mut gives_up = lost.clone().unwrap_or_default();
        // Each round gives up the dead partitions that the removal would still wait for. It ends:
        // partitions are finitely many.
        loop {
            let mut then = self.clone();
            if !gives_up.is_empty() {
                let members = gives_up.clone();
                if let ViewOutcome::Refused(refusal) = then.apply(ViewCommand::Dead { members }) {
                    return Err(refusal);
                }
            }
            let needs = then.needs(change, dead)?;
            let goes_on = lost.is_some() && !needs.is_empty() && needs.iter().all(|n| n.is_dead);
            if !goes_on {
                return Ok(Toll { gives_up, needs });
            }
            gives_up.extend(needs.into_iter().flat_map(|n| n.members));
        }
    }

    /// The dead members that a change would wait for.
    fn needs(
        &self,
        change: &Change,
        dead: &BTreeSet<MemberId>,
    ) -> Result<Vec<Needed>, ViewRefusal> {
        let (now, next) = (&self.views().view, self.plan(change)?);
        let changes = |p: PartitionId| next.since(p) != now.since(p);
        let needed = |partition, replicas: &[MemberId], is_dead| Needed {
            partition,
            members: self.not_given_up(replicas),
            is_dead,
        };
        // Partitions in force that the change closes: their logs would never be over.
        let left = now.partitions();
        let left = left.filter(|(p, replicas)| changes(*p) && self.is_dead(replicas, dead));
        let left = left.map(|(p, replicas)| needed(p, replicas, true));
        let left: Vec<Needed> = left.filter(|n| !n.members.is_empty()).collect();
        let known: BTreeSet<PartitionId> = left.iter().map(|n| n.partition).collect();
        // Partitions of the next view that would have dead members only.
        let made = next.partitions();
        let made = made.filter(|(p, replicas)| changes(*p) && self.is_dead(replicas, dead));
        let made = made.map(|(p, replicas)| needed(p, replicas, false));
        let made = made.filter(|n| !n.members.is_empty() && !known.contains(&n.partition));
        let made: Vec<Needed> = made.collect();
        Ok(left.into_iter().chain(made).collect())
    }

    /// Whether none of these is there.
    fn is_dead(&self, replicas: &[MemberId], dead: &BTreeSet<MemberId>) -> bool {
        let given_up = &self.views().given_up;
        let is_dead = |m: &MemberId| dead.contains(m) || given_up.contains(m);
        replicas.iter().all(is_dead)
    }

    fn not_given_up(&self, replicas: &[MemberId]) -> BTreeSet<MemberId> {
        let given_up = &self.views().given_up;
        let replicas = replicas.iter().copied();
        replicas.filter(|m| !given_up.contains(m)).collect()
    }
}

#[cfg(test)]
#[path = "toll_tests.rs"]
mod tests;

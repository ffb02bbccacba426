//! Which view follows from a change: nodes come and go, or K changes.
//!
//! The next view follows from the one before and the change alone, so that every node comes to the
//! same one. As few nodes and slots change their partition as the rules allow: ceil(N / K)
//! partitions, 1 to K replicas in each, slots even within one.

use super::ids::{MAX_VIEW, MemberId};
use super::slots::SLOTS;
use super::spread::spread;
use super::view::{FULL, Partition, PartitionId, Seat, View};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A change from one view to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The node at this address comes in, as a new member.
    Add(SocketAddr),
    /// The member goes.
    Remove(MemberId),
    /// Replicas per partition, from 1. With [`FULL`], every node holds everything, those that come
    /// later included.
    SetK(usize),
}

/// Why no view follows from a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeError {
    /// K is 0.
    #[error("K must be 1 or more")]
    NoReplicas,
    /// The node is in the view already.
    #[error("{address} is in the view already, as {member}")]
    AlreadyIn {
        /// The address of the node.
        address: SocketAddr,
        /// Its member number.
        member: MemberId,
    },
    /// No member of the view has this number.
    #[error("{0} is not in the view")]
    UnknownMember(MemberId),
    /// Without it the view would be empty.
    #[error("{0} is the last node of the view and cannot be removed")]
    LastNode(MemberId),
    /// There is no member number left.
    #[error("all {max} member numbers have been given out", max = u16::MAX)]
    TooManyNodes,
    /// More partitions than slots would be needed.
    #[error("{0} partitions would be needed, there are slots for {SLOTS}")]
    TooManyPartitions(usize),
    /// There is no view number left.
    #[error("all {MAX_VIEW} view numbers have been given out")]
    TooManyViews,
    /// K is this number already.
    #[error("K is {0} already, there is nothing to do")]
    NothingToDo(usize),
}

impl View {
    /// The view that follows from a change, with the next number.
    ///
    /// # Errors
    /// When the change makes no sense in this view, or numbers run out.
    pub fn changed(&self, change: &Change) -> Result<Self, ChangeError> {
        self.changed_to(self.number + 1, change)
    }

    /// The view that follows from a change. `number` is larger than this view's; it is not the next
    /// one when a change in between was cancelled.
    ///
    /// # Errors
    /// When the change makes no sense in this view, or numbers run out.
    pub fn changed_to(&self, number: u64, change: &Change) -> Result<Self, ChangeError> {
        self.changed_without(number, change, &BTreeSet::new())
    }

    /// The view after a change, while members are given up. A partition that has none but such is
    /// *dead*: until its last member is removed it stays as it is, since nobody could fill what it
    /// got. So rules hold for the others alone.
    ///
    /// # Errors
    /// When the change makes no sense in this view, or numbers run out.
    pub fn changed_without(
        &self,
        number: u64,
        change: &Change,
        given_up: &BTreeSet<MemberId>,
    ) -> Result<Self, ChangeError> {
        if number >= MAX_VIEW {
            return Err(ChangeError::TooManyViews);
        }
        let mut addresses: BTreeMap<MemberId, SocketAddr> = self.members().collect();
        let mut draft = Draft::of(self);
        let mut next_member = self.next_member;
        match *change {
            Change::Add(address) => {
                if let Some(member) = self.member_at(address) {
                    return Err(ChangeError::AlreadyIn { address, member });
                }
                let member = MemberId(next_member);
                next_member = next_member
                    .checked_add(1)
                    .ok_or(ChangeError::TooManyNodes)?;
                addresses.insert(member, address);
                draft.loose.push(member);
            }
            Change::Remove(member) => {
                let known = addresses.remove(&member);
                known.ok_or(ChangeError::UnknownMember(member))?;
                if addresses.is_empty() {
                    return Err(ChangeError::LastNode(member));
                }
                draft.remove(member);
            }
            Change::SetK(0) => return Err(ChangeError::NoReplicas),
            Change::SetK(k) if k == self.k => return Err(ChangeError::NothingToDo(k)),
            Change::SetK(k) => draft.k = k,
        }
        let dead = draft.take_dead(given_up);
        let placed = addresses.len() - dead.values().map(Vec::len).sum::<usize>();
        if let (0, Some(last)) = (placed, addresses.keys().last()) {
            return Err(ChangeError::LastNode(*last));
        }
        let count = placed.div_ceil(draft.k);
        if count > usize::from(SLOTS) {
            return Err(ChangeError::TooManyPartitions(count));
        }
        draft.place(count);
        let slots = self.spread_over(&draft.groups.keys().copied().collect(), &dead);
        draft.groups.extend(dead);
        Ok(self.with(number, next_member, &addresses, draft, slots))
    }

    /// The partition of each slot: those of dead partitions stay, the others are spread over
    /// `groups`.
    fn spread_over(
        &self,
        groups: &BTreeSet<PartitionId>,
        dead: &BTreeMap<PartitionId, Vec<MemberId>>,
    ) -> Vec<PartitionId> {
        let stays = |p: &PartitionId| dead.contains_key(p);
        let moving: Vec<PartitionId> = self.slots.iter().copied().filter(|p| !stays(p)).collect();
        let mut spread = spread(&moving, groups).into_iter();
        let next = |p: &PartitionId| if stays(p) { Some(*p) } else { spread.next() };
        self.slots.iter().filter_map(next).collect()
    }

    /// The view with these nodes in these groups.
    fn with(
        &self,
        number: u64,
        next_member: u16,
        addresses: &BTreeMap<MemberId, SocketAddr>,
        draft: Draft,
        slots: Vec<PartitionId>,
    ) -> Self {
        let pairs = self.slots.iter().zip(&slots);
        let moved = pairs.filter(|(before, after)| before != after);
        // A partition that gives or gets a slot begins a new cohort.
        let touched: BTreeSet<PartitionId> = moved.flat_map(|(b, a)| [*b, *a]).collect();
        let mut members = BTreeMap::new();
        let mut partitions = BTreeMap::new();
        for (id, replicas) in draft.groups {
            let placed = replicas.iter().filter_map(|member| {
                let address = *addresses.get(member)?;
                Some((
                    *member,
                    Seat {
                        address,
                        partition: id,
                        id: self.members.get(member).and_then(|m| m.id),
                    },
                ))
            });
            members.extend(placed);
            let before = self.partitions.get(&id);
            let same =
                before.filter(|p| !touched.contains(&id) && same_set(&p.replicas, &replicas));
            let since = same.map_or(number, |p| p.since);
            partitions.insert(id, Partition { since, replicas });
        }
        Self {
            number,
            k: draft.k,
            members,
            partitions,
            slots,
            next_member,
            next_partition: draft.next_partition,
            cluster: self.cluster,
        }
    }
}

fn same_set(one: &[MemberId], other: &[MemberId]) -> bool {
    one.len() == other.len() && one.iter().all(|m| other.contains(m))
}

/// The groups while nodes find their places.
struct Draft {
    k: usize,
    groups: BTreeMap<PartitionId, Vec<MemberId>>,
    /// Slots that each partition holds before the change.
    held: BTreeMap<PartitionId, usize>,
    /// Nodes without a place.
    loose: Vec<MemberId>,
    next_partition: u32,
}

impl Draft {
    fn of(view: &View) -> Self {
        let mut held = BTreeMap::new();
        for partition in &view.slots {
            *held.entry(*partition).or_insert(0) += 1;
        }
        Self {
            k: view.k,
            groups: view.partitions().map(|(id, r)| (id, r.to_vec())).collect(),
            held,
            loose: Vec::new(),
            next_partition: view.next_partition,
        }
    }

    /// Takes those groups out that have none but members that are given up.
    fn take_dead(&mut self, given_up: &BTreeSet<MemberId>) -> BTreeMap<PartitionId, Vec<MemberId>> {
        let is_dead = |_: &PartitionId, group: &mut Vec<MemberId>| {
            !group.is_empty() && group.iter().all(|m| given_up.contains(m))
        };
        self.groups.extract_if(.., is_dead).collect()
    }

    fn remove(&mut self, member: MemberId) {
        for group in self.groups.values_mut() {
            group.retain(|m| *m != member);
        }
    }

    /// Gives every node its place in `count` = ceil(N / K) groups of 1 to K nodes.
    ///
    /// All groups together have fewer than K places to spare. So a group that a removal leaves
    /// empty is one too many: it is dissolved, and never has to be filled from others.
    fn place(&mut self, count: usize) {
        for group in self.groups.values_mut() {
            let stay = group.len().min(self.k);
            self.loose.extend(group.drain(stay..));
        }
        while self.groups.len() > count {
            self.dissolve();
        }
        while self.groups.len() < count {
            self.groups
                .insert(PartitionId(self.next_partition), Vec::new());
            self.next_partition += 1;
        }
        // The smallest group has room if any has, and an empty one is the smallest.
        for member in std::mem::take(&mut self.loose) {
            if let Some(group) = self.groups.values_mut().min_by_key(|g| g.len()) {
                group.push(member);
            }
        }
    }

    /// The smallest group goes, since fewest nodes move then; of several that with the fewest
    /// slots, then the youngest.
    fn dissolve(&mut self) {
        let cost = |(id, group): &(&PartitionId, &Vec<MemberId>)| {
            let held = self.held.get(id).copied().unwrap_or_default();
            (group.len(), held, Reverse(**id))
        };
        let smallest = self.groups.iter().min_by_key(cost).map(|(id, _)| *id);
        let group = smallest.and_then(|id| self.groups.remove(&id));
        self.loose.extend(group.into_iter().flatten());
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(address) => write!(f, "add {address}"),
            Self::Remove(member) => write!(f, "remove {member}"),
            Self::SetK(FULL..) => f.write_str("hold everything on every node"),
            Self::SetK(k) => write!(f, "set K to {k}"),
        }
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
pub(super) mod tests;

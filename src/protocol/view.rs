//! The numbered configuration: partitions, and which replicas hold a key.

use super::ids::MemberId;
use super::slots::{SLOTS, Slot, SlotSet};
use super::sound::checked_when_read;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The K of full replication: more than there can be nodes. So there is one partition, and every
/// node is in it, those that come later included.
pub const FULL: usize = u16::MAX as usize;

/// A replica group's number: given once, never reused, so that it means the same group for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u32);

/// Why a view cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// K is 0.
    #[error("K must be 1 or more")]
    NoReplicas,
    /// There is no address.
    #[error("VIEW names no node")]
    Empty,
    /// An address is there twice.
    #[error("VIEW names {0} twice")]
    Duplicate(SocketAddr),
    /// There are more nodes than member numbers.
    #[error("VIEW names {0} nodes, at most {max} are possible", max = u16::MAX)]
    TooMany(usize),
    /// There are more partitions than slots.
    #[error("VIEW needs more partitions than there are slots ({SLOTS})")]
    TooManyPartitions,
}

/// A node's place in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub(super) address: SocketAddr,
    pub(super) partition: PartitionId,
    /// The place for a random id of its own, by which a member is known when its address changes.
    /// None has one yet.
    pub(super) id: Option<[u8; 16]>,
}

/// A partition's place in a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Partition {
    /// The number of the first view with these replicas and slots.
    pub(super) since: u64,
    pub(super) replicas: Vec<MemberId>,
}

/// The numbered configuration of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct View {
    /// From 1; below [`super::ids::MAX_VIEW`].
    pub number: u64,
    /// Replicas per partition; from [`FULL`], all nodes.
    pub k: usize,
    pub(super) members: BTreeMap<MemberId, Seat>,
    pub(super) partitions: BTreeMap<PartitionId, Partition>,
    /// The partition of each slot.
    pub(super) slots: Vec<PartitionId>,
    /// The number that the next new node gets.
    pub(super) next_member: u16,
    /// The number that the next new partition gets.
    pub(super) next_partition: u32,
    /// Fingerprint of the first view: tells clusters apart.
    pub(super) cluster: [u8; 32],
}

checked_when_read!(View);

impl View {
    /// The first view: partition `i` holds `addresses[i*k .. (i+1)*k]`, slots go to partitions in
    /// equal runs. The same on every node, so that a fresh cluster serves without an election.
    ///
    /// # Errors
    /// When `k` is 0, or addresses are missing or repeated.
    pub fn first(addresses: &[SocketAddr], k: usize) -> Result<Self, ViewError> {
        if k == 0 {
            return Err(ViewError::NoReplicas);
        }
        if addresses.is_empty() {
            return Err(ViewError::Empty);
        }
        if addresses.len() >= usize::from(u16::MAX) {
            return Err(ViewError::TooMany(addresses.len()));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = addresses.iter().find(|a| !seen.insert(**a)) {
            return Err(ViewError::Duplicate(*twice));
        }
        let count = addresses.len().div_ceil(k);
        if count > usize::from(SLOTS) {
            return Err(ViewError::TooManyPartitions);
        }
        let groups = (0u32..).map(PartitionId).zip(addresses.chunks(k));
        let in_partition = groups.flat_map(|(partition, group)| {
            let member = move |address: &SocketAddr| Seat {
                address: *address,
                partition,
                id: None,
            };
            group.iter().map(member)
        });
        let members: BTreeMap<_, _> = (0u16..).map(MemberId).zip(in_partition).collect();
        let mut partitions: BTreeMap<PartitionId, Partition> = BTreeMap::new();
        for (id, member) in &members {
            let first = || Partition {
                since: 1,
                replicas: Vec::new(),
            };
            let partition = partitions.entry(member.partition).or_insert_with(first);
            partition.replicas.push(*id);
        }
        let slots = (0..usize::from(SLOTS))
            .map(|slot| PartitionId((slot * count / usize::from(SLOTS)) as u32))
            .collect();
        let next_member = addresses.len() as u16;
        let cluster = identity(addresses, k);
        Ok(Self {
            number: 1,
            k,
            members,
            partitions,
            slots,
            next_member,
            next_partition: count as u32,
            cluster,
        })
    }

    /// Whether every node holds everything, those that come later included.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.k >= FULL
    }

    /// Replicas per partition: K, and under full replication the number of nodes.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        match self.is_full() {
            true => self.members.len(),
            false => self.k,
        }
    }

    /// The partition of a slot.
    #[must_use]
    pub fn partition(&self, slot: Slot) -> PartitionId {
        self.slots[usize::from(slot.0)]
    }

    /// The partition of a key.
    #[must_use]
    pub fn partition_of_key(&self, key: &[u8]) -> PartitionId {
        self.partition(Slot::of(key))
    }

    /// The slots of a partition.
    #[must_use]
    pub fn slots_of(&self, partition: PartitionId) -> SlotSet {
        SlotSet::of_owner(&self.slots, &partition)
    }

    /// The partitions that hold any of these slots.
    #[must_use]
    pub fn owners(&self, slots: &SlotSet) -> BTreeSet<PartitionId> {
        slots.owners(&self.slots)
    }

    /// The replicas of a partition; empty when there is no such partition.
    #[must_use]
    pub fn replicas(&self, partition: PartitionId) -> &[MemberId] {
        let found = self.partitions.get(&partition);
        found.map_or(&[], |p| p.replicas.as_slice())
    }

    /// The number of the first view in which a partition had these replicas and slots.
    #[must_use]
    pub fn since(&self, partition: PartitionId) -> Option<u64> {
        self.partitions.get(&partition).map(|p| p.since)
    }

    /// The partition that a member is in.
    #[must_use]
    pub fn partition_of(&self, member: MemberId) -> Option<PartitionId> {
        self.members.get(&member).map(|m| m.partition)
    }

    /// All partitions, ascending.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &[MemberId])> {
        let partitions = self.partitions.iter();
        partitions.map(|(id, p)| (*id, p.replicas.as_slice()))
    }

    /// All members and their addresses, ascending.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, SocketAddr)> {
        self.members.iter().map(|(id, m)| (*id, m.address))
    }

    /// The address of a member.
    #[must_use]
    pub fn address(&self, member: MemberId) -> Option<SocketAddr> {
        self.members.get(&member).map(|m| m.address)
    }

    /// The member at an address.
    #[must_use]
    pub fn member_at(&self, address: SocketAddr) -> Option<MemberId> {
        let mut members = self.members.iter();
        let found = members.find(|(_, m)| m.address == address);
        found.map(|(id, _)| *id)
    }

    /// Whether a member number has been given out, in this view or an earlier one.
    #[must_use]
    pub fn has_existed(&self, member: MemberId) -> bool {
        member.0 < self.next_member
    }

    /// Tells clusters apart, whatever view they are in: nodes that were started with different
    /// views must not talk.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.cluster
    }
}

fn identity(addresses: &[SocketAddr], k: usize) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((k as u64).to_le_bytes());
    for (member, address) in (0u16..).zip(addresses) {
        hash.update(member.to_le_bytes());
        hash.update(address.to_string());
        hash.update([0]);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(n: usize) -> Vec<SocketAddr> {
        (0..n)
            .map(|i| SocketAddr::from(([10, 0, (i / 250) as u8, (i % 250) as u8 + 1], 8080)))
            .collect()
    }

    proptest! {
        #[test]
        fn the_first_view_places_everything_once_and_evenly(n in 1usize..60, k in 1usize..8) {
            let view = View::first(&addresses(n), k).unwrap();
            prop_assert_eq!(view.partitions().count(), n.div_ceil(k));
            let placed: Vec<MemberId> = view.partitions().flat_map(|(_, r)| r.to_vec()).collect();
            prop_assert_eq!(placed, view.members().map(|(m, _)| m).collect::<Vec<_>>());
            for (id, replicas) in view.partitions() {
                prop_assert!(!replicas.is_empty() && replicas.len() <= k);
                let first = id.0 as usize * k;
                prop_assert_eq!(replicas[0], MemberId(first as u16));
                for m in replicas {
                    prop_assert_eq!(view.partition_of(*m), Some(id));
                }
            }
            let mut held = BTreeMap::new();
            for slot in 0..SLOTS {
                *held.entry(view.partition(Slot(slot))).or_insert(0u32) += 1;
            }
            prop_assert_eq!(held.len(), n.div_ceil(k));
            let (least, most) = (held.values().min().unwrap(), held.values().max().unwrap());
            prop_assert!(most - least <= 1, "slots even within one");
        }
    }

    #[test]
    fn two_thousand_keys_lie_within_a_quarter_of_the_mean() {
        let view = View::first(&addresses(8), 2).unwrap();
        let mut held = BTreeMap::new();
        for i in 0..2_000 {
            *held
                .entry(view.partition_of_key(format!("key{i}").as_bytes()))
                .or_insert(0u32) += 1;
        }
        assert!(held.values().all(|n| (375..=625).contains(n)), "{held:?}");
    }

    #[test]
    fn nonsense_is_refused() {
        let a = addresses(2);
        assert_eq!(View::first(&a, 0), Err(ViewError::NoReplicas));
        assert_eq!(View::first(&[], 1), Err(ViewError::Empty));
        assert_eq!(
            View::first(&[a[0], a[1], a[0]], 1),
            Err(ViewError::Duplicate(a[0]))
        );
    }

    #[test]
    fn another_view_has_another_fingerprint() {
        let a = addresses(4);
        let one = View::first(&a, 2).unwrap().fingerprint();
        assert_ne!(one, View::first(&a, 1).unwrap().fingerprint());
        assert_ne!(one, View::first(&a[..3], 2).unwrap().fingerprint());
        assert_eq!(one, View::first(&a, 2).unwrap().fingerprint());
    }
}

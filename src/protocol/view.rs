//! Slots, partitions and the first view: which replicas hold a key.

use super::ids::MemberId;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Number of equal arcs of the hash ring (Dynamo, SOSP 2007, section 6.2, strategy 3).
pub const SLOTS: u16 = 16_384;

/// An arc of the hash ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

impl Slot {
    /// The slot of a key: the first bits of its SHA-256.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        let hash = Sha256::digest(key);
        Self(u16::from_be_bytes([hash[0], hash[1]]) / (u16::MAX / SLOTS + 1))
    }
}

/// A replica group; keeps its number for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u32);

/// Why a view cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    #[error("K must be 1 or more")]
    NoReplicas,
    #[error("VIEW names no node")]
    Empty,
    #[error("VIEW names {0} twice")]
    Duplicate(SocketAddr),
    #[error("VIEW names {0} nodes, at most {max} are possible", max = u16::MAX)]
    TooMany(usize),
    #[error("VIEW needs more partitions than there are slots ({SLOTS})")]
    TooManyPartitions,
}

/// The numbered configuration of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub number: u64,
    /// Replicas per partition.
    pub k: usize,
    members: BTreeMap<MemberId, SocketAddr>,
    partitions: BTreeMap<PartitionId, Vec<MemberId>>,
    /// The partition of each slot.
    slots: Vec<PartitionId>,
}

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
        if addresses.len() > usize::from(u16::MAX) {
            return Err(ViewError::TooMany(addresses.len()));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = addresses.iter().find(|a| !seen.insert(**a)) {
            return Err(ViewError::Duplicate(*twice));
        }
        let members: BTreeMap<_, _> = (0u16..)
            .map(MemberId)
            .zip(addresses.iter().copied())
            .collect();
        let ids: Vec<MemberId> = members.keys().copied().collect();
        let partitions: BTreeMap<_, _> = (0u32..)
            .map(PartitionId)
            .zip(ids.chunks(k).map(<[MemberId]>::to_vec))
            .collect();
        let count = partitions.len();
        if count > usize::from(SLOTS) {
            return Err(ViewError::TooManyPartitions);
        }
        let slots = (0..usize::from(SLOTS))
            .map(|slot| PartitionId((slot * count / usize::from(SLOTS)) as u32))
            .collect();
        Ok(Self {
            number: 1,
            k,
            members,
            partitions,
            slots,
        })
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

    /// The replicas of a partition; empty when there is no such partition.
    #[must_use]
    pub fn replicas(&self, partition: PartitionId) -> &[MemberId] {
        self.partitions.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// The partition that a member is in.
    #[must_use]
    pub fn partition_of(&self, member: MemberId) -> Option<PartitionId> {
        self.partitions
            .iter()
            .find(|(_, replicas)| replicas.contains(&member))
            .map(|(id, _)| *id)
    }

    /// All partitions, ascending.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &[MemberId])> {
        self.partitions.iter().map(|(id, r)| (*id, r.as_slice()))
    }

    /// All members and their addresses, ascending.
    pub fn members(&self) -> impl Iterator<Item = (MemberId, SocketAddr)> {
        self.members.iter().map(|(id, a)| (*id, *a))
    }

    /// The address of a member.
    #[must_use]
    pub fn address(&self, member: MemberId) -> Option<SocketAddr> {
        self.members.get(&member).copied()
    }

    /// The member at an address.
    #[must_use]
    pub fn member_at(&self, address: SocketAddr) -> Option<MemberId> {
        self.members
            .iter()
            .find(|(_, a)| **a == address)
            .map(|(id, _)| *id)
    }

    /// Tells two configurations apart: nodes that were started with different views must not talk.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.k as u64).to_le_bytes());
        for (member, address) in &self.members {
            hash.update(member.0.to_le_bytes());
            hash.update(address.to_string());
            hash.update([0]);
        }
        hash.finalize().into()
    }
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

        #[test]
        fn every_key_has_a_slot(key in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Slot::of(&key).0 < SLOTS);
        }
    }

    #[test]
    fn slots_never_move_between_releases() {
        // Data on disk is placed by these numbers.
        assert_eq!(Slot::of(b"a"), Slot(0xca97 >> 2));
        assert_eq!(Slot::of(b""), Slot(0xe3b0 >> 2));
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

//! Slots, the arcs of the hash ring, and sets of them.

use super::sound::{Unsound, checked_when_read, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// Number of equal arcs of the hash ring (Dynamo, SOSP 2007, section 6.2, strategy 3).
pub const SLOTS: u16 = 16_384;

/// Words of 64 slots.
const WORDS: usize = SLOTS as usize / 64;

/// An arc of the hash ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Slot(pub u16);

checked_when_read!(Slot);

impl Slot {
    fn check(self) -> Result<(), Unsound> {
        ensure(self.0 < SLOTS, "a slot that does not exist")
    }

    /// The slot of a key: the first bits of its SHA-256.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        let hash = Sha256::digest(key);
        Self(u16::from_be_bytes([hash[0], hash[1]]) / (u16::MAX / SLOTS + 1))
    }

    /// All slots, ascending.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }

    fn bit(self) -> (usize, u64) {
        (usize::from(self.0) / 64, 1 << (self.0 % 64))
    }
}

/// A set of slots.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; WORDS]>);

impl Default for SlotSet {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl SlotSet {
    /// Whether a slot is in the set.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = slot.bit();
        self.0.get(word).is_some_and(|w| w & bit != 0)
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        let (word, bit) = slot.bit();
        if let Some(w) = self.0.get_mut(word) {
            *w |= bit;
        }
    }

    /// Adds all of `other`.
    pub fn join(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0.iter()) {
            *mine |= theirs;
        }
    }

    /// The slots in both.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (mine, theirs) in out.0.iter_mut().zip(other.0.iter()) {
            *mine &= theirs;
        }
        out
    }

    /// Whether a slot is in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let mut words = self.0.iter().zip(other.0.iter());
        words.any(|(mine, theirs)| mine & theirs != 0)
    }

    /// The slots that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (mine, theirs) in out.0.iter_mut().zip(other.0.iter()) {
            *mine &= !theirs;
        }
        out
    }

    /// Whether all slots are in `other` too.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let mut words = self.0.iter().zip(other.0.iter());
        words.all(|(mine, theirs)| mine & !theirs == 0)
    }

    /// Whether there are no slots.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// How many slots there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The slots of an owner, from the owners of all slots.
    pub(super) fn of_owner<T: PartialEq>(owners: &[T], owner: &T) -> Self {
        let mut set = Self::default();
        for (word, owners) in set.0.iter_mut().zip(owners.chunks(64)) {
            *word = match only_owner(owners) {
                Some(only) if only == owner => u64::MAX,
                Some(_) => 0,
                None => {
                    let bits = owners.iter().enumerate();
                    bits.fold(0, |word, (bit, o)| word | u64::from(o == owner) << bit)
                }
            };
        }
        set
    }

    /// The owners of these slots, given the owner of every slot.
    pub(super) fn owners<T: Ord + Copy>(&self, owners: &[T]) -> BTreeSet<T> {
        let mut found = BTreeSet::new();
        for (word, owners) in self.0.iter().zip(owners.chunks(64)) {
            match only_owner(owners) {
                _ if *word == 0 => {}
                Some(only) => {
                    found.insert(*only);
                }
                None => {
                    let bits = owners.iter().enumerate();
                    found.extend(
                        bits.filter(|(bit, _)| word >> bit & 1 == 1)
                            .map(|(_, o)| *o),
                    );
                }
            }
        }
        found
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        let words = (0u16..).zip(self.0.iter()).filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| Slot(at * 64 + bit))
        })
    }

    /// Runs of neighbouring slots, ascending: the first of each and the one after its last, 16,384
    /// at the end.
    #[must_use]
    pub fn runs(&self) -> Vec<(u16, u16)> {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for Slot(slot) in self.iter() {
            match runs.last_mut() {
                Some((_, end)) if *end == slot => *end += 1,
                _ => runs.push((slot, slot + 1)),
            }
        }
        runs
    }
}

/// The owner of all slots of a word, if they have one owner. Neighbours mostly have one owner, and
/// to compare all of them without a branch is quicker than to look at each.
fn only_owner<T: PartialEq>(owners: &[T]) -> Option<&T> {
    let first = owners.first()?;
    let same = owners
        .iter()
        .fold(true, |same, owner| same & (owner == first));
    same.then_some(first)
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.runs()).finish()
    }
}

impl Serialize for SlotSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.runs().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SlotSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let runs = Vec::<(u16, u16)>::deserialize(deserializer)?;
        // In order, and so no more of them than there are slots: they are walked one by one.
        let mut before = 0;
        for (first, end) in &runs {
            let in_order = before <= *first && first < end && *end <= SLOTS;
            ensure(in_order, "slots that do not exist, or twice or backwards")
                .map_err(serde::de::Error::custom)?;
            before = *end;
        }
        let slots = runs.into_iter().flat_map(|(first, end)| first..end);
        Ok(slots.map(Slot).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(slots: &BTreeSet<u16>) -> SlotSet {
        slots.iter().copied().map(Slot).collect()
    }

    proptest! {
        #[test]
        fn every_key_has_a_slot(key in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Slot::of(&key).0 < SLOTS);
        }

        #[test]
        fn a_set_of_slots_is_a_set(
            a in proptest::collection::btree_set(0..SLOTS, 0..200),
            b in proptest::collection::btree_set(0..SLOTS, 0..200),
        ) {
            let (one, other) = (set(&a), set(&b));
            prop_assert_eq!(one.len(), a.len());
            prop_assert!(one.iter().map(|s| s.0).eq(a.iter().copied()));
            prop_assert_eq!(one.common(&other), set(&(&a & &b)));
            prop_assert_eq!(one.meets(&other), !a.is_disjoint(&b));
            prop_assert_eq!(one.without(&other), set(&(&a - &b)));
            prop_assert_eq!(one.is_within(&other), a.is_subset(&b));
            let mut joined = one.clone();
            joined.join(&other);
            prop_assert_eq!(joined, set(&(&a | &b)));
            let bytes = postcard::to_allocvec(&one).unwrap();
            prop_assert_eq!(postcard::from_bytes::<SlotSet>(&bytes).unwrap(), one);
        }
    }

    proptest! {
        #[test]
        fn the_slots_of_an_owner_are_those_that_name_it(
            cuts in proptest::collection::vec(0..usize::from(SLOTS), 0..8),
            asked in proptest::collection::btree_set(0..SLOTS, 0..20),
        ) {
            let before = |slot: &u16| cuts.iter().filter(|cut| **cut <= usize::from(*slot)).count() % 3;
            let owners: Vec<usize> = (0..SLOTS).map(|slot| before(&slot)).collect();
            for owner in 0..3 {
                let named: SlotSet = Slot::all().filter(|s| before(&s.0) == owner).collect();
                prop_assert_eq!(SlotSet::of_owner(&owners, &owner), named);
            }
            let found: BTreeSet<usize> = asked.iter().map(before).collect();
            prop_assert_eq!(set(&asked).owners(&owners), found);
        }
    }

    #[test]
    fn slots_never_move_between_releases() {
        // Data on disk is placed by these numbers.
        assert_eq!(Slot::of(b"a"), Slot(0xca97 >> 2));
        assert_eq!(Slot::of(b""), Slot(0xe3b0 >> 2));
    }

    #[test]
    fn the_last_slot_is_in_the_last_run() {
        let all: SlotSet = Slot::all().collect();
        assert_eq!(all.runs(), [(0, SLOTS)]);
        assert_eq!(all.len(), usize::from(SLOTS));
    }
}

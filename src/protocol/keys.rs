//! The linearizable store of lists, as a state machine: changes go in, in one order on all nodes,
//! and every node comes to the same state.
//!
//! Its maps share what did not change between two states, so that a clone costs nothing: readers
//! look at a state while the next one is made.

use super::context::Context;
use super::hashed::Hashed;
use super::ids::LogId;
use super::sound::{Unsound, checked_when_read, ensure};
use bytes::Bytes;
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest list, in bytes of its items, with [`ITEM_BYTES`] for each.
pub const MAX_LIST_BYTES: usize = 8 << 20;
/// Bytes that an item counts beside its own.
pub const ITEM_BYTES: usize = 32;
/// Bytes that all lists may count together: their items as above, and for each key its own bytes,
/// [`KEY_BYTES`], and [`ENTRY_BYTES`] for each entry of its past. Every member keeps them in
/// memory.
pub const MAX_TOTAL_BYTES: usize = 256 << 20;
/// Bytes that a key counts beside its own.
pub const KEY_BYTES: usize = 256;
/// Bytes that an entry of a list's past counts.
pub const ENTRY_BYTES: usize = 32;
/// The most entries of a list's past: some 5 KiB as text, which fits into a header.
pub const MAX_PAST: usize = 256;
/// The longest idempotency key, in bytes.
pub const MAX_ONCE_BYTES: usize = 255;
/// So many answers to requests with an idempotency key are remembered; the oldest go first.
pub const REMEMBERED: usize = 100_000;

/// Something to be done to one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct ListChange {
    /// UTF-8, from 1 byte to [`MAX_KEY_BYTES`].
    pub key: Bytes,
    /// The change itself.
    pub what: What,
    /// The condition under which it is made.
    pub only: ListCondition,
    /// Names the request: sent again, it is not done again.
    pub once: Option<Bytes>,
    /// The writer's past in the causal store, if it says so.
    pub past: Option<ListPast>,
}

checked_when_read!(ListChange);

impl ListChange {
    fn check(&self) -> Result<(), Unsound> {
        let fits = (1..=MAX_KEY_BYTES).contains(&self.key.len());
        ensure(fits, "a key that is empty or too long")?;
        let once = self.once.as_ref().map_or(0, Bytes::len);
        ensure(
            once <= MAX_ONCE_BYTES,
            "an idempotency key that is too long",
        )
    }
}

/// The causal past of a writer in `/kvs`. Readers of the list inherit it, so that they see no less
/// there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPast {
    /// The context, without what every replica has.
    pub seen: Context,
    /// Writes of the list's past that every replica has by now: they are dropped from it.
    pub settled: Vec<(LogId, u64)>,
}

/// A change of one list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The key has this list from now on. Items are UTF-8, here and below.
    Put(Vec<Bytes>),
    /// The list, which may not be there yet, gets an item at its end.
    Append(Bytes),
    /// The key is gone from now on.
    Delete,
}

/// When a change is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListCondition {
    /// In any case.
    Always,
    /// There is no such key.
    Absent,
    /// There is such a key.
    Present,
    /// The key was last changed by one of these revisions.
    Revision(Vec<u64>),
}

/// The outcome of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListOutcome {
    /// Done, by this revision. After a delete the key is gone.
    Done {
        /// The number of the change.
        revision: u64,
    },
    /// There was nothing to delete.
    NoSuchKey,
    /// The condition does not hold: the key was last changed by this revision, or is not there.
    ConditionFailed {
        /// The revision that last changed the key, if it is there.
        revision: Option<u64>,
    },
    /// The list would be too long.
    TooLong,
    /// The list's past would have more than [`MAX_PAST`] entries.
    PastTooLong,
    /// All lists together would be more than [`MAX_TOTAL_BYTES`].
    Full,
    /// Another request used the same idempotency key.
    OtherRequest,
}

/// A list and the revision that last changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The items in order, each as UTF-8.
    pub items: Vector<Bytes>,
    /// The number of the change that made the list what it is.
    pub revision: u64,
    bytes: usize,
}

/// The lists of all keys. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    lists: OrdMap<Hashed, List>,
    /// The causal past of each list in `/kvs`, if its writers have said one.
    pasts: OrdMap<Hashed, Context>,
    /// Bytes of all lists with their pasts.
    bytes: usize,
    /// Changes that were made so far.
    revision: u64,
    answers: OrdMap<Bytes, Answer>,
    /// The keys of `answers`, the oldest first.
    order: Vector<Bytes>,
}

/// The answer to a request with an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    /// Tells the request from others.
    digest: [u8; 16],
    outcome: ListOutcome,
}

impl Keys {
    /// The list of a key.
    #[must_use]
    pub fn get(&self, key: &Hashed) -> Option<&List> {
        self.lists.get(key)
    }

    /// The causal past of a list in `/kvs`: that of the last put, and of all appends since.
    #[must_use]
    pub fn past(&self, key: &Hashed) -> Option<&Context> {
        self.pasts.get(key)
    }

    /// Bytes of all lists together: at most [`MAX_TOTAL_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Makes a change, unless it was made before.
    pub fn apply(&mut self, change: ListChange) -> ListOutcome {
        let Some(once) = change.once.clone() else {
            return self.make(change);
        };
        let digest = digest(&change);
        if let Some(answer) = self.answers.get(&once) {
            return match answer.digest == digest {
                true => answer.outcome.clone(),
                false => ListOutcome::OtherRequest,
            };
        }
        let outcome = self.make(change);
        let answer = Answer {
            digest,
            outcome: outcome.clone(),
        };
        self.answers.insert(once.clone(), answer);
        self.order.push_back(once);
        while self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        outcome
    }

    fn make(&mut self, change: ListChange) -> ListOutcome {
        let ListChange {
            key,
            what,
            only,
            past,
            ..
        } = change;
        let key = Hashed::new(key);
        let list = self.lists.get(&key);
        let known = list.map(|list| list.revision);
        let holds = match only {
            ListCondition::Always => true,
            ListCondition::Absent => known.is_none(),
            ListCondition::Present => known.is_some(),
            ListCondition::Revision(revisions) => known.is_some_and(|r| revisions.contains(&r)),
        };
        if !holds {
            return ListOutcome::ConditionFailed { revision: known };
        }
        let had = list.map_or(0, |list| list.bytes);
        let counted = list.map_or(0, |list| cost(&key, list.bytes, self.pasts.get(&key)));
        let (bytes, past) = match &what {
            What::Put(items) => (items.iter().map(size).sum(), past.map(|past| past.seen)),
            What::Append(item) => (had + size(item), self.joined(&key, past)),
            What::Delete if known.is_none() => return ListOutcome::NoSuchKey,
            What::Delete => (0, None),
        };
        let count = match what {
            What::Delete => 0,
            What::Put(_) | What::Append(_) => cost(&key, bytes, past.as_ref()),
        };
        if bytes > MAX_LIST_BYTES {
            return ListOutcome::TooLong;
        }
        if past.as_ref().is_some_and(|past| past.len() > MAX_PAST) {
            return ListOutcome::PastTooLong;
        }
        let total = self.bytes.saturating_sub(counted) + count;
        if total > MAX_TOTAL_BYTES && count > counted {
            return ListOutcome::Full;
        }
        let revision = self.revision + 1;
        (self.bytes, self.revision) = (total, revision);
        match past {
            Some(past) => drop(self.pasts.insert(key.clone(), past)),
            None => drop(self.pasts.remove(&key)),
        }
        match what {
            What::Put(items) => {
                let list = List {
                    items: items.into(),
                    revision,
                    bytes,
                };
                self.lists.insert(key, list);
            }
            What::Append(item) => {
                let none = || List {
                    items: Vector::new(),
                    revision,
                    bytes: 0,
                };
                let list = self.lists.entry(key).or_insert_with(none);
                list.items.push_back(item);
                (list.revision, list.bytes) = (revision, bytes);
            }
            What::Delete => drop(self.lists.remove(&key)),
        }
        ListOutcome::Done { revision }
    }

    /// The past of a key's list with that of one more writer.
    fn joined(&self, key: &Hashed, more: Option<ListPast>) -> Option<Context> {
        let known = self.pasts.get(key).cloned();
        let Some(more) = more else {
            return known;
        };
        let mut past = known.unwrap_or_default();
        // These writes were stable in the view of the writer's context, or before.
        past.retain(|log, seq| {
            !more
                .settled
                .iter()
                .any(|(known, upto)| *known == log && seq <= *upto)
        });
        past.join(&more.seen);
        Some(past)
    }
}

fn size(item: &Bytes) -> usize {
    item.len() + ITEM_BYTES
}

/// Bytes that a key with a list of `bytes` counts.
fn cost(key: &Hashed, bytes: usize, past: Option<&Context>) -> usize {
    KEY_BYTES + key.key().len() + bytes + past.map_or(0, |past| past.len() * ENTRY_BYTES)
}

/// Tells requests with the same idempotency key apart. What the writer had seen does not count: it
/// may have seen more when it asks again.
fn digest(change: &ListChange) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&change.key);
    match &change.what {
        What::Put(items) => {
            part(b"put");
            items.iter().for_each(|item| part(item));
        }
        What::Append(item) => {
            part(b"append");
            part(item);
        }
        What::Delete => part(b"delete"),
    }
    match &change.only {
        ListCondition::Always => part(b"always"),
        ListCondition::Absent => part(b"absent"),
        ListCondition::Present => part(b"present"),
        ListCondition::Revision(revisions) => {
            part(b"revision");
            revisions.iter().for_each(|r| part(&r.to_le_bytes()));
        }
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;

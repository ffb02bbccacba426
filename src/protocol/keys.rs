//! The linearizable store of lists, as a state machine: changes go in, in one order on all nodes, and every node comes to
//! the same state.
//!
//! Its maps share what did not change between two states, so that a clone costs nothing: readers look at a state while the
//! next one is made.

use bytes::Bytes;
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest list, in bytes of its items, with [`ITEM_BYTES`] for each.
pub const MAX_LIST_BYTES: usize = 8 << 20;
/// What an item counts beside its own bytes.
pub const ITEM_BYTES: usize = 32;
/// The longest idempotency key, in bytes.
pub const MAX_ONCE_BYTES: usize = 255;
/// So many answers to requests with an idempotency key are remembered; the oldest go first.
pub const REMEMBERED: usize = 100_000;

/// Something to be done to one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// UTF-8, from 1 byte to [`MAX_KEY_BYTES`].
    pub key: Bytes,
    pub what: What,
    pub only: Condition,
    /// Names the request: sent again, it is not done again.
    pub once: Option<Bytes>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The key has this list from now on. Items are UTF-8, here and below.
    Put(Vec<Bytes>),
    /// The list, which may not be there yet, gets an item at its end.
    Append(Bytes),
    Delete,
}

/// When a change is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    Always,
    /// There is no such key.
    Absent,
    /// There is such a key.
    Present,
    /// The key was last changed by one of these revisions.
    Revision(Vec<u64>),
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, by this revision. After a delete the key is gone.
    Done { revision: u64 },
    /// There was nothing to delete.
    NoSuchKey,
    /// The condition does not hold: the key was last changed by this revision, or is not there.
    ConditionFailed { revision: Option<u64> },
    /// The list would be too long.
    TooLong,
    /// Another request used the same idempotency key.
    OtherRequest,
}

/// A list and the revision that last changed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub items: Vector<Bytes>,
    pub revision: u64,
    bytes: usize,
}

/// The lists of all keys. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    lists: OrdMap<Bytes, List>,
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
    outcome: Outcome,
}

impl Keys {
    /// The list of a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&List> {
        self.lists.get(key)
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
    pub fn apply(&mut self, change: Change) -> Outcome {
        let Some(once) = change.once.clone() else {
            return self.make(change);
        };
        let digest = digest(&change);
        if let Some(answer) = self.answers.get(&once) {
            return match answer.digest == digest {
                true => answer.outcome.clone(),
                false => Outcome::OtherRequest,
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

    fn make(&mut self, change: Change) -> Outcome {
        let Change {
            key, what, only, ..
        } = change;
        let known = self.lists.get(&key).map(|list| list.revision);
        let holds = match only {
            Condition::Always => true,
            Condition::Absent => known.is_none(),
            Condition::Present => known.is_some(),
            Condition::Revision(revisions) => known.is_some_and(|r| revisions.contains(&r)),
        };
        if !holds {
            return Outcome::ConditionFailed { revision: known };
        }
        let revision = self.revision + 1;
        match what {
            What::Put(items) => {
                let bytes = items.iter().map(size).sum();
                if bytes > MAX_LIST_BYTES {
                    return Outcome::TooLong;
                }
                let list = List {
                    items: items.into(),
                    revision,
                    bytes,
                };
                self.lists.insert(key, list);
            }
            What::Append(item) => {
                let had = self.lists.get(&key).map_or(0, |list| list.bytes);
                let bytes = had + size(&item);
                if bytes > MAX_LIST_BYTES {
                    return Outcome::TooLong;
                }
                let none = || List {
                    items: Vector::new(),
                    revision,
                    bytes: 0,
                };
                let list = self.lists.entry(key).or_insert_with(none);
                list.items.push_back(item);
                (list.revision, list.bytes) = (revision, bytes);
            }
            What::Delete => {
                if self.lists.remove(&key).is_none() {
                    return Outcome::NoSuchKey;
                }
            }
        }
        self.revision = revision;
        Outcome::Done { revision }
    }
}

fn size(item: &Bytes) -> usize {
    item.len() + ITEM_BYTES
}

/// Tells requests with the same idempotency key apart.
fn digest(change: &Change) -> [u8; 16] {
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
        Condition::Always => part(b"always"),
        Condition::Absent => part(b"absent"),
        Condition::Present => part(b"present"),
        Condition::Revision(revisions) => {
            part(b"revision");
            revisions.iter().for_each(|r| part(&r.to_le_bytes()));
        }
    }
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn change(key: &str, what: What) -> Change {
        Change {
            key: Bytes::from(key.to_owned()),
            what,
            only: Condition::Always,
            once: None,
        }
    }

    fn put(key: &str, items: &[&str]) -> Change {
        let items = items.iter().map(|i| Bytes::from((*i).to_owned()));
        change(key, What::Put(items.collect()))
    }

    fn append(key: &str, item: &str) -> Change {
        change(key, What::Append(Bytes::from(item.to_owned())))
    }

    fn items(keys: &Keys, key: &str) -> Option<Vec<String>> {
        let text = |item: &Bytes| String::from_utf8(item.to_vec()).unwrap();
        let list = keys.get(key.as_bytes())?;
        Some(list.items.iter().map(text).collect())
    }

    #[test]
    fn lists_are_put_appended_to_and_deleted() {
        let mut keys = Keys::default();
        assert_eq!(
            keys.apply(put("pets", &["cat", "dog"])),
            Outcome::Done { revision: 1 }
        );
        keys.apply(append("pets", "mouse"));
        keys.apply(append("new", "first"));
        assert_eq!(items(&keys, "pets").unwrap(), ["cat", "dog", "mouse"]);
        assert_eq!(items(&keys, "new").unwrap(), ["first"]);
        assert_eq!(
            keys.apply(change("pets", What::Delete)),
            Outcome::Done { revision: 4 }
        );
        assert_eq!(keys.apply(change("pets", What::Delete)), Outcome::NoSuchKey);
        assert_eq!(items(&keys, "pets"), None);
        // A key that is written again does not get an old revision.
        keys.apply(put("pets", &[]));
        assert_eq!(keys.get(b"pets").unwrap().revision, 5);
    }

    #[test]
    fn conditions_compare_and_set() {
        let mut keys = Keys::default();
        let only = |only: Condition| Change {
            only,
            ..put("k", &["v"])
        };
        let failed = |revision| Outcome::ConditionFailed { revision };
        assert_eq!(keys.apply(only(Condition::Present)), failed(None));
        assert_eq!(keys.apply(only(Condition::Revision(vec![0]))), failed(None));
        assert_eq!(
            keys.apply(only(Condition::Absent)),
            Outcome::Done { revision: 1 }
        );
        assert_eq!(keys.apply(only(Condition::Absent)), failed(Some(1)));
        assert_eq!(
            keys.apply(only(Condition::Revision(vec![2, 1]))),
            Outcome::Done { revision: 2 }
        );
        assert_eq!(
            keys.apply(only(Condition::Revision(vec![1]))),
            failed(Some(2))
        );
        assert_eq!(
            keys.apply(only(Condition::Present)),
            Outcome::Done { revision: 3 }
        );
    }

    #[test]
    fn a_request_with_an_idempotency_key_counts_once() {
        let mut keys = Keys::default();
        let once = |name: &str, change: Change| Change {
            once: Some(Bytes::from(name.to_owned())),
            ..change
        };
        let first = keys.apply(once("a", append("k", "x")));
        keys.apply(append("k", "y"));
        assert_eq!(keys.apply(once("a", append("k", "x"))), first);
        assert_eq!(items(&keys, "k").unwrap(), ["x", "y"]);
        assert_eq!(
            keys.apply(once("a", append("k", "z"))),
            Outcome::OtherRequest
        );
        // What was refused stays refused.
        let absent = once(
            "b",
            Change {
                only: Condition::Absent,
                ..append("k", "x")
            },
        );
        let refused = keys.apply(absent.clone());
        keys.apply(change("k", What::Delete));
        assert_eq!(keys.apply(absent), refused);
    }

    #[test]
    fn the_memory_of_requests_and_the_length_of_lists_are_bounded() {
        let mut keys = Keys::default();
        for i in 0..=REMEMBERED {
            keys.apply(Change {
                once: Some(Bytes::from(i.to_string())),
                ..put("k", &["v"])
            });
        }
        assert_eq!(
            (keys.answers.len(), keys.order.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert!(!keys.answers.contains_key(&b"0"[..]));
        let long = Bytes::from(vec![b'x'; MAX_LIST_BYTES / 2]);
        keys.apply(change("l", What::Append(long.clone())));
        assert_eq!(
            keys.apply(change("l", What::Append(long.clone()))),
            Outcome::TooLong
        );
        assert_eq!(
            keys.apply(change("l", What::Put(vec![long.clone(), long]))),
            Outcome::TooLong
        );
        assert_eq!(keys.get(b"l").unwrap().items.len(), 1);
    }

    proptest! {
        /// Against plain lists; and a state survives its encoding.
        #[test]
        fn the_lists_are_those_of_a_plain_map(
            steps in proptest::collection::vec((0u8..3, 0u8..4, proptest::collection::vec(0u8..9, 0..4)), 0..60)
        ) {
            let (mut keys, mut plain) = (Keys::default(), BTreeMap::<String, Vec<String>>::new());
            for (kind, key, list) in steps {
                let (key, list): (String, Vec<String>) =
                    (key.to_string(), list.iter().map(u8::to_string).collect());
                let texts: Vec<&str> = list.iter().map(String::as_str).collect();
                match kind {
                    0 => {
                        keys.apply(put(&key, &texts));
                        plain.insert(key, list);
                    }
                    1 => {
                        keys.apply(append(&key, &list.concat()));
                        plain.entry(key).or_default().push(list.concat());
                    }
                    _ => {
                        keys.apply(change(&key, What::Delete));
                        plain.remove(&key);
                    }
                }
            }
            prop_assert_eq!(keys.len(), plain.len());
            for (key, list) in &plain {
                prop_assert_eq!(&items(&keys, key), &Some(list.clone()));
            }
            let encoded = postcard::to_stdvec(&keys).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Keys>(&encoded).unwrap(), keys);
        }
    }
}

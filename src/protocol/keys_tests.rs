//! Lists, conditions, requests that count once, what writers had seen, and bounds.

use super::*;
use crate::protocol::clock::Timestamp;
use crate::protocol::ids::MemberId;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn named(key: &str) -> Hashed {
    Hashed::new(Bytes::from(key.to_owned()))
}

fn change(key: &str, what: What) -> ListChange {
    ListChange {
        key: Bytes::from(key.to_owned()),
        what,
        only: ListCondition::Always,
        once: None,
        past: None,
    }
}

fn put(key: &str, items: &[&str]) -> ListChange {
    let items = items.iter().map(|i| Bytes::from((*i).to_owned()));
    change(key, What::Put(items.collect()))
}

fn append(key: &str, item: &str) -> ListChange {
    change(key, What::Append(Bytes::from(item.to_owned())))
}

fn items(keys: &Keys, key: &str) -> Option<Vec<String>> {
    let text = |item: &Bytes| String::from_utf8(item.to_vec()).unwrap();
    let list = keys.get(&named(key))?;
    Some(list.items.iter().map(text).collect())
}

#[test]
fn lists_are_put_appended_to_and_deleted() {
    let mut keys = Keys::default();
    assert_eq!(
        keys.apply(put("pets", &["cat", "dog"])),
        ListOutcome::Done { revision: 1 }
    );
    keys.apply(append("pets", "mouse"));
    keys.apply(append("new", "first"));
    assert_eq!(items(&keys, "pets").unwrap(), ["cat", "dog", "mouse"]);
    assert_eq!(items(&keys, "new").unwrap(), ["first"]);
    assert_eq!(
        keys.apply(change("pets", What::Delete)),
        ListOutcome::Done { revision: 4 }
    );
    assert_eq!(
        keys.apply(change("pets", What::Delete)),
        ListOutcome::NoSuchKey
    );
    assert_eq!(items(&keys, "pets"), None);
    // A key that is written again does not get an old revision.
    keys.apply(put("pets", &[]));
    assert_eq!(keys.get(&named("pets")).unwrap().revision, 5);
}

#[test]
fn conditions_compare_and_set() {
    let mut keys = Keys::default();
    let only = |only: ListCondition| ListChange {
        only,
        ..put("k", &["v"])
    };
    let failed = |revision| ListOutcome::ConditionFailed { revision };
    assert_eq!(keys.apply(only(ListCondition::Present)), failed(None));
    assert_eq!(
        keys.apply(only(ListCondition::Revision(vec![0]))),
        failed(None)
    );
    assert_eq!(
        keys.apply(only(ListCondition::Absent)),
        ListOutcome::Done { revision: 1 }
    );
    assert_eq!(keys.apply(only(ListCondition::Absent)), failed(Some(1)));
    assert_eq!(
        keys.apply(only(ListCondition::Revision(vec![2, 1]))),
        ListOutcome::Done { revision: 2 }
    );
    assert_eq!(
        keys.apply(only(ListCondition::Revision(vec![1]))),
        failed(Some(2))
    );
    assert_eq!(
        keys.apply(only(ListCondition::Present)),
        ListOutcome::Done { revision: 3 }
    );
}

#[test]
fn a_request_with_an_idempotency_key_counts_once() {
    let mut keys = Keys::default();
    let once = |name: &str, change: ListChange| ListChange {
        once: Some(Bytes::from(name.to_owned())),
        ..change
    };
    let first = keys.apply(once("a", append("k", "x")));
    keys.apply(append("k", "y"));
    assert_eq!(keys.apply(once("a", append("k", "x"))), first);
    assert_eq!(items(&keys, "k").unwrap(), ["x", "y"]);
    assert_eq!(
        keys.apply(once("a", append("k", "z"))),
        ListOutcome::OtherRequest
    );
    // A refused request stays refused.
    let absent = once(
        "b",
        ListChange {
            only: ListCondition::Absent,
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
        keys.apply(ListChange {
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
        ListOutcome::TooLong
    );
    assert_eq!(
        keys.apply(change("l", What::Put(vec![long.clone(), long]))),
        ListOutcome::TooLong
    );
    assert_eq!(keys.get(&named("l")).unwrap().items.len(), 1);
}

fn log(incarnation: u64) -> LogId {
    LogId {
        member: MemberId(1),
        incarnation,
    }
}

fn seen(change: ListChange, entries: &[(u64, u64)], settled: &[(u64, u64)]) -> ListChange {
    let mut seen = Context::default();
    seen.clock = Timestamp::from_ms(entries.len() as u64);
    for (incarnation, seq) in entries {
        seen.see(log(*incarnation), *seq);
    }
    let settled = settled.iter().map(|(i, seq)| (log(*i), *seq)).collect();
    let past = Some(ListPast { seen, settled });
    ListChange { past, ..change }
}

fn past(keys: &Keys, key: &str) -> Option<Vec<(u64, u64)>> {
    let past = keys.past(&named(key))?;
    Some(
        past.iter()
            .map(|(log, seq)| (log.incarnation, seq))
            .collect(),
    )
}

#[test]
fn a_list_keeps_what_its_writers_had_seen() {
    let mut keys = Keys::default();
    keys.apply(seen(put("k", &["a"]), &[(1, 5), (2, 1)], &[]));
    keys.apply(append("k", "b"));
    keys.apply(seen(append("k", "c"), &[(2, 3), (3, 1)], &[]));
    assert_eq!(past(&keys, "k").unwrap(), [(1, 5), (2, 3), (3, 1)]);
    // Writes that every replica has go, but not later ones.
    keys.apply(seen(append("k", "d"), &[], &[(1, 5), (2, 2)]));
    assert_eq!(past(&keys, "k").unwrap(), [(2, 3), (3, 1)]);
    assert_eq!(keys.past(&named("k")).unwrap().clock, Timestamp::from_ms(2));
    // A new list knows its own writer's past only, and one that is gone none.
    keys.apply(seen(put("k", &["a"]), &[(7, 7)], &[]));
    assert_eq!(past(&keys, "k").unwrap(), [(7, 7)]);
    keys.apply(put("k", &["a"]));
    assert_eq!(past(&keys, "k"), None);
    keys.apply(seen(append("k", "b"), &[(7, 7)], &[]));
    keys.apply(change("k", What::Delete));
    assert_eq!((past(&keys, "k"), keys.bytes()), (None, 0));
    // The same request, seen more since: it counts once all the same.
    let once = |change: ListChange| ListChange {
        once: Some(Bytes::from_static(b"once")),
        ..change
    };
    let first = keys.apply(once(append("k", "x")));
    assert_eq!(
        keys.apply(once(seen(append("k", "x"), &[(1, 1)], &[]))),
        first
    );
}

#[test]
fn the_past_and_all_lists_together_are_bounded() {
    let mut keys = Keys::default();
    let many: Vec<(u64, u64)> = (0..=MAX_PAST as u64).map(|log| (log, 1)).collect();
    keys.apply(seen(append("k", "x"), &many[1..], &[]));
    assert_eq!(past(&keys, "k").unwrap().len(), MAX_PAST);
    let one_more = seen(append("k", "x"), &many[..1], &[]);
    assert_eq!(keys.apply(one_more), ListOutcome::PastTooLong);
    assert_eq!(keys.get(&named("k")).unwrap().items.len(), 1);

    // The items share their bytes: the test takes little memory.
    let long = Bytes::from(vec![b'x'; MAX_LIST_BYTES - ITEM_BYTES]);
    let mut fitted = 0;
    let refused = loop {
        match keys.apply(change(&format!("l{fitted}"), What::Put(vec![long.clone()]))) {
            ListOutcome::Done { .. } => fitted += 1,
            refused => break refused,
        }
    };
    assert_eq!(
        (refused, fitted),
        (ListOutcome::Full, MAX_TOTAL_BYTES / MAX_LIST_BYTES - 1)
    );
    assert!(keys.bytes() <= MAX_TOTAL_BYTES);
    // A change that makes lists smaller is done, and then there is room.
    let revision = |outcome| matches!(outcome, ListOutcome::Done { .. });
    assert!(revision(keys.apply(put("l0", &["short"]))));
    assert!(revision(keys.apply(change("new", What::Put(vec![long])))));
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
        let sizes = plain.iter().map(|(key, list)| {
            let items: usize = list.iter().map(|item| item.len() + ITEM_BYTES).sum();
            KEY_BYTES + key.len() + items
        });
        prop_assert_eq!(keys.bytes(), sizes.sum::<usize>());
        for (key, list) in &plain {
            prop_assert_eq!(&items(&keys, key), &Some(list.clone()));
        }
        let encoded = postcard::to_stdvec(&keys).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Keys>(&encoded).unwrap(), keys);
    }
}

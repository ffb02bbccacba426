//! Promises that every store keeps, the one on disk and the one in memory.

use super::*;

/// The promises that a user of any store relies on.
fn conformance<S: Store + Commit>(make: impl Fn() -> S) {
    gets_what_was_committed(&make());
    later_operations_win(&make());
    scans_in_order_and_stops(&make());
    keeps_any_bytes(&make());
}

fn text(store: &impl Store, key: &str) -> Option<String> {
    let value = store.get(key.as_bytes()).unwrap();
    value.map(|v| String::from_utf8(v.to_vec()).unwrap())
}

fn gets_what_was_committed(store: &(impl Store + Commit)) {
    assert_eq!(text(store, "a"), None);
    store
        .commit(&[batch(&[("a", Some("1")), ("b", Some(""))])])
        .unwrap();
    assert_eq!(text(store, "a").as_deref(), Some("1"));
    assert_eq!(text(store, "b").as_deref(), Some(""));
    store.commit(&[batch(&[("a", None), ("x", None)])]).unwrap();
    assert_eq!(text(store, "a"), None);
    store.commit(&[]).unwrap();
    store.commit(&[Batch::default()]).unwrap();
    assert_eq!(everything(store).unwrap().len(), 1);
}

fn later_operations_win(store: &(impl Store + Commit)) {
    store
        .commit(&[
            batch(&[("a", Some("1")), ("a", Some("2")), ("b", Some("1"))]),
            batch(&[("b", None), ("c", None), ("c", Some("3"))]),
        ])
        .unwrap();
    let found = ["a", "b", "c"].map(|key| text(store, key));
    assert_eq!(found, [Some("2".into()), None, Some("3".into())]);
}

fn scans_in_order_and_stops(store: &(impl Store + Commit)) {
    store
        .commit(&[batch(&[
            ("c", Some("3")),
            ("a", Some("1")),
            ("d", Some("4")),
            ("b", Some("2")),
        ])])
        .unwrap();
    let keys = |from: &str, to: &str| -> String {
        let found = pairs(store, from.as_bytes(), to.as_bytes()).unwrap();
        found
            .iter()
            .map(|(k, _)| str::from_utf8(k).unwrap())
            .collect()
    };
    assert_eq!(keys("a", "c"), "ab");
    assert_eq!(keys("aa", "z"), "bcd");
    assert_eq!(keys("b", "b"), "");
    assert_eq!(keys("c", "a"), "");
    let mut seen = 0;
    store
        .scan(b"a", b"z", &mut |_, _| {
            seen += 1;
            seen < 2
        })
        .unwrap();
    assert_eq!(seen, 2);
}

fn keeps_any_bytes(store: &(impl Store + Commit)) {
    let keys = [vec![0], vec![0, 0], vec![0xff], vec![7; 65_535]];
    let value = Bytes::from(vec![0xab; 3 << 20]);
    let mut batch = Batch::default();
    for key in &keys {
        batch.put(key.clone(), value.clone());
    }
    store.commit(&[batch]).unwrap();
    for key in &keys {
        assert_eq!(store.get(key).unwrap().as_ref(), Some(&value));
    }
}

#[test]
fn memory() {
    conformance(Memory::default);
}

#[test]
fn disk() {
    let dir = directory();
    let next = std::cell::Cell::new(0);
    conformance(|| {
        next.set(next.get() + 1);
        Disk::open(&dir.path().join(next.get().to_string())).unwrap()
    });
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Batch>),
    Reopen,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = proptest::collection::vec(0..4_u8, 1..4);
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3000));
    let ops = proptest::collection::vec((key, value), 0..8);
    let batch = ops.prop_map(|ops| Batch {
        ops: ops
            .into_iter()
            .map(|(k, v)| (k.into(), v.map(Into::into)))
            .collect(),
    });
    prop_oneof![
        8 => proptest::collection::vec(batch, 0..5).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_disk_is_a_map_through_any_restarts(steps in proptest::collection::vec(step(), 1..16)) {
        let dir = directory();
        let mut disk = Disk::open(dir.path()).unwrap();
        let (memory, mut model) = (Memory::default(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Commit(batches) => {
                    disk.commit(&batches).unwrap();
                    memory.commit(&batches).unwrap();
                    for (key, value) in batches.into_iter().flat_map(|b| b.ops) {
                        match value {
                            Some(value) => model.insert(key, value),
                            None => model.remove(&key),
                        };
                    }
                }
                Step::Reopen => disk.reopen().unwrap(),
                Step::Restart => {
                    drop(disk);
                    disk = Disk::open(dir.path()).unwrap();
                }
            }
            let expected: Vec<Pair> = model.clone().into_iter().collect();
            prop_assert_eq!(&everything(&disk).unwrap(), &expected);
            prop_assert_eq!(&everything(&memory).unwrap(), &expected);
            for (key, value) in expected {
                prop_assert_eq!(disk.get(&key).unwrap(), Some(value));
            }
        }
    }
}

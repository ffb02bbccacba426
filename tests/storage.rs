//! What every store must do, and what the one on disk does when it is damaged, locked, or full.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway::protocol::store::{Batch, Pair, Store, StoreError};
use causeway::storage::{Commit, Disk, Memory, read_format, set_cluster};
use proptest::prelude::*;
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn batch(ops: &[(&str, Option<&str>)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in ops {
        let key = Bytes::copy_from_slice(key.as_bytes());
        match value {
            Some(value) => batch.put(key, Bytes::copy_from_slice(value.as_bytes())),
            None => batch.delete(key),
        }
    }
    batch
}

fn pairs(store: &impl Store, from: &[u8], to: &[u8]) -> Result<Vec<Pair>, StoreError> {
    let mut found = Vec::new();
    store.scan(from, to, &mut |key, value| {
        found.push((key, value));
        true
    })?;
    Ok(found)
}

fn everything(store: &impl Store) -> Result<Vec<Pair>, StoreError> {
    pairs(store, b"", &[0xff; 8])
}

mod conformance {
    use super::*;

    /// What a user of any store relies on.
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
}

mod opening {
    use super::*;

    #[test]
    fn a_second_holder_is_refused() {
        let dir = directory();
        let _disk = Disk::open(dir.path()).unwrap();
        let second = Disk::open(dir.path()).err();
        assert!(
            matches!(second, Some(StoreError::Locked { .. })),
            "{second:?}"
        );
    }

    #[test]
    fn an_unknown_format_is_refused_and_left_alone() {
        let dir = directory();
        drop(Disk::open(dir.path()).unwrap());
        let format = dir.path().join("FORMAT");
        let newer = std::fs::read_to_string(&format)
            .unwrap()
            .replace("format 2", "format 3");
        std::fs::write(&format, newer).unwrap();
        std::fs::remove_file(dir.path().join("LOCK")).unwrap();
        let before = contents(dir.path());
        let error = Disk::open(dir.path()).err().unwrap();
        assert!(matches!(error, StoreError::Format { .. }));
        let text = error.to_string();
        assert!(
            text.contains("format 3") && text.contains("reads 2"),
            "{text}"
        );
        assert_eq!(contents(dir.path()), before);
    }

    #[test]
    fn the_cluster_of_a_directory_is_written_down_and_found_again() {
        let dir = directory();
        // Nobody has opened it: there is nothing to say it of.
        set_cluster(dir.path(), [7; 16]).unwrap();
        assert_eq!(read_format(dir.path()), Ok(None));
        drop(Disk::open(dir.path()).unwrap());
        let new = read_format(dir.path()).unwrap().unwrap();
        assert_eq!(new.cluster, None);
        for id in [[7; 16], [8; 16]] {
            let disk = Disk::open(dir.path()).unwrap();
            set_cluster(dir.path(), id).unwrap();
            disk.commit(&[batch(&[("a", Some("1"))])]).unwrap();
            drop(disk);
            let disk = Disk::open(dir.path()).unwrap();
            assert_eq!(everything(&disk).unwrap().len(), 1);
            let found = read_format(dir.path()).unwrap().unwrap();
            assert_eq!((found.identity, found.cluster), (new.identity, Some(id)));
        }
        std::fs::write(dir.path().join("FORMAT"), "causeway data format 2\n").unwrap();
        let error = set_cluster(dir.path(), [9; 16]);
        assert!(
            matches!(error, Err(StoreError::Corrupt { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn data_without_a_format_is_refused() {
        let dir = directory();
        drop(Disk::open(dir.path()).unwrap());
        std::fs::remove_file(dir.path().join("FORMAT")).unwrap();
        let error = Disk::open(dir.path()).err();
        assert!(matches!(error, Some(StoreError::Corrupt { .. })));
    }

    #[test]
    fn an_interrupted_creation_is_begun_again() {
        let dir = directory();
        drop(Disk::open(dir.path()).unwrap());
        let new = dir.path().join("NEW");
        std::fs::write(&new, "").unwrap();
        std::fs::remove_file(dir.path().join("data/version")).unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        assert_eq!(everything(&disk), Ok(Vec::new()));
        assert!(!new.exists());
        disk.commit(&[batch(&[("a", Some("1"))])]).unwrap();
        drop(disk);
        let disk = Disk::open(dir.path()).unwrap();
        assert_eq!(everything(&disk).unwrap().len(), 1);
    }

    #[test]
    fn a_new_journal_does_not_grow_with_a_commit() {
        let dir = directory();
        let disk = Disk::open(dir.path()).unwrap();
        let length = || {
            let files = std::fs::read_dir(dir.path().join("data")).unwrap();
            let mut files = files.map(|f| f.unwrap().path());
            let journal = files.find(|f| f.extension().is_some_and(|e| e == "jnl"));
            journal.unwrap().metadata().unwrap().len()
        };
        let before = length();
        disk.commit(&[batch(&[("a", Some("1"))])]).unwrap();
        assert_eq!(length(), before);
    }

    #[test]
    fn odd_keys_are_refused_and_nothing_else_is_affected() {
        let dir = directory();
        let disk = Disk::open(dir.path()).unwrap();
        for key in [vec![], vec![0; 65_536], b"\xff\xffcommit".to_vec()] {
            let mut batch = Batch::default();
            batch.put(key, "value");
            assert!(matches!(disk.commit(&[batch]), Err(StoreError::Io { .. })));
        }
        disk.commit(&[batch(&[("a", Some("1"))])]).unwrap();
    }

    #[test]
    fn space_is_measured() {
        let dir = directory();
        let disk = Disk::open(dir.path()).unwrap();
        let before = disk.size_bytes().unwrap();
        let mut batch = Batch::default();
        batch.put("a", vec![1; 1 << 20]);
        disk.commit(&[batch]).unwrap();
        let grown = disk.size_bytes().unwrap() - before;
        assert!((1 << 20..2 << 20).contains(&grown), "{grown}");
        assert!(disk.free_bytes().unwrap() > 0);
        assert_eq!(disk.is_nearly_full(0), Ok(false));
        assert_eq!(disk.is_nearly_full(u64::MAX), Ok(true));
    }
}

/// Path below `dir` and content of every file.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

mod damage {
    use super::*;

    /// The files of a store that was closed, to be written out with changes.
    struct Template {
        files: BTreeMap<PathBuf, Vec<u8>>,
        expected: Vec<Pair>,
    }

    impl Template {
        /// Closes the store and takes its files, without the zeros at the end of the journal.
        fn of(dir: &TempDir, disk: Disk) -> Self {
            let expected = everything(&disk).unwrap();
            drop(disk);
            let files = contents(dir.path())
                .into_iter()
                .map(|(path, mut bytes)| {
                    if path.extension().is_some_and(|e| e == "jnl") {
                        bytes.truncate(bytes.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1));
                    }
                    (path.strip_prefix(dir.path()).unwrap().to_owned(), bytes)
                })
                .collect();
            Self { files, expected }
        }

        fn only(&self, suffix: &str) -> (&Path, &[u8]) {
            let mut found = self
                .files
                .iter()
                .filter(|(path, _)| path.to_string_lossy().ends_with(suffix));
            let (path, bytes) = found.next().unwrap();
            assert!(found.next().is_none(), "one file {suffix}");
            (path, bytes)
        }

        /// Everything in the store whose file `path` holds `bytes` instead.
        fn read_with(&self, path: &Path, bytes: &[u8]) -> Result<Vec<Pair>, StoreError> {
            let dir = directory();
            for (at, original) in &self.files {
                let to = dir.path().join(at);
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::write(to, if at == path { bytes } else { original }).unwrap();
            }
            let disk = Disk::open(dir.path())?;
            let found = everything(&disk)?;
            for (key, value) in &found {
                assert_eq!(disk.get(key)?.as_ref(), Some(value));
            }
            disk.commit(&[batch(&[("after", Some("repair"))])])?;
            drop(disk);
            let mut after = found.clone();
            after.push(("after".into(), "repair".into()));
            after.sort();
            assert_eq!(everything(&Disk::open(dir.path())?)?, after);
            Ok(found)
        }
    }

    const COMMITS: usize = 12;

    /// One key a commit, all in the journal; and the byte at which each commit ends in it.
    fn journal() -> (Template, Vec<usize>) {
        let dir = directory();
        let disk = Disk::open(dir.path()).unwrap();
        let mut ends = Vec::new();
        for n in 0..COMMITS {
            let value = "v".repeat(n * 7 + 1);
            disk.commit(&[batch(&[(&format!("key{n:02}"), Some(&value))])])
                .unwrap();
            let bytes = std::fs::read(dir.path().join("data/0.jnl")).unwrap();
            ends.push(bytes.iter().rposition(|&b| b != 0).unwrap() + 1);
        }
        (Template::of(&dir, disk), ends)
    }

    #[test]
    fn a_torn_journal_loses_nothing_before_the_tear() {
        let (template, ends) = journal();
        let (path, bytes) = template.only(".jnl");
        let garbage: Vec<u8> = (0..50_u32).map(|n| (n * 37 % 251) as u8 + 1).collect();
        for cut in (0..bytes.len()).step_by(29).chain(ends.iter().copied()) {
            let kept = ends.iter().filter(|&&end| end <= cut).count();
            let expected = &template.expected[..kept];
            for tail in [&[][..], &[0; 1000], &garbage, &[1; 40], &[3; 40]] {
                let torn = [&bytes[..cut], tail].concat();
                let found = template.read_with(path, &torn);
                assert_eq!(found.as_deref(), Ok(expected), "cut at {cut}, {tail:?}");
            }
        }
    }

    #[test]
    fn a_tear_that_keeps_the_end_of_the_commit_is_repaired() {
        // Pages may reach the disk in any order.
        let (template, ends) = journal();
        let (path, bytes) = template.only(".jnl");
        let mut torn = bytes.to_vec();
        let last = ends[COMMITS - 2];
        torn[last..last + 60].fill(0);
        let found = template.read_with(path, &torn);
        assert_eq!(found.as_deref(), Ok(&template.expected[..COMMITS - 1]));
    }

    #[test]
    fn damage_in_the_middle_of_the_journal_is_refused() {
        let (template, ends) = journal();
        let (path, bytes) = template.only(".jnl");
        let middle = ends[COMMITS - 2];
        for at in (0..middle).step_by(7) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << (at % 8);
            let found = template.read_with(path, &damaged);
            assert!(
                matches!(found, Err(StoreError::Corrupt { .. })),
                "byte {at}: {found:?}"
            );
        }
        // Cut out, filled with zeros, or moved to the end: a commit is missing from the middle.
        let (from, to) = (ends[3], ends[4]);
        let removed = [&bytes[..from], &bytes[to..]].concat();
        let mut zeros = bytes.to_vec();
        zeros[from..to].fill(0);
        let moved = [&removed[..], &bytes[from..to]].concat();
        for damaged in [removed, zeros, moved] {
            let found = template.read_with(path, &damaged);
            assert!(
                matches!(found, Err(StoreError::Corrupt { .. })),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_tear_is_known_across_files() {
        let (mut template, ends) = journal();
        let path = PathBuf::from("data/0.jnl");
        let bytes = template.files[&path].clone();
        let (first, second) = (ends[COMMITS - 3], ends[COMMITS - 2]);
        let next = PathBuf::from("data/1.jnl");
        // A failed commit, after which the engine still began a new file.
        template.files.insert(next.clone(), vec![0; 1000]);
        let torn = &bytes[..second - 1];
        let found = template.read_with(&path, torn);
        assert_eq!(found.as_deref(), Ok(&template.expected[..COMMITS - 2]));
        // The new file has commits: the tear is damage. So is a commit missing between the files.
        template.files.insert(next, bytes[second..].to_vec());
        for damaged in [torn, &bytes[..first]] {
            let found = template.read_with(&path, damaged);
            assert!(
                matches!(found, Err(StoreError::Corrupt { .. })),
                "{found:?}"
            );
        }
        let found = template.read_with(&path, &bytes[..second]);
        assert_eq!(found.as_ref(), Ok(&template.expected));
        // No journal at all.
        template
            .files
            .retain(|path, _| path.extension().is_none_or(|e| e != "jnl"));
        let found = template.read_with(Path::new(""), &[]);
        assert!(
            matches!(found, Err(StoreError::Corrupt { .. })),
            "{found:?}"
        );
    }

    #[test]
    fn damage_in_the_last_commit_drops_that_commit_at_most() {
        let (template, ends) = journal();
        let (path, bytes) = template.only(".jnl");
        for at in (ends[COMMITS - 2]..bytes.len()).step_by(7) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x10;
            match template.read_with(path, &damaged) {
                Err(StoreError::Corrupt { .. }) => {}
                found => assert_eq!(
                    found.as_deref(),
                    Ok(&template.expected[..COMMITS - 1]),
                    "byte {at}"
                ),
            }
        }
    }

    #[test]
    fn a_value_that_imitates_the_journal_changes_nothing() {
        let (template, _) = journal();
        let (path, bytes) = template.only(".jnl");
        // What a client could know: a whole journal, of another directory.
        let dir = directory();
        let disk = Disk::open(dir.path()).unwrap();
        disk.commit(&[batch(&[("a", Some("1"))])]).unwrap();
        let mut trap = Batch::default();
        trap.put("trap", Bytes::copy_from_slice(bytes));
        disk.commit(&[trap]).unwrap();
        let trapped = Template::of(&dir, disk);
        let (trapped_path, trapped_bytes) = trapped.only(".jnl");
        let torn = &trapped_bytes[..trapped_bytes.len() - 5];
        let found = trapped.read_with(trapped_path, torn);
        assert_eq!(found.as_deref(), Ok(&[("a".into(), "1".into())][..]));
        // And the other way round: a journal that belongs elsewhere is refused or dropped, not
        // read.
        let foreign = template.read_with(path, trapped_bytes);
        assert_ne!(foreign.as_deref(), Ok(&trapped.expected[..]));
    }

    /// A store whose data is all in tables.
    fn tables() -> Template {
        let dir = directory();
        let disk = Disk::open(dir.path()).unwrap();
        let mut small = Batch::default();
        for n in 0..2000 {
            small.put(format!("key{n:05}"), format!("value {n}"));
        }
        disk.commit(&[small]).unwrap();
        // Overwriting one key fills the memory, and hardly the table that is made of it.
        for n in 0..17 {
            let mut large = Batch::default();
            large.put("large", vec![n; 1 << 20]);
            disk.commit(&[large]).unwrap();
        }
        let began = Instant::now();
        let trees = dir.path().join("data/keyspaces/1/tables");
        while std::fs::read_dir(&trees).unwrap().next().is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "a flush");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(200));
        let mut template = Template::of(&dir, disk);
        for (path, bytes) in &mut template.files {
            if path.extension().is_some_and(|e| e == "jnl") {
                bytes.clear();
            }
        }
        template
    }

    #[test]
    fn damage_in_a_table_or_manifest_is_never_silent() {
        let mut template = tables();
        let (journal, _) = template.only(".jnl");
        let intact = template.read_with(journal, &[]).unwrap();
        // Which of the large values is in a table already depends on when the engine made it.
        let small = |pairs: &[(Bytes, Bytes)]| -> Vec<_> {
            let small = pairs.iter().filter(|(key, _)| key != "large");
            small.cloned().collect()
        };
        assert_eq!(small(&intact), small(&template.expected));
        assert_eq!(small(&intact).len(), 2000);
        template.expected = intact;
        let mut refused = 0;
        for (path, bytes) in &template.files {
            let name = path.to_string_lossy();
            if name.ends_with("LOCK") || name.ends_with("lock") {
                continue;
            }
            // All of a small file, some of a large one, and its end, which holds its structure.
            let step = (bytes.len() / 40).max(1);
            let tail = bytes.len().saturating_sub(600);
            for at in (0..bytes.len())
                .step_by(step)
                .chain((tail..bytes.len()).step_by(17))
            {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << (at % 8);
                match template.read_with(path, &damaged) {
                    Ok(found) => assert_eq!(found, template.expected, "{name}, byte {at}"),
                    Err(StoreError::Corrupt { .. } | StoreError::Format { .. }) => refused += 1,
                    Err(error) => panic!("{name}, byte {at}: {error}"),
                }
            }
            let found = template.read_with(path, &bytes[..bytes.len() / 2]);
            assert!(
                found.is_err() || found.as_ref() == Ok(&template.expected),
                "{name} cut"
            );
        }
        assert!(refused > 100, "{refused}");
    }
}

mod full {
    use super::*;

    const CHILD: &str = "CAUSEWAY_TEST_FULL_DIRECTORY";

    fn put(n: u32) -> Batch {
        let mut batch = Batch::default();
        batch.put(n.to_be_bytes().to_vec(), vec![n as u8; 1 << 20]);
        batch
    }

    fn holds(disk: &Disk, commits: u32) {
        for n in 0..commits {
            let value = disk.get(&n.to_be_bytes()).unwrap();
            assert_eq!(value.map(|v| v.len()), Some(1 << 20), "{n} of {commits}");
        }
    }

    /// Runs in a process whose files may not grow beyond 64 MiB: to the store the same as a full
    /// device, and it needs no rights to set up.
    #[test]
    fn until_full() {
        let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else {
            return;
        };
        let disk = Disk::open(&dir.join("store")).unwrap();
        let mut acknowledged = 0;
        let error = loop {
            // Steps large enough to pass by the size where a journal is sealed.
            let batches: Vec<Batch> = (acknowledged..acknowledged + 8).map(put).collect();
            match disk.commit(&batches) {
                Ok(()) => acknowledged += 8,
                Err(error) => break error,
            }
            assert!(acknowledged < 1000, "the limit has no effect");
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        let again = disk.commit(&[put(0)]);
        assert!(matches!(again, Err(StoreError::Full { .. })), "{again:?}");
        holds(&disk, acknowledged);
        disk.reopen().unwrap();
        holds(&disk, acknowledged);
        std::fs::write(dir.join("acknowledged"), acknowledged.to_string()).unwrap();
    }

    #[test]
    fn a_full_device_loses_nothing_that_was_acknowledged() {
        let dir = directory();
        let status = Command::new("sh")
            // Blocks of 512 bytes. Without the trap the limit kills the process.
            .args(["-c", "trap '' XFSZ; ulimit -f 131072; exec \"$0\" \"$@\""])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "full::until_full"])
            .env(CHILD, dir.path())
            .status()
            .unwrap();
        assert!(status.success());
        let acknowledged = std::fs::read_to_string(dir.path().join("acknowledged")).unwrap();
        let acknowledged = acknowledged.parse().unwrap();
        assert!(acknowledged > 0);
        let disk = Disk::open(&dir.path().join("store")).unwrap();
        holds(&disk, acknowledged);
        disk.commit(&[put(acknowledged)]).unwrap();
        holds(&disk, acknowledged + 1);
    }
}

mod killed {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;

    const CHILD: &str = "CAUSEWAY_TEST_KILLED_DIRECTORY";

    /// Batch `n`: a key of its own, and one that all of them overwrite.
    fn put(n: u64) -> Batch {
        let mut batch = Batch::default();
        batch.put("last", n.to_be_bytes().to_vec());
        batch.put(n.to_be_bytes().to_vec(), vec![n as u8; 300_000]);
        batch
    }

    /// Commits until it is killed, and says what is durable.
    #[test]
    fn until_killed() {
        let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else {
            return;
        };
        let disk = Disk::open(&dir).unwrap();
        let last = disk.get(b"last").unwrap().map_or(0, last);
        for n in (last + 1..).step_by(3) {
            disk.commit(&[put(n), put(n + 1), put(n + 2)]).unwrap();
            println!("\nacknowledged {}", n + 2);
        }
    }

    fn last(value: Bytes) -> u64 {
        u64::from_be_bytes(value[..].try_into().unwrap())
    }

    #[test]
    fn a_killed_process_loses_nothing_that_was_acknowledged() {
        let dir = directory();
        let mut acknowledged = 0;
        for round in 0..6 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "killed::until_killed", "--nocapture"])
                .env(CHILD, dir.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let mut told = lines.map_while(Result::ok).filter_map(|line| {
                let n = line.strip_prefix("acknowledged ")?;
                n.parse::<u64>().ok()
            });
            // Different moments, and together enough to seal journals and write tables.
            for n in told.by_ref().take(10 + 13 * round) {
                acknowledged = n;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            acknowledged = told.last().unwrap_or(acknowledged);

            let disk = Disk::open(dir.path()).unwrap();
            let stored = last(disk.get(b"last").unwrap().unwrap());
            assert!(stored >= acknowledged, "{stored}, {acknowledged}");
            assert_eq!(stored % 3, 0, "a commit is stored whole");
            assert_eq!(everything(&disk).unwrap().len() as u64, stored + 1);
        }
    }
}

//! Damaged files: repaired where nothing acknowledged is lost, refused otherwise.

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
    // A value that a client could make: a whole journal, of another directory.
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
    // The moment at which the engine made a table decides which of the large values is in it.
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

#[test]
fn a_store_that_failed_is_not_believed_by_a_later_start() {
    let dir = directory();
    let disk = Disk::open(dir.path()).unwrap();
    disk.commit(&[batch(&[("a", Some("1"))])]).unwrap();
    // The engine cannot write its tables any more.
    std::fs::remove_dir_all(dir.path().join("data/keyspaces/1/tables")).unwrap();
    let error = (0..64_u8).find_map(|n| {
        let mut batch = Batch::default();
        batch.put(vec![n], vec![n; 4 << 20]);
        disk.commit(&[batch]).err()
    });
    assert!(matches!(error, Some(StoreError::Io { .. })), "{error:?}");
    drop(disk);
    for _ in 0..2 {
        let refused = Disk::open(dir.path()).err().unwrap().to_string();
        assert!(refused.contains("SUSPECT"), "{refused}");
        assert!(refused.contains("a commit failed"), "{refused}");
    }
    drop(Disk::open_suspect(dir.path()).unwrap());
    let aside = put_aside(dir.path()).unwrap();
    assert!(aside.join("data").is_dir() && aside.join("SUSPECT").is_file());
    let disk = Disk::open(dir.path()).unwrap();
    assert_eq!(disk.get(b"a"), Ok(None));
}

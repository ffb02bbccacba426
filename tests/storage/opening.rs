//! Data directories: created, locked, and refused when their format is another one.

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
    assert_eq!(disk.room(Reserve::of(0)), Ok(DiskRoom::Ample));
    let room = disk.room(Reserve::of(u64::MAX));
    assert!(matches!(room, Ok(DiskRoom::None(_))), "{room:?}");
}

#[test]
fn what_was_deleted_leaves_a_disk_with_little_room() {
    const VALUE: usize = 1 << 20;
    let dir = directory();
    let disk = Disk::open(dir.path()).unwrap();
    let commit = |value: Option<Vec<u8>>| {
        for n in 0..24_u8 {
            let mut batch = Batch::default();
            match &value {
                // Something that no compression makes smaller.
                Some(value) => batch.put(vec![n], value.clone()),
                None => batch.delete(vec![n]),
            }
            disk.commit(&[batch]).unwrap();
        }
    };
    let mut seed = 1_u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    };
    commit(Some((0..VALUE).map(|_| noise()).collect()));
    let little = Reserve::of(u64::MAX);
    // Nothing that was deleted is known of, and there may be something.
    assert_eq!(disk.make_room(little), Ok(true));
    assert_eq!(disk.make_room(little), Ok(false));
    let full = disk.size_bytes().unwrap();
    commit(None);
    assert_eq!(disk.make_room(little), Ok(true));
    // The journal has them all once more.
    let freed = full - disk.size_bytes().unwrap();
    assert!(freed > 23 * VALUE as u64, "{freed} of {full}");
    // With enough room nothing is done.
    commit(Some(vec![1]));
    commit(None);
    assert_eq!(disk.make_room(Reserve::of(0)), Ok(false));
}

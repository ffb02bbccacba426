//! A disk without room.

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

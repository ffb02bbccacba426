//! A process that is killed while it stores.

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

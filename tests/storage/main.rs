//! Stores: the promises of every store, and the one on disk when it is damaged, locked, or full.

mod conformance;
mod damage;
mod full;
mod killed;
mod opening;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use causeway::protocol::room::DiskRoom;
use causeway::protocol::store::{Batch, Pair, Store, StoreError};
use causeway::storage::{Commit, Disk, Memory, Reserve, put_aside, read_format, set_cluster};
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

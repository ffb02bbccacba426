//! A check of the engine's manifests, which it reads without comparing their checksums.
//!
//! Each tree (`keyspaces/N`) has a file `current`: the number of its manifest (8 bytes), the
//! xxh3-128 of the manifest file (16 bytes) and a zero for the kind of checksum; integers are
//! little-endian. The engine *deletes* a tree without a `current` file as unfinished; by the time
//! we check, all are finished, so a missing one is damage as well.

use std::path::{Path, PathBuf};

use super::engine_error::from_io;
use crate::protocol::store::StoreError;

/// Checks the manifests of all trees of the engine's directory.
///
/// # Errors
/// `Corrupt` when one fails its check or is missing.
pub fn check(engine_dir: &Path) -> Result<(), StoreError> {
    let trees = engine_dir.join("keyspaces");
    let entries: Vec<PathBuf> = list(&trees)?.into_iter().filter(|p| p.is_dir()).collect();
    // One entry is for the engine's own bookkeeping, one for the data.
    if entries.len() < 2 {
        return Err(corrupt(&trees, "a tree is missing".to_owned()));
    }
    entries.iter().try_for_each(|tree| check_tree(tree))
}

fn check_tree(tree: &Path) -> Result<(), StoreError> {
    let current = tree.join("current");
    let bytes = read(&current)?;
    let Some((number, sum)) = parse(&bytes) else {
        return Err(corrupt(&current, format!("it reads {bytes:02x?}")));
    };
    let manifest = tree.join(format!("v{number}"));
    let found = xxhash_rust::xxh3::xxh3_128(&read(&manifest)?);
    if found == sum {
        Ok(())
    } else {
        Err(corrupt(
            &manifest,
            format!(
                "its checksum is {found:x}, and {sum:x} stands in {}",
                current.display()
            ),
        ))
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, u128)> {
    let (number, rest) = bytes.split_first_chunk()?;
    let (sum, kind) = rest.split_first_chunk()?;
    (kind == [0]).then(|| (u64::from_le_bytes(*number), u128::from_le_bytes(*sum)))
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
        .map_err(|e| missing_or(dir, &e))
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path).map_err(|e| missing_or(path, &e))
}

fn missing_or(path: &Path, error: &std::io::Error) -> StoreError {
    if error.kind() == std::io::ErrorKind::NotFound {
        corrupt(path, "it is missing".to_owned())
    } else {
        from_io(&format!("reading {}", path.display()), error)
    }
}

fn corrupt(path: &Path, detail: String) -> StoreError {
    StoreError::Corrupt {
        what: path.display().to_string(),
        detail,
    }
}

//! The `FORMAT` file: which version of the data format a directory holds, its identity, and its
//! cluster.
//!
//! The file is checked before anything else is read, so that a program that meets newer data
//! refuses it and changes nothing. The identity is random and secret: it marks our own records in
//! the journal, and no client can forge it inside a value. The cluster is that of the node whose
//! data this is, once that is born: a node refuses a directory of another cluster before it opens
//! it.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::engine_error::from_io;
use crate::protocol::store::StoreError;

/// The version of the data format that this program reads and writes.
const KNOWN: u32 = 2;
const PREFIX: &str = "causeway data format ";
const FILE: &str = "FORMAT";

/// The text of the cluster's line while there is no cluster.
const UNBORN: &str = "none";

/// Random bytes that name one data directory for ever.
pub type DirectoryId = [u8; 16];

/// The content of a `FORMAT` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The random identity of the directory.
    pub identity: DirectoryId,
    /// The id of the cluster that the data belongs to; `None` before that is born.
    pub cluster: Option<[u8; 16]>,
}

/// Reads the directory's `FORMAT` file. `None` when there is no such file.
///
/// # Errors
/// `Format` when the version is not the known one, `Corrupt` when the file is not what was written.
pub fn read(dir: &Path) -> Result<Option<Format>, StoreError> {
    let path = dir.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(from_io(&format!("reading {}", path.display()), &e)),
    };
    let mut lines = text.lines();
    let version = lines.next().and_then(|line| line.strip_prefix(PREFIX));
    match version.map(str::parse::<u32>) {
        Some(Ok(KNOWN)) => {}
        Some(Ok(found)) => {
            return Err(StoreError::Format {
                what: dir.display().to_string(),
                found: found.to_string(),
                known: KNOWN.to_string(),
            });
        }
        _ => return Err(damaged(&path, "its first line names no version")),
    }
    let identity = lines
        .next()
        .and_then(|line| hex(line.strip_prefix("identity ")?))
        .ok_or_else(|| damaged(&path, "its second line names no identity"))?;
    let cluster = lines
        .next()
        .and_then(|line| line.strip_prefix("cluster "))
        .and_then(|id| match id {
            UNBORN => Some(None),
            id => hex(id).map(Some),
        })
        .ok_or_else(|| damaged(&path, "its third line names no cluster"))?;
    let format = Format { identity, cluster };
    // Comparing the whole text also finds a damaged end.
    if text != text_of(format) {
        return Err(damaged(&path, "it does not end where it should"));
    }
    Ok(Some(format))
}

/// Writes the `FORMAT` file of a new directory, durably and in one step.
///
/// # Errors
/// When the device fails.
pub fn create(dir: &Path) -> Result<Format, StoreError> {
    let format = Format {
        identity: rand::random(),
        cluster: None,
    };
    replace(dir, format)?;
    Ok(format)
}

/// Writes down which cluster the data of a directory belongs to, durably and in one step. A
/// directory without a `FORMAT` file, which nobody has opened yet, stays as it is.
///
/// # Errors
/// As [`read`], and when the device fails.
pub fn set_cluster(dir: &Path, cluster: [u8; 16]) -> Result<(), StoreError> {
    match read(dir)? {
        Some(format) if format.cluster != Some(cluster) => replace(
            dir,
            Format {
                cluster: Some(cluster),
                ..format
            },
        ),
        _ => Ok(()),
    }
}

fn replace(dir: &Path, format: Format) -> Result<(), StoreError> {
    let write = || -> std::io::Result<()> {
        let temporary = dir.join("FORMAT.new");
        let mut file = File::create(&temporary)?;
        file.write_all(text_of(format).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| from_io(&format!("writing {FILE} in {}", dir.display()), &e))
}

fn text_of(format: Format) -> String {
    let identity = u128::from_be_bytes(format.identity);
    let cluster = match format.cluster {
        Some(id) => format!("{:032x}", u128::from_be_bytes(id)),
        None => UNBORN.to_owned(),
    };
    format!("{PREFIX}{KNOWN}\nidentity {identity:032x}\ncluster {cluster}\n")
}

fn hex(text: &str) -> Option<[u8; 16]> {
    Some(u128::from_str_radix(text, 16).ok()?.to_be_bytes())
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Corrupt {
        what: path.display().to_string(),
        detail: detail.to_owned(),
    }
}

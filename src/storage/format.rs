//! The `FORMAT` file: which version of the data format a directory holds, and its identity.
//!
//! It is checked before anything else is read, so that a program that meets newer data refuses it and
//! changes nothing. The identity is random and secret: it marks our own records in the journal, and no
//! client can forge it inside a value.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::engine_error::from_io;
use crate::protocol::store::StoreError;

/// The version of the data format that this program reads and writes.
const KNOWN: u32 = 1;
const PREFIX: &str = "causeway data format ";
const FILE: &str = "FORMAT";

/// Random bytes that name one data directory for ever.
pub type Identity = [u8; 16];

/// The identity of the directory, or `None` when it holds no `FORMAT` file.
///
/// # Errors
/// `Format` when the version is not the known one, `Corrupt` when the file is not what was written.
pub fn read(dir: &Path) -> Result<Option<Identity>, StoreError> {
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
        .and_then(|line| line.strip_prefix("identity "))
        .and_then(|hex| u128::from_str_radix(hex, 16).ok())
        .ok_or_else(|| damaged(&path, "its second line names no identity"))?
        .to_be_bytes();
    // Comparing the whole text also finds a damaged end.
    if text != text_of(identity) {
        return Err(damaged(&path, "it does not end where it should"));
    }
    Ok(Some(identity))
}

/// Writes the `FORMAT` file of a new directory, durably and in one step.
///
/// # Errors
/// When the device fails.
pub fn create(dir: &Path) -> Result<Identity, StoreError> {
    let identity: Identity = rand::random();
    let write = || -> std::io::Result<()> {
        let temporary = dir.join("FORMAT.new");
        let mut file = File::create(&temporary)?;
        file.write_all(text_of(identity).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| from_io(&format!("creating {FILE} in {}", dir.display()), &e))?;
    Ok(identity)
}

fn text_of(identity: Identity) -> String {
    let identity = u128::from_be_bytes(identity);
    format!("{PREFIX}{KNOWN}\nidentity {identity:032x}\n")
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Corrupt {
        what: path.display().to_string(),
        detail: detail.to_owned(),
    }
}

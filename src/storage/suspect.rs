//! Stores that may lack what they show.
//!
//! After a failed sync the operating system may drop what it could not write and go on showing it,
//! and the next sync of the same file succeeds (Rebello et al., "Can Applications Recover from
//! fsync Failures?", 2020). So a store whose commit failed is not gone on with, in this process or
//! in a later one: the file `SUSPECT` in its directory says so, as far as that can still be stored.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::engine_error::from_io;
use crate::protocol::store::StoreError;

const FILE: &str = "SUSPECT";

/// Writes down why what the store in `dir` shows may not be on the disk.
pub fn mark(dir: &Path, error: &StoreError) {
    let path = dir.join(FILE);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&path)?;
        file.write_all(error.to_string().as_bytes())?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    match write() {
        Ok(()) => log::error!("{error}: {} says so to the next start", path.display()),
        Err(failed) => log::error!(
            "{error}: {} cannot be written either ({failed})",
            path.display()
        ),
    }
}

/// Why what the store in `dir` shows may not be on the disk, if that is so.
///
/// # Errors
/// When the disk cannot say.
pub fn suspicion(dir: &Path) -> Result<Option<String>, StoreError> {
    let path = dir.join(FILE);
    match fs::read(&path) {
        Ok(why) => Ok(Some(String::from_utf8_lossy(&why).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(from_io(&format!("reading {}", path.display()), &error)),
    }
}

/// Refuses a store that may lack what it shows.
///
/// # Errors
/// `Corrupt`, with the way out.
pub fn check(dir: &Path) -> Result<(), StoreError> {
    match suspicion(dir)? {
        None => Ok(()),
        Some(why) => Err(StoreError::Corrupt {
            what: dir.display().to_string(),
            detail: format!(
                "storing failed once ({why}), so what it shows may not be on the disk; a node fills it again from \
                 another one that serves; where there is none, see that the disk works, copy {} to a sound one, \
                 and remove {} there to go on with what it shows",
                dir.display(),
                FILE
            ),
        }),
    }
}

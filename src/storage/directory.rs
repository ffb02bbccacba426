//! A data directory as files: its lock, and what it takes of the disk.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::engine_error::from_io;
use crate::protocol::store::StoreError;

/// A directory that is locked.
pub struct Lock(File);

impl Drop for Lock {
    /// Closing the file alone would leave it locked while a process that was just forked has it
    /// open too.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            log::warn!("unlocking the data directory: {error}");
        }
    }
}

/// Locks a data directory, until the result is dropped.
///
/// # Errors
/// `Locked` when another process has it, `Io` when the lock file cannot be used.
pub fn lock(dir: &Path) -> Result<Lock, StoreError> {
    let path = dir.join("LOCK");
    let what = format!("locking {}", path.display());
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| from_io(&what, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            what: dir.display().to_string(),
            detail: "its LOCK file is held".to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(from_io(&what, &e)),
    }
}

/// Bytes that the files below a directory take on the disk.
///
/// # Errors
/// When the directory cannot be read.
pub fn used_bytes(dir: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // Files come and go while the engine works.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        sum += if metadata.is_dir() {
            used_bytes(&entry.path())?
        } else {
            // Blocks of 512 bytes that are really taken: the engine's journal has a hole at its
            // end.
            metadata.blocks() * 512
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_let_go_while_somebody_still_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        // As a process has that was forked a moment ago.
        let inherited = held.0.try_clone().unwrap();
        drop(held);
        assert!(lock(dir.path()).is_ok());
        drop(inherited);
    }
}

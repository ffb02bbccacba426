//! A store that is put aside: another one begins in its directory, and what it had stays beside.
//!
//! It is moved to `damaged`, in the place of what was put aside before. A crash in between leaves
//! data without a format, which is damage: whoever opens the store next finds that, and goes on.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::directory::lock;
use super::engine_error::from_io;
use crate::protocol::store::StoreError;

/// The name of what was put aside, in the directory of its store.
const ASIDE: &str = "damaged";
/// The same while it is being put aside.
const UNFINISHED: &str = "damaged.new";
/// The parts of a store, in the order in which they go.
const PARTS: [&str; 4] = ["FORMAT", "NEW", "SUSPECT", LAST];
/// The part that goes last.
const LAST: &str = "data";

/// Whether a store was put aside in `dir`, and is still there.
///
/// # Errors
/// When the device cannot say.
pub fn is_put_aside(dir: &Path) -> Result<bool, StoreError> {
    let is_there = |name| dir.join(name).try_exists();
    let found = is_there(ASIDE).and_then(|aside| Ok(aside || is_there(UNFINISHED)?));
    found.map_err(|e| from_io(&format!("looking for {ASIDE} in {}", dir.display()), &e))
}

/// Puts aside the store in `dir`. Where it is then.
///
/// # Errors
/// `Locked` when somebody uses the store; when the directory cannot be changed.
pub fn put_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let _lock = lock(dir)?;
    let moved = move_aside(dir);
    moved.map_err(|e| from_io(&format!("putting aside the store in {}", dir.display()), &e))
}

fn move_aside(dir: &Path) -> io::Result<PathBuf> {
    let (moving, aside) = (dir.join(UNFINISHED), dir.join(ASIDE));
    if moving.join(LAST).try_exists()? {
        // All but its name was done, and the store that was begun then is to go now.
        remove(&moving)?;
    }
    if !moving.try_exists()? {
        remove(&aside)?;
        fs::create_dir(&moving)?;
        sync(dir)?;
    }
    for part in PARTS {
        match fs::rename(dir.join(part), moving.join(part)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => sync(dir)?,
        }
    }
    fs::rename(&moving, &aside)?;
    sync(dir)?;
    Ok(aside)
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

    fn store(dir: &Path, content: &str) {
        fs::create_dir_all(dir.join("data")).unwrap();
        fs::write(dir.join("data/table"), content).unwrap();
        fs::write(dir.join("FORMAT"), content).unwrap();
    }

    fn assert_aside(dir: &Path, content: &str) {
        for name in ["data/table", "FORMAT"] {
            let path = dir.join(ASIDE).join(name);
            assert_eq!(fs::read_to_string(path).unwrap(), content);
        }
        assert!(!dir.join("data").exists() && !dir.join("FORMAT").exists());
        assert!(is_put_aside(dir).unwrap());
    }

    #[test]
    fn the_last_damaged_store_is_kept_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::write(dir.join("place"), "here").unwrap();
        assert!(!is_put_aside(dir).unwrap());
        for content in ["one", "two"] {
            store(dir, content);
            put_aside(dir).unwrap();
            assert_aside(dir, content);
        }
        assert_eq!(fs::read_to_string(dir.join("place")).unwrap(), "here");
    }

    #[test]
    fn a_crash_in_between_leaves_damage_or_all_of_it_aside() {
        for moved in 0..=PARTS.len() {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            store(dir, "one");
            fs::create_dir(dir.join(UNFINISHED)).unwrap();
            for part in PARTS.iter().take(moved) {
                // Not every store has all of them.
                let _ = fs::rename(dir.join(part), dir.join(UNFINISHED).join(part));
            }
            assert!(is_put_aside(dir).unwrap());
            if (1..PARTS.len()).contains(&moved) {
                let opened = Disk::open(dir).err();
                let damage = matches!(opened, Some(StoreError::Corrupt { .. }));
                assert!(damage, "{moved}: {opened:?}");
            }
            let content = match moved == PARTS.len() {
                // The node began anew, and that store turned out to be damaged later.
                true => "two",
                false => "one",
            };
            if content == "two" {
                store(dir, content);
            }
            put_aside(dir).unwrap();
            assert_aside(dir, content);
        }
    }

    #[test]
    fn a_store_in_use_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let refused = put_aside(dir.path());
        assert!(
            matches!(refused, Err(StoreError::Locked { .. })),
            "{refused:?}"
        );
        drop(disk);
        put_aside(dir.path()).unwrap();
    }
}

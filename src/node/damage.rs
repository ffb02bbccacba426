//! Damaged data: what was written and cannot be read any more.
//!
//! A store with damage is put aside, and the node begins anew with an empty one, which the others
//! fill as they fill a lost disk. It does so only when a second look finds the damage, and when
//! others can have the data. They do not take it for lost: what was put aside may be read by other
//! means, and somebody who knows that it is not needed removes it.

use super::error::StartError;
use super::identity::RAFT_DIR;
use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;
use crate::protocol::views::Views;
use crate::storage::Disk;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The name of what was put aside, in the directory of its store.
const ASIDE: &str = "damaged";
/// The same while it is being put aside.
const UNFINISHED: &str = "damaged.new";
/// The parts of a store. The format goes last: a store that lacks the rest of them is damaged.
const PARTS: [&str; 4] = ["NEW", "data", "SUSPECT", "FORMAT"];

/// Time between attempts to open a store that requests under way still hold, and how often that is
/// tried.
const LOCKED_LOOK: Duration = Duration::from_millis(100);
const LOCKED_LOOKS: u32 = 100;

/// A scrub in the background begins this long after the start of a member.
const SCRUB_AFTER: Duration = Duration::from_secs(20);
/// Time from the end of one scrub to the begin of the next.
const SCRUB_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes a second that a scrub reads.
const SCRUB_RATE: u64 = 4 << 20;

/// One of a node's two stores.
struct Stored {
    dir: PathBuf,
    /// Others may have what is in it.
    shared: bool,
}

/// Whether damaged data of the replica's store lies beside it.
///
/// # Errors
/// When the device cannot say.
pub fn is_put_aside(data_dir: &Path) -> Result<bool, StoreError> {
    let mut found = false;
    for name in [ASIDE, UNFINISHED] {
        let path = data_dir.join(name);
        found |= path
            .try_exists()
            .map_err(|error| failed("looking for", &path, &error))?;
    }
    Ok(found)
}

/// Looks through both stores of a member after one of them failed, and puts aside those that are
/// damaged. Whether one was. Nobody else may use them.
///
/// # Errors
/// `Damaged` when a store is, and no other node can have what is in it; those of the device.
pub async fn put_aside_damaged(
    data_dir: &Path,
    views: &Views,
    me: MemberId,
) -> Result<bool, StartError> {
    let view = &views.view;
    // A member on its way in or out has nothing that others do not have as well.
    let replicas = view.partition_of(me).map(|p| view.replicas(p));
    let stores = [
        Stored {
            dir: data_dir.to_owned(),
            shared: replicas.is_none_or(|replicas| replicas.len() > 1),
        },
        Stored {
            dir: data_dir.join(RAFT_DIR),
            shared: views.members().len() > 1,
        },
    ];
    let mut any = false;
    for Stored { dir, shared } in stores {
        let Some(error) = look_through(dir.clone()).await? else {
            continue;
        };
        if !shared {
            return Err(StartError::Damaged {
                directory: dir,
                error,
            });
        }
        put_aside(&dir)
            .map_err(|error| failed("putting aside what is damaged in", &dir, &error))?;
        log::error!(
            "{error}: {} is put aside as {}, and the other nodes fill an empty store; remove that directory when \
             nothing in it is missed",
            dir.join("data").display(),
            dir.join(ASIDE).display()
        );
        any = true;
    }
    Ok(any)
}

/// The damage in a store, if there is any. A store that fails otherwise says nothing of damage.
async fn look_through(dir: PathBuf) -> Result<Option<StoreError>, StoreError> {
    for _ in 0..LOCKED_LOOKS {
        let at = dir.clone();
        // A store that could not be written is no damaged one: `suspect.rs` sees to it.
        let look = move || Disk::open_suspect(&at)?.scrub(&mut |_| true);
        let looked = tokio::task::spawn_blocking(look);
        let looked = looked.await.map_err(|error| StoreError::Io {
            what: format!("looking through {}", dir.display()),
            detail: error.to_string(),
        })?;
        match looked {
            Ok(_) => return Ok(None),
            Err(damage @ StoreError::Corrupt { .. }) => return Ok(Some(damage)),
            Err(StoreError::Locked { .. }) => tokio::time::sleep(LOCKED_LOOK).await,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Puts a store aside, in the place of what was put aside before. A crash in between leaves a store
/// that is damaged, and the next start goes on.
fn put_aside(dir: &Path) -> io::Result<()> {
    let (moving, aside) = (dir.join(UNFINISHED), dir.join(ASIDE));
    if !moving.try_exists()? {
        match fs::remove_dir_all(&aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&moving)?,
        }
        sync(dir)?;
    }
    for part in PARTS {
        match fs::rename(dir.join(part), moving.join(part)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => sync(dir)?,
        }
    }
    fs::rename(&moving, &aside)?;
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io {
        what: format!("{doing} {}", path.display()),
        detail: error.to_string(),
    }
}

/// Scrubs a member's disk once a day, slowly, until `stop`. Damage that it finds is on record with
/// the disk.
pub async fn scrub_slowly(disk: Weak<Disk>, stop: CancellationToken) {
    let mut pause = SCRUB_AFTER;
    loop {
        tokio::time::sleep(pause).await;
        pause = SCRUB_EVERY;
        let Some(disk) = disk.upgrade() else {
            return;
        };
        let stop = stop.clone();
        let scrub = move || scrub_once(&disk, &stop);
        match tokio::task::spawn_blocking(scrub).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::error!("a scrub of the disk: {error}"),
            Err(error) => log::error!("a scrub of the disk ended: {error}"),
        }
    }
}

fn scrub_once(disk: &Arc<Disk>, stop: &CancellationToken) -> Result<(), StoreError> {
    let mut bytes = 0;
    let mut go_on = |read: u64| {
        bytes += read;
        std::thread::sleep(Duration::from_micros(read * 1_000_000 / SCRUB_RATE));
        !stop.is_cancelled()
    };
    if disk.scrub(&mut go_on)? {
        log::info!("all {bytes} bytes of tables on the disk are as they were written");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_crash_in_between_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        store(dir, "one");
        fs::create_dir(dir.join(UNFINISHED)).unwrap();
        fs::rename(dir.join("data"), dir.join(UNFINISHED).join("data")).unwrap();
        assert!(is_put_aside(dir).unwrap());
        put_aside(dir).unwrap();
        assert_aside(dir, "one");
    }
}

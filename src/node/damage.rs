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
use crate::storage::{self, Disk};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

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
        let aside = storage::put_aside(&dir)?;
        log::error!(
            "{error}: what was there is put aside as {}, and the other nodes fill an empty store; remove that \
             directory when nothing in it is missed",
            aside.display()
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

/// Scrubs a member's two disks once a day, slowly, one after the other, until `stop`. Damage that
/// it finds is on record with the disk.
pub async fn scrub_slowly(disks: [Weak<Disk>; 2], stop: CancellationToken) {
    let mut pause = SCRUB_AFTER;
    loop {
        tokio::time::sleep(pause).await;
        pause = SCRUB_EVERY;
        for disk in disks.iter().filter_map(Weak::upgrade) {
            let stop = stop.clone();
            let scrub = move || scrub_once(&disk, &stop);
            match tokio::task::spawn_blocking(scrub).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::error!("a scrub of the disk: {error}"),
                Err(error) => log::error!("a scrub of the disk ended: {error}"),
            }
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

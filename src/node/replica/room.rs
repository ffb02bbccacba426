//! Whether the disk has room for writes: looked at from time to time, and told to the core. What
//! deletes have left behind goes, when there is too little.

use super::inbox::Inbox;
use crate::protocol::replica::Event;
use crate::protocol::room::DiskRoom;
use crate::storage::{Disk, Reserve};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Time between looks at the room on disk.
const CHECK: Duration = Duration::from_millis(200);
/// Time from one attempt to make room to the next.
const MAKE_ROOM: Duration = Duration::from_secs(1);

/// How much room the disk has. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<watch::Sender<DiskRoom>>);

impl Room {
    /// Why a write of a client finds no room, if it does not.
    pub fn lacks(&self, deletes: bool) -> Option<String> {
        self.0.borrow().lacks(deletes).map(str::to_owned)
    }

    /// How much room there is.
    pub fn level(&self) -> DiskRoom {
        self.0.borrow().clone()
    }

    /// Tells the core how much room the disk has whenever that changes, and makes room.
    pub async fn watch(self, disk: Weak<Disk>, inbox: Inbox, reserve: Reserve) {
        tokio::join!(self.look(&disk, &inbox, reserve), self.make(&disk, reserve));
    }

    async fn look(&self, disk: &Weak<Disk>, inbox: &Inbox, reserve: Reserve) {
        if let Some(disk) = disk.upgrade() {
            warn_of_a_small_volume(&disk, reserve);
        }
        let mut every = tokio::time::interval(CHECK);
        loop {
            every.tick().await;
            let Some(disk) = disk.upgrade() else {
                return;
            };
            let now = match disk.room(reserve) {
                Ok(now) => now,
                Err(error) => {
                    log::warn!("cannot tell how much room the disk has: {error}");
                    continue;
                }
            };
            if now == *self.0.borrow() {
                continue;
            }
            match &now {
                DiskRoom::Ample => log::info!("the disk has room again: writes are taken"),
                DiskRoom::Scarce(why) => log::error!("values are refused: {why}"),
                DiskRoom::None(why) => log::error!("writes are refused: {why}"),
            }
            self.0.send_replace(now.clone());
            inbox.send(Event::Room(now)).await;
        }
    }

    async fn make(&self, disk: &Weak<Disk>, reserve: Reserve) {
        let mut levels = self.0.subscribe();
        let mut had_room = true;
        loop {
            // Once more when there is room: then the disk need not look out for what can go.
            if had_room {
                // Cannot fail: `self` holds the sender.
                let _ = levels.wait_for(|level| !level.is_ample()).await;
            }
            had_room = self.0.borrow().is_ample();
            let Some(disk) = disk.upgrade() else {
                return;
            };
            let made = tokio::task::spawn_blocking(move || disk.make_room(reserve)).await;
            match made {
                Ok(Ok(true)) => log::info!("the store was written anew, to make room"),
                Ok(Ok(false)) => {}
                Ok(Err(error)) => log::warn!("no room could be made: {error}"),
                Err(error) => log::error!("no room could be made: {error}"),
            }
            tokio::time::sleep(MAKE_ROOM).await;
        }
    }
}

/// Says that no deletes will help where the reserve is more than there is in all.
fn warn_of_a_small_volume(disk: &Disk, reserve: Reserve) {
    match disk.volume_bytes() {
        Ok(all) if all <= reserve.bytes() => log::error!(
            "the disk has {} MiB in all, and {} MiB are to stay free: no value will be taken here; \
             set DISK_RESERVE_BYTES to less, or give another DATA_DIR",
            all >> 20,
            reserve.bytes() >> 20
        ),
        Ok(_) => {}
        Err(error) => log::warn!("cannot tell how large the disk is: {error}"),
    }
}

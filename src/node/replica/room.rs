//! Whether the disk has room for writes: looked at from time to time, and told to the core.

use super::core::MIN_FREE_BYTES;
use super::inbox::Inbox;
use crate::protocol::replica::Event;
use crate::storage::Disk;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Time between looks at the room on disk.
const CHECK: Duration = Duration::from_millis(200);

/// Why the disk takes no writes; `None` when it does. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<watch::Sender<Option<String>>>);

impl Room {
    /// Why the disk takes no writes, if it is nearly full.
    pub fn full(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Tells the core when the disk has no room for writes, and when it has again.
    pub async fn watch(self, disk: Weak<Disk>, inbox: Inbox, dir: impl AsRef<Path>) {
        let mut every = tokio::time::interval(CHECK);
        loop {
            every.tick().await;
            let Some(disk) = disk.upgrade() else {
                return;
            };
            let now = match disk.is_nearly_full(MIN_FREE_BYTES) {
                Ok(now) => now,
                Err(error) => {
                    log::warn!("cannot tell how much room the disk has: {error}");
                    continue;
                }
            };
            if now == self.0.borrow().is_some() {
                continue;
            }
            let reason = now.then(|| {
                format!(
                    "less than {} MiB are free in {}",
                    MIN_FREE_BYTES >> 20,
                    dir.as_ref().display()
                )
            });
            match &reason {
                Some(reason) => log::error!("writes are refused: {reason}"),
                None => log::info!("the disk has room again: writes are taken"),
            }
            self.0.send_replace(reason.clone());
            inbox.send(Event::DiskFull(reason)).await;
        }
    }
}

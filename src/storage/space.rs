//! The space that a store takes of its device, and what is left there.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::fs::{StatVfs, statvfs};

use super::directory::used_bytes;
use super::disk::Disk;
use super::engine_error::from_io;
use super::reserve::Reserve;
use crate::protocol::room::DiskRoom;
use crate::protocol::store::StoreError;

/// The free space is asked of the operating system at most this often.
const FREE_SPACE_EVERY: Duration = Duration::from_millis(100);

impl Disk {
    /// Disk space that the store takes, in bytes.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        used_bytes(&self.dir).map_err(|e| from_io(&format!("measuring {}", self.dir.display()), &e))
    }

    /// Space left on the device for this process, in bytes.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let stat = self.volume()?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// All of the device's space, used or not, in bytes.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn volume_bytes(&self) -> Result<u64, StoreError> {
        let stat = self.volume()?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn volume(&self) -> Result<StatVfs, StoreError> {
        statvfs(&self.dir)
            .map_err(|e| from_io(&format!("measuring {}", self.dir.display()), &e.into()))
    }

    /// How much room there is beside a reserve, so that writes are refused before the engine runs
    /// out of space. Cheap: the answer may be 100 ms old. Flushes and compactions need room of
    /// their own, for a while as much as the tables that they rewrite.
    ///
    /// # Errors
    /// As [`Disk::free_bytes`].
    pub fn room(&self, reserve: Reserve) -> Result<DiskRoom, StoreError> {
        Ok(reserve.level(self.free_lately()?, &self.dir))
    }

    /// Whether less than `min_free` bytes are left. As cheap as [`Disk::room`].
    ///
    /// # Errors
    /// As [`Disk::free_bytes`].
    pub fn is_nearly_full(&self, min_free: u64) -> Result<bool, StoreError> {
        Ok(self.free_lately()? < min_free)
    }

    fn free_lately(&self) -> Result<u64, StoreError> {
        let mut known = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match *known {
            Some((at, free)) if at.elapsed() < FREE_SPACE_EVERY => Ok(free),
            _ => {
                let free = self.free_bytes()?;
                *known = Some((Instant::now(), free));
                Ok(free)
            }
        }
    }

    /// Has the next question about the free space asked of the operating system.
    pub(super) fn forget_free(&self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

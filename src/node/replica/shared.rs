//! State that the replica's thread shares with the rest of the node, so that reads need not ask the
//! thread.

use super::clocks::Clocks;
use super::reply::Ticket;
use crate::protocol::clock::Clock;
use crate::protocol::driver;
use crate::protocol::marks::Marks;
use crate::storage::Disk;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::watch;

/// The replica, driven on this node's disk.
pub type ReplicaDriver = driver::Driver<Arc<Disk>, Ticket>;

/// State that the core publishes.
pub struct Shared {
    /// The clocks of this process.
    pub clocks: Clocks,
    /// The hybrid clock that stamps writes.
    pub clock: Arc<Clock>,
    /// The replica's disk.
    pub disk: Arc<Disk>,
    /// How far the replica is. Only the core puts new ones in.
    pub marks: ArcSwap<Marks>,
    /// Requests of clients, those that other nodes send on included.
    pub requests: AtomicU64,
    /// The version of the views in the marks.
    pub version: watch::Sender<u64>,
}

impl Shared {
    /// The state of a replica that has just been opened.
    #[must_use]
    pub fn of(driver: &ReplicaDriver, disk: Arc<Disk>, clock: Arc<Clock>, clocks: Clocks) -> Self {
        let marks = driver.replica().marks();
        Self {
            clocks,
            clock,
            disk,
            requests: AtomicU64::new(0),
            version: watch::Sender::new(marks.views.version),
            marks: ArcSwap::from_pointee(marks),
        }
    }
}

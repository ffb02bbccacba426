//! Where a node keeps its data: an ordered map of bytes that survives a crash.
//!
//! [`Disk`] is the map on disk, and [`Memory`] the same map without one. Both are a
//! [`Store`](crate::protocol::store::Store) to readers. Writes go through one [`Committer`] thread,
//! which stores everything that waits with one `fdatasync` (group commit).
//!
//! What is promised about damage: a torn end of the journal, as a crash leaves it, is repaired when
//! the disk is opened; any other damage is refused with
//! [`StoreError::Corrupt`](crate::protocol::store::StoreError::Corrupt), at opening or at the read
//! that meets it. `journal.rs` says how the two are told apart, and where the limit lies.

mod aside;
mod commit;
mod committer;
mod directory;
mod disk;
mod engine_error;
mod format;
mod gauges;
mod journal;
mod manifest;
mod memory;
mod reclaim;
mod record_cache;
mod reserve;
mod scrub;
mod space;
mod suspect;

pub use aside::{is_put_aside, put_aside};
pub use commit::Commit;
pub use committer::{Committer, CommitterStats, Numbered};
pub use disk::{DEFAULT_CACHE_BYTES, Disk, Held};
pub use format::{Format, read as read_format, set_cluster};
pub use gauges::EngineGauges;
pub use memory::Memory;
pub use reserve::Reserve;
pub use suspect::suspicion;

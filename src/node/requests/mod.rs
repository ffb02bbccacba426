//! Requests of clients, on their way to the replica or Raft group that serves them.
//!
//! ```text
//! admission.rs   which requests are let in, and the stamps of writes
//! router.rs      operations on their way to a replica, here or elsewhere
//! bundle.rs      what goes to one node at the same time goes together
//! batch.rs       many operations of one client at once, and snapshots
//! operations.rs  reads and writes of the causal store
//! lists.rs       the linearizable lists
//! orphans.rs     what a node had when it was given up, offered to the owners
//! ```

pub mod admission;
pub mod batch;
mod bundle;
pub mod lists;
pub mod operations;
pub mod orphans;
pub mod router;

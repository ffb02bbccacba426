//! Proposals, from the node that makes them to the log entry in which they are decided.
//!
//! - [`ask`]: on any node, finds the leader and asks it, again while leaders change.
//! - [`forward`]: carries what waits to a leader elsewhere, in batches.
//! - [`decide`]: on the leader, gathers what waits into one log entry.
//! - [`batch`]: several proposals as bytes.

pub mod ask;
pub mod batch;
pub mod decide;
pub mod forward;

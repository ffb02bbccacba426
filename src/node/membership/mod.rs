//! A node's part in its cluster.

pub mod absent;
pub mod birth;
pub mod change;
pub mod dead;
pub mod driver;
pub mod fault;
pub mod follow;
pub mod holders;
pub mod identity;
pub mod liveness;
pub mod progress;
pub mod standby;
pub mod state_machine;

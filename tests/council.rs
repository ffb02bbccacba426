//! The council of several nodes in one process: over links that a test can cut, with every node's data in a directory of
//! its own.

#[path = "council/cluster.rs"]
mod cluster;
#[path = "council/faults.rs"]
mod faults;
#[path = "council/log.rs"]
mod log;
#[path = "council/lost_disk.rs"]
mod lost_disk;
#[path = "council/members.rs"]
mod members;
#[path = "council/start.rs"]
mod start;

//! A Raft group of several nodes in one process: over links that a test can cut, with every node's
//! data in a directory of its own.

#[path = "raft/cluster.rs"]
mod cluster;
#[path = "raft/faults.rs"]
mod faults;
#[path = "raft/log.rs"]
mod log;
#[path = "raft/lost_disk.rs"]
mod lost_disk;
#[path = "raft/members.rs"]
mod members;
#[path = "raft/start.rs"]
mod start;

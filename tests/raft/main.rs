//! A Raft group of several nodes in one process: over links that a test can cut, with every node's
//! data in a directory of its own.

mod cluster;
mod faults;
mod log;
mod lost_disk;
mod members;
mod start;

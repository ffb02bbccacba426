//! The node-to-node network over loopback: traffic, faults and refusals.

mod common;
mod faults;
mod refusals;
mod traffic;

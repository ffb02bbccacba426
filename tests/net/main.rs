//! The node-to-node network over loopback: traffic, faults and refusals.

mod call;
mod changes;
mod common;
mod doors;
mod faults;
mod refusals;
mod strangers;
mod traffic;

//! Causeway: a partitioned, replicated key-value store with causal consistency across all keys.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api;
pub mod check;
pub mod cli;
pub mod descriptors;
#[cfg(test)]
mod fuzz;
pub mod http;
pub mod memory;
pub mod net;
pub mod node;
pub mod protocol;
pub mod raft;
pub mod server;
pub mod storage;

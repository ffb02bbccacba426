//! Causeway: a partitioned, replicated key-value store with causal consistency across all keys.
#![forbid(unsafe_code)]

pub mod net;
pub mod protocol;
pub mod storage;

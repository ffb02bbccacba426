//! Messages between nodes, and the connections that carry them. Which role answers which request
//! stands in `serve.rs`, above.
//!
//! ```text
//! messages.rs        messages, requests and their answers
//! links.rs           the kind of connection, and how a node introduces itself
//! presence.rs        which members are connected
//! peers.rs           the other nodes, as a member reaches them
//! raft_transport.rs  the Raft group's calls over the connections
//! ```

#[cfg(test)]
mod fuzz_tests;
pub mod links;
pub mod messages;
pub mod peers;
pub mod presence;
pub mod raft_transport;

//! What nodes say to each other, and the connections that carry it.
//!
//! ```text
//! messages.rs        messages, requests and their answers
//! links.rs           the connections, and how a node introduces itself
//! raft_transport.rs  the council's calls over the connections
//! ```

pub mod links;
pub mod messages;

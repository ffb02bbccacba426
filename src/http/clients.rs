//! What clients can make a node hold, all of them together, and what was refused them.

use super::budget::Budget;
use super::connection::ConnectionCounts;
use super::request;
use crate::node::config::Config;
use std::sync::Arc;

/// One for a node's whole surface.
#[derive(Debug)]
pub struct Clients {
    /// What was seen of connections.
    pub connections: Arc<ConnectionCounts>,
    /// What was read of their requests' bodies.
    pub bodies: Budget,
    /// What they have not read of replies.
    pub replies: Arc<Budget>,
}

impl Clients {
    /// The clients of a node with these settings.
    pub fn new(config: &Config) -> Self {
        // One body of the longest kind fits always: else it would be refused for ever.
        let longest = request::longest_body(config.max_value_bytes);
        let bytes = config.client_memory_bytes.max(longest);
        Self {
            connections: Arc::default(),
            bodies: Budget::new(bytes),
            replies: Arc::new(Budget::new(bytes)),
        }
    }
}

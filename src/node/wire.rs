//! What nodes send each other: protocol messages with the sender's incarnation, and operations
//! that a client asked another node for.

use crate::protocol::clock::Timestamp;
use crate::protocol::context::Context;
use crate::protocol::ids::LogId;
use crate::protocol::message::Message;
use crate::protocol::op::{Answer, Op};
use serde::{Deserialize, Serialize};

/// A one-way message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// Of the sender's open log.
    pub incarnation: u64,
    pub message: Message,
}

/// A client's operation, sent on to a replica of the key's partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Forward {
    pub op: Op,
    pub context: Context,
    /// How long a read may wait for missing writes, in microseconds.
    pub stall_us: u64,
}

/// The replica's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Forwarded {
    pub answer: Answer,
    pub clock: Timestamp,
    /// Stable marks of the replica's partition: with them the asking node can prune contexts.
    pub stable: Vec<(LogId, u64)>,
}

//! What nodes send each other: protocol messages with the sender's incarnation, operations that a client asked another
//! node for, calls of the council, and questions about views.

use crate::council::{Past, Rpc, RpcReply};
use crate::node::membership::fault::{Condition, Order};
use crate::node::membership::progress::Progress;
use crate::node::requests::offers::OfferState;
use crate::protocol::clock::Timestamp;
use crate::protocol::context::Context;
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::message::Message;
use crate::protocol::op::{Answer, Op};
use crate::protocol::version::{Key, Stamp};
use crate::protocol::views::Views;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A one-way message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// Of the sender's open log.
    pub incarnation: u64,
    pub message: Message,
}

/// Something that one node asks of another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    Operation(Forward),
    Council(Rpc),
    /// What is known of views, if it is newer than this version.
    Standing {
        version: u64,
    },
    /// These views name the node: it is a member from now on.
    Invite(Box<Views>),
    /// How far the replica is.
    Progress,
    /// An operator's, from whatever node the operator asked.
    Order(Order),
    /// Writes that the asker had when it was given up.
    Offer(Offer),
    /// Whether the member is connected.
    Hears(MemberId),
}

/// The answer to a [`Request`], of the same kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Response {
    Operation(Forwarded),
    Council(RpcReply),
    Standing(Standing),
    /// The invitation is accepted.
    Coming,
    /// The other node does not do such a thing, and why.
    Refused(String),
    Progress(Progress),
    /// How the node is, now that it has the order.
    Condition(Condition),
    Offered(Offered),
    Hears(bool),
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
    /// Of the views that the replica knows.
    pub version: u64,
}

/// What a node knows of views.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Standing {
    /// If they are newer than what the asker has.
    pub newer: Option<Box<Views>>,
    /// What the node knows of councils of the past.
    pub past: Past,
    /// Its replica goes by what the node knows, and has dropped what it does not keep any more.
    pub settled: bool,
}

/// Writes that only a node may have that was given up, from the oldest to the newest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offer {
    /// What the offers before this one came to, as the context of a session.
    pub context: Context,
    pub writes: Vec<Orphan>,
    /// How far the offer was before these.
    pub state: OfferState,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Orphan {
    pub key: Key,
    /// `None` deletes.
    pub value: Option<Bytes>,
    pub stamp: Stamp,
    /// The wall clock of the replica that first took it, in milliseconds since 1970.
    pub wall_ms: u64,
    /// What it depends on.
    pub past: Context,
}

/// What became of the first writes of an [`Offer`]: of as many as the numbers add up to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Offered {
    pub context: Context,
    pub taken: u64,
    /// It was there already, or a newer write of its key.
    pub newer: u64,
    /// A newer delete of its key may have been forgotten.
    pub deleted: u64,
}

impl Offered {
    /// Writes that are done with.
    pub fn count(&self) -> u64 {
        self.taken + self.newer + self.deleted
    }
}

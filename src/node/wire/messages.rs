//! Messages and requests between nodes: protocol messages with the sender's incarnation, operations
//! that a client asked another node for, calls of the Raft group, and questions about views.

use crate::protocol::clock::Timestamp;
use crate::protocol::context::Context;
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::message::Message;
use crate::protocol::op::{Answer, Op};
use crate::protocol::slots::SLOTS;
use crate::protocol::sound::{Unsound, checked_when_read, ensure, ensure_incarnation};
use crate::protocol::version::{Key, Stamp, ensure_key};
use crate::protocol::views::{CohortId, Views};
use crate::raft::{GroupPast, Rpc, RpcReply};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;

/// The most operations that a client may ask for in one request.
pub const MOST_TOGETHER: usize = 1000;

/// What a node counts of its own is no more than this, so that the counts of all can be added up.
const MOST: u64 = 1 << 47;
/// The longest text that a node says of an offer, in bytes.
const LONGEST_TEXT: usize = 16 * 1024;

checked_when_read!(
    Envelope,
    Together,
    Orphan,
    Offered,
    OfferProgress,
    Progress,
    Count
);

/// Numbers that can be added to those of other nodes.
fn ensure_counts(counts: &[u64]) -> Result<(), Unsound> {
    let fit = counts.iter().all(|count| *count <= MOST);
    ensure(fit, "a number that is too large to count anything")
}

/// A one-way message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Envelope {
    /// The incarnation of the sender's open log.
    pub incarnation: u64,
    /// The replica's message.
    pub message: Message,
}

impl Envelope {
    fn check(&self) -> Result<(), Unsound> {
        ensure_incarnation(self.incarnation)
    }
}

/// Operations of one request of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Together(pub Vec<Forward>);

impl Together {
    fn check(&self) -> Result<(), Unsound> {
        let fit = self.0.len() <= MOST_TOGETHER;
        ensure(fit, "more operations than a client may ask for at once")
    }
}

/// Something that one node asks of another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Do operations of a client, all at once.
    Operations(Together),
    /// A call of the Raft group.
    Raft(Rpc),
    /// Asks for views that are newer than a version.
    ViewsKnown {
        /// The newest version that the asker knows.
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
    /// The outcomes of operations.
    Operations(Forwarded),
    /// The Raft group's own answer.
    Raft(RpcReply),
    /// The views that the node knows.
    ViewsKnown(ViewsKnown),
    /// The invitation is accepted.
    Coming,
    /// The other node does not do such a thing, and why.
    Refused(String),
    /// How far the replica is.
    Progress(Progress),
    /// How the node is, now that it has the order.
    Condition(Condition),
    /// The outcome of an offer.
    Offered(Offered),
    /// Whether it is.
    Hears(bool),
}

/// A client's operation, sent on to a replica of the key's partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Forward {
    /// The operation.
    pub op: Op,
    /// The client's context.
    pub context: Context,
    /// How long a read may wait for missing writes, in microseconds.
    pub stall_us: u64,
}

/// The replica's answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Forwarded {
    /// The answers to the operations, in their order.
    pub answers: Vec<Answer>,
    /// The replica's clock.
    pub clock: Timestamp,
    /// Stable marks of the replica's partition: with them the asking node can prune contexts.
    pub stable: Vec<(LogId, u64)>,
    /// The version of the views that the replica knows.
    pub version: u64,
}

/// A node's knowledge of views.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ViewsKnown {
    /// If they are newer than what the asker has.
    pub newer: Option<Box<Views>>,
    /// The node's knowledge of Raft groups of the past.
    pub past: GroupPast,
    /// Its replica goes by what the node knows, and has dropped what it does not keep any more.
    pub settled: bool,
}

/// Writes that only a node may have that was given up, from the oldest to the newest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offer {
    /// The context after the offers before this one, as in a session.
    pub context: Context,
    /// The writes, from the oldest to the newest.
    pub writes: Vec<Orphan>,
    /// How far the offer was before these.
    pub state: OfferProgress,
}

/// One of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Orphan {
    /// The key.
    pub key: Key,
    /// `None` deletes.
    pub value: Option<Bytes>,
    /// The original stamp, by which it counts.
    pub stamp: Stamp,
    /// The wall clock of the replica that first took it, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The causal past of the write.
    pub past: Context,
}

/// The outcome of the first writes of an [`Offer`]: of as many as the numbers add up to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Offered {
    /// The context after this offer.
    pub context: Context,
    /// Taken by the owners.
    pub taken: u64,
    /// Writes that were there already, or a newer one of their key.
    pub newer: u64,
    /// A newer delete of its key may have been forgotten.
    pub deleted: u64,
}

impl Orphan {
    fn check(&self) -> Result<(), Unsound> {
        ensure_key(&self.key)
    }
}

impl Offered {
    fn check(&self) -> Result<(), Unsound> {
        ensure_counts(&[self.taken, self.newer, self.deleted])
    }

    /// Writes that are done with.
    pub fn count(&self) -> u64 {
        self.taken + self.newer + self.deleted
    }
}

/// How far an offer is of what a node had when it was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct OfferProgress {
    /// The node that offers, `ip:port`.
    pub node: String,
    /// The directory there that has the data. Until the offer is over it may be the only place that
    /// has it.
    pub directory: String,
    /// Values and deletes in it; 0 before they are counted.
    pub writes: u64,
    /// Of these the cluster had none newer.
    pub taken: u64,
    /// Writes that were there already, or newer ones of their keys.
    pub there: u64,
    /// A newer delete of their keys may have been forgotten.
    pub declined: u64,
    /// Why the offer cannot go on, when it cannot. It is tried again every 10 s.
    pub failed: Option<String>,
    /// Why the offer has ended before all was offered, when it has. What is left is in the
    /// directory, and nowhere else.
    #[serde(default)]
    pub ended: Option<String>,
}

impl OfferProgress {
    fn check(&self) -> Result<(), Unsound> {
        ensure_counts(&[self.writes, self.taken, self.there, self.declined])?;
        let texts = [Some(&self.node), Some(&self.directory)];
        let texts = texts
            .into_iter()
            .chain([self.failed.as_ref(), self.ended.as_ref()]);
        let fit = texts.flatten().all(|text| text.len() <= LONGEST_TEXT);
        ensure(fit, "an offer that says too much of itself")
    }

    /// The state of an offer that begins, of the node at `node`.
    pub fn of(node: SocketAddr, dir: &Path, writes: usize) -> Self {
        Self {
            node: node.to_string(),
            directory: dir.display().to_string(),
            writes: writes as u64,
            taken: 0,
            there: 0,
            declined: 0,
            failed: None,
            ended: None,
        }
    }

    /// So much more was offered.
    pub fn add(&mut self, offered: &Offered) {
        self.taken += offered.taken;
        self.there += offered.newer;
        self.declined += offered.deleted;
    }

    /// Writes that are still to be offered.
    pub fn left(&self) -> u64 {
        if self.ended.is_some() {
            return 0;
        }
        let offered = self.taken + self.there + self.declined;
        self.writes.saturating_sub(offered)
    }
}

/// An operator's order from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Act as a dead node.
    Fail,
    /// Live again.
    Recover,
    /// Nothing: only to say how it is.
    Look,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// The node serves clients.
    Serving,
    /// The node runs and does not serve yet, and why.
    Starting(String),
    /// The node acts as a dead node.
    Failed,
}

/// How far a member is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Progress {
    /// The version of the views that its replica goes by.
    pub version: u64,
    /// Slots that it is to hold and does not have in full.
    pub missing: usize,
    /// Keys that came in snapshots under these views, and their bytes.
    pub keys: u64,
    /// Bytes of these keys and their values.
    pub bytes: u64,
    /// The member that it copies from now.
    pub from: Option<MemberId>,
    /// Writes that others have and it lacks.
    pub lacking: u64,
    /// Live keys in its store.
    pub live_keys: u64,
    /// Slots that it holds in the view in force.
    pub holds: usize,
    /// The cohort that it serves, with all of its data in place.
    pub serves: Option<CohortId>,
    /// The last counts of members that do not answer it.
    pub remembers: Vec<(MemberId, Count)>,
    /// Offers that it makes or takes in of what nodes had that were given up.
    pub offers: Vec<OfferProgress>,
}

impl Progress {
    fn check(&self) -> Result<(), Unsound> {
        ensure_counts(&[self.keys, self.bytes, self.lacking, self.live_keys])?;
        let slots = usize::from(SLOTS);
        let fit = self.missing <= slots && self.holds <= slots;
        ensure(fit, "more slots than there are")
    }

    /// How many keys the member has.
    pub fn count(&self) -> Count {
        Count {
            live_keys: self.live_keys,
            slots: self.holds,
            serves: self.serves,
        }
    }
}

/// Keys of a member, when it last said so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Count {
    /// Live keys.
    pub live_keys: u64,
    /// Slots that these keys are in.
    pub slots: usize,
    /// The cohort whose data it has in full and serves.
    pub serves: Option<CohortId>,
}

impl Count {
    fn check(&self) -> Result<(), Unsound> {
        ensure_counts(&[self.live_keys])?;
        let fit = self.slots <= usize::from(SLOTS);
        ensure(fit, "more slots than there are")
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;

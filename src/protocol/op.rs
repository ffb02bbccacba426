//! Operations of clients and their answers, wherever the request is served.

use super::clock::Timestamp;
use super::context::Context;
use super::ids::{LogId, MemberId};
use super::sound::{Unsound, checked_when_read};
use super::version::{Key, Stamp, ensure_key};
use super::view::PartitionId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How a read treats the client's past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Consistency {
    /// Never older than the client's context.
    #[default]
    Causal,
    /// The newest version here, at once; the answer says when it may be older.
    Eventual,
}

/// An operation on one key, as a node hands it to a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub enum Op {
    /// A read.
    Get {
        /// The key to be read.
        key: Key,
        /// Whether the answer may be older than the context.
        consistency: Consistency,
    },
    /// `None` deletes. The stamp is given by the node that the client talked to.
    Write {
        /// The key to be written.
        key: Key,
        /// JSON text; `None` deletes.
        value: Option<Bytes>,
        /// Decides which version of the key wins.
        stamp: Stamp,
        /// Set for an orphaned write (one that only a given-up node had): the wall clock when it
        /// was first accepted, in milliseconds since 1970.
        orphan: Option<u64>,
    },
}

checked_when_read!(Op);

impl Op {
    fn check(&self) -> Result<(), Unsound> {
        ensure_key(self.key())
    }

    /// The key that the operation is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Op::Get { key, .. } | Op::Write { key, .. } => key,
        }
    }
}

/// A value as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// JSON text.
    pub value: Bytes,
    /// The wall clock of the replica that took the write, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// The answer to a read. `found` is `None` when there is no such key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The version that was read.
    pub found: Option<Found>,
    /// The stamp of the version that was read, which may be a delete. `None` when there is none, or
    /// when it is forgotten since every replica had the delete.
    pub stamp: Option<Stamp>,
    /// The request's context, with what was read.
    pub context: Context,
    /// Set when the answer may be older than the context (`Consistency::Eventual` only).
    pub stale: bool,
}

/// The answer to a write that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The request's context, with the write.
    pub context: Context,
    /// The wall clock of the replica that took the write, in milliseconds since 1970.
    pub wall_ms: u64,
    /// Replicas that have the write on disk at the time of the answer.
    pub copies: u8,
    /// Whether the key had no value before.
    pub created: bool,
}

/// A write that a context depends on and that is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The log with the missing writes.
    pub log: LogId,
    /// The seq up to which the log is here.
    pub have: u64,
    /// The seq that the context names.
    pub need: u64,
    /// Replicas that are known to have it, or may have.
    pub holders: Vec<MemberId>,
}

/// The answer to an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The answer to a read.
    Read(Read),
    /// The write is done.
    Written(Written),
    /// A delete of a key that is not there, by a client whose past is known here: nothing to do.
    NothingToDelete(Context),
    /// An orphaned write that does not count any more; the request's context, with what stands in
    /// its place.
    Declined(Declined, Context),
    /// The operation is not done.
    Refused(Refusal),
}

/// Why an orphaned write was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Declined {
    /// The write is here already, or a newer one of its key.
    Newer,
    /// A newer delete of its key may have been forgotten.
    Deleted,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The context's clock is too far ahead of this node's.
    #[error(
        "the causal_payload's clock is {ahead_ms} ms ahead of this node's, more than the 10000 ms that are believed"
    )]
    ClockAhead {
        /// How far the clock is ahead, in milliseconds.
        ahead_ms: u64,
    },
    /// The context names a node that is in no view.
    #[error("the causal_payload names a node ({0}) that this cluster does not have")]
    UnknownMember(MemberId),
    /// The replica lacks writes that the client has seen, and could not get them in time.
    #[error("this side does not have what the causal_payload depends on: {}", list(.0))]
    Short(Vec<Missing>),
    /// The client has seen a newer view than this node knows, and it could not learn of it in time.
    #[error(
        "the causal_payload comes from view {need}, and this node knows views up to {have}: it is cut off from those that decided it"
    )]
    OldView {
        /// The number of the newest view known here.
        have: u64,
        /// The number of the view in the context.
        need: u64,
    },
    /// The replica's disk was lost or is old, and it has not caught up yet.
    #[error("the replica is recovering: {0}")]
    Recovering(String),
    /// No replica of the partition answered.
    #[error("no replica of partition {} could be reached", partition.0)]
    Unreachable {
        /// The partition of the key.
        partition: PartitionId,
        /// The replicas that were asked.
        tried: Vec<MemberId>,
    },
    /// The stamp is older than what the replica has promised not to go back behind; the clock to
    /// stamp it by instead. Certain not to have been done.
    #[error("the write's stamp is too old for this replica (it is at {0})")]
    StampTooOld(Timestamp),
    /// The replica is not one of the key's partition: the nodes' views differ.
    #[error("the node does not hold this key")]
    NotMine,
    /// The node that was to stamp the write has a wall clock that is too far from most others';
    /// ahead, or behind when negative. Certain not to have been done.
    #[error("the node's wall clock is {off_ms} ms off those of most other nodes")]
    ClockOff {
        /// How far the wall clock is off, in milliseconds.
        off_ms: i64,
    },
    /// There is no room on disk. Certain not to have been done.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// The disk failed or its data is damaged.
    #[error("storage failed: {0}")]
    Storage(String),
    /// The disk has not stored a write in time. It may be done later.
    #[error("the disk is slow: the write may be stored later")]
    Undecided,
    /// The replica goes over to a newer view, and its disk has not stored yet what came before.
    /// Certain not to have been done.
    #[error("the node goes over to a newer view, and its disk is slow")]
    GoingOver,
    /// What was read before it fills the reply that several reads share.
    #[error("the values before this one fill the reply")]
    ReplyFull,
    /// The keys of a snapshot changed faster than they could be read together.
    #[error("the keys change faster than they can be read together")]
    Unsettled,
    /// Too much is waiting already. Certain not to have been done.
    #[error("the node has too many requests waiting")]
    Overloaded,
    /// The node is ending. Certain not to have been done.
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl Refusal {
    /// Whether it says for certain that a write was not done at the replica that refused.
    #[must_use]
    pub fn says_not_done(&self) -> bool {
        matches!(
            self,
            Refusal::StampTooOld(_)
                | Refusal::NotMine
                | Refusal::ClockOff { .. }
                | Refusal::DiskFull(_)
                | Refusal::GoingOver
                | Refusal::Overloaded
                | Refusal::ShuttingDown
        )
    }
}

fn list(missing: &[Missing]) -> String {
    let one = |m: &Missing| {
        let holders: Vec<String> = m.holders.iter().map(ToString::to_string).collect();
        format!(
            "log {} is here up to {}, needed is {} (may be held by {})",
            m.log,
            m.have,
            m.need,
            if holders.is_empty() {
                "no one known".into()
            } else {
                holders.join(", ")
            }
        )
    };
    missing.iter().map(one).collect::<Vec<_>>().join("; ")
}

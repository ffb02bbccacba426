//! The types that the Raft library is set up with. Commands and outcomes are bytes to it: only the ends, where they are
//! proposed and applied, know what they mean.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::protocol::ids::MemberId;

openraft::declare_raft_types!(
    pub Types:
        D = Group,
        R = Vec<Answer>,
        NodeId = u64,
        Node = (),
);

pub type Entry = openraft::Entry<Types>;
pub type LogId = openraft::LogId<u64>;
pub type Vote = openraft::Vote<u64>;
pub type Membership = openraft::StoredMembership<u64, ()>;
pub type SnapshotMeta = openraft::SnapshotMeta<u64, ()>;
pub type Metrics = openraft::RaftMetrics<u64, ()>;
/// The part of the metrics that tells who leads.
pub type ServerMetrics = openraft::metrics::RaftServerMetrics<u64, ()>;
pub type Raft = openraft::Raft<Types>;

/// The proposals of one log entry, in the order in which they are applied. Copies share them: an entry is copied to be sent
/// to each other node, and to be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group(pub Arc<Vec<Proposal>>);

/// One run of a member's process, as a source of proposals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId {
    pub member: MemberId,
    /// Chosen at random when the council is opened.
    pub run: u64,
}

/// A command, and what is needed to apply it once however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub session: SessionId,
    /// Its number in the session.
    pub number: u64,
    /// Nobody waits any more for proposals of the session with numbers below this one.
    pub below: u64,
    pub command: Bytes,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It was applied, now or before.
    Outcome(Bytes),
    /// A late copy of a proposal that nobody waits for: not applied by this entry.
    Past,
    /// Its bytes are no command, or its outcome has no encoding.
    Unreadable(String),
}

/// The library's number of a member.
pub fn node_id(member: MemberId) -> u64 {
    u64::from(member.0)
}

/// The member with the library's number `id`. `None` for numbers that no member has.
pub fn member(id: u64) -> Option<MemberId> {
    u16::try_from(id).ok().map(MemberId)
}

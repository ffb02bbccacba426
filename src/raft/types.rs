//! The types that the Raft library is set up with. To the library commands and outcomes are bytes:
//! only the two ends decode them, where they are proposed and where they are applied.

use std::io::Cursor;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::propose::batch::Proposals;
use crate::protocol::ids::MemberId;

openraft::declare_raft_types!(
    pub Types:
        D = Proposals,
        R = Vec<ProposalResult>,
        NodeId = u64,
        Node = (),
        AsyncRuntime = super::runtime::Library,
);

pub type Entry = openraft::Entry<Types>;
pub type EntryId = openraft::LogId<u64>;
pub type Vote = openraft::Vote<u64>;
/// A term may have several leaders, one after the other: of two, the one with the greater number is
/// the later one.
pub type LeaderId = openraft::LeaderId<u64>;
pub type StoredMembership = openraft::StoredMembership<u64, ()>;
pub type SnapshotMeta = openraft::SnapshotMeta<u64, ()>;
pub type RaftMetrics = openraft::RaftMetrics<u64, ()>;
/// The part of the metrics that tells who leads.
pub type ServerMetrics = openraft::metrics::RaftServerMetrics<u64, ()>;
pub type Raft = openraft::Raft<Types>;

/// An outcome, encoded. Outcomes of lists fit in without memory elsewhere.
pub type EncodedOutcome = SmallVec<[u8; 24]>;

/// The result of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProposalResult {
    /// The proposal was applied, now or before.
    Outcome(EncodedOutcome),
    /// A late copy of a proposal that nobody waits for: not applied by this entry.
    Past,
    /// The bytes are no command, or the outcome has no encoding.
    Unreadable(String),
    /// Not done: the leader's disk has little room left.
    NoRoom,
}

/// The library's number of a member.
pub fn node_id(member: MemberId) -> u64 {
    u64::from(member.0)
}

/// The member with the library's number `id`. `None` for numbers that no member has.
pub fn member(id: u64) -> Option<MemberId> {
    u16::try_from(id).ok().map(MemberId)
}

//! Requests and replies between nodes of the Raft group, over the caller's transport.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::error::InstallSnapshotError;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::propose::batch::Proposals;
use super::transport::{Rpc, RpcReply, Transport, TransportError};
use super::types::{Entry, EntryId, LeaderId, ProposalResult, Types};
use crate::protocol::ids::MemberId;

/// Bytes of a message beside its proposals and data, about.
const HEAD: usize = 128;

/// The content of an [`Rpc`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum RaftRequest {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<Types>),
    /// Proposals for the leader to decide, each with an outcome of its own.
    Propose(Proposals),
    /// Asks the leader up to where a linearizable read has to have applied the log.
    ReadIndex,
    /// Asks a node whether it grants votes.
    MayVote,
    /// Asks a voter what it has promised.
    Promised,
    /// Asks a voter whether it could lead, and has room for what is decided then.
    MayLead,
}

/// The content of an [`RpcReply`].
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftReply {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(Result<InstallSnapshotResponse<u64>, InstallSnapshotError>),
    /// The outcome of each proposal, in order.
    Proposed(Vec<ProposalResult>),
    /// The first log index that the read need not see.
    ReadIndex(u64),
    MayVote(bool),
    Promised(Promised),
    MayLead(bool),
    /// Nothing was done.
    Refused(RaftRefusal),
    /// The proposals may be decided, or not.
    Unsure,
    /// The node takes no part, for the reason given.
    Failed(String),
}

/// A voter's promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// The voter follows and elects no leader before this one.
    pub leader: LeaderId,
    /// The voters, as far as this voter knows: two sets while a change of them is half done.
    pub voters: Vec<BTreeSet<u64>>,
}

/// Why a node did not take a request that only a leader may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RaftRefusal {
    NotLeader,
    /// The node leads, and has lost touch with the majority.
    NoQuorum,
    Overloaded,
}

/// Why a call gave no reply.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RaftCallError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{0}")]
    Encoding(#[from] postcard::Error),
}

/// Makes a call.
pub async fn call<T: Transport>(
    transport: &T,
    to: MemberId,
    request: &RaftRequest,
    timeout: Duration,
) -> Result<RaftReply, RaftCallError> {
    let rpc = Rpc(encode(request, request.size())?);
    let RpcReply(bytes) = transport.call(to, rpc, timeout).await?;
    Ok(decode(&bytes)?)
}

impl RaftRequest {
    /// The encoded size in bytes, about.
    fn size(&self) -> usize {
        let carried = match self {
            Self::Append(rpc) => rpc.entries.iter().map(entry_size).sum(),
            Self::Propose(group) => group.bytes(),
            Self::Snapshot(rpc) => rpc.data.len(),
            _ => 0,
        };
        carried + HEAD
    }
}

impl RaftReply {
    /// The encoded size in bytes, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Proposed(answers) => HEAD + answers.len() * size_of::<ProposalResult>(),
            _ => HEAD,
        }
    }
}

/// The encoded size of a log entry in bytes, about.
pub fn entry_size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(group) => HEAD + group.bytes(),
        _ => HEAD,
    }
}

/// The first log index that a follower with this answer does not confirm, when it was sent entries
/// up to `last`.
pub fn confirmed(reply: &AppendEntriesResponse<u64>, last: Option<EntryId>) -> u64 {
    let last = match reply {
        AppendEntriesResponse::Success => last,
        AppendEntriesResponse::PartialSuccess(part) => *part,
        AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => None,
    };
    last.map_or(0, |id| id.index + 1)
}

/// Encodes a message. The buffer has room for `size` bytes to begin with.
///
/// # Errors
/// When the value has no encoding.
pub fn encode(value: &impl Serialize, size: usize) -> Result<Bytes, postcard::Error> {
    postcard::to_extend(value, Vec::with_capacity(size)).map(Bytes::from)
}

/// Decodes a message from another node.
///
/// # Errors
/// When the bytes are none.
pub fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, postcard::Error> {
    postcard::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_takes_entries_confirms_them() {
        let id = |index| Some(EntryId::new(openraft::CommittedLeaderId::new(3, 1), index));
        let confirmed = |reply| confirmed(&reply, id(7));
        assert_eq!(confirmed(AppendEntriesResponse::Success), 8);
        assert_eq!(confirmed(AppendEntriesResponse::PartialSuccess(id(5))), 6);
        assert_eq!(confirmed(AppendEntriesResponse::PartialSuccess(None)), 0);
        assert_eq!(confirmed(AppendEntriesResponse::Conflict), 0);
        let higher = AppendEntriesResponse::HigherVote(openraft::Vote::new(9, 2));
        assert_eq!(confirmed(higher), 0);
    }
}

//! How the nodes of the Raft group reach each other. Connections and addresses are the transport's
//! business.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::protocol::ids::MemberId;

/// A call to another node of the Raft group, to be given to its
/// [`RaftNode::handle`](super::RaftNode::handle) as it is. Encoded, at most about 3 MiB.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rpc(pub(super) Bytes);

/// The answer to an [`Rpc`], to be given back to its caller as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RpcReply(pub(super) Bytes);

impl Rpc {
    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The other node certainly did not get the call.
    #[error("{0} cannot be reached")]
    Unreachable(MemberId),
    /// The other node may have acted on the call.
    #[error("no answer from {0}")]
    NoAnswer(MemberId),
}

/// Carries calls to other nodes.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Makes a call. Ends within about `timeout`; the future may be dropped at any time.
    fn call(
        &self,
        to: MemberId,
        request: Rpc,
        timeout: Duration,
    ) -> impl Future<Output = Result<RpcReply, TransportError>> + Send;

    /// Whether the member has been heard from lately, by the transport's own heartbeats. A hint:
    /// which nodes vote may depend on it, what is decided does not.
    fn alive(&self, member: MemberId) -> bool;
}

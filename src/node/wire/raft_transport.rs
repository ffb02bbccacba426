//! Carries the Raft group's calls over the connections between nodes.

use super::messages::{Request, Response};
use super::peers::Peers;
use crate::protocol::ids::MemberId;
use crate::raft::{Rpc, RpcReply, Transport, TransportError};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The connections, as the Raft group uses them.
#[derive(Clone)]
pub struct RaftTransport(Weak<Peers>);

impl RaftTransport {
    /// Over the connections to these. It does not keep them open.
    pub fn over(peers: &Arc<Peers>) -> Self {
        Self(Arc::downgrade(peers))
    }
}

impl Transport for RaftTransport {
    async fn call(
        &self,
        to: MemberId,
        request: Rpc,
        timeout: Duration,
    ) -> Result<RpcReply, TransportError> {
        let peers = self.0.upgrade().ok_or(TransportError::Unreachable(to))?;
        let request = Request::Raft(request);
        match peers.request(to, &request, timeout).await {
            Ok(Response::Raft(reply)) => Ok(reply),
            Ok(_) => Err(TransportError::NoAnswer(to)),
            Err(error) if error.definitely_not_sent() => Err(TransportError::Unreachable(to)),
            Err(_) => Err(TransportError::NoAnswer(to)),
        }
    }

    fn alive(&self, member: MemberId) -> bool {
        self.0.upgrade().is_some_and(|peers| peers.is_up(member))
    }
}

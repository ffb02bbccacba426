//! The connections to other nodes, as the council and the rest of the node use them.

use crate::council::{Rpc, RpcReply, Transport, TransportError};
use crate::net::{self, Net};
use crate::node::config::{AlsoSecret, Config};
use crate::node::member::Member;
use crate::node::wire::messages::{Envelope, Request, Response};
use crate::protocol::ids::MemberId;
use crate::protocol::views::Views;
use std::sync::Weak;
use std::time::Duration;

/// The connections that nodes use.
pub type Links = Net<Envelope, Request, Response>;

/// Versions of the wire format that this program speaks.
const WIRE_VERSIONS: (u16, u16) = (7, 7);

/// Who a node is to others as long as it is no member.
pub fn identity(config: &Config, cluster: &net::Belongs) -> net::Identity {
    let secret = config.cluster_secret.as_ref();
    let secret = secret.map(|s| net::Secret::new(s.as_bytes()));
    let also = config.also_secret.as_ref().map(|also| match also {
        AlsoSecret::Secret(s) => net::Accepted::Secret(net::Secret::new(s.as_bytes())),
        AlsoSecret::None => net::Accepted::None,
    });
    net::Identity {
        also,
        cluster: cluster.clone(),
        ..net::Identity::stranger(0, WIRE_VERSIONS, secret)
    }
}

/// The cluster that a node belongs to which knows these views.
pub fn belongs(views: Option<&Views>) -> net::Belongs {
    net::Belongs::to(views.and_then(|views| views.cluster.as_ref()))
}

/// Carries the council's calls.
#[derive(Clone)]
pub struct Peers(pub Weak<Member>);

impl Transport for Peers {
    async fn call(
        &self,
        to: MemberId,
        request: Rpc,
        timeout: Duration,
    ) -> Result<RpcReply, TransportError> {
        let member = self.0.upgrade();
        let links = member.as_ref().and_then(|m| m.links.get().cloned());
        // A call may take long: it must not keep the member.
        drop(member);
        let links = links.ok_or(TransportError::Unreachable(to))?;
        match links.request(to, &Request::Council(request), timeout).await {
            Ok(Response::Council(reply)) => Ok(reply),
            Ok(_) => Err(TransportError::NoAnswer(to)),
            Err(error) if error.definitely_not_sent() => Err(TransportError::Unreachable(to)),
            Err(_) => Err(TransportError::NoAnswer(to)),
        }
    }

    fn alive(&self, member: MemberId) -> bool {
        let me = self.0.upgrade();
        me.is_some_and(|me| me.presence.is_up(member))
    }
}

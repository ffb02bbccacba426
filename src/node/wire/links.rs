//! The kind of connection that nodes have to each other, how a node introduces itself, and single
//! calls beside the connections.

use super::messages::{Envelope, Request, Response};
use crate::net::{self, CallError, Net};
use crate::node::config::{AlsoSecret, Config};
use crate::node::error::StartError;
use crate::protocol::ids::MemberId;
use crate::protocol::views::Views;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// The connections that nodes use.
pub type Links = Net<Envelope, Request, Response>;

/// Versions of the wire format that this program speaks.
const WIRE_VERSIONS: (u16, u16) = (8, 8);

/// The identity of a node as long as it is no member.
pub fn stranger(config: &Config, cluster: &net::Belongs) -> net::NodeIdentity {
    let secret = config.cluster_secret.as_ref();
    let secret = secret.map(|secret| secret.key().clone());
    let also = config.also_secret.as_ref().map(|also| match also {
        AlsoSecret::Secret(secret) => net::Accepted::Secret(secret.key().clone()),
        AlsoSecret::None => net::Accepted::None,
    });
    net::NodeIdentity {
        also,
        cluster: cluster.clone(),
        ..net::NodeIdentity::stranger(0, WIRE_VERSIONS, secret)
    }
}

/// The cluster that a node belongs to which knows these views.
pub fn belongs(views: Option<&Views>) -> net::Belongs {
    net::Belongs::to(views.and_then(|views| views.cluster.as_ref()))
}

/// Listens for other nodes.
///
/// # Errors
/// When the address is taken.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| StartError::Listen { address, error })
}

/// Asks a node on a connection of its own. Only `to` is asked, or with `None` whoever is there.
///
/// # Errors
/// When nobody answers within the time, or not to this node.
pub async fn call(
    me: &net::NodeIdentity,
    address: SocketAddr,
    to: Option<MemberId>,
    request: &Request,
    within: Duration,
) -> Result<Response, CallError> {
    let limits = net::NetLimits::default();
    let (_, response) = net::call(me, address, to, request, &limits, within).await?;
    Ok(response)
}

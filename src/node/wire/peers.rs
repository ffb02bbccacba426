//! The other nodes, as a member reaches them: by its connections, or as a stranger where it has
//! none. Nobody else holds the connections, and nobody else knows which of them are up.

use super::links::{self, Links, belongs};
use super::messages::{Envelope, Request, Response};
use super::presence::Presence;
use crate::net::{self, CallError, RequestError};
use crate::node::config::Config;
use crate::protocol::cluster::Cluster;
use crate::protocol::ids::MemberId;
use crate::protocol::views::Views;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The other nodes.
pub struct Peers {
    config: Arc<Config>,
    me: MemberId,
    /// The cluster, as the hellos to other nodes name it.
    cluster: net::Belongs,
    /// Not there before the node listens.
    links: OnceLock<Links>,
    presence: Presence,
}

impl Peers {
    /// The other nodes of a member that knows these views. None is connected yet.
    pub fn new(config: Arc<Config>, me: MemberId, views: &Views) -> Self {
        Self {
            config,
            me,
            cluster: belongs(Some(views)),
            links: OnceLock::new(),
            presence: Presence::default(),
        }
    }

    /// From now on these connections are used.
    pub fn connected_by(&self, links: Links) {
        let _ = self.links.set(links);
    }

    /// The connections, once the node listens.
    pub fn links(&self) -> Option<&Links> {
        self.links.get()
    }

    /// Hellos name this cluster from now on.
    pub fn belong_to(&self, cluster: &Cluster) {
        self.cluster.set(cluster);
    }

    /// This node's identity as a stranger.
    pub fn stranger(&self) -> net::NodeIdentity {
        links::stranger(&self.config, &self.cluster)
    }

    /// Asks a member over the connection to it.
    ///
    /// # Errors
    /// When there is no connection, or no answer within the time.
    pub async fn request(
        &self,
        to: MemberId,
        request: &Request,
        within: Duration,
    ) -> Result<Response, RequestError> {
        match self.links.get() {
            Some(links) => links.request(to, request, within).await,
            None => Err(RequestError::NotConnected),
        }
    }

    /// Asks the node at an address for other nodes, as a stranger. Only `to` is asked, or with
    /// `None` whoever is there.
    ///
    /// # Errors
    /// When nobody answers within the time, or not to this node.
    pub async fn call(
        &self,
        address: SocketAddr,
        to: Option<MemberId>,
        request: &Request,
        within: Duration,
    ) -> Result<Response, CallError> {
        links::call(&self.stranger(), address, to, request, within).await
    }

    /// Queues a message for members. What cannot be queued is dropped and counted: the protocol
    /// sends it again.
    pub fn sender(&self) -> impl Fn(&[MemberId], Envelope) + Send + Sync + 'static {
        let links = self.links.get().cloned();
        move |to, envelope| {
            if let Some(links) = &links {
                links.broadcast(to, &envelope);
            }
        }
    }

    /// Connects to all of these members.
    pub fn meet(&self, members: &BTreeMap<MemberId, SocketAddr>) {
        let Some(links) = self.links.get() else {
            return;
        };
        for (member, http) in members {
            match self.config.peer_address(*http) {
                Some(address) => links.add_peer(*member, address),
                None => log::error!("{http} has no port for other nodes"),
            }
        }
    }

    /// Ends the connections to all but these members.
    pub fn leave_all_but(&self, members: &BTreeMap<MemberId, SocketAddr>) {
        let Some(links) = self.links.get() else {
            return;
        };
        let known = links.peers().into_iter().map(|peer| peer.member);
        for gone in known.filter(|m| !members.contains_key(m)) {
            links.remove_peer(gone);
        }
    }

    /// The connection to a member came up or went down.
    pub fn note(&self, member: MemberId, state: &net::PeerState) {
        match state {
            net::PeerState::Up { .. } => self.presence.up(member),
            net::PeerState::Down => self.presence.down(member),
        }
    }

    /// How long a member has been away; of one that never was there, since the first question.
    pub fn away(&self, member: MemberId) -> Option<Duration> {
        self.presence.away(member)
    }

    /// Whether the member is connected.
    pub fn is_up(&self, member: MemberId) -> bool {
        self.away(member).is_none()
    }

    /// Whether the member is this one, or connected.
    pub fn is_here(&self, member: MemberId) -> bool {
        member == self.me || self.is_up(member)
    }

    /// The members that are connected.
    pub fn up(&self) -> Vec<MemberId> {
        let peers = self.links.get().map(Links::peers).unwrap_or_default();
        let up = peers.into_iter().filter(|peer| peer.up.is_some());
        up.map(|peer| peer.member).collect()
    }

    /// Why another one of these members does not talk to this one, when none of them does.
    pub fn refused(&self, among: impl Fn(MemberId) -> bool) -> Option<String> {
        let peers = self.links.get()?.peers();
        refused(peers.into_iter().filter(|peer| among(peer.member)))
    }

    /// Ends all connections.
    pub async fn shutdown(&self) {
        if let Some(links) = self.links.get() {
            links.shutdown().await;
        }
    }
}

/// Why one of these ends does not talk to this node, when none of them does.
fn refused(peers: impl Iterator<Item = net::LinkStatus>) -> Option<String> {
    let mut why = None;
    for peer in peers {
        if peer.up.is_some() {
            return None;
        }
        let lasting = peer.refused.filter(net::HelloRefusal::is_lasting);
        why = why.or_else(|| Some(format!("{} at {}: {}", peer.member, peer.addr, lasting?)));
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::HelloRefusal::{BadSecret, NotMember};

    #[test]
    fn a_node_is_refused_when_nobody_is_connected_and_somebody_never_will_be() {
        let peer = |member, up, refused| net::LinkStatus {
            member: MemberId(member),
            addr: ([127, 0, 0, 1], member).into(),
            up,
            queued_bytes: 0,
            pending: 0,
            dropped: 0,
            refused,
        };
        let up = peer(1, Some(7), None);
        let away = peer(2, None, None);
        let busy = peer(3, None, Some(NotMember));
        let other = peer(4, None, Some(BadSecret));
        let why = |peers: &[&net::LinkStatus]| refused(peers.iter().copied().cloned());
        for peers in [
            &[] as &[_],
            &[&up],
            &[&away],
            &[&busy, &away],
            &[&other, &up],
        ] {
            assert_eq!(why(peers), None, "{peers:?}");
        }
        for peers in [&[&other] as &[_], &[&away, &busy, &other]] {
            let why = why(peers).unwrap_or_default();
            assert!(
                why.contains("127.0.0.1:4: the cluster secrets differ"),
                "{why}"
            );
        }
    }
}

//! Whether members that the Raft leader does not hear are heard by others.

use crate::node::wire::messages::{Request, Response};
use crate::node::wire::peers::Peers;
use crate::protocol::ids::MemberId;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;

/// Time for another node to say which members it hears.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// The members of `doubted` that another node hears: only the leader's own connection to them may
/// be broken.
pub async fn heard_by_others(peers: &Peers, doubted: BTreeSet<MemberId>) -> BTreeSet<MemberId> {
    let mut heard = BTreeSet::new();
    for one in doubted {
        let others = peers.up().into_iter().filter(|peer| *peer != one);
        let ask = others.map(async |peer| {
            let request = Request::Hears(one);
            let answer = peers.request(peer, &request, ANSWER_WITHIN).await;
            matches!(answer, Ok(Response::Hears(true)))
        });
        if join_all(ask).await.contains(&true) {
            heard.insert(one);
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{self, Net};
    use crate::node::config::Config;
    use crate::node::wire::links::Links;
    use crate::node::wire::messages::Envelope;
    use crate::protocol::view::View;
    use crate::protocol::views::Views;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use tokio::net::TcpListener;

    /// A node that hears this member and nobody else.
    struct Hears(MemberId);

    impl net::Handler<Envelope, Request, Response> for Hears {
        async fn message(&self, _from: net::PeerId, _envelope: Envelope) {}

        async fn request(&self, _from: net::PeerId, request: Request) -> Response {
            match request {
                Request::Hears(member) => Response::Hears(member == self.0),
                _ => Response::Refused("it only says whom it hears".to_owned()),
            }
        }
    }

    async fn node(member: MemberId, hears: MemberId) -> (Links, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = net::NetConfig {
            identity: net::NodeIdentity {
                member,
                incarnation: 1,
                fingerprint: [1; 32],
                ..net::NodeIdentity::stranger(0, (1, 1), None)
            },
            limits: net::NetLimits::default(),
            on_state: None,
        };
        (Net::start(config, listener, Hears(hears)), address)
    }

    #[tokio::test]
    async fn whom_another_node_hears_is_told_from_the_dead() {
        let [leader, one, other, heard, dead] = [0, 1, 2, 3, 4].map(MemberId);
        let (links, at) = node(leader, leader).await;
        let others = [node(one, heard).await, node(other, other).await];
        for (member, (node, address)) in [one, other].into_iter().zip(&others) {
            node.add_peer(leader, at);
            links.add_peer(member, *address);
        }
        let up = async {
            while links.peers().iter().any(|peer| peer.up.is_none()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let within = Duration::from_secs(20);
        tokio::time::timeout(within, up)
            .await
            .expect("they are connected");

        let lookup = |name: &str| (name == "ip_port").then(|| at.to_string());
        let config = Arc::new(Config::from_env(lookup).unwrap());
        let views = Views::first(View::first(&[at], 1).unwrap());
        let peers = Peers::new(config, leader, &views);
        peers.connected_by(links.clone());
        let found = heard_by_others(&peers, BTreeSet::from([heard, dead])).await;
        assert_eq!(found, BTreeSet::from([heard]));
        links.shutdown().await;
        for (other, _) in others {
            other.shutdown().await;
        }
    }
}

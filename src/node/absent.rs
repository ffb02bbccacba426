//! Which members do not answer, as far as the leader of the council can tell.

use super::peers::Links;
use super::presence::Presence;
use super::wire::{Request, Response};
use crate::protocol::ids::MemberId;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time for another node to say whom it hears.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// Members that the leader does not hear, and for how long.
pub(super) struct Absent(BTreeMap<MemberId, Duration>);

impl Absent {
    /// Whom of these a node does not hear that has led for `led` with a majority behind it. Before that it may have been
    /// the one that was cut off.
    pub(super) fn seen_by(
        presence: &Presence,
        members: impl Iterator<Item = MemberId>,
        led: Duration,
    ) -> Self {
        let away = |m: MemberId| Some((m, presence.away(m)?.min(led)));
        Self(members.filter_map(away).collect())
    }

    /// Takes those of `doubted` for present whom another node hears: it may be no more than the leader's own way to them.
    pub(super) async fn but_for_whom_others_hear(&mut self, links: &Links, doubted: &[MemberId]) {
        for &one in doubted {
            let others = links.peers().into_iter();
            let others = others.filter(|p| p.up.is_some() && p.member != one);
            let ask = others.map(async |peer| {
                let request = Request::Hears(one);
                let answer = links.request(peer.member, &request, ANSWER_WITHIN).await;
                matches!(answer, Ok(Response::Hears(true)))
            });
            if join_all(ask).await.contains(&true) {
                self.0.remove(&one);
            }
        }
    }

    /// Whether a member has not been heard for longer than this.
    pub(super) fn is_away(&self, member: MemberId, than: Duration) -> bool {
        self.0.get(&member).is_some_and(|away| *away > than)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Envelope;
    use super::*;
    use crate::net::{self, Net};
    use std::net::SocketAddr;
    use tokio::net::TcpListener;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn who_was_away_before_this_node_led_is_not_away_for_that() {
        let (presence, [here, gone, never]) = (Presence::default(), [1, 2, 3].map(MemberId));
        presence.up(here);
        presence.up(gone);
        presence.down(gone);
        let all = || [here, gone, never].into_iter();
        let _ = presence.away(never);
        while presence
            .away(never)
            .is_some_and(|away| away <= Duration::from_millis(1))
        {
            std::thread::yield_now();
        }
        let absent = Absent::seen_by(&presence, all(), Duration::from_millis(1));
        for member in [gone, never] {
            assert!(absent.is_away(member, Duration::ZERO), "{member}");
            let than = Duration::from_millis(1);
            assert!(
                !absent.is_away(member, than),
                "{member} was, but who was cut off?"
            );
        }
        let absent = Absent::seen_by(&presence, all(), LONG);
        assert!(absent.is_away(gone, Duration::from_millis(1)));
        assert!(!absent.is_away(gone, LONG));
        assert!(!absent.is_away(here, Duration::ZERO));
    }

    /// A node that hears this member and nobody else.
    struct Hears(MemberId);

    impl net::Handler<Envelope, Request, Response> for Hears {
        async fn message(&self, _from: net::Peer, _envelope: Envelope) {}

        async fn request(&self, _from: net::Peer, request: Request) -> Response {
            match request {
                Request::Hears(member) => Response::Hears(member == self.0),
                _ => Response::Refused("it only says whom it hears".to_owned()),
            }
        }
    }

    async fn node(member: MemberId, hears: MemberId) -> (Links, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = net::Config {
            identity: net::Identity {
                member,
                incarnation: 1,
                fingerprint: [1; 32],
                ..net::Identity::stranger(0, (1, 1), None)
            },
            limits: net::Limits::default(),
            on_state: None,
        };
        (Net::start(config, listener, Hears(hears)), address)
    }

    #[tokio::test]
    async fn whom_another_node_hears_is_not_away() {
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

        let mut absent = Absent([heard, dead].map(|member| (member, LONG)).into());
        absent
            .but_for_whom_others_hear(&links, &[heard, dead])
            .await;
        assert!(!absent.is_away(heard, Duration::ZERO));
        assert!(absent.is_away(dead, Duration::ZERO));
        links.shutdown().await;
        for (other, _) in others {
            other.shutdown().await;
        }
    }
}

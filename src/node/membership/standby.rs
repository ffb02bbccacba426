//! A node that is no member: it answers questions about views, waits to be invited, and asks others what it is.

use crate::council::Past;
use crate::net::{self, Net};
use crate::node::config::Config;
use crate::node::error::StartError;
use crate::node::membership::follow::ANSWER_WITHIN;
use crate::node::requests::router::listen;
use crate::node::wire::links::{Links, belongs, identity};
use crate::node::wire::messages::{Envelope, Request, Response, Standing};
use crate::protocol::ids::MemberId;
use crate::protocol::views::Views;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// At its start a node gives the others this long to tell it of newer views.
const SEEK: Duration = Duration::from_millis(500);
/// The pause before a node is asked again.
const SEEK_AGAIN: Duration = Duration::from_millis(20);

/// The connections of a node that is no member.
pub struct Standby {
    config: Arc<Config>,
    cluster: net::Belongs,
    links: Links,
    invited: watch::Receiver<Option<Arc<Views>>>,
}

impl Standby {
    /// Listens for other nodes. `known` are the newest views on the node's disk, if there are any.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(config: Arc<Config>, known: Option<Arc<Views>>) -> Result<Self, StartError> {
        let listener = listen(config.peer_bind).await?;
        let (invite, invited) = watch::channel(None);
        let cluster = belongs(known.as_deref());
        let server = Server {
            address: config.address,
            known,
            invite,
        };
        let net_config = net::Config {
            identity: identity(&config, &cluster),
            limits: net::Limits::default(),
            on_state: None,
        };
        let links = Net::start(net_config, listener, server);
        Ok(Self {
            config,
            cluster,
            links,
            invited,
        })
    }

    /// Waits until the node is invited: the views that name it.
    pub async fn invited(&mut self) -> Arc<Views> {
        let invited = self.invited.wait_for(Option::is_some).await;
        match invited.ok().and_then(|views| views.clone()) {
            Some(views) => views,
            // The connections are gone, and with them whoever could invite.
            None => std::future::pending().await,
        }
    }

    /// The newest views that others know and that this node may go over to, if they are newer than the ones it `knows`.
    /// Ends within half a second, and earlier when more than half of all, this node included, have answered.
    ///
    /// A node that is `new` has nothing on its disk: it may also be a member of a cluster that was started with another
    /// VIEW than its own, if that says so.
    pub async fn seek(
        &self,
        others: &[SocketAddr],
        known: &Views,
        new: bool,
    ) -> Option<Arc<Views>> {
        let address = self.config.address;
        let fits = |views: &Views| {
            let named = new && views.is_born() && member_at(views, address).is_some();
            known.may_become(views) || named
        };
        let mut asked: FuturesUnordered<_> = others
            .iter()
            .map(|other| self.ask(*other, known.version))
            .collect();
        let mut newest: Option<Box<Views>> = None;
        let enough = others.len().div_ceil(2);
        let mut answers = 0;
        let all = async {
            while answers < enough
                && let Some(standing) = asked.next().await
            {
                answers += 1;
                let found = newest.as_ref().map_or(known.version, |v| v.version);
                match standing.newer {
                    Some(newer) if !fits(&newer) => log::warn!("{}", stranger(&newer)),
                    Some(newer) if newer.version > found => newest = Some(newer),
                    _ => {}
                }
            }
        };
        let _ = tokio::time::timeout(SEEK, all).await;
        newest.map(Arc::from)
    }

    /// Asks a node until it answers.
    async fn ask(&self, other: SocketAddr, version: u64) -> Standing {
        let Some(address) = self.config.peer_address(other) else {
            return std::future::pending().await;
        };
        let me = identity(&self.config, &self.cluster);
        let limits = net::Limits::default();
        let request = Request::Standing { version };
        loop {
            let called = net::call(&me, address, None, &request, &limits, ANSWER_WITHIN).await;
            if let Ok((_, Response::Standing(standing))) = called {
                return standing;
            }
            tokio::time::sleep(SEEK_AGAIN).await;
        }
    }

    /// Lets go of the address.
    pub async fn stop(self) {
        self.links.shutdown().await;
    }
}

/// What is to be said of views of another cluster.
pub fn stranger(views: &Views) -> String {
    let cluster = views.cluster.map(|cluster| cluster.id.to_string());
    format!(
        "a node told of view {} of another cluster ({}), which is not taken over: it was started with another VIEW or \
         K, or is at an address that was a member's of this one",
        views.view.number,
        cluster.as_deref().unwrap_or("not born yet")
    )
}

/// The member at an address.
pub fn member_at(views: &Views, address: SocketAddr) -> Option<MemberId> {
    let next = views.next.as_ref();
    let next = next.and_then(|view| view.member_at(address));
    views.view.member_at(address).or(next)
}

struct Server {
    address: SocketAddr,
    known: Option<Arc<Views>>,
    invite: watch::Sender<Option<Arc<Views>>>,
}

impl net::Handler<Envelope, Request, Response> for Server {
    async fn message(&self, _from: net::Peer, _envelope: Envelope) {}

    async fn request(&self, _from: net::Peer, request: Request) -> Response {
        let known = self.known.as_ref();
        match request {
            Request::Standing { version } => Response::Standing(Standing {
                newer: known
                    .filter(|v| v.version > version)
                    .map(|v| Box::new(Views::clone(v))),
                // It may have been a member: its disk is not asked.
                past: Past::Unknown,
                settled: true,
            }),
            Request::Invite(views) => {
                let fits = known.is_none_or(|known| known.may_become(&views)) && views.is_born();
                if !fits || member_at(&views, self.address).is_none() {
                    return Response::Refused(format!("{} is not named", self.address));
                }
                let views = Arc::from(views);
                // Two clusters may want it at the same moment: it goes with the first one.
                let free = self
                    .invite
                    .send_if_modified(|invited: &mut Option<Arc<Views>>| {
                        let earlier = invited.as_ref();
                        let free = earlier.is_none_or(|earlier| earlier.may_become(&views));
                        if free {
                            *invited = Some(views);
                        }
                        free
                    });
                match free {
                    true => Response::Coming,
                    false => Response::Refused(format!("{} was invited already", self.address)),
                }
            }
            Request::Operation(_)
            | Request::Council(_)
            | Request::Progress
            | Request::Hears(_)
            | Request::Order(_)
            | Request::Offer(_) => Response::Refused(format!("{} is no member", self.address)),
        }
    }
}

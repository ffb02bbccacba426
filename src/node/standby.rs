//! A node that is no member: it answers questions about views, waits to be invited, and asks others what it is.

use super::StartError;
use super::config::Config;
use super::follow::ANSWER_WITHIN;
use super::forward::listen;
use super::peers::{Links, identity};
use super::wire::{Envelope, Request, Response, Standing};
use crate::council::Past;
use crate::net::{self, Net};
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
    links: Links,
    invited: watch::Receiver<Option<Arc<Views>>>,
}

impl Standby {
    /// Listens for other nodes. `known` are the newest views that a node knows which is a member no more.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(config: Arc<Config>, known: Option<Arc<Views>>) -> Result<Self, StartError> {
        let listener = listen(config.peer_bind).await?;
        let (invite, invited) = watch::channel(None);
        let server = Server {
            address: config.address,
            known,
            invite,
        };
        let net_config = net::Config {
            identity: identity(&config),
            limits: net::Limits::default(),
            on_state: None,
        };
        let links = Net::start(net_config, listener, server);
        Ok(Self {
            config,
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

    /// The newest views that others know, if they are newer than `version`. Ends within half a second, and earlier when
    /// more than half of all, this node included, have answered.
    pub async fn seek(&self, others: &[SocketAddr], version: u64) -> Option<Arc<Views>> {
        let mut asked: FuturesUnordered<_> = others
            .iter()
            .map(|other| self.ask(*other, version))
            .collect();
        let mut newest: Option<Box<Views>> = None;
        let enough = others.len().div_ceil(2);
        let mut answers = 0;
        let all = async {
            while answers < enough
                && let Some(standing) = asked.next().await
            {
                answers += 1;
                let known = newest.as_ref().map_or(version, |v| v.version);
                if let Some(newer) = standing.newer.filter(|v| v.version > known) {
                    newest = Some(newer);
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
        let (me, limits) = (identity(&self.config), net::Limits::default());
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
                let newer = known.is_none_or(|known| views.version > known.version);
                if !newer || member_at(&views, self.address).is_none() {
                    return Response::Refused(format!("{} is not named", self.address));
                }
                self.invite.send_replace(Some(Arc::from(views)));
                Response::Coming
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

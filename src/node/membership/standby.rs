//! A node that is no member: it answers questions about views, waits to be invited, and asks others
//! what it is.

use super::knowledge::foreign_views;
use crate::net;
use crate::node::config::Config;
use crate::node::identity::member_at;
use crate::node::wire::links::{self, Links};
use crate::node::wire::messages::{Request, Response, ViewsKnown};
use crate::protocol::views::Views;
use crate::raft::GroupPast;
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
/// Time for an answer to what a node asks.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// The views that invite a node, as soon as there are any.
type Invited = watch::Receiver<Option<Arc<Views>>>;

/// A node that is no member.
pub struct Standby {
    config: Arc<Config>,
    cluster: net::Belongs,
    links: Links,
    invited: Invited,
}

impl Standby {
    /// A standby that listens by `links`; invitations arrive at `invited`.
    pub fn new(config: Arc<Config>, cluster: net::Belongs, links: Links, invited: Invited) -> Self {
        Self {
            config,
            cluster,
            links,
            invited,
        }
    }

    /// Waits until the node is invited: the views that name it.
    pub async fn invited(&mut self) -> Arc<Views> {
        let invited = self.invited.wait_for(Option::is_some).await;
        match invited.ok().and_then(|views| views.clone()) {
            Some(views) => views,
            // The connections are gone, so nobody can invite this node any more.
            None => std::future::pending().await,
        }
    }

    /// The newest views that others know and that this node may go over to, if they are newer than
    /// the ones it `knows`. Ends within half a second, and earlier when more than half of all, this
    /// node included, have answered.
    ///
    /// A node that is `new` has nothing on its disk: it may also be a member of a cluster that was
    /// started with another VIEW than its own, if that says so.
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
                && let Some(told) = asked.next().await
            {
                answers += 1;
                let found = newest.as_ref().map_or(known.version, |v| v.version);
                match told.newer {
                    Some(newer) if !fits(&newer) => log::warn!("{}", foreign_views(&newer)),
                    Some(newer) if newer.version > found => newest = Some(newer),
                    _ => {}
                }
            }
        };
        let _ = tokio::time::timeout(SEEK, all).await;
        newest.map(Arc::from)
    }

    /// Asks a node until it answers.
    async fn ask(&self, other: SocketAddr, version: u64) -> ViewsKnown {
        let Some(address) = self.config.peer_address(other) else {
            return std::future::pending().await;
        };
        let me = links::stranger(&self.config, &self.cluster);
        let request = Request::ViewsKnown { version };
        loop {
            let called = links::call(&me, address, None, &request, ANSWER_WITHIN).await;
            if let Ok(Response::ViewsKnown(told)) = called {
                return told;
            }
            tokio::time::sleep(SEEK_AGAIN).await;
        }
    }

    /// Lets go of the address.
    pub async fn stop(self) {
        self.links.shutdown().await;
    }
}

/// The server of a node that is no member.
pub struct Invitations {
    address: SocketAddr,
    known: Option<Arc<Views>>,
    invite: watch::Sender<Option<Arc<Views>>>,
}

impl Invitations {
    /// For the node at an address, which knows these views; and where it hears of an invitation.
    pub fn new(address: SocketAddr, known: Option<Arc<Views>>) -> (Self, Invited) {
        let (invite, invited) = watch::channel(None);
        let invitations = Self {
            address,
            known,
            invite,
        };
        (invitations, invited)
    }

    /// The node's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// This node's views, for a node that knows views up to `version`.
    pub fn views_known(&self, version: u64) -> ViewsKnown {
        let newer = self.known.as_ref().filter(|v| v.version > version);
        ViewsKnown {
            newer: newer.map(|v| Box::new(Views::clone(v))),
            // The node may have been a member: its disk is not asked.
            past: GroupPast::Unknown,
            settled: true,
        }
    }

    /// Takes an invitation, if it is for this node.
    pub fn take(&self, views: Box<Views>) -> Response {
        let known = self.known.as_ref();
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
}

//! Requests of other nodes, and which role answers which.
//!
//! | asked                 | a member                  | a standby            | a failed node |
//! |-----------------------|---------------------------|----------------------|---------------|
//! | `ViewsKnown`          | anybody                   | anybody              | -             |
//! | `Offer`               | anybody                   | refused: no member   | -             |
//! | `Order`               | anybody                   | refused: no member   | anybody       |
//! | `Invite`              | refused: it is one        | anybody              | -             |
//! | `Operations`          | members                   | refused: no member   | -             |
//! | `Raft`                | members                   | refused: no member   | -             |
//! | `Progress`            | members                   | refused: no member   | -             |
//! | `Hears`               | members                   | refused: no member   | -             |
//! | a message             | members                   | dropped              | dropped       |
//!
//! "Anybody" takes in strangers: nodes without a number in this cluster. Where a failed node has
//! "-" it gives no answer at all, as a dead one.

use super::config::Config;
use super::error::StartError;
use super::member::Member;
use super::membership::fault::Switch;
use super::membership::standby::{Invitations, Standby};
use super::requests::orphans;
use super::wire::links::{Links, belongs, listen, stranger};
use super::wire::messages::{Envelope, Request, Response, Together};
use crate::net::{self, Net};
use crate::protocol::ids::MemberId;
use crate::protocol::replica::Event;
use crate::protocol::views::Views;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Time for the answer to an order to leave. What else was asked of a failed node is never
/// answered.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// The node, in its role, as the server of other nodes' requests.
enum Server {
    Member(Weak<Member>),
    Standby(Invitations),
    Failed(Arc<Switch>),
}

impl net::Handler<Envelope, Request, Response> for Server {
    async fn message(&self, from: net::PeerId, envelope: Envelope) {
        let Self::Member(member) = self else {
            return;
        };
        let Some(member) = member.upgrade() else {
            return;
        };
        member.router().heard(from.member);
        let event = Event::Message {
            from: from.member,
            incarnation: envelope.incarnation,
            message: envelope.message,
        };
        member.inbox().send(event).await;
    }

    async fn request(&self, from: net::PeerId, request: Request) -> Response {
        match self {
            Self::Member(member) => match member.upgrade() {
                Some(member) => answer(Role::Member(&member), from.member, request).await,
                None => Response::Refused("it is ending".to_owned()),
            },
            Self::Standby(standby) => answer(Role::Standby(standby), from.member, request).await,
            Self::Failed(switch) => answer(Role::Failed(switch), from.member, request).await,
        }
    }
}

/// The role of the node that is asked.
enum Role<'a> {
    Member(&'a Member),
    Standby(&'a Invitations),
    Failed(&'a Switch),
}

/// The table above.
async fn answer(role: Role<'_>, from: MemberId, request: Request) -> Response {
    match (request, role) {
        (Request::Order(order), Role::Failed(switch)) => {
            switch.take(order);
            Response::Condition(switch.condition())
        }
        // As a dead node answers: the caller's time runs out.
        (_, Role::Failed(_)) => std::future::pending().await,

        // A node without a member number may ask for views, offer orphaned writes, and pass on an
        // operator's order.
        (Request::ViewsKnown { version }, Role::Member(member)) => {
            Response::ViewsKnown(member.membership().views_known(version).await)
        }
        (Request::ViewsKnown { version }, Role::Standby(standby)) => {
            Response::ViewsKnown(standby.views_known(version))
        }
        (Request::Offer(offer), Role::Member(member)) => {
            member.membership().offers().heard(&offer.state);
            Response::Offered(orphans::adopt(member.router(), offer).await)
        }
        (Request::Order(order), Role::Member(member)) => Response::Condition(member.obey(order)),
        (Request::Invite(views), Role::Standby(standby)) => standby.take(views),

        (_, Role::Standby(standby)) => {
            Response::Refused(format!("{} is no member", standby.address()))
        }
        (_, Role::Member(member)) if from == net::STRANGER => {
            Response::Refused(format!("it is {} of a cluster", member.me()))
        }

        (Request::Operations(Together(operations)), Role::Member(member)) => {
            Response::Operations(member.router().serve(operations).await)
        }
        (Request::Raft(rpc), Role::Member(member)) => match member.membership().raft() {
            Some(raft) => Response::Raft(raft.handle(rpc).await),
            None => Response::Refused("it is starting".to_owned()),
        },
        (Request::Progress, Role::Member(member)) => {
            Response::Progress(member.membership().progress())
        }
        (Request::Hears(other), Role::Member(member)) => {
            Response::Hears(member.membership().peers().is_here(other))
        }
        (Request::Invite(_), Role::Member(member)) => {
            Response::Refused(format!("it is {} already", member.me()))
        }
    }
}

/// Serves other nodes as a member, and connects to those that its views name.
///
/// # Errors
/// When the address is taken.
pub async fn as_member(member: &Arc<Member>, incarnation: u64) -> Result<(), StartError> {
    let (config, membership) = (member.config(), member.membership());
    let listener = listen(config.peer_bind).await?;
    let weak = Arc::downgrade(member);
    let on_state: net::OnState = Arc::new(move |other, state| {
        let Some(member) = weak.upgrade() else {
            return;
        };
        let membership = member.membership();
        // The sender or this node may have been away: or it takes this node for a member no more.
        membership.knowledge().ask_soon();
        membership.peers().note(other, &state);
        if let net::PeerState::Down = state {
            // Liveness shows it a little later all the same, should the queue be full.
            let _ = member.inbox().offer(Event::Down(other));
        }
    });
    let views = member.known();
    let net_config = net::NetConfig {
        identity: net::NodeIdentity {
            member: member.me(),
            incarnation,
            fingerprint: views.view.fingerprint(),
            ..membership.peers().stranger()
        },
        limits: net::NetLimits::default(),
        on_state: Some(on_state),
    };
    let server = Server::Member(Arc::downgrade(member));
    let links = Net::start(net_config, listener, server);
    membership.peers().connected_by(links);
    membership.peers().meet(&views.members());
    Ok(())
}

/// Serves other nodes as one that is no member. `known` are the newest views on the node's disk, if
/// there are any.
///
/// # Errors
/// When the address is taken.
pub async fn as_standby(
    config: &Arc<Config>,
    known: Option<Arc<Views>>,
) -> Result<Standby, StartError> {
    let listener = listen(config.peer_bind).await?;
    let cluster = belongs(known.as_deref());
    let (invitations, invited) = Invitations::new(config.address, known);
    let net_config = net::NetConfig {
        identity: stranger(config, &cluster),
        limits: net::NetLimits::default(),
        on_state: None,
    };
    let links = Net::start(net_config, listener, Server::Standby(invitations));
    Ok(Standby::new(Arc::clone(config), cluster, links, invited))
}

/// The rest of a failed node: it hears orders, where the member listened.
///
/// # Errors
/// When the address is taken.
pub async fn as_failed(
    config: &Config,
    views: &Views,
    switch: Arc<Switch>,
) -> Result<Links, StartError> {
    let listener = listen(config.peer_bind).await?;
    let net_config = net::NetConfig {
        identity: stranger(config, &belongs(Some(views))),
        limits: net::NetLimits {
            drain: LAST_WORDS,
            ..net::NetLimits::default()
        },
        on_state: None,
    };
    Ok(Net::start(net_config, listener, Server::Failed(switch)))
}

#[cfg(test)]
mod tests {
    use super::super::wire::messages::{Condition, Order};
    use super::*;
    use crate::protocol::view::View;
    use std::net::SocketAddr;

    fn views() -> Views {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Views::first(View::first(&[at(1), at(2)], 1).unwrap())
    }

    async fn asked(role: Role<'_>, request: Request) -> Option<Response> {
        let within = Duration::from_millis(20);
        let answered = tokio::time::timeout(within, answer(role, net::STRANGER, request));
        answered.await.ok()
    }

    /// Requests that only a member answers.
    fn for_members() -> [Request; 2] {
        [Request::Progress, Request::Hears(MemberId(1))]
    }

    #[tokio::test]
    async fn a_standby_tells_what_it_knows_and_does_nothing_for_others() {
        let address = SocketAddr::from(([127, 0, 0, 1], 3));
        let (standby, _invited) = Invitations::new(address, Some(Arc::new(views())));
        let standby = || Role::Standby(&standby);
        let told = asked(standby(), Request::ViewsKnown { version: 0 }).await;
        assert!(matches!(told, Some(Response::ViewsKnown(s)) if s.newer.is_some()));
        let order = Request::Order(Order::Fail);
        for request in for_members().into_iter().chain([order]) {
            let refused = asked(standby(), request).await;
            assert!(matches!(refused, Some(Response::Refused(_))), "{refused:?}");
        }
        let invite = Request::Invite(Box::new(views()));
        let refused = asked(standby(), invite).await;
        assert!(matches!(refused, Some(Response::Refused(_))), "not named");
    }

    #[tokio::test]
    async fn a_failed_node_hears_orders_and_answers_nothing_else() {
        let switch = Switch::new();
        switch.take(Order::Fail);
        let failed = || Role::Failed(&switch);
        let question = Request::ViewsKnown { version: 0 };
        for request in for_members().into_iter().chain([question]) {
            assert!(asked(failed(), request).await.is_none());
        }
        let looked = asked(failed(), Request::Order(Order::Look)).await;
        assert!(matches!(
            looked,
            Some(Response::Condition(Condition::Failed))
        ));
        asked(failed(), Request::Order(Order::Recover)).await;
        assert!(!switch.is_down());
    }
}

//! Fault injection: a node that acts as a dead one, and comes back when it is told to.
//!
//! To fail is to end as a member: the connections, the council's part and the replica stop, and the disk is let go.
//! What stays is the process with its HTTP surface, and an ear for orders on the port for other nodes; whatever else
//! comes there gets no answer. To recover is to start again from the disk, by the same way as a process that was
//! killed: newer views are asked for, the replica is compared with a live peer, and then it serves.
//!
//! Nothing of this is on disk: a restart of the process ends it. A fault that was made on purpose must not outlast what
//! an operator does to get rid of one.

use crate::net::{self, Net};
use crate::node::config::Config;
use crate::node::error::StartError;
use crate::node::member::{Absence, Member};
use crate::node::requests::router::listen;
use crate::node::wire::links::{Links, belongs, identity};
use crate::node::wire::messages::{Envelope, Request, Response};
use crate::node::{Node, Role};
use crate::protocol::ids::MemberId;
use crate::protocol::replica::GIVEN_UP;
use crate::protocol::view::PartitionId;
use crate::protocol::views::Views;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Time for a node to answer an order or a look.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);
/// Time between looks at whether an order has been carried out.
const LOOK: Duration = Duration::from_millis(20);
/// Time for the answer to an order to leave. What else was asked of a failed node is never answered.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// An order is answered after this long, whether it has been carried out or not.
const DONE_WITHIN: Duration = Duration::from_secs(8);

/// What one node tells another to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    Fail,
    Recover,
    /// Nothing: only to say how it is.
    Look,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    Serving,
    /// It runs and does not serve yet, and why.
    Starting(String),
    /// It acts as a dead node.
    Failed,
}

/// A node of the view, as others find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub member: MemberId,
    pub address: SocketAddr,
    /// `None` while it comes or goes.
    pub partition: Option<PartitionId>,
    /// `None` when it does not answer.
    pub condition: Option<Condition>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotObeyed {
    #[error("{0} does not answer")]
    Silent(SocketAddr),
    #[error("{address} was told to, and has not done it within {} s", DONE_WITHIN.as_secs())]
    Late { address: SocketAddr },
}

/// Whether a node is to act as a dead one.
#[derive(Debug)]
pub(in crate::node) struct Switch(watch::Sender<bool>);

impl Switch {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(false)))
    }

    pub fn take(&self, order: Order) {
        let down = match order {
            Order::Fail => true,
            Order::Recover => false,
            Order::Look => return,
        };
        self.0
            .send_if_modified(|was| std::mem::replace(was, down) != down);
    }

    /// How a failed node is.
    fn condition(&self) -> Condition {
        match self.is_down() {
            true => Condition::Failed,
            false => Condition::Starting("it is coming back".to_owned()),
        }
    }

    pub fn is_down(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the node is to be dead, or to live.
    pub async fn turns(&self, down: bool) {
        // The sender lives as long as this does.
        let _ = self.0.subscribe().wait_for(|now| *now == down).await;
    }
}

/// What is left of a failed node: an ear for orders.
pub(in crate::node) struct Ear(Links);

impl Ear {
    /// Listens where the member did.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(
        config: &Config,
        views: &Views,
        switch: Arc<Switch>,
    ) -> Result<Self, StartError> {
        let listener = listen(config.peer_bind).await?;
        let net_config = net::Config {
            identity: identity(config, &belongs(Some(views))),
            limits: net::Limits {
                drain: LAST_WORDS,
                ..net::Limits::default()
            },
            on_state: None,
        };
        Ok(Self(Net::start(net_config, listener, Deaf(switch))))
    }

    /// Lets go of the address.
    pub async fn stop(self) {
        self.0.shutdown().await;
    }
}

/// Hears orders, and nothing else.
struct Deaf(Arc<Switch>);

impl net::Handler<Envelope, Request, Response> for Deaf {
    async fn message(&self, _from: net::Peer, _envelope: Envelope) {}

    async fn request(&self, _from: net::Peer, request: Request) -> Response {
        let Request::Order(order) = request else {
            // As a dead node answers: the caller's time runs out.
            return std::future::pending().await;
        };
        self.0.take(order);
        Response::Condition(self.0.condition())
    }
}

impl Member {
    /// Takes an order from another node.
    pub(in crate::node) fn obey(&self, order: Order) -> Condition {
        self.switch.take(order);
        self.condition()
    }

    fn condition(&self) -> Condition {
        if self.switch.is_down() {
            return Condition::Starting("it is about to fail".to_owned());
        }
        match (self.absence(), self.ready()) {
            (None, Ok(())) => Condition::Serving,
            (None, Err(why)) => Condition::Starting(why),
            (Some(Absence::Joining), _) => Condition::Starting("it is being added".to_owned()),
            (Some(Absence::GivenUp), _) => Condition::Starting(GIVEN_UP.to_owned()),
            (Some(Absence::Left { view }), _) => {
                Condition::Starting(format!("it is not in view {view} any more"))
            }
        }
    }
}

impl Node {
    /// The newest views that the node knows; `None` when it is in none.
    pub fn views(&self) -> Option<Arc<Views>> {
        match &*self.role() {
            Role::Member(member) => Some(member.known()),
            Role::Failed { views, .. } => Some(Arc::clone(views)),
            Role::Standby | Role::Removed { .. } => None,
        }
    }

    /// All nodes of these views, each asked how it is: within a second.
    pub async fn find_all(&self, views: &Views) -> Vec<Found> {
        let members = views.members().into_iter();
        join_all(members.map(|(member, address)| async move {
            Found {
                member,
                address,
                partition: views.view.partition_of(member),
                condition: self.tell(address, Order::Look).await,
            }
        }))
        .await
    }

    /// Has a node fail or recover, and waits until it has: a recovered one until it serves again. Says how it is then.
    ///
    /// # Errors
    /// When it does not answer, or not as it was told within some seconds.
    pub async fn order(&self, address: SocketAddr, order: Order) -> Result<Condition, NotObeyed> {
        let began = Instant::now();
        let told = self.tell(address, order).await;
        let mut last = Some(told.ok_or(NotObeyed::Silent(address))?);
        loop {
            let obeyed = match order {
                Order::Fail => last == Some(Condition::Failed),
                Order::Recover => last == Some(Condition::Serving),
                Order::Look => last.is_some(),
            };
            match last {
                Some(condition) if obeyed => return Ok(condition),
                // It is back. That it has not caught up is not for want of obeying.
                Some(condition @ Condition::Starting(_))
                    if order == Order::Recover && began.elapsed() > DONE_WITHIN =>
                {
                    return Ok(condition);
                }
                _ if began.elapsed() > DONE_WITHIN => return Err(NotObeyed::Late { address }),
                // Between two roles it does not listen for a moment.
                _ => tokio::time::sleep(LOOK).await,
            }
            last = self.tell(address, Order::Look).await;
        }
    }

    /// Gives an order to a node, this one included: how it is, if it answers.
    async fn tell(&self, address: SocketAddr, order: Order) -> Option<Condition> {
        let config = self.config();
        if address == config.address {
            self.state.switch.take(order);
            return match &*self.role() {
                Role::Member(member) => Some(member.condition()),
                Role::Failed { silent: true, .. } => Some(self.state.switch.condition()),
                Role::Failed { silent: false, .. } => {
                    Some(Condition::Starting("it is about to fail".to_owned()))
                }
                Role::Standby | Role::Removed { .. } => None,
            };
        }
        // As a stranger: whatever the node is at the moment, and whatever this one is.
        let me = identity(config, &belongs(self.views().as_deref()));
        let limits = net::Limits::default();
        let (peer, request) = (config.peer_address(address)?, Request::Order(order));
        match net::call(&me, peer, None, &request, &limits, ANSWER_WITHIN).await {
            Ok((_, Response::Condition(condition))) => Some(condition),
            _ => None,
        }
    }
}

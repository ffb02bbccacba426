//! Fault injection, for an operator who asks any node: a node is found, and told to fail or to
//! recover. What that does to it stands in `life.rs`.

use super::life::Node;
use super::role::Role;
use super::wire::links::{belongs, call, stranger};
use super::wire::messages::{Condition, Order, Request, Response};
use crate::protocol::ids::MemberId;
use crate::protocol::view::PartitionId;
use crate::protocol::views::Views;
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time for a node to answer an order or a look.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);
/// Time between looks at whether an order has been carried out.
const LOOK: Duration = Duration::from_millis(20);
/// An order is answered after this long, whether it has been carried out or not.
const DONE_WITHIN: Duration = Duration::from_secs(8);

/// A node of the view, as others find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNode {
    /// Its number.
    pub member: MemberId,
    /// Its address.
    pub address: SocketAddr,
    /// `None` while it comes or goes.
    pub partition: Option<PartitionId>,
    /// `None` when it does not answer.
    pub condition: Option<Condition>,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NotObeyed {
    /// The node does not answer.
    #[error("{0} does not answer")]
    Silent(SocketAddr),
    /// The node has not done so yet.
    #[error("{address} was told to, and has not done it within {} s", DONE_WITHIN.as_secs())]
    Late {
        /// The node.
        address: SocketAddr,
    },
}

impl Node {
    /// The newest views that the node knows; `None` when it is in none.
    pub fn views(&self) -> Option<Arc<Views>> {
        match &*self.role() {
            Role::Member(member) => Some(member.known()),
            Role::Failed { views, .. } | Role::Broken { views } => Some(Arc::clone(views)),
            Role::Standby | Role::Removed { .. } => None,
        }
    }

    /// All nodes of these views, each asked how it is: within a second.
    pub async fn find_all(&self, views: &Views) -> Vec<FoundNode> {
        let members = views.members().into_iter();
        join_all(members.map(|(member, address)| async move {
            FoundNode {
                member,
                address,
                partition: views.view.partition_of(member),
                condition: self.tell(address, Order::Look).await,
            }
        }))
        .await
    }

    /// Has a node fail or recover, and waits until it has: a recovered one until it serves again.
    /// Says how it is then.
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
                // The node is back. That it has not caught up is not for want of obeying.
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
            self.switch().take(order);
            return match &*self.role() {
                Role::Member(member) => Some(member.condition()),
                Role::Failed { silent: true, .. } => Some(self.switch().condition()),
                Role::Failed { silent: false, .. } => {
                    Some(Condition::Starting("it is about to fail".to_owned()))
                }
                Role::Broken { .. } => Some(Condition::Starting("storing failed there".to_owned())),
                Role::Standby | Role::Removed { .. } => None,
            };
        }
        // As a stranger: whatever the node is at the moment, and whatever this one is.
        let me = stranger(config, &belongs(self.views().as_deref()));
        let (peer, request) = (config.peer_address(address)?, Request::Order(order));
        match call(&me, peer, None, &request, ANSWER_WITHIN).await {
            Ok(Response::Condition(condition)) => Some(condition),
            _ => None,
        }
    }
}

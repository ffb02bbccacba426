//! Fault injection: the switch by which a node acts as a dead one, and comes back.
//!
//! To fail is to end as a member: the connections, the part in the Raft group and the replica stop,
//! and the disk is let go. What stays is the process with its HTTP surface, and an ear for orders
//! on the port for other nodes; whatever else comes there gets no answer. To recover is to start
//! again from the disk, by the same way as a process that was killed: newer views are asked for,
//! the replica is compared with a live peer, and then it serves.
//!
//! Nothing of this is on disk: a restart of the process ends it. A fault that was made on purpose
//! must not outlast what an operator does to get rid of one.

use crate::node::wire::messages::{Condition, Order};
use std::sync::Arc;
use tokio::sync::watch;

/// Whether a node is to act as a dead one.
#[derive(Debug)]
pub struct Switch(watch::Sender<bool>);

impl Switch {
    /// The switch of a node that is to live.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(false)))
    }

    /// Takes an order.
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
    pub fn condition(&self) -> Condition {
        match self.is_down() {
            true => Condition::Failed,
            false => Condition::Starting("it is coming back".to_owned()),
        }
    }

    /// Whether the node is to be dead.
    pub fn is_down(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the node is to be dead, or to live.
    pub async fn turns(&self, down: bool) {
        // The sender lives as long as this does.
        let _ = self.0.subscribe().wait_for(|now| *now == down).await;
    }
}

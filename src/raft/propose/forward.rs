//! Forwarding of proposals to a leader elsewhere: those that wait go together, in one call.
//!
//! At most two calls to the same leader are under way, and meanwhile proposals gather. Calls to a
//! former leader do not hold up those to the next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::protocol::ids::MemberId;
use crate::raft::propose::batch::Proposals;
use crate::raft::propose::decide::{BATCH, BATCH_BYTES};
use crate::raft::rpc::{self, RaftCallError, RaftRefusal, RaftReply, RaftRequest};
use crate::raft::runtime;
use crate::raft::transport::{Transport, TransportError};
use crate::raft::types::ProposalResult;

/// Calls to one leader that are under way, at most.
const CALLS: usize = 2;
/// Proposals that may wait.
const QUEUE: usize = 8192;

/// The result of a forwarded proposal.
#[derive(Clone)]
pub enum Delivery {
    Answered(ProposalResult),
    /// The leader refused: not done.
    Refused(RaftRefusal),
    /// The proposal certainly did not arrive.
    NotSent,
    /// The proposal may have arrived.
    Unsure,
}

struct Outgoing {
    to: MemberId,
    proposal: Proposals,
    back: oneshot::Sender<Delivery>,
}

/// Takes proposals to leaders. Clones share the queue.
#[derive(Clone)]
pub struct Forwarder(mpsc::Sender<Outgoing>);

impl Forwarder {
    /// Starts the task that sends. It ends with `stop`. A call ends within `timeout`.
    pub fn start<T: Transport>(
        transport: T,
        timeout: Duration,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let sending = send(transport, timeout, waiting, tasks.clone());
        runtime::spawn(tasks, async move {
            stop.run_until_cancelled(sending).await;
        });
        Self(queue)
    }

    /// Forwards a proposal to a leader.
    pub async fn deliver(&self, to: MemberId, proposal: Proposals) -> Delivery {
        let (back, answer) = oneshot::channel();
        match self.0.try_send(Outgoing { to, proposal, back }) {
            Ok(()) => answer.await.unwrap_or(Delivery::Unsure),
            Err(_) => Delivery::NotSent,
        }
    }
}

async fn send<T: Transport>(
    transport: T,
    timeout: Duration,
    mut waiting: mpsc::Receiver<Outgoing>,
    tasks: TaskTracker,
) {
    let mut next = None;
    let mut leader = (None, Arc::new(Semaphore::new(CALLS)));
    loop {
        let mut first = match next.take() {
            Some(outgoing) => outgoing,
            None => match waiting.recv().await {
                Some(outgoing) => outgoing,
                None => return,
            },
        };
        let to = first.to;
        if leader.0 != Some(to) {
            leader = (Some(to), Arc::new(Semaphore::new(CALLS)));
        }
        // A caller that has stopped waiting, for there is another leader, must not hold up the
        // rest.
        let call = tokio::select! {
            biased;
            call = Arc::clone(&leader.1).acquire_owned() => call,
            () = first.back.closed() => continue,
        };
        let Ok(call) = call else {
            return;
        };
        let mut bytes = first.proposal.bytes();
        let (mut proposals, mut back) = (vec![first.proposal], vec![first.back]);
        // A batch is to fit into one log entry.
        while proposals.len() < BATCH {
            let Ok(outgoing) = waiting.try_recv() else {
                break;
            };
            // Its caller has stopped waiting, and asks again if it still wants to know.
            if outgoing.back.is_closed() {
                continue;
            }
            bytes += outgoing.proposal.bytes();
            if outgoing.to != to || bytes > BATCH_BYTES {
                next = Some(outgoing);
                break;
            }
            proposals.push(outgoing.proposal);
            back.push(outgoing.back);
        }
        let transport = transport.clone();
        runtime::spawn(&tasks, async move {
            let request = RaftRequest::Propose(Proposals::join(&proposals));
            let reply = rpc::call(&transport, to, &request, timeout).await;
            drop(call);
            hand_out(reply, back);
        });
    }
}

fn hand_out(reply: Result<RaftReply, RaftCallError>, back: Vec<oneshot::Sender<Delivery>>) {
    let mut answers = Vec::new();
    let otherwise = match reply {
        Ok(RaftReply::Proposed(all)) if all.len() == back.len() => {
            answers = all;
            Delivery::Unsure
        }
        Ok(RaftReply::Refused(refusal)) => Delivery::Refused(refusal),
        Err(RaftCallError::Transport(TransportError::Unreachable(_))) => Delivery::NotSent,
        Ok(_) | Err(_) => Delivery::Unsure,
    };
    let mut answers = answers.into_iter();
    for back in back {
        let answer = answers.next().map(Delivery::Answered);
        // The caller may have stopped waiting.
        let _ = back.send(answer.unwrap_or_else(|| otherwise.clone()));
    }
}

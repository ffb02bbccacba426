//! The leader's part: proposals that wait are decided together, in one log entry with one sync on each node.

use std::sync::Arc;

use openraft::error::{CheckIsLeaderError, RaftError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::network::{Refusal, Reply};
use super::status;
use super::types::{Answer, Group, Proposal, Raft};

/// Proposals in one log entry, at most.
pub const GROUP: usize = 512;
/// Bytes of the commands in one log entry, unless one command is larger.
pub const GROUP_BYTES: usize = 1 << 20;
/// Proposals that may wait.
const QUEUE: usize = 8192;

/// Proposals that came together are answered together.
struct Waiting {
    proposals: Vec<Proposal>,
    reply: oneshot::Sender<Reply>,
}

/// Takes proposals for the leader. Clones share the queue.
#[derive(Clone)]
pub struct Leader {
    raft: Raft,
    queue: mpsc::Sender<Waiting>,
}

impl Leader {
    /// Starts the task that groups proposals. It ends with `stop`.
    pub fn start(raft: Raft, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let gathering = gather(raft.clone(), waiting);
        tasks.spawn(async move {
            stop.run_until_cancelled(gathering).await;
        });
        Self { raft, queue }
    }

    /// Has proposals decided, if this node leads. They share a log entry: at most [`GROUP`] of them, and no longer than
    /// [`GROUP_BYTES`] unless there is one only. `All` has an answer to each; any other reply is to all of them.
    pub async fn decide(&self, proposals: Vec<Proposal>) -> Reply {
        if let Some(refusal) = self.refusal() {
            return Reply::Refused(refusal);
        }
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Waiting { proposals, reply }) {
            Ok(()) => answer.await.unwrap_or(Reply::Unsure),
            Err(TrySendError::Full(_)) => Reply::Refused(Refusal::Overloaded),
            Err(TrySendError::Closed(_)) => Reply::Failed("it is shut down".to_owned()),
        }
    }

    /// Up to where a linearizable read has to have applied the log, confirmed by a majority, if this node leads.
    pub async fn read_index(&self) -> Reply {
        if let Some(refusal) = self.refusal() {
            return Reply::Refused(refusal);
        }
        match self.raft.get_read_log_id().await {
            Ok((id, _)) => Reply::ReadIndex(id.map_or(0, |id| id.index + 1)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => {
                Reply::Refused(Refusal::NotLeader)
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Reply::Refused(Refusal::NoQuorum)
            }
            Err(RaftError::Fatal(fatal)) => Reply::Failed(fatal.to_string()),
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if !status::leads(&metrics) {
            return Some(Refusal::NotLeader);
        }
        (!status::has_quorum(&metrics)).then_some(Refusal::NoQuorum)
    }
}

/// One log entry is on its way at a time, and proposals gather meanwhile. A second one at the same time would find fewer
/// of them, and cost each node a sync and messages of its own.
async fn gather(raft: Raft, mut waiting: mpsc::Receiver<Waiting>) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => Some(first),
            None => waiting.recv().await,
        };
        let Some(Waiting {
            mut proposals,
            reply,
        }) = first
        else {
            return;
        };
        let mut bytes = length(&proposals);
        let mut replies = vec![(proposals.len(), reply)];
        while let Ok(more) = waiting.try_recv() {
            bytes += length(&more.proposals);
            if proposals.len() + more.proposals.len() > GROUP || bytes > GROUP_BYTES {
                next = Some(more);
                break;
            }
            replies.push((more.proposals.len(), more.reply));
            proposals.extend(more.proposals);
        }
        // The library's own waiting does not end for an entry that its leader lost sight of; this does.
        let answers = match raft.client_write_ff(Group(Arc::new(proposals))).await {
            Ok(result) => result.await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        hand_out(
            replies,
            answers.map_or_else(Vec::new, |response| response.data),
        );
    }
}

fn length(proposals: &[Proposal]) -> usize {
    proposals.iter().map(|p| p.command.len()).sum()
}

/// Hands out the answers: to each who waits, for as many proposals as it had. There are none where it is not known what
/// becomes of the entry: also after a refusal it may be in the log, and the next leader may commit it.
fn hand_out(replies: Vec<(usize, oneshot::Sender<Reply>)>, answers: Vec<Answer>) {
    let mut answers = answers.into_iter().map(Reply::Proposed);
    for (count, reply) in replies {
        let part: Vec<Reply> = answers.by_ref().take(count).collect();
        // Whoever stopped waiting needs no answer.
        let _ = reply.send(match part.len() == count {
            true => Reply::All(part),
            false => Reply::Unsure,
        });
    }
}

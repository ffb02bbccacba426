//! The leader's part: proposals that wait are decided together, in one log entry with one sync on each node.

use std::sync::Arc;

use openraft::error::{CheckIsLeaderError, RaftError};
use openraft::raft::ClientWriteResult;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::network::{Refusal, Reply};
use super::status;
use super::types::{Group, Proposal, Raft, Types};

/// Proposals in one log entry, at most.
const GROUP: usize = 512;
/// Bytes of the commands in one log entry, unless one command is larger.
const GROUP_BYTES: usize = 1 << 20;
/// Log entries of proposals on their way at a time: one gathers while others are stored here and elsewhere.
const PIPELINE: usize = 2;
/// Proposals that may wait.
const QUEUE: usize = 8192;

struct Waiting {
    proposal: Proposal,
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
        let gathering = gather(raft.clone(), waiting, tasks.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(gathering).await;
        });
        Self { raft, queue }
    }

    /// Has a proposal decided, if this node leads.
    pub async fn decide(&self, proposal: Proposal) -> Reply {
        if let Some(refusal) = self.refusal() {
            return Reply::Refused(refusal);
        }
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Waiting { proposal, reply }) {
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

async fn gather(raft: Raft, mut waiting: mpsc::Receiver<Waiting>, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(PIPELINE));
    // Proposals gather in the queue until a slot is free.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let Some(first) = waiting.recv().await else {
            return;
        };
        let mut bytes = first.proposal.command.len();
        let (mut proposals, mut replies) = (vec![first.proposal], vec![first.reply]);
        while proposals.len() < GROUP && bytes < GROUP_BYTES {
            let Ok(next) = waiting.try_recv() else {
                break;
            };
            bytes += next.proposal.command.len();
            proposals.push(next.proposal);
            replies.push(next.reply);
        }
        match raft.client_write_ff(Group(proposals)).await {
            Ok(result) => drop(tasks.spawn(async move {
                let result = result.await;
                drop(slot);
                answer(replies, result.ok());
            })),
            Err(fatal) => {
                for reply in replies {
                    // Whoever stopped waiting needs no answer, here and below.
                    let _ = reply.send(Reply::Failed(fatal.to_string()));
                }
            }
        }
    }
}

fn answer(replies: Vec<oneshot::Sender<Reply>>, result: Option<ClientWriteResult<Types>>) {
    // A refusal may also come to an entry that is in the log, and that the next leader may commit.
    let answers = match result {
        Some(Ok(response)) => response.data,
        Some(Err(_)) | None => Vec::new(),
    };
    let mut answers = answers.into_iter();
    for reply in replies {
        let _ = reply.send(answers.next().map_or(Reply::Unsure, Reply::Proposed));
    }
}

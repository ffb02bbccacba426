//! The leader's part: proposals that wait are decided together (group commit), in one log entry
//! with one sync on each node.

use openraft::ServerState;
use openraft::error::{CheckIsLeaderError, RaftError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::raft::propose::batch::Proposals;
use crate::raft::rpc::{RaftRefusal, RaftReply};
use crate::raft::runtime;
use crate::raft::status;
use crate::raft::teeth::{RaftRule, broken};
use crate::raft::types::{ProposalResult, Raft, ServerMetrics};

/// Proposals in one log entry, at most.
pub const BATCH: usize = 512;
/// Bytes of the commands in one log entry, unless one command is larger.
pub const BATCH_BYTES: usize = 1 << 20;
/// Proposals that may wait.
const QUEUE: usize = 8192;

/// Proposals that came in one call, and are answered together.
struct Waiting {
    proposals: Proposals,
    count: usize,
    answers: oneshot::Sender<Vec<ProposalResult>>,
}

/// The proposals that wait for an entry to be decided. Clones share them.
#[derive(Clone)]
pub struct Queue(mpsc::Sender<Waiting>);

/// The other end of the queue, from which the leader's task takes proposals.
pub struct Gathering(mpsc::Receiver<Waiting>);

impl Queue {
    /// An empty queue, both ends.
    pub fn new() -> (Self, Gathering) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self(queue), Gathering(waiting))
    }

    /// Whether no proposals wait. If some do, an entry with them follows the one that is on its
    /// way.
    pub fn is_empty(&self) -> bool {
        self.0.capacity() == self.0.max_capacity()
    }

    /// Queues proposals that nobody decides.
    #[cfg(test)]
    pub fn fill(&self, proposals: Proposals) {
        let waiting = Waiting {
            proposals,
            count: 0,
            answers: oneshot::channel().0,
        };
        self.0.try_send(waiting).unwrap();
    }
}

/// Takes proposals for the leader. Clones share the queue.
#[derive(Clone)]
pub struct Leader {
    raft: Raft,
    queue: Queue,
}

impl Leader {
    /// Starts the task that gathers proposals. It ends with `stop`.
    pub fn start(
        raft: Raft,
        (queue, gathering): (Queue, Gathering),
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let gathering = gather(raft.clone(), gathering.0);
        runtime::spawn(tasks, async move {
            stop.run_until_cancelled(gathering).await;
        });
        Self { raft, queue }
    }

    /// Has proposals decided, if this node leads. They share a log entry: at most [`BATCH`] of
    /// them, and no longer than [`BATCH_BYTES`] unless there is one only. There is an answer to
    /// each.
    ///
    /// # Errors
    /// The answer to all of them: `Refused`, `Failed`, or `Unsure`.
    pub async fn decide(&self, proposals: Proposals) -> Result<Vec<ProposalResult>, RaftReply> {
        if let Some(refusal) = self.refusal() {
            return Err(RaftReply::Refused(refusal));
        }
        let Some(count) = proposals.count() else {
            return Err(RaftReply::Failed("these are no proposals".to_owned()));
        };
        let (answers, answered) = oneshot::channel();
        let waiting = Waiting {
            proposals,
            count,
            answers,
        };
        match self.queue.0.try_send(waiting) {
            Ok(()) => answered.await.map_err(|_| RaftReply::Unsure),
            Err(TrySendError::Full(_)) => Err(RaftReply::Refused(RaftRefusal::Overloaded)),
            Err(TrySendError::Closed(_)) => Err(RaftReply::Failed("it is shut down".to_owned())),
        }
    }

    /// Up to where a linearizable read has to have applied the log, confirmed by a majority, if
    /// this node leads.
    pub async fn read_index(&self) -> RaftReply {
        if let Some(refusal) = self.refusal() {
            return RaftReply::Refused(refusal);
        }
        if broken(RaftRule::ReadUnconfirmed) {
            let decided = self.raft.with_raft_state(|state| state.committed).await;
            return match decided {
                Ok(id) => RaftReply::ReadIndex(id.map_or(0, |id| id.index + 1)),
                Err(fatal) => RaftReply::Failed(fatal.to_string()),
            };
        }
        match self.raft.get_read_log_id().await {
            Ok((id, _)) => RaftReply::ReadIndex(id.map_or(0, |id| id.index + 1)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_))) => {
                RaftReply::Refused(RaftRefusal::NotLeader)
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                RaftReply::Refused(RaftRefusal::NoQuorum)
            }
            Err(RaftError::Fatal(fatal)) => RaftReply::Failed(fatal.to_string()),
        }
    }

    /// Why this node decides nothing, if it does not.
    pub fn refusal(&self) -> Option<RaftRefusal> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if !status::leads(&metrics) {
            return Some(RaftRefusal::NotLeader);
        }
        (!status::has_quorum(&metrics)).then_some(RaftRefusal::NoQuorum)
    }
}

/// Decides one log entry after the other; proposals gather meanwhile. A second entry at the same
/// time would hold fewer proposals, and cost each node a sync and messages of its own.
async fn gather(raft: Raft, mut waiting: mpsc::Receiver<Waiting>) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => Some(first),
            None => waiting.recv().await,
        };
        let Some(first) = first else {
            return;
        };
        let (mut count, mut bytes) = (first.count, first.proposals.bytes());
        let mut together = vec![first];
        while let Ok(more) = waiting.try_recv() {
            count += more.count;
            bytes += more.proposals.bytes();
            if count > BATCH || bytes > BATCH_BYTES {
                next = Some(more);
                break;
            }
            together.push(more);
        }
        // Callers that have stopped waiting ask again if they still want to know.
        together.retain(|waiting| !waiting.answers.is_closed());
        if together.is_empty() {
            continue;
        }
        let (batches, waits): (Vec<_>, Vec<_>) = together
            .into_iter()
            .map(|w| (w.proposals, (w.count, w.answers)))
            .unzip();
        hand_out(waits, decide(&raft, Proposals::join(&batches)).await);
    }
}

/// Decides one log entry, and returns the answers to its proposals. Empty when the entry's fate is
/// not known: the library answers when the entry is applied or cut off, and does neither when a
/// snapshot of another leader overtakes the entry.
async fn decide(raft: &Raft, proposals: Proposals) -> Vec<ProposalResult> {
    let mut changes = raft.server_metrics();
    let leads = |now: &ServerMetrics| {
        let leads = now.state == ServerState::Leader;
        leads.then_some(now.vote.leader_id.term)
    };
    let Some(term) = leads(&changes.borrow_and_update()) else {
        return Vec::new();
    };
    let Ok(result) = raft.client_write_ff(proposals).await else {
        return Vec::new();
    };
    let response = tokio::select! {
        // First the answer: applying this very entry may depose the leader.
        biased;
        response = result => response.ok().and_then(Result::ok),
        // The leader is deposed, or (an error) the library has ended.
        _ = changes.wait_for(|now| leads(now) != Some(term)) => None,
    };
    response.map_or_else(Vec::new, |response| response.data)
}

/// Hands out the answers: to each caller as many as it had proposals. There are none if the entry's
/// fate is not known: also after a refusal the entry may be in the log, and the next leader may
/// commit it.
fn hand_out(
    waits: Vec<(usize, oneshot::Sender<Vec<ProposalResult>>)>,
    answers: Vec<ProposalResult>,
) {
    let mut answers = answers.into_iter();
    for (count, wait) in waits {
        let part: Vec<ProposalResult> = answers.by_ref().take(count).collect();
        // Fewer answers than proposals: the caller gets none, and finds its channel closed. A
        // caller that has stopped waiting needs none.
        if part.len() == count {
            let _ = wait.send(part);
        }
    }
}

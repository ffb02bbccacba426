//! The asking side, on any node: finds the leader and asks it, again while leaders change, until
//! the patience is used up.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::error::Fatal;
use tokio::sync::watch;

use crate::protocol::ids::MemberId;
use crate::raft::error::ConsensusError;
use crate::raft::propose::batch::{Header, Proposals, SessionId};
use crate::raft::propose::decide::Leader;
use crate::raft::propose::forward::{Delivery, Forwarder};
use crate::raft::rpc::{self, RaftCallError, RaftRefusal, RaftReply, RaftRequest};
use crate::raft::runtime;
use crate::raft::sessions::WINDOW;
use crate::raft::teeth::{RaftRule, broken};
use crate::raft::transport::{Transport, TransportError};
use crate::raft::types::{ProposalResult, Raft, ServerMetrics, member};

/// Pause after an attempt that a leader did not take, unless the leader changes before.
const PAUSE: Duration = Duration::from_millis(30);
/// Longest time for one attempt: the leader that a node knows of may be gone.
pub const ATTEMPT: Duration = Duration::from_secs(1);

/// Numbers this process' proposals.
pub struct Numbers {
    session: SessionId,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// The numbers of proposals that somebody waits for.
    waiting: BTreeSet<u64>,
}

/// A number for as long as somebody waits for its proposal.
pub struct Number<'a> {
    numbers: &'a Numbers,
    number: u64,
    below: u64,
}

impl Numbers {
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            open: Mutex::default(),
        }
    }

    /// The next number.
    ///
    /// # Errors
    /// `Overloaded` when too many numbers were given out since the oldest that is still in use.
    pub fn take(&self) -> Result<Number<'_>, ConsensusError> {
        let mut open = self.lock();
        let number = open.next;
        let below = open.waiting.first().copied().unwrap_or(number);
        if number - below >= WINDOW {
            return Err(ConsensusError::Overloaded);
        }
        open.next += 1;
        open.waiting.insert(number);
        Ok(Number {
            numbers: self,
            number,
            below,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Number<'_> {
    /// The header of the proposal with this number.
    pub fn header(&self) -> Header {
        Header {
            session: self.numbers.session,
            number: self.number,
            below: self.below,
        }
    }
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        self.numbers.lock().waiting.remove(&self.number);
    }
}

/// Asks the leader, wherever it is.
pub struct LeaderClient<'a, T> {
    pub me: MemberId,
    pub transport: &'a T,
    pub leader: &'a Leader,
    pub forwarder: &'a Forwarder,
    pub raft: &'a Raft,
    pub patience: Duration,
}

/// A question to the leader. Asking twice does no harm.
#[derive(Clone)]
pub enum Question {
    /// One proposal.
    Propose(Proposals),
    ReadIndex,
}

/// A leader's answer.
pub enum Said {
    Answer(ProposalResult),
    /// The first log index that the read need not see.
    ReadIndex(u64),
}

/// The result of one attempt.
enum Attempt {
    Answered(Said),
    Overloaded,
    /// Certainly not done.
    NotTaken,
    Unsure,
}

impl<T: Transport> LeaderClient<'_, T> {
    /// Asks until a leader has answered with anything but a refusal.
    ///
    /// # Errors
    /// Those of [`RaftNode::propose`](crate::raft::RaftNode::propose) and
    /// [`RaftNode::read`](crate::raft::RaftNode::read).
    pub async fn ask(self, question: Question) -> Result<Said, ConsensusError> {
        let end = runtime::now() + self.patience;
        // The server metrics change only with the leader. The full metrics change with each entry,
        // and would wake this task for nothing.
        let mut changes = self.raft.server_metrics();
        // A read that was not answered leaves nothing in doubt.
        let lasting = matches!(question, Question::Propose(_));
        let (mut unsure, mut known) = (false, None);
        loop {
            let leader = self.leader_now(&mut changes)?;
            known = leader.or(known);
            let left = end.saturating_duration_since(runtime::now());
            if left.is_zero() {
                return Err(self.out_of_time(unsure, known));
            }
            let Some(leader) = leader else {
                new_leader(&mut changes, None, left).await;
                continue;
            };
            let attempt = self.attempt(leader, question.clone(), left.min(ATTEMPT));
            let attempt = tokio::select! {
                biased;
                attempt = attempt => attempt,
                () = runtime::sleep(left) => Attempt::Unsure,
                () = other_leader(&mut changes, Some(leader)) => Attempt::Unsure,
            };
            match attempt {
                Attempt::Answered(Said::Answer(ProposalResult::NoRoom)) => {
                    return Err(match unsure {
                        // Another leader may have decided it.
                        true => self.out_of_time(unsure, known),
                        false => ConsensusError::LeaderFull,
                    });
                }
                Attempt::Answered(said) => return Ok(said),
                Attempt::Overloaded => return Err(ConsensusError::Overloaded),
                Attempt::NotTaken => {}
                Attempt::Unsure => unsure |= lasting,
            }
            new_leader(&mut changes, Some(leader), left.min(PAUSE)).await;
        }
    }

    async fn attempt(&self, leader: MemberId, question: Question, timeout: Duration) -> Attempt {
        let reply = match question {
            Question::Propose(proposal) if leader == self.me => {
                match self.leader.decide(proposal).await {
                    Ok(mut answers) => match answers.pop() {
                        Some(answer) => return Attempt::Answered(Said::Answer(answer)),
                        None => RaftReply::Unsure,
                    },
                    Err(reply) => reply,
                }
            }
            Question::Propose(proposal) => match self.forwarder.deliver(leader, proposal).await {
                Delivery::Answered(answer) => return Attempt::Answered(Said::Answer(answer)),
                Delivery::Refused(refusal) => RaftReply::Refused(refusal),
                Delivery::NotSent => return Attempt::NotTaken,
                Delivery::Unsure => return Attempt::Unsure,
            },
            Question::ReadIndex if leader == self.me => self.leader.read_index().await,
            Question::ReadIndex => {
                let asked = rpc::call(self.transport, leader, &RaftRequest::ReadIndex, timeout);
                match asked.await {
                    Ok(reply) => reply,
                    Err(RaftCallError::Transport(TransportError::Unreachable(_))) => {
                        return Attempt::NotTaken;
                    }
                    Err(_) => return Attempt::Unsure,
                }
            }
        };
        match reply {
            RaftReply::ReadIndex(next) => Attempt::Answered(Said::ReadIndex(next)),
            RaftReply::Refused(RaftRefusal::NotLeader | RaftRefusal::NoQuorum) => Attempt::NotTaken,
            RaftReply::Refused(RaftRefusal::Overloaded) => Attempt::Overloaded,
            _ => Attempt::Unsure,
        }
    }

    fn leader_now(
        &self,
        changes: &mut watch::Receiver<ServerMetrics>,
    ) -> Result<Option<MemberId>, ConsensusError> {
        match &self.raft.metrics().borrow().running_state {
            // The library's task leaves no error behind when it panics: only its metrics end.
            Ok(()) if changes.has_changed().is_err() => Err(crate::raft::ended(&Fatal::Panicked)),
            Ok(()) => Ok(leader(&changes.borrow_and_update())),
            Err(fatal) => Err(crate::raft::ended(fatal)),
        }
    }

    fn out_of_time(&self, unsure: bool, leader: Option<MemberId>) -> ConsensusError {
        let waited = self.patience;
        if unsure && !broken(RaftRule::DenyUnsure) {
            ConsensusError::Undecided { waited }
        } else {
            ConsensusError::NoQuorum { waited, leader }
        }
    }
}

fn leader(metrics: &ServerMetrics) -> Option<MemberId> {
    metrics.current_leader.and_then(member)
}

/// Waits until this node knows of another leader than `old`, at most `time`.
async fn new_leader(
    changes: &mut watch::Receiver<ServerMetrics>,
    old: Option<MemberId>,
    time: Duration,
) {
    // The caller finds out itself when the time is up.
    let _ = runtime::timeout(time, other_leader(changes, old)).await;
}

async fn other_leader(changes: &mut watch::Receiver<ServerMetrics>, old: Option<MemberId>) {
    // An error means that this node's part has ended, which the next look shows.
    let _ = changes.wait_for(|metrics| leader(metrics) != old).await;
}

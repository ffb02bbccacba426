//! Linearizable reads (ReadIndex): reads that wait together ask the leader once how far the log is
//! decided.
//!
//! A read joins the next round, never the one under way: everything that was decided before the
//! read began must count for it.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::error::ConsensusError;
use super::propose::ask::{LeaderClient, Question, Said};
use super::propose::decide::Leader;
use super::propose::forward::Forwarder;
use super::runtime;
use super::transport::Transport;
use super::types::Raft;
use crate::protocol::ids::MemberId;

/// Reads that may wait.
const QUEUE: usize = 65_536;
/// Reads in one round, at most.
const ROUND: usize = 4096;

type Waiting = oneshot::Sender<Result<u64, ConsensusError>>;

/// Where reads wait for the next round.
#[derive(Clone)]
pub struct Reads(mpsc::Sender<Waiting>);

/// The task that asks the leader, for all reads that wait.
pub struct Rounds<T> {
    pub me: MemberId,
    pub raft: Raft,
    pub transport: T,
    pub leader: Leader,
    pub forwarder: Forwarder,
    pub patience: Duration,
    waiting: mpsc::Receiver<Waiting>,
}

impl Reads {
    /// The index of the first log entry that a read which begins now need not have seen, within
    /// `patience`.
    ///
    /// # Errors
    /// `NoQuorum`, `Overloaded`, `Storage`, `Stopped`.
    pub async fn index(&self, patience: Duration) -> Result<u64, ConsensusError> {
        let (waiting, answer) = oneshot::channel();
        self.0.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ConsensusError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ConsensusError::Stopped,
        })?;
        match runtime::timeout(patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ConsensusError::Stopped),
            Err(_) => Err(ConsensusError::NoQuorum {
                waited: patience,
                leader: None,
            }),
        }
    }
}

impl<T: Transport> Rounds<T> {
    /// The queue of reads, and the task that takes them from it.
    pub fn new(
        me: MemberId,
        raft: Raft,
        transport: T,
        leader: Leader,
        forwarder: Forwarder,
        patience: Duration,
    ) -> (Reads, Self) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let rounds = Self {
            me,
            raft,
            transport,
            leader,
            forwarder,
            patience,
            waiting,
        };
        (Reads(queue), rounds)
    }

    /// Asks round after round until nobody can wait any more.
    pub async fn run(mut self) {
        let mut round = Vec::new();
        while self.waiting.recv_many(&mut round, ROUND).await > 0 {
            // A reader that has stopped waiting needs no answer.
            round.retain(|waiting| !waiting.is_closed());
            if round.is_empty() {
                continue;
            }
            let asker = LeaderClient {
                me: self.me,
                transport: &self.transport,
                leader: &self.leader,
                forwarder: &self.forwarder,
                raft: &self.raft,
                patience: self.patience,
            };
            let answer = match asker.ask(Question::ReadIndex).await {
                Ok(Said::ReadIndex(next)) => Ok(next),
                Ok(_) => Err(ConsensusError::Encoding(
                    "an answer of another kind".to_owned(),
                )),
                Err(error) => Err(error),
            };
            for waiting in round.drain(..) {
                let _ = waiting.send(answer.clone());
            }
        }
    }
}

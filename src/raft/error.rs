//! Why the Raft group could not do what was asked, and whether it may be done all the same.

use std::time::Duration;

use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;

/// Why a proposal or a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsensusError {
    /// Not done: the node found no leader with a majority behind it in time.
    #[error("no majority of the council could be reached within {waited:?}{}", last_leader(.leader))]
    NoQuorum {
        /// The time that was spent.
        waited: Duration,
        /// The last leader that this node knew of.
        leader: Option<MemberId>,
    },
    /// Sent to a leader, and no answer came in time: the command may be applied, now or later,
    /// once.
    #[error("no answer from the council within {waited:?}: whether it was decided is open")]
    Undecided {
        /// The time that was spent.
        waited: Duration,
    },
    /// The read is not done: this node did not apply in time what was decided before the read.
    #[error("this node's council is behind, and did not catch up within {waited:?}")]
    Behind {
        /// The time that was spent.
        waited: Duration,
    },
    /// Not done: too many proposals are waiting.
    #[error("too many proposals are waiting for the council")]
    Overloaded,
    /// Not done: the command is longer than [`MAX_COMMAND_BYTES`](super::MAX_COMMAND_BYTES).
    #[error("a command of {bytes} bytes is too long for the council")]
    TooLong {
        /// The length of the command.
        bytes: usize,
    },
    /// Not done: this node's disk has no room for the Raft log.
    #[error("this node's disk is full: {0}")]
    Full(String),
    /// Not done: the leader's disk has little room left, which is kept for what makes room and for
    /// the Raft group itself.
    #[error("the disk of the council's leader is full: little of it is left")]
    LeaderFull,
    /// Not done: a command or an outcome cannot be encoded, or was sent by a program of another
    /// version.
    #[error("a command or an outcome has no encoding: {0}")]
    Encoding(String),
    /// The storage of this node's Raft log failed, and the node takes no part until its part is
    /// opened again. What was under way may be done.
    #[error("the council's storage failed: {0}")]
    Storage(String),
    /// This node's part is shut down. What was under way may be done.
    #[error("the council is shut down")]
    Stopped,
}

fn last_leader(leader: &Option<MemberId>) -> String {
    leader.map_or_else(String::new, |m| format!(" (last leader: {m})"))
}

/// Why a Raft group could not be opened or formed.
#[derive(Debug, thiserror::Error)]
pub enum RaftOpenError {
    /// The Raft group's store cannot be opened.
    #[error("the council's storage: {0}")]
    Store(#[from] StoreError),
    /// The storage is sound, but the Raft library does not start from it.
    #[error("the council cannot start: {0}")]
    Start(String),
}

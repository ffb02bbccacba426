//! An operator's requests about the view, and their outcomes.

use super::holders::UnheldSlots;
use crate::protocol::changes::ViewRefusal;
use crate::protocol::placement::ChangeError;
use crate::protocol::view::View;
use crate::raft::ConsensusError;
use std::fmt;
use std::net::SocketAddr;

/// A change that an operator may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The node at this address comes in.
    Add(SocketAddr),
    /// The node at this address goes.
    Remove(SocketAddr),
    /// Replicas per partition, from 1.
    SetK(usize),
}

/// The outcome of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The view that the change leads to.
    pub view: View,
    /// The view is in force, and its data is where it belongs. Otherwise that is still going on.
    pub done: bool,
    /// Data that the operator agreed to lose: data that no live node had when the change was asked
    /// for.
    pub data_loss: Vec<UnheldSlots>,
}

/// Why a change of the view was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeFailed {
    /// Something else has to end first.
    #[error("{0}")]
    Busy(ViewRefusal),
    /// There is none to remove.
    #[error("{0} is not in the view")]
    NoSuchNode(SocketAddr),
    /// The change makes no sense.
    #[error("{0}")]
    Senseless(String),
    /// The node to be added does not answer as a standby.
    #[error("{address} cannot be added: {why}")]
    NotThere {
        /// The node.
        address: SocketAddr,
        /// The way to go instead.
        why: String,
    },
    /// The Raft group could decide nothing any more, for want of other nodes.
    #[error(
        "without {node} nothing could be decided about the view and the lists any more, because {missing} \
         does not answer: bring that back, or remove it first"
    )]
    NoMajorityLeft {
        /// The node that was to go.
        node: SocketAddr,
        /// The voters that would be missing.
        missing: String,
    },
    /// The removal would lose what no live node holds.
    #[error("no live node holds some of the data")]
    LosesData(Vec<UnheldSlots>),
    /// The change would wait for dead nodes.
    #[error("the change needs nodes that do not answer: {}", all_in_words(.0))]
    NeedsDead(Vec<Silent>),
    /// Somebody asked for that, or a node that was to hold data did not answer.
    #[error("the change was cancelled")]
    Cancelled,
    /// There is nothing to cancel.
    #[error("no change of the view is running")]
    NothingRuns,
    /// The Raft group could not decide.
    #[error("{0}")]
    Raft(#[from] ConsensusError),
    /// There is no view to change yet.
    #[error(
        "the nodes have not agreed on the first view yet, because too many of those in VIEW have not been up at one time"
    )]
    NotFormed,
}

/// Nodes that do not answer, and that a change of the view would wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// `ip:port` of each.
    pub nodes: Vec<String>,
    /// The partition that they are in, or would be.
    pub partition_id: u32,
    /// Whether these are all nodes of the partition, which is in the view already.
    pub is_dead: bool,
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, partition) = (self.nodes.join(", "), self.partition_id);
        match self.is_dead {
            true => write!(f, "{nodes}, all that partition {partition} has"),
            false => write!(f, "{nodes}, all that partition {partition} would have"),
        }
    }
}

/// All of them in a sentence.
fn all_in_words(silent: &[Silent]) -> String {
    let each: Vec<String> = silent.iter().map(Silent::to_string).collect();
    each.join("; ")
}

/// Why a change is refused, for the operator that asked for it.
pub fn refused(refusal: ViewRefusal, asked: Asked) -> ChangeFailed {
    match (refusal, asked) {
        (
            refusal @ (ViewRefusal::Busy { .. }
            | ViewRefusal::Leaving { .. }
            | ViewRefusal::GivenUp { .. }),
            _,
        ) => ChangeFailed::Busy(refusal),
        (ViewRefusal::Change(ChangeError::UnknownMember(_)), Asked::Remove(address)) => {
            ChangeFailed::NoSuchNode(address)
        }
        (refusal, _) => ChangeFailed::Senseless(refusal.to_string()),
    }
}

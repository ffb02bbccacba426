//! The replicated state machine: a value that committed commands change, the same on every node.

use std::collections::BTreeSet;
use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::protocol::ids::MemberId;

/// A replicated state machine: a pure value without clock, chance or I/O, so that the same commands
/// in the same order give the same value on every node.
///
/// Commands, outcomes and the machine itself travel and are stored in a format (postcard) that does
/// not describe itself: their types must not ask for what kind of value comes next (`flatten`,
/// `untagged`).
///
/// The machine is cloned for each snapshot. Its large parts should be such that clones share them,
/// and that a change after a clone copies little.
pub trait Machine: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// A command, as it is proposed.
    type Command: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// The answer to the proposer.
    type Outcome: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;
    /// The part that is followed from change to change
    /// ([`RaftNode::followed`](super::RaftNode::followed)). Cheap to clone and to compare.
    type Followed: Clone + PartialEq + Send + Sync + 'static;

    /// Applies a committed command. It must not panic, whatever the command: a refusal is an
    /// outcome.
    fn apply(&mut self, command: Self::Command) -> Self::Outcome;

    /// Whether a command is refused when the leader's disk has little room left: it makes the state
    /// larger, and what goes on without it is worth more.
    fn fills(_command: &Self::Command) -> bool {
        false
    }

    /// The part that is followed.
    fn followed(&self) -> Self::Followed;

    /// The nodes that ought to take part in the Raft group. Empty as long as nothing is known of
    /// them: the Raft group then stays as it was formed.
    fn members(&self) -> BTreeSet<MemberId>;

    /// The members that may have a vote: all but those that are about to leave. A voter that leaves
    /// could take the majority with it.
    fn electable(&self) -> BTreeSet<MemberId> {
        self.members()
    }
}

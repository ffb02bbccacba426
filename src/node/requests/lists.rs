//! The linearizable lists, through any member: changes and reads go to the Raft leader, wherever it
//! is.

use super::admission::{Admission, Failed};
use crate::node::membership::part::Membership;
use crate::node::membership::state_machine::{Command, Decided, Outcome};
use crate::node::replica::room::Room;
use crate::node::replica::shared::Shared;
use crate::protocol::context::Context;
use crate::protocol::hashed::Hashed;
use crate::protocol::keys::{self, List, ListChange, What};
use crate::raft::ConsensusError;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// A change or a read ends within this time: 503 where there is no quorum. Two seconds are
/// promised, of which the way there and back and a busy machine get their part.
const PATIENCE: Duration = Duration::from_millis(1_700);

/// How a read of a list treats what was decided elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Everything that was decided before the read began counts.
    Linearizable,
    /// This node's copy, which may be behind.
    Local,
}

/// The lists, through one node.
pub struct ListService {
    membership: Arc<Membership>,
    shared: Arc<Shared>,
    room: Room,
    admission: Admission,
}

impl ListService {
    /// Those of a member with this replica, on a disk with this room.
    pub fn new(membership: Arc<Membership>, shared: Arc<Shared>, room: Room) -> Self {
        Self {
            admission: Admission::new(membership.me(), Arc::clone(&shared)),
            membership,
            shared,
            room,
        }
    }

    /// The list of a key, and what its writers had seen of the causal store.
    ///
    /// # Errors
    /// When no quorum confirms in time that nothing newer is decided. A local read asks nobody.
    pub async fn get(
        &self,
        key: Bytes,
        freshness: Freshness,
    ) -> Result<(Option<List>, Option<Context>), ConsensusError> {
        let raft = self.membership.raft().ok_or(ConsensusError::Stopped)?;
        let key = Hashed::new(key);
        let look = |decided: &Decided| {
            let keys = &decided.keys;
            (keys.get(&key).cloned(), keys.past(&key).cloned())
        };
        let (list, past) = match freshness {
            Freshness::Linearizable => raft.read_within(PATIENCE, look).await?,
            Freshness::Local => raft.look(look),
        };
        Ok((list, past.map(|past| self.pruned(past))))
    }

    /// Changes a list.
    ///
    /// # Errors
    /// After [`ConsensusError::Undecided`] the change may have been made, or may be made yet.
    pub async fn change(
        &self,
        mut change: ListChange,
    ) -> Result<keys::ListOutcome, ConsensusError> {
        let raft = self.membership.raft().ok_or(ConsensusError::Stopped)?;
        let deletes = !matches!(change.what, What::Put(_) | What::Append(_));
        if let Some(why) = self.room.lacks(deletes) {
            return Err(ConsensusError::Full(why));
        }
        if let (What::Append(_), Some(past)) = (&change.what, &mut change.past) {
            let key = Hashed::new(change.key.clone());
            let known = raft.look(|decided| decided.keys.past(&key).cloned());
            let marks = self.shared.marks.load();
            let settled = known.iter().flat_map(Context::iter);
            past.settled = settled
                .filter(|(log, seq)| marks.is_stable(*log, *seq))
                .collect();
        }
        match raft.propose_within(Command::Keys(change), PATIENCE).await? {
            Outcome::Keys(outcome) => Ok(outcome),
            other => {
                log::error!("a change of a list got an answer of another kind: {other:?}");
                Err(ConsensusError::Undecided { waited: PATIENCE })
            }
        }
    }

    /// A client's past in the causal store, without the writes that every replica has.
    ///
    /// # Errors
    /// When it cannot be: its clock is far ahead, or it names a member that never was.
    pub fn past(&self, seen: Context) -> Result<Context, Failed> {
        self.admission.admit(seen).map(|seen| self.pruned(seen))
    }

    fn pruned(&self, mut context: Context) -> Context {
        self.shared.marks.load().prune(&mut context);
        context
    }
}

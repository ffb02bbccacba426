//! The linearizable lists, through any member: changes and reads go to the council's leader, wherever it is.

use super::decided::{Command, Outcome};
use super::member::Member;
use super::status::{RaftPeer, RaftStatus};
use crate::council::{CouncilError, Role};
use crate::protocol::keys::{self, Change, List};
use std::time::Duration;

/// A change or a read ends within this time: 503 where there is no quorum.
const PATIENCE: Duration = Duration::from_millis(1_900);

/// How a read of a list treats what was decided elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Everything that was decided before the read began counts.
    Linearizable,
    /// What this node has counts, which may be behind.
    Local,
}

impl Member {
    /// The list of a key.
    ///
    /// # Errors
    /// When no quorum confirms in time that nothing newer is decided. A local read asks nobody.
    pub async fn list(
        &self,
        key: &[u8],
        freshness: Freshness,
    ) -> Result<Option<List>, CouncilError> {
        let council = self.council().ok_or(CouncilError::Stopped)?;
        let decided = match freshness {
            Freshness::Linearizable => council.read_within(PATIENCE).await?,
            Freshness::Local => council.local().borrow().clone(),
        };
        Ok(decided.keys.get(key).cloned())
    }

    /// Changes a list.
    ///
    /// # Errors
    /// After [`CouncilError::Undecided`] the change may have been made, or may be made yet.
    pub async fn change_list(&self, change: Change) -> Result<keys::Outcome, CouncilError> {
        let council = self.council().ok_or(CouncilError::Stopped)?;
        match council
            .propose_within(Command::Keys(change), PATIENCE)
            .await?
        {
            Outcome::Keys(outcome) => Ok(outcome),
            other => {
                log::error!("a change of a list got an answer of another kind: {other:?}");
                Err(CouncilError::Undecided { waited: PATIENCE })
            }
        }
    }

    /// How the council stands, as this node sees it.
    pub async fn raft_status(&self) -> Option<RaftStatus> {
        let council = self.council()?;
        let status = council.status().await;
        let state = match status.role {
            Role::Learner => "learner",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Stopped => "stopped",
        };
        let others = status
            .voters
            .union(&status.learners)
            .filter(|m| **m != self.me);
        let peers = others.map(|member| {
            let matched = status.matched.get(member).copied().flatten();
            RaftPeer {
                node: self.name(*member),
                votes: status.voters.contains(member),
                alive: self.presence.is_up(*member),
                match_index: matched,
                next_index: matched.map(|index| index + 1),
            }
        });
        Some(RaftStatus {
            node: self.config.address.to_string(),
            state: state.to_owned(),
            leader: status.leader.map(|leader| self.name(leader)),
            term: status.term,
            has_quorum: status.has_quorum,
            log_len: status.log_len,
            last_applied: status.last_applied,
            commit_idx: status.committed,
            peers: peers.collect(),
            keys: council.local().borrow().keys.len(),
            uptime_seconds: self.shared.clocks.mono_us() / 1_000_000,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

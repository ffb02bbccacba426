//! How the Raft group stands at a node, for operators.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ServerState;
use serde::Serialize;

use super::config::QUORUM_LOST;
use super::types::{EntryId, RaftMetrics, member};
use crate::protocol::ids::MemberId;

/// A node's role in the Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RaftRole {
    /// Follows the log without a vote: a standby, or one of more members than there are votes.
    Learner,
    /// Votes, and follows a leader.
    Follower,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
    /// Takes no part: it was shut down, or its storage failed.
    Stopped,
}

/// The Raft group as a node of it sees it. Positions in the log are indices from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupStatus {
    /// This node.
    pub me: MemberId,
    /// This node's role in it.
    pub role: RaftRole,
    /// The leader that this node knows of.
    pub leader: Option<MemberId>,
    /// Raft's term, as this node knows it.
    pub term: u64,
    /// On the leader: a majority has answered lately. On another node: it knows of a leader. A
    /// leader that is cut off finds out within two seconds.
    pub has_quorum: bool,
    /// False on a node that came with an empty directory, until it forms a Raft group or has caught
    /// up with one.
    pub may_vote: bool,
    /// The members with a vote.
    pub voters: BTreeSet<MemberId>,
    /// The members that follow the log without a vote.
    pub learners: BTreeSet<MemberId>,
    /// Entries in the log, without those that a snapshot stands for.
    pub log_len: u64,
    /// The last entry in the log, durable or not.
    pub last_log: Option<u64>,
    /// The last entry that is decided, as far as this node knows.
    pub committed: Option<u64>,
    /// The last entry that this node has applied.
    pub last_applied: Option<u64>,
    /// The last entry that the newest snapshot stands for.
    pub snapshot: Option<u64>,
    /// On the leader: the last entry that each node is known to have.
    pub matched: BTreeMap<MemberId, Option<u64>>,
    /// Why this node's part stopped, if it did.
    pub failure: Option<String>,
}

impl GroupStatus {
    pub(super) fn new(metrics: &RaftMetrics, committed: Option<u64>, may_vote: bool) -> Self {
        let index = |id: Option<EntryId>| id.map(|id| id.index);
        let members = metrics.membership_config.membership();
        let last_applied = index(metrics.last_applied);
        let next = |last: Option<u64>| last.map_or(0, |n| n + 1);
        let failure = metrics.running_state.as_ref().err();
        let matched = metrics.replication.iter().flatten();
        Self {
            me: member(metrics.id).unwrap_or_default(),
            role: role(metrics),
            leader: leader(metrics),
            term: metrics.current_term,
            has_quorum: has_quorum(metrics),
            may_vote,
            voters: members.voter_ids().filter_map(member).collect(),
            learners: members.learner_ids().filter_map(member).collect(),
            log_len: next(metrics.last_log_index) - next(index(metrics.purged)),
            last_log: metrics.last_log_index,
            committed: committed.max(last_applied),
            last_applied,
            snapshot: index(metrics.snapshot),
            matched: matched
                .filter_map(|(id, at)| Some((member(*id)?, index(*at))))
                .collect(),
            failure: failure.map(ToString::to_string),
        }
    }
}

fn role(metrics: &RaftMetrics) -> RaftRole {
    if metrics.running_state.is_err() {
        return RaftRole::Stopped;
    }
    match metrics.state {
        ServerState::Learner => RaftRole::Learner,
        ServerState::Follower => RaftRole::Follower,
        ServerState::Candidate => RaftRole::Candidate,
        ServerState::Leader => RaftRole::Leader,
        ServerState::Shutdown => RaftRole::Stopped,
    }
}

/// The leader that the node knows of, if it still takes part itself.
pub(super) fn leader(metrics: &RaftMetrics) -> Option<MemberId> {
    metrics.running_state.as_ref().ok()?;
    metrics.current_leader.and_then(member)
}

/// Whether the node leads, and goes on leading.
pub(super) fn leads(metrics: &RaftMetrics) -> bool {
    let leads = metrics.running_state.is_ok() && metrics.state == ServerState::Leader;
    leads && !is_leaving(metrics)
}

/// Whether the node led until it was decided that it has no vote any more: to others it is the
/// leader as long as it sends heartbeats.
pub(super) fn is_leaving(metrics: &RaftMetrics) -> bool {
    let stored = &metrics.membership_config;
    let votes = stored.voter_ids().any(|id| id == metrics.id);
    // While a change is half done the old voters are still among the voters named.
    let decided = *stored.log_id() <= metrics.last_applied;
    metrics.current_leader == Some(metrics.id) && !votes && decided
}

/// Whether, as far as the node can tell, proposals can be decided.
pub(super) fn has_quorum(metrics: &RaftMetrics) -> bool {
    let lost = |silent: u64| u128::from(silent) >= QUORUM_LOST.as_millis();
    // A leader that no majority has answered yet may be a deposed one that was frozen.
    let leading = || metrics.millis_since_quorum_ack.is_some_and(|ms| !lost(ms));
    leader(metrics).is_some() && (!leads(metrics) || leading())
}

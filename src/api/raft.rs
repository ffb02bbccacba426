//! `/admin/status`: how the council stands at a node.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How the council, which decides about views and `/keys`, stands at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RaftStatus {
    /// The node's address, `ip:port`.
    #[serde(rename = "self")]
    pub node: String,
    /// `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub state: String,
    /// The leader that the node knows of.
    pub leader: Option<String>,
    /// Raft's term, as the node knows it.
    pub term: u64,
    /// Whether changes can be decided, as far as the node can tell.
    pub has_quorum: bool,
    /// Why this node's council stores nothing, while its disk is full.
    #[serde(default)]
    pub full: Option<String>,
    /// Entries in the log, those not counted that a snapshot has taken the place of.
    pub log_len: u64,
    /// Positions in the log, from 0.
    pub last_applied: Option<u64>,
    /// The last entry that is decided, as far as the node knows.
    pub commit_idx: Option<u64>,
    /// The other nodes that have the log.
    pub peers: Vec<RaftPeer>,
    /// Keys in the linearizable store, as far as this node knows.
    pub keys: usize,
    /// Seconds since the node was started.
    pub uptime_seconds: u64,
    /// The release that runs.
    pub version: String,
}

/// Another node that has the council's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RaftPeer {
    /// The node's address, `ip:port`.
    pub node: String,
    /// Whether it has a vote.
    pub votes: bool,
    /// Whether this node is connected to it.
    pub alive: bool,
    /// On the leader: the next entry to be sent to it, and up to where it is known to have the log.
    pub next_index: Option<u64>,
    /// On the leader: the last entry that the node is known to have.
    pub match_index: Option<u64>,
}

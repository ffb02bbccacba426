//! What a node tells about itself: to operators (`/status`, the page, metrics) and to the person
//! who wants a `causal_payload` explained.

use crate::node::wire::messages::OfferState;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;
use utoipa::ToSchema;

/// A node at one moment, as it sees itself and its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The node's address, `ip:port`.
    pub node: String,
    /// The node's number in the cluster; none for a node that is no member.
    pub member: Option<u16>,
    /// The log that the node writes now; grows with every start.
    pub incarnation: u64,
    /// The release that runs.
    pub version: String,
    /// `forming`, `serving`, `recovering`, `joining`, `leaving`, `given up`, `standby`, `removed` or `failed`.
    pub state: String,
    /// Why the node does not serve reads, when it does not.
    pub reason: Option<String>,
    /// The partition that the node is a replica of; none for a node that is not in the view.
    pub partition_id: Option<u32>,
    pub view: ViewStatus,
    /// Live keys in this node's store.
    pub keys: u64,
    /// Deleted keys that are still remembered.
    pub tombstones: u64,
    /// Writes of nodes that were given up which nobody else got, as far as those had told of them. Counted by each node
    /// that shared their logs, since its start.
    pub lost_writes: u64,
    /// Writes here that some replica is not yet known to have.
    pub unstable: u64,
    /// Reads that wait for a write that their client has seen and this node has not.
    pub stalled_reads: u64,
    /// The other replicas of the partition.
    pub peers: Vec<PeerStatus>,
    /// What this node had when it was given up and offers to the cluster, as long as that is not
    /// over.
    #[serde(default)]
    pub offers: Vec<OfferState>,
    /// Bytes that the store takes on disk.
    pub storage_bytes: u64,
    /// Bytes that are free on that disk.
    pub free_bytes: u64,
    pub uptime_seconds: u64,
    /// The node's hybrid clock, in milliseconds since 1970.
    pub clock_ms: u64,
}

impl Status {
    /// That of a node that is no member at work. `number` is of the newest view that it knows.
    pub(super) fn outside(
        node: SocketAddr,
        state: &str,
        reason: &str,
        number: u64,
        uptime: Duration,
    ) -> Self {
        Self {
            node: node.to_string(),
            member: None,
            incarnation: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: state.to_owned(),
            reason: Some(reason.to_owned()),
            partition_id: None,
            view: ViewStatus {
                number,
                k: 0,
                partitions: Vec::new(),
            },
            keys: 0,
            tombstones: 0,
            lost_writes: 0,
            unstable: 0,
            stalled_reads: 0,
            peers: Vec::new(),
            offers: Vec::new(),
            storage_bytes: 0,
            free_bytes: 0,
            uptime_seconds: uptime.as_secs(),
            clock_ms: 0,
        }
    }
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewStatus {
    pub number: u64,
    /// Replicas per partition.
    pub k: usize,
    pub partitions: Vec<PartitionStatus>,
}

/// A partition and its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionStatus {
    pub partition_id: u32,
    pub members: Vec<MemberStatus>,
}

/// A member of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberStatus {
    /// The member's address, `ip:port`.
    pub node: String,
    pub member: u16,
    /// Whether this node hears from it.
    pub alive: bool,
    /// `true`, and only there, for a member that was given up and is in the view until it is removed: it serves nothing,
    /// whether it is back or not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
}

/// How far a replica of the same partition and this node are apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerStatus {
    /// The peer's address, `ip:port`.
    pub node: String,
    pub member: u16,
    /// Whether this node hears from it.
    pub alive: bool,
    /// Writes of this node that the peer lacks.
    pub lag: u64,
    /// Writes that the peer has and this node lacks.
    pub behind: u64,
}

/// One entry of a context, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// The node that took the writes, `ip:port`.
    pub node: String,
    pub member: u16,
    pub incarnation: u64,
    /// The writes of that node's log up to this one have been seen.
    pub seq: u64,
    /// The partition that the writes belong to, unless everybody has had them for long.
    pub partition_id: Option<u32>,
    pub state: EntryState,
    /// Nodes that have the write, as far as this node knows.
    pub holders: Vec<String>,
    /// The same in a sentence.
    pub text: String,
}

/// Where the write that an entry names is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryState {
    /// Every replica has it.
    Stable,
    /// This node has it, not every replica may.
    Here,
    /// This node should have it and does not.
    Missing,
    /// Another partition's business.
    Elsewhere,
    /// Its log is closed and complete everywhere.
    Finished,
}

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
    pub commit_idx: Option<u64>,
    /// The other nodes that have the log.
    pub peers: Vec<RaftPeer>,
    /// Keys in the linearizable store, as far as this node knows.
    pub keys: usize,
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
    pub match_index: Option<u64>,
}

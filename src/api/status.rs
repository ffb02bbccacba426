//! `/status`: what a node tells operators about itself.

use serde::{Deserialize, Serialize};
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
    /// `forming`, `serving`, `recovering`, `joining`, `leaving`, `given up`, `standby`, `removed`
    /// or `failed`.
    pub state: String,
    /// Why the node does not serve reads, when it does not.
    pub reason: Option<String>,
    /// The partition that the node is a replica of; none for a node that is not in the view.
    pub partition_id: Option<u32>,
    /// The view in force, as the node knows it.
    pub view: ViewStatus,
    /// Live keys in this node's store.
    pub keys: u64,
    /// Deleted keys that are still remembered.
    pub tombstones: u64,
    /// Writes of nodes that were given up which nobody else got, as far as those had told of them.
    /// Counted by each node that shared their logs, since its start.
    pub lost_writes: u64,
    /// Writes here that some replica is not yet known to have.
    pub unstable: u64,
    /// Reads that wait for a write that their client has seen and this node has not.
    pub stalled_reads: u64,
    /// The other replicas of the partition.
    pub peers: Vec<PeerStatus>,
    /// Offers of writes that this node had when it was given up, as long as they are not over.
    #[serde(default)]
    pub offers: Vec<OfferState>,
    /// Bytes that the store takes on disk.
    pub storage_bytes: u64,
    /// Bytes that are free on that disk.
    pub free_bytes: u64,
    /// Bytes of that disk that are kept free.
    #[serde(default)]
    pub reserve_bytes: u64,
    /// What the disk has room for: `all`, `deletes`, or `nothing`. Only members say it.
    #[serde(default)]
    pub room_for: Option<String>,
    /// Seconds since the node was started.
    pub uptime_seconds: u64,
    /// The node's hybrid clock, in milliseconds since 1970.
    pub clock_ms: u64,
    /// What clients make it hold.
    #[serde(default)]
    pub clients: ClientLoad,
}

/// What clients make a node hold, and what was refused them since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientLoad {
    /// Connections that are open.
    pub connections: u64,
    /// Connections that may be open at a time; more wait until one ends.
    pub most_connections: u64,
    /// Bytes of request bodies that it holds.
    pub body_bytes: u64,
    /// Bytes of replies that clients have not read.
    pub unread_bytes: u64,
    /// How many each of these two may be: `CLIENT_MEMORY_BYTES`.
    pub most_bytes: u64,
    /// Requests that were refused for want of room for their bodies.
    pub refused_bodies: u64,
    /// Requests that were refused for want of room for their replies.
    pub refused_replies: u64,
    /// Connections that were cut off since their clients did not read replies.
    pub cut_off: u64,
    /// Connections that were closed since a request's head took too long.
    pub late_heads: u64,
    /// Connections whose clients are answered and go on sending.
    #[serde(default)]
    pub lingering: u64,
    /// Connections that were closed while such a client went on.
    #[serde(default)]
    pub unread_bodies: u64,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewStatus {
    /// The number of the view, from 1.
    pub number: u64,
    /// Replicas per partition.
    pub k: usize,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionStatus>,
}

/// A partition and its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionStatus {
    /// The number of the partition.
    pub partition_id: u32,
    /// Its replicas, by member number.
    pub members: Vec<MemberStatus>,
}

/// A member of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberStatus {
    /// The member's address, `ip:port`.
    pub node: String,
    /// The member number.
    pub member: u16,
    /// Whether this node hears from it.
    pub alive: bool,
    /// `true`, and only there, for a member that was given up and is in the view until it is
    /// removed: it serves nothing, whether it is back or not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
}

/// How far a replica of the same partition and this node are apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerStatus {
    /// The peer's address, `ip:port`.
    pub node: String,
    /// The member number.
    pub member: u16,
    /// Whether this node hears from it.
    pub alive: bool,
    /// Writes of this node that the peer lacks.
    pub lag: u64,
    /// Writes that the peer has and this node lacks.
    pub behind: u64,
}

/// How far an offer is of what a node had when it was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfferState {
    /// The node that offers, `ip:port`.
    pub node: String,
    /// The directory there that has the data. Until the offer is over it may be the only place that
    /// has it.
    pub directory: String,
    /// Values and deletes in it; 0 before they are counted.
    pub writes: u64,
    /// Of these the cluster had none newer.
    pub taken: u64,
    /// Writes that were there already, or newer ones of their keys.
    pub there: u64,
    /// A newer delete of their keys may have been forgotten.
    pub declined: u64,
    /// Still to be offered; 0 when the offer has ended.
    pub left: u64,
    /// Why the offer cannot go on, when it cannot. It is tried again every 10 s.
    pub failed: Option<String>,
    /// Why the offer has ended before all was offered, when it has. What is left is in the
    /// directory, and nowhere else.
    #[serde(default)]
    pub ended: Option<String>,
}

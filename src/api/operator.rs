//! The operator's store: its replies.

use super::view::Strategy;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// The reply to a write or a delete.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DoneReply {
    /// `success`.
    pub status: Cow<'static, str>,
    /// The outcome in words.
    pub message: String,
    /// The partition of the key.
    pub partition_id: u32,
    /// Replicas that have it on disk.
    pub copies: u8,
}

/// The reply to a read.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ReadReply {
    /// The key that was read.
    pub key: String,
    /// As it was written: any JSON.
    #[schema(value_type = serde_json::Value)]
    pub value: Box<RawValue>,
    /// Which replica answered.
    pub message: String,
    /// `success`.
    pub status: Cow<'static, str>,
    /// The partition of the key.
    pub partition_id: u32,
    /// The wall clock of the replica that first took the write, in milliseconds since 1970.
    pub timestamp: u64,
}

/// Whether a node does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// The node answers, as far as the asked node can tell.
    Alive,
    /// The node does not answer, or an operator had it fail.
    Dead,
}

/// A node of the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeReply {
    /// Its number in the cluster.
    pub node_id: u16,
    /// `alive` or `dead`. A node that catches up is alive.
    pub status: Life,
    /// `serving`, `failed` (by POST /fail), `no answer`, or why it does not serve yet.
    pub state: String,
    /// Its `ip:port`, which names it as well.
    pub node: String,
    /// Its IP address.
    pub address: String,
    /// Its port for clients.
    pub port: u16,
    /// None while it comes or goes.
    pub partition_id: Option<u32>,
}

/// The reply with all nodes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodesReply {
    /// `success`.
    pub status: Cow<'static, str>,
    /// All nodes, by address.
    pub nodes: Vec<NodeReply>,
}

/// A node that holds a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HolderReply {
    /// Its number in the cluster.
    pub node_id: u16,
    /// Its `ip:port`.
    pub node: String,
    /// Its IP address.
    pub address: String,
    /// Its port for clients.
    pub port: u16,
}

/// The reply with the nodes that hold a key.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldersReply {
    /// `success`.
    pub status: Cow<'static, str>,
    /// The key that was asked for.
    pub key: String,
    /// The partition of the key.
    pub partition_id: u32,
    /// The nodes that hold the key, or would.
    pub nodes: Vec<HolderReply>,
}

/// The reply to a fault that was made or undone.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FaultReply {
    /// `success`.
    pub status: Cow<'static, str>,
    /// The outcome in words.
    pub message: String,
    /// The number of the node.
    pub node_id: u16,
}

/// The reply to a change of the strategy.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StrategyReply {
    /// `success`.
    pub status: Cow<'static, str>,
    /// The outcome in words.
    pub message: String,
    /// The strategy in force.
    pub strategy: Strategy,
    /// Replicas per partition.
    pub replication_factor: usize,
    /// Partitions of the view.
    pub number_of_partitions: usize,
    /// The number of the view.
    pub view: u64,
    /// Whether the data is where it belongs; else it is on its way.
    pub done: bool,
}

//! `/kvs/get_...` and `/kvs/explain`: where things are.

use super::explain::Explained;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

/// The reply with the partition of the node that was asked.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionIdReply {
    /// `success`.
    pub msg: Cow<'static, str>,
    /// The partition that this node is a replica of.
    pub partition_id: u32,
}

/// The reply with all partitions of the view.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionIdsReply {
    /// `success`.
    pub msg: Cow<'static, str>,
    /// Their numbers, ascending.
    pub partition_id_list: Vec<u32>,
}

/// The reply with the replicas of one partition.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PartitionMembersReply {
    /// `success`.
    pub msg: Cow<'static, str>,
    /// `ip:port` of each.
    pub partition_members: Vec<String>,
}

/// The reply with the number of keys of a partition.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CountReply {
    /// `success`.
    pub msg: Cow<'static, str>,
    /// Live keys on this node.
    pub count: u64,
}

/// The reply that explains a payload.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainReply {
    /// `success`.
    pub msg: Cow<'static, str>,
    /// The latest write that was seen is not younger than this, in milliseconds since 1970.
    pub clock_ms: u64,
    /// An entry for each log of which some replica may still lack a write.
    pub entries: Vec<Explained>,
}

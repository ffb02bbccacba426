//! `/kvs/explain`: what a `causal_payload` says.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One entry of a context, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// The node that took the writes, `ip:port`.
    pub node: String,
    /// The node's member number.
    pub member: u16,
    /// The number of the node's start in which it took the writes.
    pub incarnation: u64,
    /// The writes of that node's log up to this one have been seen.
    pub seq: u64,
    /// The partition that the writes belong to, unless everybody has had them for long.
    pub partition_id: Option<u32>,
    /// How far the writes have spread.
    pub state: EntryState,
    /// Nodes that have the write, as far as this node knows.
    pub holders: Vec<String>,
    /// The entry in a sentence.
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

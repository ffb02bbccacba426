//! `/kvs`: the replies to operations on keys.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

/// The reply to a read that found the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GetReply {
    /// `success`.
    pub msg: String,
    /// The value, as it was written: any JSON.
    pub value: serde_json::Value,
    /// The partition that holds the key.
    pub partition_id: u32,
    /// The client's context from now on: to be sent with its next request.
    pub causal_payload: String,
    /// The wall clock of the replica that first took the write, in milliseconds since 1970.
    pub timestamp: u64,
    /// `true`, and only there, when the value may be older than the request's causal_payload.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// The reply to a write or a delete that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteReply {
    /// `success`.
    pub msg: Cow<'static, str>,
    /// The partition that holds the key.
    pub partition_id: u32,
    /// The client's context from now on: to be sent with its next request.
    pub causal_payload: String,
    /// The wall clock of the replica that took the write, in milliseconds since 1970.
    pub timestamp: u64,
    /// Replicas that have the write on disk.
    pub copies: u8,
}

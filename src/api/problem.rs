//! The replies to requests that were not done.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

/// The reply to a request that was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReply {
    /// `error`.
    pub msg: Cow<'static, str>,
    /// The problem in words: what happened, why, and what to do.
    pub error: Cow<'static, str>,
    /// The request's own, merged with what is known. Not there when the request's could not be
    /// read: the client should keep the one it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causal_payload: Option<String>,
    /// The partition that holds the key, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_id: Option<u32>,
    /// `true`, and only there, when the key may exist although it was not found.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// Names an error that a program can do something about. `foreign_payload`: this cluster did
    /// not make the request's causal_payload; begin a new session without one. `data_loss`: the
    /// removal would lose data, and was not allowed it. `dead_partition`: the change would wait for
    /// nodes that do not answer: they are to be started again, or removed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
}

/// The reply to a call without the API token, and that of the operator's store to a request that
/// was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedReply {
    /// In a few words, such as `Unauthorized`.
    pub error: Cow<'static, str>,
    /// What happened, why, and what to do.
    pub message: Cow<'static, str>,
}

//! A history: what clients asked, what they were told, and when. As a file it has one JSON object a
//! line.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// One operation of a client. Fields that are not listed here may be there and are ignored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Operation<'a> {
    /// The client, or the part of its life in which every operation carried the context of the one
    /// before.
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    pub op: Kind,
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// What was written or read, as JSON; `None` (`null`) for a delete and for "not found". No two
    /// puts of a key write the same value.
    #[serde(borrow, default)]
    pub value: Option<&'a RawValue>,
    pub status: Completion,
    /// The node that was asked, as ip:port.
    #[serde(borrow, default)]
    pub node: Cow<'a, str>,
    /// When the request was sent, in microseconds by a clock that all operations of the file share.
    pub start_us: u64,
    /// When the answer was there, or given up.
    pub end_us: u64,
}

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Put,
    Get,
    Delete,
}

/// What a client knows of the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Completion {
    /// It was done, and the client has the reply with its context.
    Ok,
    /// It was not done and never will be.
    Fail,
    /// No answer, or one that leaves it open: a write may have been done, or be done later.
    Unknown,
}

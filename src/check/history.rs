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
    /// The kind of operation.
    pub op: Kind,
    /// The key, as any text.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The value written or read, as JSON; `None` (`null`) for a delete and for "not found". No two
    /// puts of a key write the same value.
    #[serde(borrow, default)]
    pub value: Option<&'a RawValue>,
    /// Whether the operation was done, as far as the client knows.
    pub status: Completion,
    /// The node that was asked, as ip:port.
    #[serde(borrow, default)]
    pub node: Cow<'a, str>,
    /// When the request was sent, in microseconds by a clock that all operations of the file share.
    pub start_us: u64,
    /// When the answer was there, or given up.
    pub end_us: u64,
}

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A write of a value.
    Put,
    /// A read.
    Get,
    /// A delete.
    Delete,
}

/// Whether an operation was done, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Completion {
    /// Done: the client has the reply with its context.
    Ok,
    /// Not done, and never will be.
    Fail,
    /// No answer, or one that leaves it open: a write may have been done, or be done later.
    Unknown,
}

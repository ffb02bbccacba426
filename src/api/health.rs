//! `/health` and `/ready`.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

/// A reply that says no more than that the request was done.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MsgReply {
    /// `success`.
    pub msg: Cow<'static, str>,
}

//! `/health` and `/ready`.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use utoipa::ToSchema;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MsgReply {
    /// `success`.
    pub msg: Cow<'static, str>,
}

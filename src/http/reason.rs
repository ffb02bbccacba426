//! The word that a request which was not done is counted by.

use crate::protocol::op::Refusal;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;

/// Why a request was not done, where the status of its reply does not say enough. It comes with the
/// reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Behind,
    Broken,
    ClockAhead,
    ClockOff,
    DiskFull,
    Failed,
    ForeignPayload,
    Forming,
    GivenUp,
    GoingOver,
    Joining,
    NoQuorum,
    NoRoom,
    NotReady,
    OldView,
    Overloaded,
    PastMissing,
    Recovering,
    ReplyFull,
    ShuttingDown,
    Standby,
    Storage,
    Undecided,
    Unreachable,
    Unsettled,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Broken => "broken",
            Self::ClockAhead => "clock_ahead",
            Self::ClockOff => "clock_off",
            Self::DiskFull => "disk_full",
            Self::Failed => "failed",
            Self::ForeignPayload => "foreign_payload",
            Self::Forming => "forming",
            Self::GivenUp => "given_up",
            Self::GoingOver => "going_over",
            Self::Joining => "joining",
            Self::NoQuorum => "no_quorum",
            Self::NoRoom => "no_room",
            Self::NotReady => "not_ready",
            Self::OldView => "old_view",
            Self::Overloaded => "overloaded",
            Self::PastMissing => "past_missing",
            Self::Recovering => "recovering",
            Self::ReplyFull => "reply_full",
            Self::ShuttingDown => "shutting_down",
            Self::Standby => "standby",
            Self::Storage => "storage",
            Self::Undecided => "undecided",
            Self::Unreachable => "unreachable",
            Self::Unsettled => "unsettled",
        }
    }

    /// The word of a reply; none where the request was done, or what it asked for is not there.
    pub fn of(response: &HttpResponse) -> Option<&'static str> {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return None;
        }
        if let Some(reason) = response.extensions().get::<Self>() {
            return Some(reason.word());
        }
        Some(match status {
            StatusCode::NOT_FOUND => return None,
            StatusCode::BAD_REQUEST => "malformed",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::METHOD_NOT_ALLOWED => "wrong_method",
            StatusCode::REQUEST_TIMEOUT => "late_body",
            StatusCode::CONFLICT => "conflict",
            StatusCode::PRECONDITION_FAILED => "condition",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "media_type",
            StatusCode::MISDIRECTED_REQUEST => "removed",
            StatusCode::UNPROCESSABLE_ENTITY => "other_request",
            StatusCode::INSUFFICIENT_STORAGE => "disk_full",
            StatusCode::INTERNAL_SERVER_ERROR => "storage",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable",
            _ => "other",
        })
    }
}

impl From<&Refusal> for Reason {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::ClockAhead { .. } => Self::ClockAhead,
            Refusal::UnknownMember(_) => Self::ForeignPayload,
            Refusal::Short(_) => Self::PastMissing,
            Refusal::OldView { .. } => Self::OldView,
            Refusal::Recovering(_) => Self::Recovering,
            Refusal::Unreachable { .. } => Self::Unreachable,
            Refusal::Undecided => Self::Undecided,
            Refusal::StampTooOld(_) | Refusal::NotMine | Refusal::GoingOver => Self::GoingOver,
            Refusal::ClockOff { .. } => Self::ClockOff,
            Refusal::Overloaded => Self::Overloaded,
            Refusal::ShuttingDown => Self::ShuttingDown,
            Refusal::DiskFull(_) => Self::DiskFull,
            Refusal::Storage(_) => Self::Storage,
            Refusal::ReplyFull => Self::ReplyFull,
            Refusal::Unsettled => Self::Unsettled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_counted_by_its_reason_or_else_by_its_status() {
        let reply = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            HttpResponse::build(status).finish()
        };
        for (status, word) in [
            (200, None),
            (304, None),
            (404, None),
            (400, Some("malformed")),
            (503, Some("unavailable")),
            (507, Some("disk_full")),
            (418, Some("other")),
        ] {
            assert_eq!(Reason::of(&reply(status)), word, "{status}");
        }
        let mut told = reply(503);
        told.extensions_mut().insert(Reason::Undecided);
        assert_eq!(Reason::of(&told), Some("undecided"));
    }
}

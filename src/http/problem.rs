//! Problems: replies where nothing was done: errors that say what happened, why, and what to do.
//! There is one kind of problem, and three shapes of its reply: the contract of each surface has
//! its own.

use super::body::{add_payload, json, plain};
use super::reason::Reason;
use super::routes::HttpRoute;
use crate::api::problem::{ErrorReply, RefusedReply};
use crate::node::{Failed, Node};
use crate::protocol::context::Context;
use crate::protocol::op::Refusal;
use crate::protocol::payload::Codec;
use crate::protocol::replica::GIVEN_UP;
use crate::protocol::view::PartitionId;
use actix_web::HttpResponse;
use actix_web::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::http::{Method, StatusCode};
use std::borrow::Cow;

/// The `code` of a payload that this cluster did not make.
const FOREIGN_PAYLOAD: &str = "foreign_payload";

/// A request that is not done, on its way to becoming an error reply.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    /// The problem in words: what happened, why, and what to do.
    error: Cow<'static, str>,
    shape: Shape,
    context: Option<Context>,
    partition: Option<PartitionId>,
    stale: bool,
    code: Option<&'static str>,
    /// Why, where its status does not say enough.
    reason: Option<Reason>,
}

/// The shape of a problem's reply: each surface has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// An [`ErrorReply`].
    Session,
    /// A [`RefusedReply`] with this title.
    Titled(&'static str),
    /// The sentence alone.
    Text,
}

impl Problem {
    /// A problem whose reply has no `causal_payload`.
    pub fn new(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            error: error.into(),
            shape: Shape::Session,
            context: None,
            partition: None,
            stale: false,
            code: None,
            reason: None,
        }
    }

    /// Says why, for those who count.
    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }

    /// A problem in the operator's store, or with the API token.
    pub fn titled(
        status: StatusCode,
        title: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut problem = Self::new(status, message);
        problem.shape = Shape::Titled(title);
        problem
    }

    /// A problem that is told in plain text.
    pub fn text(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::new(status, error);
        problem.shape = Shape::Text;
        problem
    }

    /// The problem in the words of the operator's store.
    #[must_use]
    pub fn for_operator(mut self) -> Self {
        if let Shape::Titled(_) = self.shape {
            return self;
        }
        self.shape = Shape::Titled(match self.status {
            StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => "Invalid input",
            StatusCode::SERVICE_UNAVAILABLE => "Unavailable",
            StatusCode::CONFLICT => "Busy",
            StatusCode::MISDIRECTED_REQUEST => "Not in the view",
            StatusCode::INSUFFICIENT_STORAGE => "Disk full",
            StatusCode::INTERNAL_SERVER_ERROR => "Storage failed",
            other => other.canonical_reason().unwrap_or("Refused"),
        });
        self
    }

    /// There is no such key.
    pub fn not_found(context: Context, partition: PartitionId) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no such key, as far as the causal_payload reaches: write it with PUT /kvs",
        )
        .seen(context)
        .of(partition)
    }

    /// The payload is none that this cluster made.
    pub fn foreign_payload(why: &str) -> Self {
        let mut problem = Self::bad(format!(
            "the causal_payload cannot be used: {why}. Send the last one that you got from this cluster, unchanged, or \
             leave it out to begin a new session"
        ));
        problem.code = Some(FOREIGN_PAYLOAD);
        problem.because(Reason::ForeignPayload)
    }

    /// The past that a client gave for a list is refused.
    pub fn refused_past(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::UnknownMember(_) => Self::foreign_payload(&refusal.to_string()),
            _ => Self::bad(format!("the Causal-Payload cannot be used: {refusal}")),
        }
    }

    /// The cluster is not born yet.
    pub fn forming(why: String) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{why}: try again when a majority is"),
        )
        .because(Reason::Forming)
    }

    /// A request that makes no sense.
    pub fn bad(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// Adds a word by which programs can tell the problem.
    #[must_use]
    pub fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds whether the key may exist although it was not found.
    #[must_use]
    pub fn stale(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }

    /// Adds the client's payload.
    #[must_use]
    pub fn seen(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// Adds the partition of the key.
    #[must_use]
    pub fn of(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The problem for an operation that the node refused.
    pub fn refused(failed: Failed, partition: PartitionId) -> Self {
        let problem = Self::not_done(&failed.refusal).of(partition);
        match failed.refusal {
            Refusal::UnknownMember(_) => problem,
            _ => problem.seen(failed.context),
        }
    }

    /// A refusal in words.
    pub fn not_done(refusal: &Refusal) -> Self {
        if let Refusal::UnknownMember(_) = refusal {
            return Self::foreign_payload(&refusal.to_string());
        }
        let (status, advice) = meaning(refusal);
        Self::new(status, format!("{refusal}: {advice}")).because(Reason::from(refusal))
    }

    /// Its status and its words, for a part of a reply.
    pub fn in_words(self) -> (StatusCode, Cow<'static, str>) {
        (self.status, self.error)
    }

    /// The node is in no view yet.
    pub fn standby(node: &Node) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "{address} is a standby: it is in no view. Add it with PUT /kvs/view_update at a node of the cluster, or ask one"
            ),
        )
        .because(Reason::Standby)
    }

    /// The node comes with the next view.
    pub fn joining(node: &Node) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{address} is being added to the view: try again, or ask another node"),
        )
        .because(Reason::Joining)
    }

    /// The node is in the view, and the others go on without it.
    pub fn given_up(node: &Node) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{address} serves nobody: {GIVEN_UP}; ask another node"),
        )
        .because(Reason::GivenUp)
    }

    /// The node is in the view no more.
    pub fn removed(node: &Node, view: u64) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("{address} was removed, it is not in view {view}: ask a node of the cluster"),
        )
    }

    /// A store of the node failed: it looks through its data, and begins anew if that is damaged.
    pub fn broken(node: &Node) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "storing failed at {address}, which looks through its data and begins anew if a part of that is damaged: ask again, or ask another node"
            ),
        )
        .because(Reason::Broken)
    }

    /// The node acts as a dead one.
    pub fn failed(node: &Node) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!(
                "{address} acts as failed, as it was told to: POST /recover/{address} at any node brings it back, or ask another node"
            ),
        )
        .because(Reason::Failed)
    }

    /// The body of the reply, where that is JSON with a session.
    fn body(self, codec: &Codec) -> ErrorReply {
        ErrorReply {
            msg: Cow::Borrowed("error"),
            error: self.error,
            causal_payload: self.context.map(|c| codec.encode(&c)),
            partition_id: self.partition.map(|p| p.0),
            stale: self.stale,
            code: self.code.map(Cow::Borrowed),
        }
    }

    /// The HTTP reply.
    pub fn reply(self, codec: &Codec) -> HttpResponse {
        let (status, reason) = (self.status, self.reason);
        let mut response = match self.shape {
            Shape::Session => {
                let body = self.body(codec);
                let mut response = json(status, &body);
                if let Some(payload) = body.causal_payload {
                    add_payload(&mut response, payload);
                }
                response
            }
            Shape::Titled(title) => json(
                status,
                &RefusedReply {
                    error: Cow::Borrowed(title),
                    message: self.error,
                },
            ),
            Shape::Text => plain(status, &self.error),
        };
        if let Some(reason) = reason {
            response.extensions_mut().insert(reason);
        }
        let header = match status {
            StatusCode::SERVICE_UNAVAILABLE => (RETRY_AFTER, "1"),
            StatusCode::FORBIDDEN => (WWW_AUTHENTICATE, "Bearer"),
            _ => return response,
        };
        let (name, value) = header;
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        response
    }
}

/// The status of a refusal, and what the client can do about it.
fn meaning(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::ClockAhead { .. } => (
            StatusCode::BAD_REQUEST,
            "check the clocks of the nodes, or begin a new session without a causal_payload",
        ),
        Refusal::UnknownMember(_) => (
            StatusCode::BAD_REQUEST,
            "send a causal_payload of this cluster, or begin a new session without one",
        ),
        Refusal::Short(_) | Refusal::OldView { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "try again, ask a node on the other side, or read with consistency=eventual",
        ),
        Refusal::Recovering(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "try again, or ask another node",
        ),
        Refusal::Unreachable { .. } | Refusal::Undecided => (
            StatusCode::SERVICE_UNAVAILABLE,
            "it is not known whether a write was taken; try again, or ask another node",
        ),
        Refusal::StampTooOld(_) | Refusal::NotMine | Refusal::GoingOver => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was done; try again",
        ),
        Refusal::ClockOff { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was done; ask another node, and set the clock of this one right",
        ),
        Refusal::ReplyFull => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "nothing was read; ask for fewer keys at a time",
        ),
        Refusal::Unsettled => (
            StatusCode::SERVICE_UNAVAILABLE,
            "try again, or ask for fewer of them at a time",
        ),
        Refusal::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was done; try again later or with fewer requests at a time",
        ),
        Refusal::ShuttingDown => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was done; ask another node",
        ),
        Refusal::DiskFull(_) => (
            StatusCode::INSUFFICIENT_STORAGE,
            "nothing was done; make room on the node's disk, reads go on",
        ),
        Refusal::Storage(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "ask another node, and see this node's log",
        ),
    }
}

/// There is nothing at this path.
pub fn unknown_path(path: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {path}: GET /openapi.json lists what there is"),
    )
}

/// The path does not take this method.
pub fn wrong_method(method: &Method, route: HttpRoute) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "{} does not take {method}: use {}",
            route.path(),
            route.allow()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::clock::Timestamp;
    use crate::protocol::ids::MemberId;

    #[test]
    fn every_refusal_has_its_status() {
        let cases = [
            (Refusal::ClockAhead { ahead_ms: 60_000 }, 400),
            (Refusal::UnknownMember(MemberId(9)), 400),
            (Refusal::Short(vec![]), 503),
            (Refusal::OldView { have: 1, need: 2 }, 503),
            (Refusal::Recovering("it is behind".into()), 503),
            (
                Refusal::Unreachable {
                    partition: PartitionId(1),
                    tried: vec![],
                },
                503,
            ),
            (Refusal::StampTooOld(Timestamp::default()), 503),
            (Refusal::NotMine, 503),
            (Refusal::GoingOver, 503),
            (Refusal::DiskFull("0 bytes left".into()), 507),
            (Refusal::Storage("a page is damaged".into()), 500),
            (Refusal::ClockOff { off_ms: 3_600_000 }, 503),
            (Refusal::ReplyFull, 413),
            (Refusal::Unsettled, 503),
            (Refusal::Overloaded, 503),
            (Refusal::Undecided, 503),
            (Refusal::ShuttingDown, 503),
        ];
        let codec = Codec::unborn();
        for (refusal, status) in cases {
            let failed = Failed {
                refusal,
                context: Context::default(),
            };
            let response = Problem::refused(failed, PartitionId(1)).reply(&codec);
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
        }
    }
}

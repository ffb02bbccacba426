//! What clients get: replies to operations on keys, and errors that say what happened, why, and
//! what to do.

use super::routes::Route;
use crate::node::{Failed, Node};
use crate::protocol::context::{Codec, Context};
use crate::protocol::op::{Found, Read, Refusal, Written};
use crate::protocol::replica::GIVEN_UP;
use crate::protocol::view::PartitionId;
use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::io::Write;
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
    /// What the client has now seen: to be sent with its next request.
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
    /// What the client has now seen: to be sent with its next request.
    pub causal_payload: String,
    /// The wall clock of the replica that took the write, in milliseconds since 1970.
    pub timestamp: u64,
    /// Replicas that have the write on disk.
    pub copies: u8,
}

/// The reply to a request that was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReply {
    /// `error`.
    pub msg: Cow<'static, str>,
    /// What happened, why, and what to do.
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
    /// Names an error that a program can do something about. `foreign_payload`: this cluster did not make the
    /// request's causal_payload; begin a new session without one. `data_loss`: the removal would lose
    /// data, and was not allowed it. `dead_partition`: the change would wait for nodes that do not answer: they are to be
    /// started again, or removed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'static, str>>,
}

/// The `code` of a payload that this cluster did not make.
const FOREIGN_PAYLOAD: &str = "foreign_payload";

/// The reply to a call without the API token, and that of the operator's store to a request that was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedReply {
    /// In a few words, such as `Unauthorized`.
    pub error: Cow<'static, str>,
    /// What happened, why, and what to do.
    pub message: Cow<'static, str>,
}

/// A request that is not done, on its way to becoming an error reply.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    error: Cow<'static, str>,
    context: Option<Context>,
    partition: Option<PartitionId>,
    stale: bool,
    code: Option<&'static str>,
}

impl Problem {
    /// A problem whose reply has no `causal_payload`.
    pub fn new(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            error: error.into(),
            context: None,
            partition: None,
            stale: false,
            code: None,
        }
    }

    /// The payload is none that this cluster made.
    pub fn foreign_payload(why: &str) -> Self {
        let mut problem = Self::bad(format!(
            "the causal_payload cannot be used: {why}. Send the last one that you got from this cluster, unchanged, or \
             leave it out to begin a new session"
        ));
        problem.code = Some(FOREIGN_PAYLOAD);
        problem
    }

    /// What is said of the past of a list is refused.
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
    }

    /// A request that makes no sense.
    pub fn bad(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// The same, with a word that programs can tell it by.
    #[must_use]
    pub fn coded(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same, with what the client has seen.
    #[must_use]
    pub fn seen(mut self, context: Context) -> Self {
        self.context = Some(context);
        self
    }

    /// The same, with the partition of the key.
    #[must_use]
    pub fn of(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// What the node refused.
    pub fn refused(failed: Failed, partition: PartitionId) -> Self {
        if let Refusal::UnknownMember(_) = failed.refusal {
            return Self::foreign_payload(&failed.refusal.to_string()).of(partition);
        }
        let (status, advice) = meaning(&failed.refusal);
        Self::new(status, format!("{}: {advice}", failed.refusal))
            .seen(failed.context)
            .of(partition)
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
    }

    /// The node comes with the next view.
    pub fn joining(node: &Node) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{address} is being added to the view: try again, or ask another node"),
        )
    }

    /// The node is in the view, and the others go on without it.
    pub fn given_up(node: &Node) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{address} serves nobody: {GIVEN_UP}; ask another node"),
        )
    }

    /// The node is in the view no more.
    pub fn removed(node: &Node, view: u64) -> Self {
        let address = node.config().address;
        Self::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!("{address} was removed, it is not in view {view}: ask a node of the cluster"),
        )
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
    }

    /// What to reply, in parts.
    pub fn into_parts(self) -> (StatusCode, Cow<'static, str>) {
        (self.status, self.error)
    }

    /// The HTTP reply.
    pub fn reply(self, codec: &Codec) -> HttpResponse {
        let body = ErrorReply {
            msg: Cow::Borrowed("error"),
            error: self.error,
            causal_payload: self.context.map(|c| codec.encode(&c)),
            partition_id: self.partition.map(|p| p.0),
            stale: self.stale,
            code: self.code.map(Cow::Borrowed),
        };
        let mut response = json(self.status, &body);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
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

/// The answer to a read: 200 with the value, or 404.
pub fn read(read: Read, partition: PartitionId, codec: &Codec) -> Result<HttpResponse, Problem> {
    let Some(Found { value, wall_ms }) = read.found else {
        let mut problem = not_found(read.context, partition);
        problem.stale = read.stale;
        return Err(problem);
    };
    // The value is JSON text already and goes in as it is, whatever its size; a payload has no
    // character that JSON would escape.
    let payload = codec.encode(&read.context);
    let mut body = Vec::with_capacity(128 + value.len() + payload.len());
    body.extend_from_slice(br#"{"msg":"success","value":"#);
    body.extend_from_slice(&value);
    let stale = if read.stale { r#","stale":true"# } else { "" };
    // Writing to a Vec does not fail.
    let _ = write!(
        body,
        r#","partition_id":{},"causal_payload":"{payload}","timestamp":{wall_ms}{stale}}}"#,
        partition.0
    );
    Ok(json_text(StatusCode::OK, body))
}

/// The answer to a write or delete that was done.
pub fn written(written: &Written, partition: PartitionId, codec: &Codec) -> HttpResponse {
    let status = if written.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let body = WriteReply {
        msg: Cow::Borrowed("success"),
        partition_id: partition.0,
        causal_payload: codec.encode(&written.context),
        timestamp: written.wall_ms,
        copies: written.copies,
    };
    json(status, &body)
}

/// There is no such key.
pub fn not_found(context: Context, partition: PartitionId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no such key, as far as the causal_payload reaches: write it with PUT /kvs",
    )
    .seen(context)
    .of(partition)
}

/// There is nothing at this path.
pub fn unknown_path(path: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {path}: GET /openapi.json lists what there is"),
    )
}

/// The path does not take this method.
pub fn wrong_method(method: &Method, route: Route) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!(
            "{} does not take {method}: use {}",
            route.path(),
            route.allow()
        ),
    )
}

/// A JSON reply.
pub fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(text) => json_text(status, text),
        // Our replies are plain structs, which always serialize.
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

/// A reply whose body is JSON text.
fn json_text(status: StatusCode, text: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(text)
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

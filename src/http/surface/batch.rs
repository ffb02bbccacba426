//! `/kvs/batch` and `/kvs/snapshot`: many keys in one call.

use crate::api::batch::{BatchReply, SnapshotReply};
use crate::api::problem::ErrorReply;
use crate::http::body::{add_payload, json_text};
use crate::http::host::Surface;
use crate::http::key;
use crate::http::problem::Problem;
use crate::http::request::{BATCH_BYTES, BodyKind, also_null, json_value, value_too_long};
use crate::http::responses::{BodyErrors, RemovedNode, StoreErrors};
use crate::http::session;
use crate::node::{BatchOp, BatchOutcome, Failed, MOST_TOGETHER, Wrote};
use crate::protocol::context::Context;
use crate::protocol::op::{Found, Read, Refusal};
use crate::protocol::version::Key;
use crate::protocol::view::PartitionId;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write;
use utoipa::ToSchema;

/// The body of a batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description of `Batch`")]
pub struct BatchBody {
    /// Those on one key are done in this order, all others at once.
    #[schema(max_items = 1000)]
    operations: Vec<OperationBody>,
    /// The last one that this client got; empty or missing begins a session.
    causal_payload: Option<String>,
}

/// One operation of a batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description of `Operation`")]
pub struct OperationBody {
    op: OperationName,
    /// 1 byte to 1 KiB of UTF-8.
    #[schema(min_length = 1, max_length = 1024)]
    key: String,
    /// Any JSON: for `put`, and for nothing else.
    value: Option<serde_json::Value>,
}

/// What an operation of a batch does with its key.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationName {
    Get,
    Put,
    Delete,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    operations: Vec<&'a RawValue>,
    causal_payload: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation<'a> {
    op: OperationName,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "also_null")]
    value: Option<&'a RawValue>,
}

/// The body of a snapshot.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotBody {
    /// Each has 1 byte to 1 KiB of UTF-8.
    #[schema(max_items = 1000)]
    keys: Vec<String>,
    /// The last one that this client got; empty or missing begins a session.
    causal_payload: Option<String>,
}

/// Do up to 1,000 operations in one call. Each ends for itself: its result has the status that a
/// call for that key alone would have had.
#[utoipa::path(
    post, path = "/kvs/batch", operation_id = "kvs_batch", tag = "store",
    params(
        ("Causal-Payload" = Option<String>, Header, description = "More payloads of the client, with commas between them: joined with that of the body"),
    ),
    request_body(content((BatchBody = "application/json"))),
    responses(
        (status = 200, body = BatchReply, description = "What became of each operation"),
        (status = 413, body = ErrorReply, description = "There are too many operations, or the body is too long"),
        StoreErrors,
        RemovedNode,
        BodyErrors,
    )
)]
pub async fn batch(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    session::unconditional(req.headers())?;
    let longest = surface.node.max_value_bytes();
    let kind = BodyKind::of(req.headers())?;
    let whole = longest.max(BATCH_BYTES);
    let body = surface.body(req, kind, body, whole).await?;
    let asked: Batch = kind.json_object(&body)?;
    let context = session_of(surface, req, asked.causal_payload)?;
    at_most(asked.operations.len(), "operations").map_err(|why| why.seen(context.clone()))?;
    let member = surface.serving_to(&context)?;
    // What makes no sense has its problem, and all else goes on.
    let mut operations = Vec::with_capacity(asked.operations.len());
    let mut items = Vec::with_capacity(asked.operations.len());
    for operation in asked.operations {
        items.push(operation_of(operation, longest).map(|(key, op)| {
            let partition = member.router().partition_of_key(&key);
            operations.push((key, op));
            partition
        }));
    }
    let (done, seen) = match member.router().batch(operations, context).await {
        Ok(done) => done,
        Err(failed) => return Err(refused(failed)),
    };
    let mut done = done.into_iter();
    let mut text = Vec::with_capacity(128 * items.len() + 128);
    text.extend_from_slice(br#"{"msg":"success","results":["#);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        match item.map(|partition| (partition, done.next())) {
            Ok((partition, Some(Ok(outcome)))) => put_outcome(&mut text, outcome, partition),
            Ok((partition, Some(Err(refusal)))) => {
                let problem = refused_one(refusal);
                put_problem(&mut text, problem, Some(partition));
            }
            Ok((_, None)) => {
                log::error!("a batch has fewer results than operations");
                let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "there is no result");
                put_problem(&mut text, problem, None);
            }
            Err(problem) => put_problem(&mut text, problem, None),
        }
    }
    text.push(b']');
    reply(surface, text, seen)
}

/// Read up to 1,000 keys as one causal cut: no value is older than what another one of them depends
/// on.
#[utoipa::path(
    post, path = "/kvs/snapshot", operation_id = "kvs_snapshot", tag = "store",
    params(
        ("Causal-Payload" = Option<String>, Header, description = "More payloads of the client, with commas between them: joined with that of the body"),
    ),
    request_body(content((SnapshotBody = "application/json"))),
    responses(
        (status = 200, body = SnapshotReply, description = "The values"),
        (status = 413, body = ErrorReply, description = "There are too many keys, or their values are too long for one reply"),
        StoreErrors,
        RemovedNode,
        BodyErrors,
    )
)]
pub async fn snapshot(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    session::unconditional(req.headers())?;
    let kind = BodyKind::of(req.headers())?;
    let body = surface.body(req, kind, body, BATCH_BYTES).await?;
    let asked: SnapshotBody = kind.json_object(&body)?;
    drop(body);
    let context = session_of(surface, req, asked.causal_payload)?;
    let problem = |why: Problem| why.seen(context.clone());
    at_most(asked.keys.len(), "keys").map_err(problem)?;
    let keys: Result<BTreeSet<Key>, Problem> = asked.keys.iter().map(|key| key_of(key)).collect();
    let keys: Vec<Key> = keys.map_err(problem)?.into_iter().collect();
    let member = surface.serving_to(&context)?;
    let (reads, seen) = match member.router().snapshot(&keys, context).await {
        Ok(read) => read,
        Err(failed) => return Err(refused(failed)),
    };
    let mut text = Vec::with_capacity(128 * keys.len() + 128);
    text.extend_from_slice(br#"{"msg":"success","values":{"#);
    for (at, (key, read)) in keys.iter().zip(reads).enumerate() {
        if at > 0 {
            text.push(b',');
        }
        put_json(&mut text, &String::from_utf8_lossy(key));
        text.push(b':');
        match read.found {
            None => text.extend_from_slice(b"null"),
            Some(Found { value, wall_ms }) => {
                text.extend_from_slice(br#"{"value":"#);
                text.extend_from_slice(&value);
                put(&mut text, format_args!(r#","timestamp":{wall_ms}}}"#));
            }
        }
    }
    text.push(b'}');
    reply(surface, text, seen)
}

/// The session of a request with these payloads.
fn session_of(
    surface: &Surface,
    req: &HttpRequest,
    field: Option<String>,
) -> Result<Context, Problem> {
    let codec = surface.codec()?;
    let mut joined = session::of_headers(req.headers(), &codec)?;
    if let Some(field) = field {
        session::join(&mut joined, session::seen(&field, &codec)?)?;
    }
    Ok(joined.unwrap_or_default())
}

/// The key of this text, if it is one.
fn key_of(text: &str) -> Result<Key, Problem> {
    key::key(text.as_bytes()).map_err(Problem::bad)
}

fn at_most(count: usize, what: &str) -> Result<(), Problem> {
    if count <= MOST_TOGETHER {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!(
            "the request has {count} {what}, at most {MOST_TOGETHER} are possible: send several requests"
        ),
    ))
}

fn operation_of(raw: &RawValue, longest: usize) -> Result<(Key, BatchOp), Problem> {
    let operation: Operation = serde_json::from_str(raw.get()).map_err(|why| {
        Problem::bad(format!(
            r#"this is no operation ({why}): send {{"op":"get","key":"..."}}, {{"op":"put","key":"...","value":...}} or {{"op":"delete","key":"..."}}"#
        ))
    })?;
    let key = key_of(&operation.key)?;
    let op = match (operation.op, operation.value) {
        (OperationName::Put, Some(raw)) => {
            BatchOp::Put(json_value(raw, longest).ok_or_else(|| value_too_long(longest))?)
        }
        (OperationName::Put, None) => {
            return Err(Problem::bad(
                "the put has no `value`: send one, or a delete",
            ));
        }
        (OperationName::Get, None) => BatchOp::Get,
        (OperationName::Delete, None) => BatchOp::Delete,
        (OperationName::Get | OperationName::Delete, Some(_)) => {
            return Err(Problem::bad(
                "only a put has a `value`: leave it out, or send a put",
            ));
        }
    };
    Ok((key, op))
}

/// The problem of a whole call.
fn refused(failed: Failed) -> Problem {
    let Failed { refusal, context } = failed;
    refused_one(refusal).seen(context)
}

/// The problem of one operation.
fn refused_one(refusal: Refusal) -> Problem {
    Problem::not_done(&refusal)
}

fn put_outcome(text: &mut Vec<u8>, outcome: BatchOutcome, partition: PartitionId) {
    match outcome {
        BatchOutcome::Read(Read {
            found: Some(Found { value, wall_ms }),
            ..
        }) => {
            text.extend_from_slice(br#"{"status":200,"value":"#);
            text.extend_from_slice(&value);
            put(
                text,
                format_args!(r#","partition_id":{},"timestamp":{wall_ms}}}"#, partition.0),
            );
        }
        BatchOutcome::Wrote(Wrote::Written(written)) => put(
            text,
            format_args!(
                r#"{{"status":{},"partition_id":{},"timestamp":{},"copies":{}}}"#,
                if written.created { 201 } else { 200 },
                partition.0,
                written.wall_ms,
                written.copies
            ),
        ),
        BatchOutcome::Read(Read { context, .. })
        | BatchOutcome::Wrote(Wrote::NothingToDelete(context)) => {
            put_problem(
                text,
                Problem::not_found(context, partition),
                Some(partition),
            );
        }
    }
}

fn put_problem(text: &mut Vec<u8>, problem: Problem, partition: Option<PartitionId>) {
    let (status, error) = problem.in_words();
    put(
        text,
        format_args!(r#"{{"status":{},"error":"#, status.as_u16()),
    );
    put_json(text, &error);
    if let Some(partition) = partition {
        put(text, format_args!(r#","partition_id":{}"#, partition.0));
    }
    text.push(b'}');
}

fn put(text: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    // Writing to a Vec does not fail.
    let _ = text.write_fmt(what);
}

fn put_json(text: &mut Vec<u8>, what: &(impl Serialize + ?Sized)) {
    // Nor does it here: what is put is a string.
    let _ = serde_json::to_writer(text, what);
}

/// Ends the text of a reply with the client's context.
fn reply(surface: &Surface, mut text: Vec<u8>, seen: Context) -> Result<HttpResponse, Problem> {
    surface.handles.entries.observe(seen.len() as f64);
    let payload = surface.node.codec().encode(&seen);
    put(
        &mut text,
        format_args!(r#","causal_payload":"{payload}"}}"#),
    );
    let mut reply = json_text(StatusCode::OK, text);
    add_payload(&mut reply, payload);
    surface.unread(reply).map_err(|full| full.seen(seen))
}

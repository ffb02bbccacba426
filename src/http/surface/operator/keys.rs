//! The operator's store: plain writes, reads and deletes, on the causal store underneath, as a
//! client without a session meets it.
//!
//! A write is refused when the key is there. That is looked up first, at the replica that answers,
//! and the write then has what was seen in its past. It is no compare-and-set: of two writes of a
//! new key at the same time both may be taken, and the later one stays. Clients that need more have
//! `/keys`.

use super::{SUCCESS, answer, key_in_path};
use crate::api::operator::{DoneReply, ReadReply};
use crate::api::problem::RefusedReply;
use crate::http::body::json;
use crate::http::host::Surface;
use crate::http::problem::Problem;
use crate::http::request::{BodyKind, Fields};
use crate::http::responses::{PlainKeyErrors, RemovedOperator};
use crate::http::slow::note_key;
use crate::node::{Member, Wrote};
use crate::protocol::context::Context;
use crate::protocol::ids::MemberId;
use crate::protocol::op::{Consistency, Found};
use crate::protocol::version::Key;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// The body of a write.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "a description: `request` reads the fields one by one"
)]
pub struct PlainWrite {
    /// 1 byte to 1 KiB of UTF-8.
    #[schema(min_length = 1, max_length = 1024)]
    key: String,
    /// Any JSON.
    value: serde_json::Value,
}

/// Write a key that is not there yet.
#[utoipa::path(
    post, path = "/write", operation_id = "operator_write", tag = "operator",
    request_body(content = PlainWrite, content_type = "application/json"),
    responses(
        (status = 200, body = DoneReply, description = "Written"),
        (status = 400, body = RefusedReply, description = "The request makes no sense"),
        (status = 409, body = RefusedReply, description = "The key is there already"),
        (status = 413, body = RefusedReply, description = "The value is too long"),
        (status = 503, body = RefusedReply, description = "Not possible now; Retry-After says when to try again"),
        (status = 507, body = RefusedReply, description = "The disk is full"),
        RemovedOperator,
    )
)]
pub async fn write(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    answer(try_write(surface, req, body).await)
}

async fn try_write(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let max = surface.node.max_value_bytes();
    // Whatever the header says: what is not JSON is refused for that.
    let body = surface.body(req, BodyKind::Json, body, max).await?;
    let fields = Fields::json(&body).without_session();
    let asked = fields.understood(&surface.node.codec())?;
    let (key, value) = (asked.key()?, asked.value(max)?);
    note_key(req, &key);
    let member = surface.serving()?;
    let partition = member.router().partition_of_key(&key);
    let nothing_seen = Context::default();
    let (read, _) = member
        .router()
        .get(key.clone(), partition, nothing_seen, Consistency::Causal)
        .await
        .map_err(|failed| Problem::refused(failed, partition))?;
    if read.found.is_some() {
        let key = String::from_utf8_lossy(&key);
        return Err(Problem::titled(
            StatusCode::CONFLICT,
            "Key already exists",
            format!(
                "the key {key:?} has a value: DELETE /delete/{{key}} first, or write over it with PUT /kvs"
            ),
        ));
    }
    store(&member, key, Some(value), read.context).await
}

/// Read a key.
#[utoipa::path(
    method(get, head), path = "/read/{key}", operation_id = "operator_read", tag = "operator",
    params(("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8, percent-encoded")),
    responses(
        (status = 200, body = ReadReply, description = "The value, and which node answered"),
        RemovedOperator,
        PlainKeyErrors,
    )
)]
pub async fn read(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    answer(try_read(surface, req).await)
}

async fn try_read(surface: &Surface, req: &HttpRequest) -> Result<HttpResponse, Problem> {
    let key = key_in_path(req)?;
    let member = surface.serving()?;
    let partition = member.router().partition_of_key(&key);
    let consistency = Consistency::Causal;
    let (read, by) = member
        .router()
        .get(key.clone(), partition, Context::default(), consistency)
        .await
        .map_err(|failed| Problem::refused(failed, partition))?;
    let Some(Found { value, wall_ms }) = read.found else {
        return Err(no_such_key(&key));
    };
    let value: Box<RawValue> = serde_json::from_slice(&value).map_err(|error| {
        log::error!("a stored value is no JSON: {error}");
        Problem::titled(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Storage failed",
            "the stored value is damaged: ask another node, and see this node's log",
        )
    })?;
    let reply = ReadReply {
        key: String::from_utf8_lossy(&key).into_owned(),
        value,
        message: format!("answered by {}", name(&member, by)),
        status: SUCCESS,
        partition_id: partition.0,
        timestamp: wall_ms,
    };
    surface.unread(json(StatusCode::OK, &reply))
}

/// Delete a key.
#[utoipa::path(
    delete, path = "/delete/{key}", operation_id = "operator_delete", tag = "operator",
    params(("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8, percent-encoded")),
    responses(
        (status = 200, body = DoneReply, description = "Deleted"),
        (status = 507, body = RefusedReply, description = "The disk is full"),
        RemovedOperator,
        PlainKeyErrors,
    )
)]
pub async fn delete(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let deleted = async {
        let key = key_in_path(req)?;
        let member = surface.serving()?;
        store(&member, key, None, Context::default()).await
    };
    answer(deleted.await)
}

/// Writes or deletes.
async fn store(
    member: &Member,
    key: Key,
    value: Option<Bytes>,
    context: Context,
) -> Result<HttpResponse, Problem> {
    let partition = member.router().partition_of_key(&key);
    let did = match value {
        Some(_) => "written",
        None => "deleted",
    };
    let wrote = member
        .router()
        .write(key.clone(), partition, value, context)
        .await;
    match wrote.map_err(|failed| Problem::refused(failed, partition))? {
        Wrote::Written(written) => {
            let copies = written.copies;
            let s = if copies == 1 { "" } else { "s" };
            let reply = DoneReply {
                status: SUCCESS,
                message: format!("{did} in partition {}, on {copies} node{s}", partition.0),
                partition_id: partition.0,
                copies,
            };
            Ok(json(StatusCode::OK, &reply))
        }
        Wrote::NothingToDelete(_) => Err(no_such_key(&key)),
    }
}

fn no_such_key(key: &Key) -> Problem {
    let key = String::from_utf8_lossy(key);
    Problem::titled(
        StatusCode::NOT_FOUND,
        "Key not found",
        format!("there is no key {key:?}: write it with POST /write"),
    )
}

/// A member, for people.
fn name(member: &Member, other: MemberId) -> String {
    match member.known().members().get(&other) {
        Some(address) => format!("node {} ({address})", other.0),
        None => format!("node {}", other.0),
    }
}

//! `/kvs`: reading, writing and deleting one key. This is the hot path: what is added here to the
//! framework's own time should stay below one or two microseconds.

use crate::api::kvs::{GetReply, WriteReply};
use crate::api::problem::ErrorReply;
use crate::http::budget::is_large;
use crate::http::host::Surface;
use crate::http::problem::Problem;
use crate::http::reply;
use crate::http::request::{BodyKind, Fields};
use crate::http::responses::{BodyErrors, RemovedNode, StoreErrors};
use crate::http::session;
use crate::http::slow::note_key;
use crate::node::{Member, Wrote};
use crate::protocol::context::Context;
use crate::protocol::version::Key;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use utoipa::ToSchema;

/// The body of a write, as a form or as JSON.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "a description: `request` reads the fields one by one"
)]
pub struct WriteBody {
    /// 1 byte to 1 KiB of UTF-8.
    #[schema(min_length = 1, max_length = 1024)]
    key: String,
    /// Any JSON; from a form, a string.
    value: serde_json::Value,
    /// The last one that this client got; empty or missing begins a session.
    causal_payload: Option<String>,
}

/// Read a key.
#[utoipa::path(
    method(get, head), path = "/kvs", operation_id = "kvs_get", tag = "store",
    params(
        ("key" = String, Query, min_length = 1, max_length = 1024, description = "1 byte to 1 KiB of UTF-8"),
        ("causal_payload" = Option<String>, Query, description = "The last one that this client got; empty or missing begins a session"),
        ("consistency" = Option<String>, Query, description = "causal (the default): never older than the causal_payload; eventual: what this side has, at once"),
    ),
    responses(
        (status = 200, body = GetReply, description = "The value"),
        (status = 404, body = ErrorReply, description = "No such key"),
        StoreErrors,
        RemovedNode,
    )
)]
pub async fn get(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let node = &surface.node;
    session::unconditional(req.headers())?;
    let asked = Fields::form(req.query_string().as_bytes())
        .understood_with(req.headers(), &*surface.codec()?)?;
    let member = surface.serving_to(&asked.context)?;
    let (key, consistency) = (asked.key()?, asked.consistency()?);
    let partition = member.router().partition_of_key(&key);
    let (read, _) = member
        .router()
        .get(key, partition, asked.context, consistency)
        .await
        .map_err(|failed| Problem::refused(failed, partition))?;
    surface.handles.entries.observe(read.context.len() as f64);
    let large = read.found.as_ref().is_some_and(|f| is_large(f.value.len()));
    let seen = large.then(|| read.context.clone());
    let unread = surface.unread(reply::read(read, partition, &node.codec())?);
    unread.map_err(|full| match seen {
        Some(seen) => full.seen(seen),
        None => full,
    })
}

/// Write a key.
#[utoipa::path(
    put, path = "/kvs", operation_id = "kvs_put", tag = "store",
    request_body(content(
        (WriteBody = "application/x-www-form-urlencoded"),
        (WriteBody = "application/json"),
    )),
    responses(
        (status = 200, body = WriteReply, description = "Written over an older value"),
        (status = 201, body = WriteReply, description = "Written; the key is new"),
        (status = 413, body = ErrorReply, description = "The value is too long"),
        (status = 507, body = ErrorReply, description = "The disk is full"),
        StoreErrors,
        RemovedNode,
        BodyErrors,
    )
)]
pub async fn put(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let node = &surface.node;
    session::unconditional(req.headers())?;
    let kind = BodyKind::of(req.headers())?;
    let body = surface
        .body(req, kind, body, node.max_value_bytes())
        .await?;
    let asked = kind
        .fields(&body)
        .understood_with(req.headers(), &*surface.codec()?)?;
    let member = surface.serving_to(&asked.context)?;
    let (key, value) = (asked.key()?, asked.value(node.max_value_bytes())?);
    note_key(req, &key);
    write(surface, &member, key, Some(value), asked.context).await
}

/// Delete a key. The parameters come in the query or in the body.
#[utoipa::path(
    delete, path = "/kvs", operation_id = "kvs_delete", tag = "store",
    params(
        ("key" = Option<String>, Query, description = "1 byte to 1 KiB of UTF-8"),
        ("causal_payload" = Option<String>, Query, description = "The last one that this client got; empty or missing begins a session"),
    ),
    responses(
        (status = 200, body = WriteReply, description = "Deleted"),
        (status = 404, body = ErrorReply, description = "No such key"),
        (status = 413, body = ErrorReply, description = "The body is too long"),
        (status = 507, body = ErrorReply, description = "The disk is full"),
        StoreErrors,
        RemovedNode,
        BodyErrors,
    )
)]
pub async fn delete(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    session::unconditional(req.headers())?;
    let kind = BodyKind::of(req.headers())?;
    let body = surface.body(req, kind, body, 0).await?;
    let mut fields = Fields::form(req.query_string().as_bytes());
    if !body.is_empty() {
        fields = fields.and(kind.fields(&body));
    }
    let asked = fields.understood_with(req.headers(), &*surface.codec()?)?;
    let member = surface.serving_to(&asked.context)?;
    let key = asked.key()?;
    note_key(req, &key);
    write(surface, &member, key, None, asked.context).await
}

async fn write(
    surface: &Surface,
    member: &Member,
    key: Key,
    value: Option<Bytes>,
    context: Context,
) -> Result<HttpResponse, Problem> {
    let node = &surface.node;
    let partition = member.router().partition_of_key(&key);
    match member.router().write(key, partition, value, context).await {
        Ok(Wrote::Written(written)) => {
            surface
                .handles
                .entries
                .observe(written.context.len() as f64);
            Ok(reply::written(&written, partition, &node.codec()))
        }
        Ok(Wrote::NothingToDelete(context)) => Err(Problem::not_found(context, partition)),
        Err(failed) => Err(Problem::refused(failed, partition)),
    }
}

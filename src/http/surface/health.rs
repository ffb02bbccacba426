//! For operators and their machines: is the node alive, does it serve, how is it doing.

use crate::api::health::MsgReply;
use crate::api::problem::ErrorReply;
use crate::api::status::Status;
use crate::http::body::json;
use crate::http::exposition;
use crate::http::host::Surface;
use crate::http::metrics::FromRaft;
use crate::http::problem::Problem;
use crate::http::reason::Reason;
use crate::http::responses::RemovedNode;
use crate::http::words;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use std::borrow::Cow;

const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// All is well.
fn success() -> HttpResponse {
    let msg = Cow::Borrowed("success");
    json(StatusCode::OK, &MsgReply { msg })
}

/// Whether the process is alive.
#[utoipa::path(
    method(get, head), path = "/health", operation_id = "health", tag = "operations",
    responses((status = 200, body = MsgReply, description = "It is"))
)]
pub async fn health(
    _surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    Ok(success())
}

/// Whether the node serves reads.
#[utoipa::path(
    method(get, head), path = "/ready", operation_id = "ready", tag = "operations",
    responses(
        (status = 200, body = MsgReply, description = "It does"),
        (status = 503, body = ErrorReply, description = "It does not, and why"),
        RemovedNode,
    )
)]
pub async fn ready(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    match surface.serving()?.ready() {
        Ok(()) => Ok(success()),
        Err(why) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("this node is not ready: {why}"),
        )
        .because(Reason::NotReady)),
    }
}

/// The node's state in full.
#[utoipa::path(
    method(get, head), path = "/status", operation_id = "node_status", tag = "operations",
    responses((status = 200, body = Status, description = "What the node knows of itself and its peers"))
)]
pub async fn status(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let status = Status {
        clients: surface.clients.load(),
        ..words::status::status(&surface.node)
    };
    Ok(json(StatusCode::OK, &status))
}

/// Metrics for Prometheus: in the OpenMetrics text format, or in the older one for a client that
/// accepts only plain text.
#[utoipa::path(
    method(get, head), path = "/metrics", operation_id = "metrics", tag = "operations",
    responses((status = 200, description = "All of them, in the OpenMetrics text format or, if only `text/plain` is accepted, in that of Prometheus",
        content((String = "application/openmetrics-text"), (String = "text/plain"))))
)]
pub async fn metrics(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let raft = match surface.member() {
        Ok(member) => FromRaft::ask(&member).await,
        // In no view: what the node knows by itself is told all the same.
        Err(_) => None,
    };
    let text = surface.metrics.text(raft).map_err(|why| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the metrics cannot be written: {why}"),
        )
    })?;
    let accept = req.headers().get(ACCEPT).and_then(|a| a.to_str().ok());
    let (media, text) = match accept.is_some_and(exposition::wants_plain) {
        true => (PROMETHEUS, exposition::plain(&text)),
        false => (OPENMETRICS, text),
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media))
        .body(text))
}

//! `/openapi.json`: the surface for machines, gathered from the handlers. `spec/openapi.json` is
//! the same, kept equal by a test; `UPDATE_SPEC=1 cargo test openapi` writes it anew.

use super::body::json;
use super::host::Surface;
use super::page;
use super::problem::Problem;
use super::surface::operator::{keys as plain, nodes};
use super::surface::{cluster, health, keys, kvs, raft_status, view};
use crate::api::problem::{ErrorReply, RefusedReply};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Causeway",
        description = "A partitioned, replicated key-value store with causal consistency across all keys"
    ),
    paths(
        kvs::get,
        kvs::put,
        kvs::delete,
        keys::get,
        keys::post,
        keys::delete,
        raft_status::status,
        cluster::partition_id,
        cluster::all_partition_ids,
        cluster::partition_members,
        cluster::number_of_keys,
        view::view_update,
        view::state,
        view::set,
        view::plan,
        view::cancel,
        plain::write,
        plain::read,
        plain::delete,
        nodes::for_key,
        nodes::all,
        nodes::fail,
        nodes::recover,
        nodes::set_strategy,
        cluster::explain,
        health::health,
        health::ready,
        health::metrics,
        health::status,
        document,
        page::page,
    ),
    components(schemas(ErrorReply, RefusedReply))
)]
pub struct Document;

/// This document.
#[utoipa::path(
    method(get, head), path = "/openapi.json", tag = "operations",
    responses((status = 200, body = serde_json::Value))
)]
pub async fn document(
    _surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    Ok(json(StatusCode::OK, &Document::openapi()))
}

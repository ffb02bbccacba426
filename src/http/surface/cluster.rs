//! Where things are: partitions, their members, this node's keys, and what a `causal_payload`
//! says.

use crate::api::cluster::{
    CountReply, ExplainReply, PartitionIdReply, PartitionIdsReply, PartitionMembersReply,
};
use crate::api::problem::ErrorReply;
use crate::http::body::json;
use crate::http::host::Surface;
use crate::http::problem::Problem;
use crate::http::request::Fields;
use crate::http::responses::{NoView, RemovedNode};
use crate::http::words::explain::explain as in_words;
use crate::protocol::view::PartitionId;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use std::borrow::Cow;

const SUCCESS: Cow<'static, str> = Cow::Borrowed("success");

/// The partition of this node.
#[utoipa::path(
    method(get, head), path = "/kvs/get_partition_id", operation_id = "partition_id", tag = "cluster",
    responses(
        (status = 200, body = PartitionIdReply, description = "Its partition"),
        (status = 503, body = ErrorReply, description = "The node is in no partition"),
        RemovedNode,
    )
)]
pub async fn partition_id(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.serving()?;
    let Some(PartitionId(partition_id)) = member.views().view.partition_of(member.me()) else {
        return Err(Problem::joining(&surface.node));
    };
    let reply = PartitionIdReply {
        msg: SUCCESS,
        partition_id,
    };
    Ok(json(StatusCode::OK, &reply))
}

/// All partitions.
#[utoipa::path(
    method(get, head), path = "/kvs/get_all_partition_ids", operation_id = "all_partition_ids", tag = "cluster",
    responses(
        (status = 200, body = PartitionIdsReply, description = "The partitions of the view in force"),
        NoView,
        RemovedNode,
    )
)]
pub async fn all_partition_ids(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let reply = PartitionIdsReply {
        msg: SUCCESS,
        partition_id_list: surface
            .member()?
            .views()
            .view
            .partitions()
            .map(|(id, _)| id.0)
            .collect(),
    };
    Ok(json(StatusCode::OK, &reply))
}

/// The members of a partition.
#[utoipa::path(
    method(get, head), path = "/kvs/get_partition_members", operation_id = "partition_members", tag = "cluster",
    params(("partition_id" = u32, Query, description = "One of get_all_partition_ids")),
    responses(
        (status = 200, body = PartitionMembersReply, description = "Its members, by ip:port"),
        (status = 400, body = ErrorReply, description = "The partition_id is missing or no number"),
        (status = 404, body = ErrorReply, description = "No such partition"),
        NoView,
        RemovedNode,
    )
)]
pub async fn partition_members(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let node = &surface.node;
    let id = Fields::form(req.query_string().as_bytes())
        .without_session()
        .understood(&node.codec())?
        .partition_id()?;
    let views = surface.member()?.views();
    let view = &views.view;
    let members = view.replicas(PartitionId(id));
    if members.is_empty() {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no partition {id}: GET /kvs/get_all_partition_ids lists them"),
        ));
    }
    let reply = PartitionMembersReply {
        msg: SUCCESS,
        partition_members: members
            .iter()
            .filter_map(|member| view.address(*member))
            .map(|address| address.to_string())
            .collect(),
    };
    Ok(json(StatusCode::OK, &reply))
}

/// The number of live keys on this node.
#[utoipa::path(
    method(get, head), path = "/kvs/get_number_of_keys", operation_id = "number_of_keys", tag = "cluster",
    responses(
        (status = 200, body = CountReply, description = "How many there are"),
        NoView,
        RemovedNode,
    )
)]
pub async fn number_of_keys(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let reply = CountReply {
        msg: SUCCESS,
        count: surface.member()?.live_keys(),
    };
    Ok(json(StatusCode::OK, &reply))
}

/// What a causal_payload says.
#[utoipa::path(
    method(get, head), path = "/kvs/explain", operation_id = "explain_payload", tag = "cluster",
    params(("causal_payload" = Option<String>, Query, description = "The payload in question")),
    responses(
        (status = 200, body = ExplainReply, description = "What it depends on, and where that is"),
        (status = 400, body = ErrorReply, description = "It is none of this cluster's"),
        NoView,
        RemovedNode,
    )
)]
pub async fn explain(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let asked = Fields::form(req.query_string().as_bytes())
        .understood_with(req.headers(), &*surface.codec()?)?;
    let reply = ExplainReply {
        msg: SUCCESS,
        clock_ms: asked.context.clock.ms(),
        entries: in_words(&*surface.member()?, &asked.context),
    };
    Ok(json(StatusCode::OK, &reply))
}

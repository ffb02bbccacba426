//! The nodes, which of them hold a key, faults on demand, and the replication strategy.
//!
//! A node is named by its number or by its `ip:port`. What is asked here goes to the node in
//! question itself, so any node can be asked, a failed one too.

use super::{SUCCESS, answer, invalid, key_in_path, last_part};
use crate::api::operator::{
    FaultReply, HolderReply, HoldersReply, Life, NodeReply, NodesReply, StrategyReply,
};
use crate::api::problem::RefusedReply;
use crate::api::view::Strategy;
use crate::http::body::json;
use crate::http::host::Surface;
use crate::http::problem::Problem;
use crate::http::request::BodyKind;
use crate::http::responses::{NodeErrors, RemovedOperator};
use crate::http::surface::view;
use crate::http::words::strategy;
use crate::node::{Asked, Condition, FoundNode, NotObeyed, Order};
use crate::protocol::ids::MemberId;
use crate::protocol::view::{FULL, PartitionId};
use crate::protocol::views::Views;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::Arc;
use utoipa::ToSchema;

/// The body of a change of the strategy.
#[derive(Deserialize, ToSchema)]
pub struct StrategyBody {
    /// `full` or `consistent`.
    strategy: Option<String>,
    /// Nodes that hold each key, from 1; for `consistent`.
    #[schema(value_type = Option<u16>)]
    replication_factor: Option<serde_json::Value>,
}

/// The nodes of the view, each asked how it is.
#[utoipa::path(
    method(get, head), path = "/nodes", operation_id = "nodes", tag = "operator",
    responses(
        (status = 200, body = NodesReply, description = "The nodes, dead ones included"),
        (status = 503, body = RefusedReply, description = "This node is in no view"),
        RemovedOperator,
    )
)]
pub async fn all(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let nodes = async {
        let views = views(surface)?;
        let found = surface.node.find_all(&views).await;
        let reply = NodesReply {
            status: SUCCESS,
            nodes: found.into_iter().map(NodeReply::from).collect(),
        };
        Ok(json(StatusCode::OK, &reply))
    };
    answer(nodes.await)
}

/// The nodes that hold a key, or would.
#[utoipa::path(
    method(get, head), path = "/nodes_for_key/{key}", operation_id = "nodes_for_key", tag = "operator",
    params(("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8, percent-encoded")),
    responses(
        (status = 200, body = HoldersReply, description = "These nodes"),
        (status = 400, body = RefusedReply, description = "The key is too long, or no UTF-8"),
        (status = 503, body = RefusedReply, description = "This node has failed, or is in no view"),
        RemovedOperator,
    )
)]
pub async fn for_key(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let holders = || {
        let key = key_in_path(req)?;
        let views = surface.serving()?.views();
        let partition = views.view.partition_of_key(&key);
        let replicas = views.view.replicas(partition).iter();
        let holder = |member: &MemberId| {
            let address = views.view.address(*member)?;
            Some(HolderReply {
                node_id: member.0,
                node: address.to_string(),
                address: address.ip().to_string(),
                port: address.port(),
            })
        };
        let reply = HoldersReply {
            status: SUCCESS,
            key: String::from_utf8_lossy(&key).into_owned(),
            partition_id: partition.0,
            nodes: replicas.filter_map(holder).collect(),
        };
        Ok(json(StatusCode::OK, &reply))
    };
    answer(holders())
}

/// Make a node act as a dead one, until it is recovered or its process starts again.
#[utoipa::path(
    post, path = "/fail/{node_id}", operation_id = "fail_node", tag = "operator",
    params(("node_id" = String, Path, description = "Its number, or its ip:port")),
    responses(
        (status = 200, body = FaultReply, description = "It has failed"),
        (status = 503, body = RefusedReply, description = "It does not answer: it is dead already"),
        NodeErrors,
        RemovedOperator,
    )
)]
pub async fn fail(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    answer(order(surface, req, Order::Fail).await)
}

/// Let a failed node come back. Answered when it has caught up and serves, after 8 s in any case.
#[utoipa::path(
    post, path = "/recover/{node_id}", operation_id = "recover_node", tag = "operator",
    params(("node_id" = String, Path, description = "Its number, or its ip:port")),
    responses(
        (status = 200, body = FaultReply, description = "It is back"),
        (status = 503, body = RefusedReply, description = "It does not answer: its process has to be started"),
        NodeErrors,
        RemovedOperator,
    )
)]
pub async fn recover(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    answer(order(surface, req, Order::Recover).await)
}

/// Say how many nodes hold each key: a change of the view, while the store serves.
#[utoipa::path(
    post, path = "/set_replication_strategy", operation_id = "set_replication_strategy", tag = "operator",
    request_body(content = StrategyBody, content_type = "application/json"),
    responses(
        (status = 200, body = StrategyReply, description = "The data is where it belongs"),
        (status = 202, body = StrategyReply, description = "The change goes on: data is still being moved"),
        (status = 400, body = RefusedReply, description = "The request makes no sense"),
        (status = 409, body = RefusedReply, description = "Another change is running"),
        (status = 503, body = RefusedReply, description = "There is no quorum, or this node has failed or is in no view"),
        RemovedOperator,
    )
)]
pub async fn set_strategy(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    answer(try_set_strategy(surface, req, body).await)
}

async fn try_set_strategy(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = surface.body(req, BodyKind::Json, body, 0).await?;
    let asked: StrategyBody = BodyKind::Json.read(&body)?;
    let k = replicas(&asked)?;
    let member = surface.member()?;
    let changed = member.membership().change(Asked::SetK(k), false).await;
    let changed = changed.map_err(view::problem)?;
    let (nodes, factor) = (
        changed.view.members().count(),
        changed.view.replication_factor(),
    );
    let strategy = strategy(&changed.view);
    let mut message = match strategy {
        Strategy::Full => "every node holds every key, nodes that come later included".to_owned(),
        Strategy::Consistent if factor > nodes => {
            format!("{factor} nodes hold each key, as soon as there are so many: now {nodes}")
        }
        Strategy::Consistent if factor == 1 => "one node holds each key".to_owned(),
        Strategy::Consistent => format!("{factor} nodes hold each key"),
    };
    if !changed.done {
        message.push_str("; data is still being moved, GET /view says how far it is");
    }
    let reply = StrategyReply {
        status: SUCCESS,
        message,
        strategy,
        replication_factor: factor,
        number_of_partitions: changed.view.partitions().count(),
        view: changed.view.number,
        done: changed.done,
    };
    let status = match changed.done {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok(json(status, &reply))
}

/// The K of a strategy.
fn replicas(asked: &StrategyBody) -> Result<usize, Problem> {
    match asked.strategy.as_deref() {
        Some("full") => Ok(FULL),
        Some("consistent") => {
            let factor = asked.replication_factor.as_ref();
            let factor = factor.and_then(serde_json::Value::as_u64);
            let factor = factor.and_then(|n| usize::try_from(n).ok());
            factor.filter(|n| (1..FULL).contains(n)).ok_or_else(|| {
                invalid(format!(
                    "`replication_factor` is no number from 1 to {}: send how many nodes are to hold each key",
                    FULL - 1
                ))
            })
        }
        _ => Err(invalid(
            "`strategy` is neither full nor consistent: send one of them, consistent with a replication_factor",
        )),
    }
}

/// Has the node in the path fail or recover.
async fn order(
    surface: &Surface,
    req: &HttpRequest,
    order: Order,
) -> Result<HttpResponse, Problem> {
    let views = views(surface)?;
    let asked = percent_encoding::percent_decode_str(last_part(req)).decode_utf8_lossy();
    let (member, address) = node(&views, &asked).ok_or_else(|| {
        Problem::titled(
            StatusCode::NOT_FOUND,
            "Node not found",
            format!("there is no node {asked:?}: GET /nodes lists them, by number and by ip:port"),
        )
    })?;
    let condition = surface.node.order(address, order).await;
    let node = format!("node {} ({address})", member.0);
    let message = match (condition, order) {
        (Ok(Condition::Starting(why)), _) => {
            format!("{node} is back, and does not serve yet: {why}")
        }
        (Ok(_), Order::Fail) => format!(
            "{node} acts as failed: it serves nobody and answers no other node until POST /recover/{}",
            member.0
        ),
        (Ok(_), _) => format!("{node} has caught up, and serves"),
        (Err(error @ NotObeyed::Silent(_)), Order::Fail) => {
            return Err(unavailable(format!("{error}: it is dead already")));
        }
        (Err(error @ NotObeyed::Silent(_)), _) => {
            return Err(unavailable(format!(
                "{error}: it did not fail on demand, start its process"
            )));
        }
        (Err(error @ NotObeyed::Late { .. }), _) => {
            return Err(unavailable(format!("{error}: GET /nodes shows how it is")));
        }
    };
    let reply = FaultReply {
        status: SUCCESS,
        message,
        node_id: member.0,
    };
    Ok(json(StatusCode::OK, &reply))
}

fn unavailable(message: String) -> Problem {
    Problem::titled(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message)
}

/// The views that the node knows, failed or not.
fn views(surface: &Surface) -> Result<Arc<Views>, Problem> {
    match surface.node.views() {
        Some(views) => Ok(views),
        // The node is no member: the answer says why.
        None => Ok(surface.member()?.known()),
    }
}

/// The node that a number or an `ip:port` names.
fn node(views: &Views, name: &str) -> Option<(MemberId, SocketAddr)> {
    let named = |(member, address): &(MemberId, SocketAddr)| {
        name.parse() == Ok(member.0) || name.parse() == Ok(*address)
    };
    views.members().into_iter().find(named)
}

impl From<FoundNode> for NodeReply {
    fn from(found: FoundNode) -> Self {
        let (status, state) = match found.condition {
            Some(Condition::Serving) => (Life::Alive, "serving".to_owned()),
            Some(Condition::Starting(why)) => (Life::Alive, why),
            Some(Condition::Failed) => (Life::Dead, "failed".to_owned()),
            None => (Life::Dead, "no answer".to_owned()),
        };
        Self {
            node_id: found.member.0,
            status,
            state,
            node: found.address.to_string(),
            address: found.address.ip().to_string(),
            port: found.address.port(),
            partition_id: found.partition.map(|PartitionId(id)| id),
        }
    }
}

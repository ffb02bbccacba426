//! The view: how it stands, and how it changes while the store serves.

use crate::api::problem::ErrorReply;
use crate::api::view::{Plan, ViewReply, ViewState};
use crate::http::body::json;
use crate::http::host::Surface;
use crate::http::problem::Problem;
use crate::http::request::BodyKind;
use crate::http::responses::{BodyErrors, NoView, RemovedNode, ViewChangeReplies};
use crate::http::words::{self, in_words};
use crate::node::{Asked, ChangeFailed, Changed, Member};
use crate::raft::ConsensusError;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use std::borrow::Cow;
use std::net::SocketAddr;
use utoipa::ToSchema;

/// The body of a change, as a form or as JSON.
#[derive(Deserialize, ToSchema)]
pub struct ViewUpdate {
    /// The node that comes or goes, `ip:port`.
    ip_port: Option<String>,
    /// `add` or `remove`.
    r#type: Option<String>,
    /// Of a removal: `true` agrees that data may be lost which no live node holds.
    allow_data_loss: Option<bool>,
}

/// The body of a change of K, as a form or as JSON.
#[derive(Deserialize, ToSchema)]
pub struct ViewSet {
    /// Replicas per partition, from 1 to 65535.
    #[schema(value_type = Option<u16>)]
    k: Option<Count>,
}

/// A number as JSON has it, or as a form has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

/// The query of a plan.
#[derive(Deserialize)]
struct PlanQuery {
    r#type: Option<String>,
    ip_port: Option<String>,
    k: Option<String>,
}

/// Add a node to the view, or remove one.
#[utoipa::path(
    put, path = "/kvs/view_update", operation_id = "view_update", tag = "cluster",
    request_body(content(
        (ViewUpdate = "application/x-www-form-urlencoded"),
        (ViewUpdate = "application/json"),
    )),
    responses(
        (status = 404, body = ErrorReply, description = "No such node to remove"),
        (status = 409, body = ErrorReply, description = "Another change is running, or (`code` is `data_loss`) data would be lost that no live node holds, or (`dead_partition`) it needs nodes that do not answer"),
        (status = 503, body = ErrorReply, description = "The new node does not answer, there is no quorum, or this node is in no view"),
        ViewChangeReplies,
        BodyErrors,
        RemovedNode,
    )
)]
pub async fn view_update(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let kind = BodyKind::of(req.headers())?;
    let body = surface.body(req, kind, body, 0).await?;
    let update: ViewUpdate = kind.read(&body)?;
    let address = address(update.ip_port.as_deref())?;
    let asked = match update.r#type.as_deref() {
        Some("add") => Asked::Add(address),
        Some("remove") => Asked::Remove(address),
        _ => {
            return Err(Problem::bad(
                "`type` is neither add nor remove: send one of them",
            ));
        }
    };
    let lose_data = update.allow_data_loss.unwrap_or_default();
    if lose_data && !matches!(asked, Asked::Remove(_)) {
        return Err(Problem::bad(
            "`allow_data_loss` is for a removal alone: leave it out",
        ));
    }
    let member = surface.member()?;
    change(&member, asked, lose_data).await
}

/// How the view stands, and the change that runs.
#[utoipa::path(
    method(get, head), path = "/view", operation_id = "view_get", tag = "cluster",
    responses(
        (status = 200, body = ViewState, description = "The view in force, and what goes on about it"),
        RemovedNode,
        NoView,
    )
)]
pub async fn state(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.member()?;
    Ok(json(
        StatusCode::OK,
        &words::view::view_state(&member).await,
    ))
}

/// Change the number of replicas per partition.
#[utoipa::path(
    put, path = "/view", operation_id = "view_set", tag = "cluster",
    request_body(content(
        (ViewSet = "application/x-www-form-urlencoded"),
        (ViewSet = "application/json"),
    )),
    responses(
        (status = 409, body = ErrorReply, description = "Another change is running, or (`code` is `dead_partition`) it needs nodes that do not answer"),
        (status = 503, body = ErrorReply, description = "There is no quorum, or this node is in no view"),
        ViewChangeReplies,
        BodyErrors,
        RemovedNode,
    )
)]
pub async fn set(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let kind = BodyKind::of(req.headers())?;
    let body = surface.body(req, kind, body, 0).await?;
    let ViewSet { k } = kind.read(&body)?;
    let k = match k {
        Some(Count::Number(k)) => replicas(Some(&k.to_string())),
        Some(Count::Text(k)) => replicas(Some(&k)),
        None => replicas(None),
    }?;
    let member = surface.member()?;
    change(&member, Asked::SetK(k), false).await
}

/// What a change would do. Nothing is changed.
#[utoipa::path(
    method(get, head), path = "/view/plan", operation_id = "view_plan", tag = "cluster",
    params(
        ("type" = String, Query, description = "`add`, `remove` or `set_k`"),
        ("ip_port" = Option<String>, Query, description = "The node that would come or go"),
        ("k" = Option<u16>, Query, description = "Replicas per partition, for `set_k`"),
    ),
    responses(
        (status = 200, body = Plan, description = "The view that would follow, and what would move"),
        (status = 400, body = ErrorReply, description = "The change makes no sense"),
        (status = 404, body = ErrorReply, description = "No such node to remove"),
        (status = 409, body = ErrorReply, description = "The node is still handing over what it has, or (`code` is `dead_partition`) the change would need nodes that do not answer"),
        RemovedNode,
        NoView,
    )
)]
pub async fn plan(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let query: PlanQuery = serde_urlencoded::from_str(req.query_string()).map_err(|why| {
        Problem::bad(format!(
            "the query cannot be read ({why}): send `type`, and `ip_port` or `k`, once each"
        ))
    })?;
    let asked = match query.r#type.as_deref() {
        Some("add") => Asked::Add(address(query.ip_port.as_deref())?),
        Some("remove") => Asked::Remove(address(query.ip_port.as_deref())?),
        Some("set_k") => Asked::SetK(replicas(query.k.as_deref())?),
        _ => {
            return Err(Problem::bad(
                "`type` is none of add, remove and set_k: send one of them",
            ));
        }
    };
    let member = surface.member()?;
    let planned = member.membership().plan(asked).await.map_err(problem)?;
    Ok(json(StatusCode::OK, &words::view::plan(&member, planned)))
}

/// Cancel the running change.
#[utoipa::path(
    delete, path = "/view/change", operation_id = "view_cancel", tag = "cluster",
    responses(
        (status = 200, body = ViewReply, description = "It is cancelled; the view before stays in force"),
        (status = 404, body = ErrorReply, description = "No change is running that could be cancelled"),
        (status = 503, body = ErrorReply, description = "There is no quorum, or this node is in no view"),
        RemovedNode,
    )
)]
pub async fn cancel(
    surface: &Surface,
    _req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.member()?;
    let cancelled = member.membership().cancel().await.map_err(problem)?;
    Ok(json(StatusCode::OK, &reply(&cancelled, None)))
}

fn address(text: Option<&str>) -> Result<SocketAddr, Problem> {
    let text = text.unwrap_or_default();
    let address = text.trim().parse::<SocketAddr>().ok();
    let usable = address.filter(|a| a.port() != 0 && !a.ip().is_unspecified());
    usable.ok_or_else(|| {
        Problem::bad(format!(
            "`ip_port` is no address ({text:?}): send the node's own, such as 10.0.0.24:8080"
        ))
    })
}

/// Replicas per partition. There are no more nodes than fit in 16 bits.
fn replicas(text: Option<&str>) -> Result<usize, Problem> {
    let text = text.unwrap_or_default();
    let k = text.trim().parse::<u16>().ok().filter(|k| *k > 0);
    k.map(usize::from).ok_or_else(|| {
        Problem::bad(format!(
            "`k` is {text:?}: send the number of replicas per partition, from 1 to 65535"
        ))
    })
}

/// Has a change made, and says what came of it.
async fn change(member: &Member, asked: Asked, lose_data: bool) -> Result<HttpResponse, Problem> {
    let changed = member
        .membership()
        .change(asked, lose_data)
        .await
        .map_err(problem)?;
    let added = match asked {
        Asked::Add(address) => Some(address),
        Asked::Remove(_) | Asked::SetK(_) => None,
    };
    let status = match changed.done {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok(json(status, &reply(&changed, added)))
}

fn reply(changed: &Changed, added: Option<SocketAddr>) -> ViewReply {
    let view = &changed.view;
    let added = added.and_then(|address| view.member_at(address));
    ViewReply {
        msg: Cow::Borrowed("success"),
        partition_id: added.and_then(|m| view.partition_of(m)).map(|p| p.0),
        number_of_partitions: view.partitions().count(),
        view: view.number,
        done: changed.done,
        data_loss: changed.data_loss.iter().cloned().map(Into::into).collect(),
    }
}

/// Why a change was not made, and what to do.
pub fn problem(failed: ChangeFailed) -> Problem {
    let (status, advice) = match &failed {
        ChangeFailed::Busy(_) | ChangeFailed::NoMajorityLeft { .. } => {
            (StatusCode::CONFLICT, "nothing was changed")
        }
        ChangeFailed::NoSuchNode(_) => (
            StatusCode::NOT_FOUND,
            "GET /view lists the nodes of the view",
        ),
        ChangeFailed::NothingRuns => (
            StatusCode::NOT_FOUND,
            "nothing was changed; a view that is in force is undone by another change",
        ),
        ChangeFailed::Senseless(_) => (StatusCode::BAD_REQUEST, "nothing was changed"),
        ChangeFailed::NotThere { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was changed; start the node with that ip_port and no VIEW, with this cluster's CLUSTER_SECRET, and try again",
        ),
        ChangeFailed::LosesData(unheld) => {
            let error = format!(
                "no live node holds {}, so the removal would lose it: nothing was changed; start these nodes again on their disks, \
                 or send allow_data_loss=true (view remove --lose-data) if what they have may be lost",
                in_words(unheld.clone())
            );
            return Problem::new(StatusCode::CONFLICT, error).coded("data_loss");
        }
        ChangeFailed::NeedsDead(_) => {
            let error = format!(
                "{failed}: nothing was changed; start these nodes again on their disks, or remove them first, with \
                 allow_data_loss=true (view remove --lose-data) if what only they have may be lost"
            );
            return Problem::new(StatusCode::CONFLICT, error).coded("dead_partition");
        }
        ChangeFailed::Cancelled => (
            StatusCode::SERVICE_UNAVAILABLE,
            "a node that was to hold data did not answer, or somebody asked for it; the view before is in force",
        ),
        ChangeFailed::Raft(ConsensusError::NoQuorum { .. }) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was changed, reads and writes go on in the view in force; try again when more nodes are up, or, if \
             most of those that vote are gone for good, have one decide alone (view force, on a stopped node)",
        ),
        ChangeFailed::Raft(_) | ChangeFailed::NotFormed => (
            StatusCode::SERVICE_UNAVAILABLE,
            "reads and writes go on in the view in force; try again when more nodes are up",
        ),
    };
    Problem::new(status, format!("{failed}: {advice}"))
}

//! Changes of the view: nodes come and go while the store serves.

use super::Surface;
use super::reply::{ErrorReply, Problem, json};
use super::request::{self, Kind};
use crate::node::{Asked, ChangeFailed, Changed, Member};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
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
}

/// The reply to a change of the view.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewReply {
    /// `success`.
    pub msg: Cow<'static, str>,
    /// The partition of the node that was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_id: Option<u32>,
    pub number_of_partitions: usize,
    /// The number of the view.
    pub view: u64,
    /// `false`, and only there, when the data is still on its way to where it belongs.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub done: bool,
}

fn yes() -> bool {
    true
}

/// Add a node to the view, or remove one.
#[utoipa::path(
    put, path = "/kvs/view_update", tag = "cluster",
    request_body(content(
        (ViewUpdate = "application/x-www-form-urlencoded"),
        (ViewUpdate = "application/json"),
    )),
    responses(
        (status = 200, body = ViewReply, description = "The view is in force, and its data is where it belongs"),
        (status = 202, body = ViewReply, description = "The change goes on: data is still being moved"),
        (status = 400, body = ErrorReply, description = "The request makes no sense"),
        (status = 404, body = ErrorReply, description = "No such node to remove"),
        (status = 408, body = ErrorReply, description = "The body did not arrive in time"),
        (status = 409, body = ErrorReply, description = "Another change is running"),
        (status = 413, body = ErrorReply, description = "The body is too long"),
        (status = 415, body = ErrorReply, description = "The body is neither a form nor JSON"),
        (status = 421, body = ErrorReply, description = "This node was removed"),
        (status = 503, body = ErrorReply, description = "The new node does not answer, there is no quorum, or this node is in no view"),
    )
)]
pub async fn view_update(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let kind = Kind::of(req.headers())?;
    let body = request::body(req.headers(), kind, body, 0).await?;
    let update: ViewUpdate = kind.read(&body)?;
    let address = update.address()?;
    let asked = match update.r#type.as_deref() {
        Some("add") => Asked::Add(address),
        Some("remove") => Asked::Remove(address),
        _ => {
            return Err(Problem::bad(
                "`type` is neither add nor remove: send one of them",
            ));
        }
    };
    let member = surface.member()?;
    change(&member, asked).await
}

impl ViewUpdate {
    fn address(&self) -> Result<SocketAddr, Problem> {
        let text = self.ip_port.as_deref().unwrap_or_default();
        let address = text.trim().parse::<SocketAddr>().ok();
        let usable = address.filter(|a| a.port() != 0 && !a.ip().is_unspecified());
        usable.ok_or_else(|| {
            Problem::bad(format!(
                "`ip_port` is no address ({text:?}): send the node's own, such as 10.0.0.24:8080"
            ))
        })
    }
}

/// Has a change made, and says what came of it.
async fn change(member: &Member, asked: Asked) -> Result<HttpResponse, Problem> {
    let Changed { view, done } = member.change(asked).await.map_err(problem)?;
    let partition = match asked {
        Asked::Add(address) => view.member_at(address).and_then(|m| view.partition_of(m)),
        Asked::Remove(_) | Asked::SetK(_) => None,
    };
    let reply = ViewReply {
        msg: Cow::Borrowed("success"),
        partition_id: partition.map(|p| p.0),
        number_of_partitions: view.partitions().count(),
        view: view.number,
        done,
    };
    let status = match done {
        true => StatusCode::OK,
        false => StatusCode::ACCEPTED,
    };
    Ok(json(status, &reply))
}

fn problem(failed: ChangeFailed) -> Problem {
    let (status, advice) = match &failed {
        ChangeFailed::Busy(_) => (StatusCode::CONFLICT, "nothing was changed"),
        ChangeFailed::NoSuchNode(_) => (
            StatusCode::NOT_FOUND,
            "GET /status lists the nodes of the view",
        ),
        ChangeFailed::Senseless(_) => (StatusCode::BAD_REQUEST, "nothing was changed"),
        ChangeFailed::NotThere { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was changed; start the node with that ip_port and no VIEW, with this cluster's CLUSTER_SECRET, and try again",
        ),
        ChangeFailed::Cancelled => (
            StatusCode::SERVICE_UNAVAILABLE,
            "a node that was to hold data did not answer, or somebody asked for it; the view before is in force",
        ),
        ChangeFailed::Council(_) | ChangeFailed::NotFormed => (
            StatusCode::SERVICE_UNAVAILABLE,
            "reads and writes go on in the view in force; try again when more nodes are up",
        ),
    };
    Problem::new(status, format!("{failed}: {advice}"))
}

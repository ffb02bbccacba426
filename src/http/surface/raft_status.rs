//! `/admin/status`: how the Raft group stands that decides about views and `/keys`, as this node
//! sees it.

use super::keys::failed;
use crate::api::raft::RaftStatus;
use crate::http::body::{json, plain};
use crate::http::host::Surface;
use crate::http::problem::Problem;
use crate::http::responses::{NoView, RemovedNode};
use crate::http::words::raft::raft_status;
use crate::raft::ConsensusError;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use std::fmt::Write as _;

/// How the council stands, as this node sees it: as text, or as JSON for who accepts that.
#[utoipa::path(
    method(get, head), path = "/admin/status", operation_id = "raft_status", tag = "keys",
    responses(
        (status = 200, content(
            (String = "text/plain"),
            (RaftStatus = "application/json"),
        ), description = "One `name: value` a line, or JSON"),
        RemovedNode,
        NoView,
    )
)]
pub async fn status(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let status = raft_status(&*surface.member()?).await;
    let Some(status) = status else {
        return Err(failed(&ConsensusError::Stopped));
    };
    let accept = req.headers().get(ACCEPT).map(HeaderValue::as_bytes);
    let wants_json = accept.is_some_and(|a| memchr::memmem::find(a, b"application/json").is_some());
    Ok(match wants_json {
        true => json(StatusCode::OK, &status),
        false => plain(StatusCode::OK, &lines(&status)),
    })
}

fn lines(status: &RaftStatus) -> String {
    let number = |n: Option<u64>| n.map_or_else(|| "none".to_owned(), |n| n.to_string());
    let mut text = String::new();
    let facts = [
        ("self", status.node.clone()),
        ("state", status.state.clone()),
        (
            "leader",
            status.leader.clone().unwrap_or_else(|| "none".to_owned()),
        ),
        ("term", status.term.to_string()),
        ("has_quorum", status.has_quorum.to_string()),
        (
            "full",
            status.full.clone().unwrap_or_else(|| "no".to_owned()),
        ),
        ("log_len", status.log_len.to_string()),
        ("last_applied", number(status.last_applied)),
        ("commit_idx", number(status.commit_idx)),
        ("keys", status.keys.to_string()),
        ("uptime_seconds", status.uptime_seconds.to_string()),
        ("version", status.version.clone()),
    ];
    // Writing to a String does not fail.
    for (name, value) in facts {
        let _ = writeln!(text, "{name}: {value}");
    }
    for peer in &status.peers {
        let _ = writeln!(
            text,
            "peer {}: {}, {}, next_index {}, match_index {}",
            peer.node,
            if peer.alive { "alive" } else { "not connected" },
            if peer.votes { "voter" } else { "learner" },
            number(peer.next_index),
            number(peer.match_index),
        );
    }
    text
}

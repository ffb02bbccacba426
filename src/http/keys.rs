//! `/keys`: the linearizable store of lists, and how the council stands that decides about it.
//!
//! Errors are plain text here, as the contract has them.

use super::Surface;
use super::reply::{Problem, json};
use super::request::{self, Kind};
use crate::council::CouncilError;
use crate::node::Freshness;
use crate::node::status::RaftStatus;
use crate::protocol::keys::{
    Change, Condition, List, MAX_KEY_BYTES, MAX_LIST_BYTES, MAX_ONCE_BYTES, Outcome, What,
};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    RETRY_AFTER,
};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::Deserialize;
use std::fmt::Write as _;
use utoipa::ToSchema;

/// The longest body, in bytes: what one entry of the council's log takes.
const MAX_BODY: usize = 1 << 20;
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The body of a change.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", content = "value", rename_all = "UPPERCASE")]
pub enum KeysBody {
    /// The key has this list from now on.
    Put(Vec<String>),
    /// The list gets an item at its end; a key that is not there gets a list.
    Append(String),
}

/// What is wrong with a request, for a reply with 400.
type Refused = String;

/// Read a list.
#[utoipa::path(
    method(get, head), path = "/keys/{key}", tag = "keys",
    params(
        ("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8"),
        ("consistency" = Option<String>, Query, description = "linearizable (the default): everything decided before counts; local: what this node has"),
        ("If-None-Match" = Option<String>, Header, description = "304 when the list still has this ETag"),
    ),
    responses(
        (status = 200, body = Vec<String>, description = "The list; its ETag names the change that made it"),
        (status = 304, description = "The list still has that ETag"),
        (status = 400, body = String, content_type = "text/plain", description = "The request makes no sense"),
        (status = 404, body = String, content_type = "text/plain", description = "No such key"),
        (status = 421, body = super::ErrorReply, description = "This node was removed"),
        (status = 503, body = String, content_type = "text/plain", description = "No quorum; Retry-After says when to try again"),
    )
)]
pub async fn get(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.member()?;
    let asked = key(req).and_then(|key| Ok((key, freshness(req.query_string())?)));
    let (key, freshness) = match asked {
        Ok(asked) => asked,
        Err(refused) => return Ok(bad(&refused)),
    };
    let local = freshness == Freshness::Local;
    Ok(match member.list(&key, freshness).await {
        Ok(Some(list)) => found(req.headers(), &list, local),
        Ok(None) => mark(plain(StatusCode::NOT_FOUND, "no such key"), local),
        Err(error) => failed(&error),
    })
}

/// Change a list.
#[utoipa::path(
    post, path = "/keys/{key}", tag = "keys",
    params(
        ("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8"),
        ("If-Match" = Option<String>, Header, description = "Only if the list has one of these ETags; *: only if the key is there"),
        ("If-None-Match" = Option<String>, Header, description = "*: only if the key is not there"),
        ("Idempotency-Key" = Option<String>, Header, description = "Up to 255 bytes: a request that is sent again with the same one counts once"),
    ),
    request_body(content = KeysBody, content_type = "application/json"),
    responses(
        (status = 204, description = "Done; the ETag names the change"),
        (status = 400, body = String, content_type = "text/plain", description = "The request makes no sense"),
        (status = 408, body = super::ErrorReply, description = "The body did not arrive in time"),
        (status = 412, body = String, content_type = "text/plain", description = "The condition does not hold"),
        (status = 413, body = String, content_type = "text/plain", description = "The body or the list would be too long"),
        (status = 421, body = super::ErrorReply, description = "This node was removed"),
        (status = 422, body = String, content_type = "text/plain", description = "The Idempotency-Key was used for another request"),
        (status = 503, body = String, content_type = "text/plain", description = "No quorum, or open whether it was done; Retry-After says when to try again"),
    )
)]
pub async fn post(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.member()?;
    // Whatever the header says: what is not JSON is refused for that.
    let body = request::body(req.headers(), Kind::Json, body, MAX_BODY).await?;
    let change = what(&body).and_then(|what| change(req, what));
    Ok(match change {
        Ok(change) => done(member.change_list(change).await),
        Err(refused) => bad(&refused),
    })
}

/// Delete a list.
#[utoipa::path(
    delete, path = "/keys/{key}", tag = "keys",
    params(
        ("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8"),
        ("If-Match" = Option<String>, Header, description = "Only if the list has one of these ETags"),
        ("Idempotency-Key" = Option<String>, Header, description = "As with POST"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 400, body = String, content_type = "text/plain", description = "The request makes no sense"),
        (status = 404, body = String, content_type = "text/plain", description = "No such key"),
        (status = 412, body = String, content_type = "text/plain", description = "The condition does not hold"),
        (status = 421, body = super::ErrorReply, description = "This node was removed"),
        (status = 422, body = String, content_type = "text/plain", description = "The Idempotency-Key was used for another request"),
        (status = 503, body = String, content_type = "text/plain", description = "No quorum, or open whether it was done; Retry-After says when to try again"),
    )
)]
pub async fn delete(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.member()?;
    Ok(match change(req, What::Delete) {
        Ok(change) => done(member.change_list(change).await),
        Err(refused) => bad(&refused),
    })
}

/// How the council stands, as this node sees it: as text, or as JSON for who accepts that.
#[utoipa::path(
    method(get, head), path = "/admin/status", tag = "keys",
    responses(
        (status = 200, content(
            (String = "text/plain"),
            (RaftStatus = "application/json"),
        ), description = "One `name: value` a line, or JSON"),
        (status = 421, body = super::ErrorReply, description = "This node was removed"),
        (status = 503, body = super::ErrorReply, description = "This node is in no view"),
    )
)]
pub async fn status(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let status = surface.member()?.raft_status().await;
    let Some(status) = status else {
        return Ok(failed(&CouncilError::Stopped));
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

/// The key in the path.
fn key(req: &HttpRequest) -> Result<Bytes, Refused> {
    let raw = req.path().strip_prefix("/keys/").unwrap_or_default();
    let key: Vec<u8> = percent_encoding::percent_decode_str(raw).collect();
    let why = match key.len() {
        0 => "the key is empty: GET, POST or DELETE /keys/{key}".to_owned(),
        n if n > MAX_KEY_BYTES => {
            format!("the key has {n} bytes, at most {MAX_KEY_BYTES} are possible")
        }
        _ if std::str::from_utf8(&key).is_err() => "the key is not UTF-8".to_owned(),
        _ => return Ok(Bytes::from(key)),
    };
    Err(why)
}

fn freshness(query: &str) -> Result<Freshness, Refused> {
    #[derive(Deserialize)]
    struct Query {
        consistency: Option<String>,
    }
    let query: Query = serde_urlencoded::from_str(query)
        .map_err(|why| format!("the query cannot be read: {why}"))?;
    match query.consistency.as_deref() {
        None | Some("linearizable") => Ok(Freshness::Linearizable),
        Some("local") => Ok(Freshness::Local),
        Some(_) => Err("`consistency` is neither linearizable nor local".to_owned()),
    }
}

fn what(body: &[u8]) -> Result<What, Refused> {
    let item = |text: String| Bytes::from(text);
    match serde_json::from_slice(body) {
        Ok(KeysBody::Put(items)) => Ok(What::Put(items.into_iter().map(item).collect())),
        Ok(KeysBody::Append(text)) => Ok(What::Append(item(text))),
        Err(why) => Err(format!(
            "the body is not understood ({why}): send {{\"type\":\"PUT\",\"value\":[\"...\"]}} or {{\"type\":\"APPEND\",\"value\":\"...\"}}"
        )),
    }
}

fn change(req: &HttpRequest, what: What) -> Result<Change, Refused> {
    let once = req
        .headers()
        .get(IDEMPOTENCY_KEY)
        .map(HeaderValue::as_bytes);
    if once.is_some_and(|once| once.is_empty() || once.len() > MAX_ONCE_BYTES) {
        return Err(format!(
            "an Idempotency-Key has 1 to {MAX_ONCE_BYTES} bytes"
        ));
    }
    Ok(Change {
        key: key(req)?,
        what,
        only: condition(req.headers())?,
        once: once.map(Bytes::copy_from_slice),
    })
}

/// What the headers say about when a change is to be made.
fn condition(headers: &HeaderMap) -> Result<Condition, Refused> {
    let text = |value: &HeaderValue| value.to_str().map(str::trim).unwrap_or_default().to_owned();
    let if_match = headers.get(IF_MATCH).map(text);
    let if_none = headers.get(IF_NONE_MATCH).map(text);
    match (if_match.as_deref(), if_none.as_deref()) {
        (None, None) => Ok(Condition::Always),
        (None, Some("*")) => Ok(Condition::Absent),
        (None, Some(_)) => {
            Err("If-None-Match takes only * for a change: the key must not be there".to_owned())
        }
        (Some("*"), None) => Ok(Condition::Present),
        // One that is none of ours matches nothing.
        (Some(tags), None) => Ok(Condition::Revision(
            tags.split(',')
                .filter_map(|tag| revision(tag.trim()))
                .collect(),
        )),
        (Some(_), Some(_)) => Err("send If-Match or If-None-Match, not both".to_owned()),
    }
}

/// The revision that an ETag names, if it is one of ours.
fn revision(tag: &str) -> Option<u64> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

fn etag(response: &mut HttpResponse, revision: u64) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
}

fn found(headers: &HeaderMap, list: &List, local: bool) -> HttpResponse {
    let seen = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let same = |tag: &str| tag == "*" || revision(tag) == Some(list.revision);
    let unchanged = seen.is_some_and(|tags| tags.split(',').any(|tag| same(tag.trim())));
    let mut response = match unchanged {
        true => HttpResponse::NotModified().finish(),
        false => {
            let items = list.items.iter();
            let items: Vec<_> = items.map(|item| String::from_utf8_lossy(item)).collect();
            json(StatusCode::OK, &items)
        }
    };
    etag(&mut response, list.revision);
    mark(response, local)
}

/// Says of a local read that it is one.
fn mark(mut response: HttpResponse, local: bool) -> HttpResponse {
    if local {
        let name = HeaderName::from_static("causeway-consistency");
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static("local"));
    }
    response
}

fn done(outcome: Result<Outcome, CouncilError>) -> HttpResponse {
    match outcome {
        Ok(Outcome::Done { revision }) => {
            let mut response = HttpResponse::NoContent().finish();
            etag(&mut response, revision);
            response
        }
        Ok(Outcome::NoSuchKey) => plain(StatusCode::NOT_FOUND, "no such key"),
        Ok(Outcome::ConditionFailed { revision }) => {
            let is = match revision {
                Some(_) => "the list has changed: read it again, its ETag says which change it was",
                None => "there is no such key",
            };
            let mut response = plain(
                StatusCode::PRECONDITION_FAILED,
                &format!("nothing was done: {is}"),
            );
            if let Some(revision) = revision {
                etag(&mut response, revision);
            }
            response
        }
        Ok(Outcome::TooLong) => plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("nothing was done: a list may have {MAX_LIST_BYTES} bytes"),
        ),
        Ok(Outcome::OtherRequest) => plain(
            StatusCode::UNPROCESSABLE_ENTITY,
            "nothing was done: that Idempotency-Key was used for another request",
        ),
        Err(error) => failed(&error),
    }
}

fn failed(error: &CouncilError) -> HttpResponse {
    let (status, advice) = match error {
        CouncilError::NoQuorum { .. } | CouncilError::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was done; try again",
        ),
        CouncilError::Undecided { .. } | CouncilError::Stopped => (
            StatusCode::SERVICE_UNAVAILABLE,
            "it may be done, now or later; try again, with an Idempotency-Key to be safe",
        ),
        CouncilError::Behind { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "try again, ask another node, or read with consistency=local",
        ),
        CouncilError::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "nothing was done"),
        CouncilError::Encoding(_) | CouncilError::Storage(_) => {
            log::error!("{error}");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "ask another node, and see this node's log",
            )
        }
    };
    let mut response = plain(status, &format!("{error}: {advice}"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let again = HeaderValue::from_static("1");
        response.headers_mut().insert(RETRY_AFTER, again);
    }
    response
}

fn bad(why: &str) -> HttpResponse {
    plain(StatusCode::BAD_REQUEST, why)
}

/// A reply in plain text.
fn plain(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, TEXT))
        .body(text.to_owned())
}

//! `/keys`: the linearizable store of lists.
//!
//! Errors are plain text here, as the contract has them.

use crate::api::problem::ErrorReply;
use crate::http::body::{add_payload, json, plain};
use crate::http::etags::EntityTags;
use crate::http::host::Surface;
use crate::http::key;
use crate::http::problem::Problem;
use crate::http::reason::Reason;
use crate::http::request::BodyKind;
use crate::http::responses::{ListChangeErrors, ListErrors, RemovedNode};
use crate::http::session;
use crate::node::{Freshness, Member};
use crate::protocol::context::Context;
use crate::protocol::keys::{
    List, ListChange, ListCondition, ListOutcome, ListPast, MAX_LIST_BYTES, MAX_ONCE_BYTES,
    MAX_PAST, MAX_TOTAL_BYTES, What,
};
use crate::protocol::payload::Codec;
use crate::protocol::version::Key;
use crate::raft::ConsensusError;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::Deserialize;
use std::borrow::Cow;
use utoipa::ToSchema;

/// The longest body, in bytes: what one entry of the Raft log takes.
const MAX_BODY: usize = 1 << 20;
/// An `If-Match` names another list than the one that is there.
const CHANGED: &str = "the list has changed: read it again, its ETag says which change it was";
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

/// Read a list.
#[utoipa::path(
    method(get, head), path = "/keys/{key}", operation_id = "list_get", tag = "keys",
    params(
        ("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8"),
        ("consistency" = Option<String>, Query, description = "linearizable (the default): everything decided before counts; local: what this node has"),
        ("If-Match" = Option<String>, Header, description = "412 unless the list has one of these ETags"),
        ("If-None-Match" = Option<String>, Header, description = "304 when the list still has one of these ETags"),
        ("Causal-Payload" = Option<String>, Header, description = "The client's causal_payload; the reply's includes it"),
    ),
    responses(
        (status = 200, body = Vec<String>, description = "The list; its ETag names the change that made it",
            headers(
                ("ETag" = String, description = "The revision that made the list, in quotes"),
                ("Causal-Payload" = Option<String>, description = "What the writers of the list had seen of /kvs: a causal_payload to read there with"),
            )),
        (status = 304, description = "The list still has that ETag"),
        (status = 404, body = String, content_type = "text/plain", description = "No such key"),
        (status = 412, body = String, content_type = "text/plain", description = "The list has none of the ETags of If-Match"),
        ListErrors,
        RemovedNode,
    )
)]
pub async fn get(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.member()?;
    let codec = surface.codec()?;
    let seen = past(req.headers(), &member, &codec)?;
    let (key, freshness) = (key(req)?, freshness(req.query_string())?);
    let only_if = ReadCondition::of(req.headers())?;
    let local = freshness == Freshness::Local;
    let (reply, past) = match member.lists().get(key, freshness).await {
        Ok((Some(list), past)) => (found(&only_if, &list, local), past),
        Ok((None, past)) => (
            mark(plain(StatusCode::NOT_FOUND, "no such key"), local),
            past,
        ),
        Err(error) => (failed(&error).reply(&codec), None),
    };
    surface.unread(with_past(reply, seen, past, &codec))
}

/// Change a list.
#[utoipa::path(
    post, path = "/keys/{key}", operation_id = "list_change", tag = "keys",
    params(
        ("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8"),
        ("If-Match" = Option<String>, Header, description = "Only if the list has one of these ETags; *: only if the key is there"),
        ("If-None-Match" = Option<String>, Header, description = "*: only if the key is not there"),
        ("Idempotency-Key" = Option<String>, Header, description = "Up to 255 bytes: a request that is sent again with the same one counts once"),
        ("Causal-Payload" = Option<String>, Header, description = "What the writer has seen of /kvs: a causal_payload. Kept with the list for those who read it"),
    ),
    request_body(content = KeysBody, content_type = "application/json"),
    responses(
        (status = 204, description = "Done; the ETag names the change",
            headers(
                ("ETag" = String, description = "The revision that made the list, in quotes"),
                ("Causal-Payload" = Option<String>, description = "The request's own"),
            )),
        (status = 408, body = ErrorReply, description = "The body did not arrive in time"),
        (status = 413, content(
            (String = "text/plain"),
            (ErrorReply = "application/json"),
        ), description = "The list, or the body, would be too long"),
        ListErrors,
        ListChangeErrors,
        RemovedNode,
    )
)]
pub async fn post(
    surface: &Surface,
    req: &HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.member()?;
    // Whatever the header says: what is not JSON is refused for that.
    let body = surface.body(req, BodyKind::Json, body, MAX_BODY).await?;
    let codec = surface.codec()?;
    let seen = past(req.headers(), &member, &codec)?;
    let asked = change(req, what(&body)?, seen)?;
    Ok(changed(&member, asked, &codec).await)
}

/// Delete a list.
#[utoipa::path(
    delete, path = "/keys/{key}", operation_id = "list_delete", tag = "keys",
    params(
        ("key" = String, Path, min_length = 1, max_length = 1024, description = "UTF-8"),
        ("If-Match" = Option<String>, Header, description = "Only if the list has one of these ETags"),
        ("If-None-Match" = Option<String>, Header, description = "As with POST"),
        ("Idempotency-Key" = Option<String>, Header, description = "As with POST"),
        ("Causal-Payload" = Option<String>, Header, description = "As with POST"),
    ),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, body = String, content_type = "text/plain", description = "No such key"),
        (status = 413, body = String, content_type = "text/plain", description = "The list's Causal-Payload would be too long"),
        ListErrors,
        ListChangeErrors,
        RemovedNode,
    )
)]
pub async fn delete(
    surface: &Surface,
    req: &HttpRequest,
    _body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let member = surface.member()?;
    let codec = surface.codec()?;
    let seen = past(req.headers(), &member, &codec)?;
    let asked = change(req, What::Delete, seen)?;
    Ok(changed(&member, asked, &codec).await)
}

/// The key in the path.
fn key(req: &HttpRequest) -> Result<Key, Problem> {
    key::in_path(req).map_err(bad)
}

fn freshness(query: &str) -> Result<Freshness, Problem> {
    #[derive(Deserialize)]
    struct Query {
        consistency: Option<String>,
    }
    let query: Query = serde_urlencoded::from_str(query)
        .map_err(|why| bad(format!("the query cannot be read: {why}")))?;
    match query.consistency.as_deref() {
        None | Some("linearizable") => Ok(Freshness::Linearizable),
        Some("local") => Ok(Freshness::Local),
        Some(_) => Err(bad("`consistency` is neither linearizable nor local")),
    }
}

fn what(body: &[u8]) -> Result<What, Problem> {
    let item = |text: String| Bytes::from(text);
    match serde_json::from_slice(body) {
        Ok(KeysBody::Put(items)) => Ok(What::Put(items.into_iter().map(item).collect())),
        Ok(KeysBody::Append(text)) => Ok(What::Append(item(text))),
        Err(why) => Err(bad(format!(
            "the body is not understood ({why}): send {{\"type\":\"PUT\",\"value\":[\"...\"]}} or {{\"type\":\"APPEND\",\"value\":\"...\"}}"
        ))),
    }
}

/// Makes a change. The reply has what its writer had seen.
async fn changed(member: &Member, change: ListChange, codec: &Codec) -> HttpResponse {
    let seen = change.past.as_ref().map(|past| past.seen.clone());
    with_past(
        done(member.lists().change(change).await, codec),
        seen,
        None,
        codec,
    )
}

/// The client's past in `/kvs`, from its headers.
fn past(headers: &HeaderMap, member: &Member, codec: &Codec) -> Result<Option<Context>, Problem> {
    let Some(seen) = session::of_headers(headers, codec)? else {
        return Ok(None);
    };
    let seen = member
        .lists()
        .past(seen)
        .map_err(|failed| Problem::refused_past(&failed.refusal))?;
    Ok(Some(seen))
}

/// Adds to a reply what the client has seen of `/kvs`, and what it sees by this reply.
fn with_past(
    mut reply: HttpResponse,
    seen: Option<Context>,
    past: Option<Context>,
    codec: &Codec,
) -> HttpResponse {
    let both = match (seen, past) {
        (Some(mut seen), Some(past)) => {
            seen.join(&past);
            Some(seen)
        }
        (one, other) => one.or(other),
    };
    if let Some(both) = both {
        add_payload(&mut reply, codec.encode(&both));
    }
    reply
}

fn change(req: &HttpRequest, what: What, seen: Option<Context>) -> Result<ListChange, Problem> {
    let once = only(req.headers(), &IDEMPOTENCY_KEY)?.map(HeaderValue::as_bytes);
    if once.is_some_and(|once| once.is_empty() || once.len() > MAX_ONCE_BYTES) {
        return Err(bad(format!(
            "an Idempotency-Key has 1 to {MAX_ONCE_BYTES} bytes"
        )));
    }
    Ok(ListChange {
        key: key(req)?,
        what,
        only: condition(req.headers())?,
        once: once.map(Bytes::copy_from_slice),
        past: seen.map(|seen| ListPast {
            seen,
            settled: Vec::new(),
        }),
    })
}

/// The condition of a change, from its headers.
fn condition(headers: &HeaderMap) -> Result<ListCondition, Problem> {
    match (tags(headers, &IF_MATCH)?, tags(headers, &IF_NONE_MATCH)?) {
        (None, None) => Ok(ListCondition::Always),
        (None, Some(EntityTags::Any)) => Ok(ListCondition::Absent),
        (None, Some(EntityTags::These(_))) => Err(bad(
            "If-None-Match takes only * for a change: the key must not be there",
        )),
        // A tag of another make, or a weak one, matches nothing.
        (Some(tags), None) => Ok(match tags.strong() {
            None => ListCondition::Present,
            Some(revisions) => ListCondition::Revision(revisions),
        }),
        (Some(_), Some(_)) => Err(bad("send If-Match or If-None-Match, not both")),
    }
}

/// The conditions of a read. They count only where there is a list, as RFC 9110 has it.
struct ReadCondition {
    matches: Option<EntityTags>,
    none_matches: Option<EntityTags>,
}

impl ReadCondition {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            matches: tags(headers, &IF_MATCH)?,
            none_matches: tags(headers, &IF_NONE_MATCH)?,
        })
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<EntityTags>, Problem> {
    EntityTags::of(headers, name).map_err(bad)
}

/// The only line of a header field; `None` where there is none.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut lines = headers.get_all(name);
    match (lines.next(), lines.next()) {
        (only, None) => Ok(only),
        (_, Some(_)) => Err(bad(format!("{name} is given twice: send it once"))),
    }
}

fn etag(response: &mut HttpResponse, revision: u64) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(ETAG, tag);
    }
}

fn found(only_if: &ReadCondition, list: &List, local: bool) -> HttpResponse {
    let differs = |tags: &EntityTags| !tags.has_strong(list.revision);
    let is_known = |tags: &EntityTags| tags.has_weak(list.revision);
    let mut response = if only_if.matches.as_ref().is_some_and(differs) {
        plain(StatusCode::PRECONDITION_FAILED, CHANGED)
    } else if only_if.none_matches.as_ref().is_some_and(is_known) {
        HttpResponse::NotModified().finish()
    } else {
        let items = list.items.iter();
        let items: Vec<_> = items.map(|item| String::from_utf8_lossy(item)).collect();
        json(StatusCode::OK, &items)
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

fn done(outcome: Result<ListOutcome, ConsensusError>, codec: &Codec) -> HttpResponse {
    match outcome {
        Ok(ListOutcome::Done { revision }) => {
            let mut response = HttpResponse::NoContent().finish();
            etag(&mut response, revision);
            response
        }
        Ok(ListOutcome::NoSuchKey) => plain(StatusCode::NOT_FOUND, "no such key"),
        Ok(ListOutcome::ConditionFailed { revision }) => {
            let is = match revision {
                Some(_) => CHANGED,
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
        Ok(ListOutcome::TooLong) => plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("nothing was done: a list may have {MAX_LIST_BYTES} bytes"),
        ),
        Ok(ListOutcome::PastTooLong) => plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!(
                "nothing was done: the list's Causal-Payload would name more than {MAX_PAST} logs of writes that not every replica has yet; \
                 try again when all nodes are up, or PUT the list"
            ),
        ),
        Ok(ListOutcome::Full) => plain(
            StatusCode::INSUFFICIENT_STORAGE,
            &format!(
                "nothing was done: all lists together may count {MAX_TOTAL_BYTES} bytes; delete or shorten some"
            ),
        ),
        Ok(ListOutcome::OtherRequest) => plain(
            StatusCode::UNPROCESSABLE_ENTITY,
            "nothing was done: that Idempotency-Key was used for another request",
        ),
        Err(error) => failed(&error).reply(codec),
    }
}

/// Why the Raft group did not answer.
pub(super) fn failed(error: &ConsensusError) -> Problem {
    let (status, advice) = match error {
        ConsensusError::NoQuorum { .. } | ConsensusError::Overloaded => (
            StatusCode::SERVICE_UNAVAILABLE,
            "nothing was done; try again",
        ),
        ConsensusError::Undecided { .. } | ConsensusError::Stopped => (
            StatusCode::SERVICE_UNAVAILABLE,
            "it may be done, now or later; try again, with an Idempotency-Key to be safe",
        ),
        ConsensusError::Behind { .. } => (
            StatusCode::SERVICE_UNAVAILABLE,
            "try again, ask another node, or read with consistency=local",
        ),
        ConsensusError::Full(_) => (
            StatusCode::INSUFFICIENT_STORAGE,
            "nothing was done; ask another node",
        ),
        ConsensusError::LeaderFull => (
            StatusCode::INSUFFICIENT_STORAGE,
            "nothing was done; delete something, or make room on that disk",
        ),
        ConsensusError::TooLong { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "nothing was done"),
        ConsensusError::Encoding(_) | ConsensusError::Storage(_) => {
            log::error!("{error}");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "ask another node, and see this node's log",
            )
        }
    };
    let problem = Problem::text(status, format!("{error}: {advice}"));
    match error {
        ConsensusError::NoQuorum { .. } => problem.because(Reason::NoQuorum),
        ConsensusError::Overloaded => problem.because(Reason::Overloaded),
        ConsensusError::Undecided { .. } | ConsensusError::Stopped => {
            problem.because(Reason::Undecided)
        }
        ConsensusError::Behind { .. } => problem.because(Reason::Behind),
        _ => problem,
    }
}

/// The request makes no sense.
fn bad(why: impl Into<Cow<'static, str>>) -> Problem {
    Problem::text(StatusCode::BAD_REQUEST, why)
}

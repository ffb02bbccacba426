//! The operator's store: a store without sessions, the nodes, and faults on demand. Here is what
//! its parts share.

pub mod keys;
pub mod nodes;

use crate::http::key;
use crate::http::problem::Problem;
use crate::protocol::version::Key;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use std::borrow::Cow;

const SUCCESS: Cow<'static, str> = Cow::Borrowed("success");

/// The reply to a handler of this part.
fn answer(done: Result<HttpResponse, Problem>) -> Result<HttpResponse, Problem> {
    done.map_err(Problem::for_operator)
}

/// The request makes no sense.
fn invalid(message: impl Into<Cow<'static, str>>) -> Problem {
    Problem::titled(StatusCode::BAD_REQUEST, "Invalid input", message)
}

/// The key that a path ends with.
fn key_in_path(req: &HttpRequest) -> Result<Key, Problem> {
    key::in_path(req).map_err(invalid)
}

/// The part of the path behind its first part, as it came.
fn last_part(req: &HttpRequest) -> &str {
    let path = req.path().trim_start_matches('/');
    path.split_once('/').map_or("", |(_, last)| last)
}

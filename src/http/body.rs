//! Bodies of replies: JSON and plain text; and the header that repeats the session of one.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use bytes::Bytes;
use serde::Serialize;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Carries payloads, in requests and in replies.
pub const CAUSAL_PAYLOAD: HeaderName = HeaderName::from_static("causal-payload");

/// Adds a payload to a reply's headers.
pub fn add_payload(reply: &mut HttpResponse, payload: String) {
    // A payload is base64, which a header takes always.
    if let Ok(text) = HeaderValue::from_maybe_shared(Bytes::from(payload)) {
        reply.headers_mut().insert(CAUSAL_PAYLOAD, text);
    }
}

/// A JSON reply.
pub fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_vec(body) {
        Ok(text) => json_text(status, text),
        // Our replies are plain structs, which always serialize.
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

/// A reply whose body is JSON text.
pub fn json_text(status: StatusCode, text: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .body(text)
}

/// A reply in plain text.
pub fn plain(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, TEXT))
        .body(text.to_owned())
}

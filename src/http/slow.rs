//! Requests that took long. Each leaves a line in the log, which says what was asked and of which
//! key, and nothing of a value, a payload or a token. In a while there are only so many: a node
//! that is slow is not to be slower for its log.

use super::key;
use super::request::Fields;
use super::routes::HttpRoute;
use actix_web::body::{BodySize, MessageBody as _};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};
use bytes::Bytes;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in each while.
const LINES: u32 = 10;
/// How long a while is.
const WHILE: Duration = Duration::from_secs(10);
/// Characters of a key that are shown.
const SHOWN: usize = 64;

/// The slow requests of a node.
#[derive(Debug)]
pub struct SlowLog {
    /// From when on a request is slow; none is without it.
    threshold: Option<Duration>,
    written: Mutex<Written>,
}

/// What was written in the present while.
#[derive(Debug, Default)]
struct Written {
    began: Option<Instant>,
    lines: u32,
    /// Requests that got no line, since the last one that did.
    left_out: u64,
}

impl Written {
    /// Whether another line may be written, and how many were left out before it.
    fn admits(&mut self, now: Instant) -> Option<u64> {
        let over = |began: Instant| now.saturating_duration_since(began) >= WHILE;
        if self.began.is_none_or(over) {
            (self.began, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// The key of a request that has it in its body.
struct BodyKey(Bytes);

/// Keeps the key that a request's body named, for a line about it.
pub fn note_key(req: &HttpRequest, key: &Bytes) {
    req.extensions_mut().insert(BodyKey(key.clone()));
}

impl SlowLog {
    /// Requests that take `threshold` leave a line.
    pub fn new(threshold: Option<Duration>) -> Self {
        Self {
            threshold,
            written: Mutex::default(),
        }
    }

    /// Whether a request is slow that took so long.
    pub fn is_slow(&self, took: Duration) -> bool {
        self.threshold.is_some_and(|threshold| took >= threshold)
    }

    /// Leaves a line about a slow request, if there may be one more.
    pub fn write(&self, route: HttpRoute, req: &HttpRequest, reply: &HttpResponse, took: Duration) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = written.admits(Instant::now());
        drop(written);
        if let Some(left_out) = admitted {
            log::warn!("{}", line(route, req, reply, took, left_out));
        }
    }
}

fn line(
    route: HttpRoute,
    req: &HttpRequest,
    reply: &HttpResponse,
    took: Duration,
    left_out: u64,
) -> String {
    let length = req.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|text| text.to_str().ok()?.parse::<u64>().ok());
    let mut line = format!(
        "slow request: {} {} {} in {} ms, bytes in {}, out {}",
        req.method(),
        route.path(),
        reply.status().as_u16(),
        took.as_millis(),
        length.unwrap_or(0),
        match reply.body().size() {
            BodySize::Sized(bytes) => bytes,
            BodySize::None | BodySize::Stream => 0,
        },
    );
    // Writing to a String does not fail.
    if let Some(key) = key_of(route, req) {
        let _ = write!(line, ", key {}", shown(&key));
    }
    if left_out > 0 {
        let _ = write!(line, "; {left_out} more were left out before it");
    }
    line
}

/// The key that a request is about.
fn key_of(route: HttpRoute, req: &HttpRequest) -> Option<Bytes> {
    if let Some(BodyKey(key)) = req.extensions().get() {
        return Some(key.clone());
    }
    if route.path().ends_with("{key}") {
        return key::in_path(req).ok();
    }
    Fields::form(req.query_string().as_bytes()).key_text()
}

fn shown(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    let begin: String = text.chars().take(SHOWN).collect();
    let rest = if begin.len() < text.len() { "..." } else { "" };
    format!("{begin:?}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_line_has_the_key_and_no_value_payload_or_token() {
        let long = "k".repeat(100);
        let secret = "secret";
        let ask = |target: &str| {
            TestRequest::with_uri(target)
                .insert_header(("authorization", format!("Bearer {secret}")))
                .insert_header(("content-length", "17"))
                .to_http_request()
        };
        let reply = HttpResponse::Ok().body(secret);
        let took = Duration::from_millis(1_234);
        for (route, target, key) in [
            (
                HttpRoute::Kvs,
                format!("/kvs?key=a%0Ab&causal_payload={secret}&value={secret}"),
                r#", key "a\nb""#.to_owned(),
            ),
            (
                HttpRoute::Keys,
                format!("/keys/{long}"),
                format!(", key \"{}\"...", &long[..64]),
            ),
            (
                HttpRoute::Status,
                format!("/status?x={secret}"),
                String::new(),
            ),
        ] {
            let written = line(route, &ask(&target), &reply, took, 0);
            let path = route.path();
            let expected =
                format!("slow request: GET {path} 200 in 1234 ms, bytes in 17, out 6{key}");
            assert_eq!(written, expected);
        }
        let put = ask("/kvs");
        note_key(&put, &Bytes::from_static(b"named in the body"));
        let written = line(HttpRoute::Kvs, &put, &reply, took, 7);
        assert!(
            written.ends_with(", key \"named in the body\"; 7 more were left out before it"),
            "{written}"
        );
    }

    #[test]
    fn in_a_while_there_are_so_many_lines_and_the_next_says_how_many_are_missing() {
        let mut written = Written::default();
        let now = Instant::now();
        for _ in 0..LINES {
            assert_eq!(written.admits(now), Some(0));
        }
        for _ in 0..1_000 {
            assert_eq!(written.admits(now + WHILE / 2), None);
        }
        assert_eq!(written.admits(now + WHILE), Some(1_000));
        assert_eq!(written.admits(now + WHILE), Some(0));
    }

    #[test]
    fn without_a_threshold_nothing_is_slow() {
        assert!(!SlowLog::new(None).is_slow(Duration::MAX));
        let slow = SlowLog::new(Some(Duration::from_millis(5)));
        assert!(slow.is_slow(Duration::from_millis(5)) && !slow.is_slow(Duration::from_millis(4)));
    }
}

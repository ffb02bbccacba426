//! The requests of the three servers that can be measured, and what their replies mean.

use super::Bench;
use crate::cli::kv::Consistency;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::ValueEnum;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use memchr::memmem::Finder;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write;

const PAYLOAD_FIELD: &[u8] = b"\"causal_payload\":\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// GET and PUT /kvs
    Causeway,
    /// etcd's HTTP gateway: POST /v3/kv/range and /v3/kv/put
    Etcd,
    /// GET /bare: an empty handler
    Bare,
}

/// What a reply came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// A read of a key that nobody has written yet.
    NotFound,
    /// Refused, and how.
    Error(String),
}

/// Speaks one protocol for one session, and carries the session's context.
pub struct Speaker {
    protocol: Protocol,
    consistency: Consistency,
    /// Random text, twice as long as a value: each write takes another stretch of it.
    text: String,
    value_size: usize,
    random: StdRng,
    key: String,
    payload: String,
    finder: Finder<'static>,
}

impl Speaker {
    pub fn new(session: u32, args: &Bench) -> Self {
        Self::of(session, args.protocol, args.consistency, args.value_size)
    }

    fn of(session: u32, protocol: Protocol, consistency: Consistency, value_size: usize) -> Self {
        let mut random = StdRng::seed_from_u64(u64::from(session) + (1 << 32));
        Self {
            protocol,
            consistency,
            text: Alphanumeric.sample_string(&mut random, 2 * value_size),
            value_size,
            random,
            key: String::new(),
            payload: String::new(),
            finder: Finder::new(PAYLOAD_FIELD),
        }
    }

    /// Chooses the key that the next request is about.
    pub fn set_key(&mut self, number: u64) -> &str {
        self.key.clear();
        // A `String` takes whatever is written to it.
        let _ = write!(self.key, "key{number}");
        &self.key
    }

    pub fn context_chars(&self) -> usize {
        self.payload.len()
    }

    /// The next request, with the context so far.
    pub fn request(&mut self, read: bool) -> Result<Request<Full<Bytes>>, String> {
        let (key, payload) = (self.key.as_str(), self.payload.as_str());
        let start = self.random.random_range(0..=self.value_size);
        let value = self
            .text
            .get(start..start + self.value_size)
            .unwrap_or_default();
        match (self.protocol, read) {
            (Protocol::Bare, _) => get("/bare".to_owned()),
            (Protocol::Causeway, true) => get(match self.consistency {
                Consistency::Causal => format!("/kvs?key={key}&causal_payload={payload}"),
                Consistency::Eventual => format!("/kvs?key={key}&consistency=eventual"),
            }),
            (Protocol::Causeway, false) => body(
                Method::PUT,
                "/kvs",
                "application/x-www-form-urlencoded",
                format!("key={key}&value={value}&causal_payload={payload}"),
            ),
            (Protocol::Etcd, true) => body(
                Method::POST,
                "/v3/kv/range",
                "application/json",
                format!(r#"{{"key":"{}"}}"#, STANDARD.encode(key)),
            ),
            (Protocol::Etcd, false) => body(
                Method::POST,
                "/v3/kv/put",
                "application/json",
                format!(
                    r#"{{"key":"{}","value":"{}"}}"#,
                    STANDARD.encode(key),
                    STANDARD.encode(value)
                ),
            ),
        }
    }

    /// Takes note of a reply, its context above all.
    pub fn reply(&mut self, read: bool, status: StatusCode, body: &[u8]) -> Answer {
        let mut carried = self.protocol != Protocol::Causeway;
        if !carried && let Some(payload) = self.find_payload(body) {
            carried = true;
            if self.consistency == Consistency::Causal {
                self.payload.clear();
                self.payload.push_str(payload);
            }
        }
        if read && status == StatusCode::NOT_FOUND && carried {
            return Answer::NotFound;
        }
        if !status.is_success() {
            let text = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
            return Answer::Error(format!("HTTP {}: {text}", status.as_u16()));
        }
        if !carried {
            return Answer::Error("a reply without causal_payload".into());
        }
        // etcd answers a range without a hit by leaving the list out.
        if self.protocol == Protocol::Etcd && read && !contains(body, b"\"kvs\"") {
            return Answer::NotFound;
        }
        Answer::Done
    }

    /// The text of `causal_payload` in a reply: a scan, as a full parse would cost more than all the rest.
    fn find_payload<'a>(&self, body: &'a [u8]) -> Option<&'a str> {
        let rest = &body[self.finder.find(body)? + PAYLOAD_FIELD.len()..];
        let end = memchr::memchr(b'"', rest)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(body, part).is_some()
}

fn get(path: String) -> Result<Request<Full<Bytes>>, String> {
    // From `Bytes`: the text is checked, not copied.
    let uri = Uri::from_maybe_shared(Bytes::from(path)).map_err(|e| format!("request: {e}"))?;
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri;
    Ok(request)
}

fn body(
    method: Method,
    path: &'static str,
    content_type: &'static str,
    text: String,
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::new(Full::new(Bytes::from(text)));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_static(path);
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn speaker(protocol: Protocol, consistency: Consistency) -> Speaker {
        let mut speaker = Speaker::of(0, protocol, consistency, 10);
        speaker.set_key(5);
        speaker
    }

    fn text(request: Request<Full<Bytes>>) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let body = runtime.block_on(request.into_body().collect()).unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_context_of_a_reply_goes_with_the_next_request() {
        let mut s = speaker(Protocol::Causeway, Consistency::Causal);
        assert_eq!(
            s.request(true).unwrap().uri(),
            "/kvs?key=key5&causal_payload="
        );
        let reply = br#"{"msg":"success","value":"v","causal_payload":"EAbc-_","n":1}"#;
        assert_eq!(s.reply(true, StatusCode::OK, reply), Answer::Done);
        assert_eq!(s.context_chars(), 6);
        let uri = s.request(true).unwrap().uri().to_string();
        assert_eq!(uri, "/kvs?key=key5&causal_payload=EAbc-_");
        let put = text(s.request(false).unwrap());
        assert!(
            put.starts_with("key=key5&value=") && put.ends_with("&causal_payload=EAbc-_"),
            "{put}"
        );
        // Errors carry it as well.
        let error = br#"{"msg":"error","error":"x","causal_payload":"EA"}"#;
        assert!(matches!(
            s.reply(true, StatusCode::SERVICE_UNAVAILABLE, error),
            Answer::Error(_)
        ));
        assert_eq!(s.context_chars(), 2);
        assert_eq!(
            s.reply(true, StatusCode::NOT_FOUND, error),
            Answer::NotFound
        );
    }

    #[test]
    fn an_eventual_session_carries_nothing() {
        let mut s = speaker(Protocol::Causeway, Consistency::Eventual);
        let reply = br#"{"causal_payload":"EAbc"}"#;
        assert_eq!(s.reply(false, StatusCode::CREATED, reply), Answer::Done);
        assert_eq!(
            s.request(true).unwrap().uri(),
            "/kvs?key=key5&consistency=eventual"
        );
        assert!(text(s.request(false).unwrap()).ends_with("&causal_payload="));
    }

    #[test]
    fn replies_that_are_none_are_errors() {
        let mut s = speaker(Protocol::Causeway, Consistency::Causal);
        for body in ["", "{}", r#"{"causal_payload":"unfinished"#] {
            let answer = s.reply(false, StatusCode::OK, body.as_bytes());
            assert!(matches!(answer, Answer::Error(_)), "{body}");
        }
    }

    #[test]
    fn etcd_gets_base64_and_says_when_there_is_nothing() {
        let mut s = speaker(Protocol::Etcd, Consistency::Causal);
        assert_eq!(text(s.request(true).unwrap()), r#"{"key":"a2V5NQ=="}"#);
        let empty = br#"{"header":{"revision":"1"}}"#;
        assert_eq!(s.reply(true, StatusCode::OK, empty), Answer::NotFound);
        assert_eq!(s.reply(false, StatusCode::OK, empty), Answer::Done);
        let hit = br#"{"header":{},"kvs":[{"key":"a2V5NQ=="}],"count":"1"}"#;
        assert_eq!(s.reply(true, StatusCode::OK, hit), Answer::Done);
    }
}

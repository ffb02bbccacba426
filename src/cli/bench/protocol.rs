//! The requests of the servers that can be measured, and what their replies mean.

use super::{Bench, many};
use crate::check::history::Kind;
use crate::cli::kv::ConsistencyArg;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::ValueEnum;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use memchr::memmem::Finder;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write;

const PAYLOAD_FIELD: &[u8] = b"\"causal_payload\":\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// GET, PUT and DELETE /kvs
    Causeway,
    /// GET, POST and DELETE /keys: the linearizable lists, of one item each
    Keys,
    /// etcd's HTTP gateway: POST /v3/kv/range and /v3/kv/put
    Etcd,
    /// GET /bare: an empty handler
    Bare,
}

/// The outcome of a reply.
#[derive(Debug, PartialEq, Eq)]
pub enum BenchAnswer {
    Done,
    /// A read or delete of a key that is not there.
    NotFound,
    /// Refused, and how.
    Error(String),
}

/// Speaks one protocol for one session, and carries the session's context.
pub struct Speaker {
    protocol: Protocol,
    consistency: ConsistencyArg,
    /// Random text, twice as long as a value: each write takes another stretch of it.
    text: String,
    value_size: usize,
    random: StdRng,
    /// The first characters of keys and values when they are recorded.
    marks: Option<Marks>,
    key: String,
    value: String,
    payload: String,
    /// Shown with changes of lists: nothing else that is asked for here needs it.
    token: Option<HeaderValue>,
    finder: Finder<'static>,
}

/// Makes a history's keys its own, and each value of a session different from all others.
struct Marks {
    keys: String,
    session: String,
    writes: u64,
}

impl Speaker {
    /// `token` is an `Authorization` header.
    pub fn new(session: u32, args: &Bench, token: Option<HeaderValue>) -> Self {
        Self {
            token,
            ..Self::of(session, args.protocol, args.consistency, args.value_size)
        }
    }

    /// Marks keys and values, those with the session's name.
    pub fn mark(&mut self, keys: &str, session: &str) {
        self.marks = Some(Marks {
            keys: keys.to_owned(),
            session: session.to_owned(),
            writes: 0,
        });
    }

    fn of(
        session: u32,
        protocol: Protocol,
        consistency: ConsistencyArg,
        value_size: usize,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(u64::from(session) + (1 << 32));
        Self {
            protocol,
            consistency,
            text: Alphanumeric.sample_string(&mut random, 2 * value_size),
            value_size,
            random,
            marks: None,
            key: String::new(),
            value: String::new(),
            payload: String::new(),
            token: None,
            finder: Finder::new(PAYLOAD_FIELD),
        }
    }

    /// Chooses the key that the next request is about.
    pub fn set_key(&mut self, number: u64) {
        self.key.clear();
        let start = self.marks.as_ref().map_or("key", |marks| &marks.keys);
        // A `String` takes whatever is written to it.
        let _ = write!(self.key, "{start}{number}");
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value of the last request, if it was a put.
    pub fn value(&self) -> &str {
        &self.value
    }

    pub fn context_chars(&self) -> usize {
        self.payload.len()
    }

    /// The next request, with the context so far.
    pub fn request(&mut self, kind: Kind) -> Result<Request<Full<Bytes>>, String> {
        self.choose_value();
        let mut request = self.ask(kind)?;
        let is_node = matches!(self.protocol, Protocol::Causeway | Protocol::Keys);
        if let Some(token) = self.token.as_ref().filter(|_| is_node) {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }

    fn ask(&self, kind: Kind) -> Result<Request<Full<Bytes>>, String> {
        let (key, payload) = (self.key.as_str(), self.payload.as_str());
        let value = self.value.as_str();
        match (self.protocol, kind) {
            (Protocol::Bare, _) => get("/bare".to_owned()),
            (Protocol::Causeway, Kind::Get) => get(match self.consistency {
                ConsistencyArg::Causal => format!("/kvs?key={key}&causal_payload={payload}"),
                ConsistencyArg::Eventual => format!("/kvs?key={key}&consistency=eventual"),
            }),
            (Protocol::Causeway, Kind::Delete) => {
                let mut request = get(format!("/kvs?key={key}&causal_payload={payload}"))?;
                *request.method_mut() = Method::DELETE;
                Ok(request)
            }
            (Protocol::Causeway, Kind::Put) => body(
                Method::PUT,
                "/kvs",
                "application/x-www-form-urlencoded",
                format!("key={key}&value={value}&causal_payload={payload}"),
            ),
            (Protocol::Keys, Kind::Get) => get(format!("/keys/{key}")),
            (Protocol::Keys, Kind::Delete) => {
                let mut request = get(format!("/keys/{key}"))?;
                *request.method_mut() = Method::DELETE;
                Ok(request)
            }
            (Protocol::Keys, Kind::Put) => body(
                Method::POST,
                format!("/keys/{key}"),
                "application/json",
                match self.marks {
                    None => format!(r#"{{"type":"PUT","value":["{value}"]}}"#),
                    // Recorded lists show their order by what is appended to them.
                    Some(_) => format!(r#"{{"type":"APPEND","value":"{value}"}}"#),
                },
            ),
            (Protocol::Etcd, Kind::Get) => body(
                Method::POST,
                "/v3/kv/range",
                "application/json",
                format!(r#"{{"key":"{}"}}"#, STANDARD.encode(key)),
            ),
            (Protocol::Etcd, Kind::Delete) => body(
                Method::POST,
                "/v3/kv/deleterange",
                "application/json",
                format!(r#"{{"key":"{}"}}"#, STANDARD.encode(key)),
            ),
            (Protocol::Etcd, Kind::Put) => body(
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

    /// A request for many keys, with the context so far.
    pub fn request_many(
        &mut self,
        operations: &[(Kind, u64)],
        snapshot: bool,
    ) -> Result<Request<Full<Bytes>>, String> {
        self.choose_value();
        let named = |(kind, number): &(Kind, u64)| (*kind, format!("key{number}"));
        let operations: Vec<_> = operations.iter().map(named).collect();
        let text = many::body(&operations, &self.value, snapshot, &self.payload);
        let path = if snapshot {
            "/kvs/snapshot"
        } else {
            "/kvs/batch"
        };
        let mut request = body(Method::POST, path, "application/json", text)?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }

    /// Takes note of the reply to such a request.
    pub fn reply_many(
        &mut self,
        count: usize,
        snapshot: bool,
        status: StatusCode,
        body: &[u8],
    ) -> BenchAnswer {
        match self.reply(Kind::Put, status, body) {
            BenchAnswer::Done => many::answer(count, snapshot, body),
            failed => failed,
        }
    }

    fn choose_value(&mut self) {
        let start = self.random.random_range(0..=self.value_size);
        self.value.clear();
        if let Some(marks) = &mut self.marks {
            marks.writes += 1;
            let _ = write!(self.value, "{}-{}.", marks.session, marks.writes);
        }
        let filler = self.value_size.saturating_sub(self.value.len());
        let filler = self.text.get(start..start + filler).unwrap_or_default();
        self.value.push_str(filler);
    }

    /// Whether a reply has a context.
    pub fn carries(&self, body: &[u8]) -> bool {
        self.find_payload(body).is_some()
    }

    /// Takes note of a reply, its context above all.
    pub fn reply(&mut self, kind: Kind, status: StatusCode, body: &[u8]) -> BenchAnswer {
        let mut carried = self.protocol != Protocol::Causeway;
        if !carried && let Some(payload) = self.find_payload(body) {
            carried = true;
            if self.consistency == ConsistencyArg::Causal {
                self.payload.clear();
                self.payload.push_str(payload);
            }
        }
        if kind != Kind::Put && status == StatusCode::NOT_FOUND && carried {
            return BenchAnswer::NotFound;
        }
        if !status.is_success() {
            let text = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
            return BenchAnswer::Error(format!("HTTP {}: {text}", status.as_u16()));
        }
        if !carried {
            return BenchAnswer::Error("a reply without causal_payload".into());
        }
        // etcd answers a range without a hit by leaving the list out.
        if self.protocol == Protocol::Etcd && kind == Kind::Get && !contains(body, b"\"kvs\"") {
            return BenchAnswer::NotFound;
        }
        BenchAnswer::Done
    }

    /// The text of `causal_payload` in a reply: a scan, as a full parse would cost more than all
    /// the rest.
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
    path: impl Into<Bytes>,
    content_type: &'static str,
    text: String,
) -> Result<Request<Full<Bytes>>, String> {
    let uri = Uri::from_maybe_shared(path.into()).map_err(|e| format!("request: {e}"))?;
    let mut request = Request::new(Full::new(Bytes::from(text)));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    request
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn speaker(protocol: Protocol, consistency: ConsistencyArg) -> Speaker {
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
        let mut s = speaker(Protocol::Causeway, ConsistencyArg::Causal);
        assert_eq!(
            s.request(Kind::Get).unwrap().uri(),
            "/kvs?key=key5&causal_payload="
        );
        let reply = br#"{"msg":"success","value":"v","causal_payload":"EAbc-_","n":1}"#;
        assert_eq!(s.reply(Kind::Get, StatusCode::OK, reply), BenchAnswer::Done);
        assert_eq!(s.context_chars(), 6);
        let uri = s.request(Kind::Get).unwrap().uri().to_string();
        assert_eq!(uri, "/kvs?key=key5&causal_payload=EAbc-_");
        let put = text(s.request(Kind::Put).unwrap());
        assert!(
            put.starts_with("key=key5&value=") && put.ends_with("&causal_payload=EAbc-_"),
            "{put}"
        );
        // Errors carry it as well.
        let error = br#"{"msg":"error","error":"x","causal_payload":"EA"}"#;
        assert!(matches!(
            s.reply(Kind::Get, StatusCode::SERVICE_UNAVAILABLE, error),
            BenchAnswer::Error(_)
        ));
        assert_eq!(s.context_chars(), 2);
        assert_eq!(
            s.reply(Kind::Get, StatusCode::NOT_FOUND, error),
            BenchAnswer::NotFound
        );
    }

    #[test]
    fn a_delete_carries_the_context_too() {
        let mut s = speaker(Protocol::Causeway, ConsistencyArg::Causal);
        s.reply(Kind::Get, StatusCode::OK, br#"{"causal_payload":"EA"}"#);
        let delete = s.request(Kind::Delete).unwrap();
        assert_eq!(delete.method(), Method::DELETE);
        assert_eq!(delete.uri(), "/kvs?key=key5&causal_payload=EA");
        let nothing = br#"{"msg":"error","error":"x","causal_payload":"EB"}"#;
        assert_eq!(
            s.reply(Kind::Delete, StatusCode::NOT_FOUND, nothing),
            BenchAnswer::NotFound
        );
    }

    #[test]
    fn values_that_are_recorded_differ_and_keep_their_size_where_they_can() {
        for (size, exact) in [(40, true), (0, false)] {
            let mut s = Speaker::of(0, Protocol::Causeway, ConsistencyArg::Causal, size);
            s.mark("h1-", "s7");
            s.set_key(5);
            assert_eq!(s.key(), "h1-5");
            let mut values = std::collections::BTreeSet::new();
            for _ in 0..100 {
                s.request(Kind::Put).unwrap();
                assert!(s.value().starts_with("s7-"));
                assert_eq!(s.value().len() == size, exact);
                values.insert(s.value().to_owned());
            }
            assert_eq!(values.len(), 100);
        }
    }

    #[test]
    fn an_eventual_session_carries_nothing() {
        let mut s = speaker(Protocol::Causeway, ConsistencyArg::Eventual);
        let reply = br#"{"causal_payload":"EAbc"}"#;
        assert_eq!(
            s.reply(Kind::Put, StatusCode::CREATED, reply),
            BenchAnswer::Done
        );
        assert_eq!(
            s.request(Kind::Get).unwrap().uri(),
            "/kvs?key=key5&consistency=eventual"
        );
        assert!(text(s.request(Kind::Put).unwrap()).ends_with("&causal_payload="));
    }

    #[test]
    fn replies_that_are_none_are_errors() {
        let mut s = speaker(Protocol::Causeway, ConsistencyArg::Causal);
        for body in ["", "{}", r#"{"causal_payload":"unfinished"#] {
            let answer = s.reply(Kind::Put, StatusCode::OK, body.as_bytes());
            assert!(matches!(answer, BenchAnswer::Error(_)), "{body}");
        }
    }

    #[test]
    fn lists_have_one_item_and_need_no_context() {
        let mut s = speaker(Protocol::Keys, ConsistencyArg::Causal);
        assert_eq!(s.request(Kind::Get).unwrap().uri(), "/keys/key5");
        let put = s.request(Kind::Put).unwrap();
        assert_eq!(
            (put.method(), put.uri().path()),
            (&Method::POST, "/keys/key5")
        );
        let wanted = format!(r#"{{"type":"PUT","value":["{}"]}}"#, s.value());
        assert_eq!(text(put), wanted);
        assert_eq!(
            s.reply(Kind::Put, StatusCode::NO_CONTENT, b""),
            BenchAnswer::Done
        );
        assert_eq!(
            s.reply(Kind::Get, StatusCode::OK, br#"["v"]"#),
            BenchAnswer::Done
        );
        let missing = s.reply(Kind::Get, StatusCode::NOT_FOUND, b"no such key");
        assert_eq!(missing, BenchAnswer::NotFound);
        s.mark("h1-", "s7");
        let append = text(s.request(Kind::Put).unwrap());
        assert_eq!(
            append,
            format!(r#"{{"type":"APPEND","value":"{}"}}"#, s.value())
        );
    }

    #[test]
    fn etcd_gets_base64_and_says_when_there_is_nothing() {
        let mut s = speaker(Protocol::Etcd, ConsistencyArg::Causal);
        assert_eq!(text(s.request(Kind::Get).unwrap()), r#"{"key":"a2V5NQ=="}"#);
        let empty = br#"{"header":{"revision":"1"}}"#;
        assert_eq!(
            s.reply(Kind::Get, StatusCode::OK, empty),
            BenchAnswer::NotFound
        );
        assert_eq!(s.reply(Kind::Put, StatusCode::OK, empty), BenchAnswer::Done);
        let hit = br#"{"header":{},"kvs":[{"key":"a2V5NQ=="}],"count":"1"}"#;
        assert_eq!(s.reply(Kind::Get, StatusCode::OK, hit), BenchAnswer::Done);
    }
}

//! Requests of clients: fields from a query, a form or a JSON body, read strictly. Whatever the
//! bytes are, reading them ends in fields or in a 4xx that says what is wrong.
//!
//! - A query is read like a form: `%xx` is a byte, `+` is a space.
//! - A field that is there twice is refused: which one was meant is anybody's guess.
//! - Fields that we do not know are ignored.
//! - The `causal_payload` is read first, so that a complaint about another field can carry it.

use super::budget::{Budget, HeldBytes};
use super::key::{self, form_text};
use super::problem::Problem;
use super::reason::Reason;
use super::session;
use crate::protocol::context::Context;
use crate::protocol::op::Consistency;
use crate::protocol::payload::{Codec, MAX_TEXT};
use crate::protocol::version::Key;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Deref;
use std::time::Duration;

/// Bytes of keys and values in a batch, where a single value may not have more.
pub const BATCH_BYTES: usize = 1 << 20;
/// A body has to arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// Room in a body for field names and the like.
const SLACK: usize = 16 * 1024;

/// The fields of a request, as they were found.
#[derive(Default)]
pub struct Fields<'a> {
    key: Option<Cow<'a, str>>,
    value: Option<Value<'a>>,
    /// An error when it is there but cannot be told.
    payload: Option<Result<Cow<'a, str>, Problem>>,
    consistency: Option<Cow<'a, str>>,
    partition_id: Option<Cow<'a, str>>,
    /// The first thing that was wrong.
    bad: Option<Problem>,
}

/// A value as it came.
enum Value<'a> {
    /// From a form: a string.
    Text(Cow<'a, str>),
    /// From a JSON body: any JSON.
    Json(&'a RawValue),
}

/// Fields whose `causal_payload` has been understood and in which nothing was malformed.
pub struct ParsedFields<'a> {
    fields: Fields<'a>,
    pub context: Context,
}

impl<'a> Fields<'a> {
    /// Reads a query or a form.
    pub fn form(text: &'a [u8]) -> Self {
        let mut fields = Self::default();
        for pair in text.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = (&pair[..at], pair.get(at + 1..).unwrap_or_default());
            match form_text(name) {
                Ok(name) => fields.add(&name, value),
                Err(why) => fields.complain(Problem::bad(format!("a parameter's name {why}"))),
            }
        }
        fields
    }

    fn add(&mut self, name: &str, value: &'a [u8]) {
        let decoded =
            form_text(value).map_err(|why| Problem::bad(format!("the parameter `{name}` {why}")));
        if name == "causal_payload" {
            self.payload = match self.payload {
                None => Some(decoded),
                Some(_) => Some(Err(twice(name))),
            };
            return;
        }
        let value = match decoded {
            Ok(value) => value,
            Err(problem) => return self.complain(problem),
        };
        let slot = match name {
            "key" => &mut self.key,
            "consistency" => &mut self.consistency,
            "partition_id" => &mut self.partition_id,
            "value" => {
                if self.value.replace(Value::Text(value)).is_some() {
                    self.complain(twice(name));
                }
                return;
            }
            _ => return,
        };
        if slot.replace(value).is_some() {
            self.complain(twice(name));
        }
    }

    /// Reads a JSON object.
    pub fn json(text: &'a [u8]) -> Self {
        let mut fields = Self::default();
        // An array would pass for the struct, field by field.
        if !looks_like_json(text) {
            fields.complain(not_an_object("it does not begin with {"));
            return fields;
        }
        let found: JsonFields = match serde_json::from_slice(text) {
            Ok(found) => found,
            Err(why) => {
                fields.complain(not_an_object(&why.to_string()));
                return fields;
            }
        };
        fields.value = found.value.map(Value::Json);
        fields.payload = found
            .causal_payload
            .map(|raw| string("causal_payload", raw));
        match found.key.map(|raw| string("key", raw)).transpose() {
            Ok(key) => fields.key = key,
            Err(problem) => fields.complain(problem),
        }
        fields
    }

    /// Adds the fields of another part of the same request.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let both = [
            ("key", self.key.is_some() && other.key.is_some()),
            ("value", self.value.is_some() && other.value.is_some()),
        ];
        for (name, _) in both.into_iter().filter(|(_, both)| *both) {
            self.complain(twice(name));
        }
        self.payload = match (self.payload, other.payload) {
            (Some(_), Some(_)) => Some(Err(twice("causal_payload"))),
            (one, other) => one.or(other),
        };
        self.key = self.key.or(other.key);
        self.value = self.value.or(other.value);
        self.bad = self.bad.or(other.bad);
        self
    }

    /// The key, whatever else is in the fields.
    pub fn key_text(self) -> Option<Bytes> {
        self.key.map(|key| Bytes::from(key.into_owned()))
    }

    /// Without the `causal_payload`, for those who keep no session.
    #[must_use]
    pub fn without_session(mut self) -> Self {
        self.payload = None;
        self
    }

    /// Remembers the first thing that was wrong.
    fn complain(&mut self, problem: Problem) {
        self.bad.get_or_insert(problem);
    }

    /// The fields, if they are well-formed and the `causal_payload` is one of ours.
    pub fn understood(self, codec: &Codec) -> Result<ParsedFields<'a>, Problem> {
        self.joined(None, codec)
    }

    /// As [`Fields::understood`], joined with the payloads of the request's headers.
    pub fn understood_with(
        self,
        headers: &HeaderMap,
        codec: &Codec,
    ) -> Result<ParsedFields<'a>, Problem> {
        self.joined(session::of_headers(headers, codec)?, codec)
    }

    fn joined(
        mut self,
        mut context: Option<Context>,
        codec: &Codec,
    ) -> Result<ParsedFields<'a>, Problem> {
        if let Some(text) = self.payload.take() {
            session::join(&mut context, session::seen(&text?, codec)?)?;
        }
        let context = context.unwrap_or_default();
        match self.bad.take() {
            Some(problem) => Err(problem.seen(context)),
            None => Ok(ParsedFields {
                fields: self,
                context,
            }),
        }
    }
}

impl ParsedFields<'_> {
    /// The key, if it is one.
    pub fn key(&self) -> Result<Key, Problem> {
        let key = match &self.fields.key {
            Some(text) => key::key(text.as_bytes()),
            None => Err(
                "the `key` is missing: GET takes it in the query, PUT in the body, DELETE in either"
                    .to_owned(),
            ),
        };
        key.map_err(|why| Problem::bad(why).seen(self.context.clone()))
    }

    /// The value as JSON text, at most `max` bytes long. The quotes around a string do not count,
    /// so that a plain string of `max` bytes fits, however it is sent.
    ///
    /// The text is copied: the body's buffer is the connection's, and a stored value that kept it
    /// would keep far more memory than its own size.
    pub fn value(&self, max: usize) -> Result<Bytes, Problem> {
        let text = match &self.fields.value {
            None => {
                return Err(Problem::bad(
                    "the `value` is missing: send it in the body; DELETE removes a key",
                )
                .seen(self.context.clone()));
            }
            // Escapes only add to it, so that a text that is too long is known before it grows.
            Some(Value::Text(text)) if text.len() > max => None,
            Some(Value::Text(text)) => serde_json::to_vec(text).ok().map(Bytes::from),
            Some(Value::Json(raw)) => json_value(raw, max),
        };
        text.filter(|text| fits(text, max))
            .ok_or_else(|| value_too_long(max).seen(self.context.clone()))
    }

    /// How the read treats the client's past.
    pub fn consistency(&self) -> Result<Consistency, Problem> {
        match self.fields.consistency.as_deref() {
            None | Some("causal") => Ok(Consistency::Causal),
            Some("eventual") => Ok(Consistency::Eventual),
            Some(_) => Err(Problem::bad(
                "`consistency` is neither causal nor eventual: send one of them, or leave it out for causal",
            )
            .seen(self.context.clone())),
        }
    }

    /// The number of a partition.
    pub fn partition_id(&self) -> Result<u32, Problem> {
        self.fields
            .partition_id
            .as_deref()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| {
                Problem::bad(
                    "`partition_id` must be an integer, 0 or more: send it in the query, GET /kvs/get_all_partition_ids lists them",
                )
            })
    }
}

/// The fields of a JSON body, not looked into yet.
#[derive(Deserialize)]
struct JsonFields<'a> {
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "also_null")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    causal_payload: Option<&'a RawValue>,
}

/// A value of at most `max` bytes, the quotes around a string not counted.
pub fn json_value(raw: &RawValue, max: usize) -> Option<Bytes> {
    let text = raw.get().as_bytes();
    fits(text, max).then(|| Bytes::copy_from_slice(text))
}

fn fits(text: &[u8], max: usize) -> bool {
    let quotes = if text.starts_with(b"\"") { 2 } else { 0 };
    text.len() - quotes <= max
}

/// The problem of a value that is longer than `max` bytes.
pub fn value_too_long(max: usize) -> Problem {
    too_large(&format!("the value is longer than {max} bytes of JSON"))
}

/// Tells a field that is null from one that is not there.
pub fn also_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

fn string<'a>(name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, Problem> {
    serde_json::from_str(raw.get())
        .map(Cow::Owned)
        .map_err(|_| {
            Problem::bad(format!(
                "`{name}` must be a JSON string of valid Unicode: put it in quotes"
            ))
        })
}

fn not_an_object(why: &str) -> Problem {
    Problem::bad(format!(
        r#"the body is not a JSON object with the fields asked for ({why}): send {{"key":"...","value":...,"causal_payload":"..."}}"#
    ))
}

fn twice(name: &str) -> Problem {
    Problem::bad(format!("`{name}` is given twice: send it once"))
}

fn too_large(what: &str) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("{what}: send a shorter value, or raise MAX_VALUE_BYTES on every node"),
    )
}

/// The content type of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    Form,
    Json,
    /// Not said: it is what it looks like.
    Open,
}

impl BodyKind {
    /// Reads the headers; an error when it is nothing that is read here.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        const SEND: &str = "send application/json or application/x-www-form-urlencoded";
        let coding = headers.get(CONTENT_ENCODING);
        if coding.is_some_and(|c| !c.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body is compressed: send it as it is, without Content-Encoding",
            ));
        }
        let Some(given) = headers.get(CONTENT_TYPE) else {
            return Ok(Self::Open);
        };
        let media = given.as_bytes().split(|b| *b == b';').next();
        let media = media.unwrap_or_default().trim_ascii();
        if media.is_empty() {
            Ok(Self::Open)
        } else if media.eq_ignore_ascii_case(b"application/json") {
            Ok(Self::Json)
        } else if media.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            Ok(Self::Form)
        } else {
            Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!(
                    "a body of type {} is not understood: {SEND}",
                    String::from_utf8_lossy(media)
                ),
            ))
        }
    }

    /// Reads the fields of a body.
    pub fn fields(self, body: &[u8]) -> Fields<'_> {
        match self {
            Self::Json => Fields::json(body),
            Self::Open if looks_like_json(body) => Fields::json(body),
            Self::Form | Self::Open => Fields::form(body),
        }
    }

    /// Reads a body that is a form or a JSON object into a type of its own.
    pub fn read<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, Problem> {
        let json =
            matches!(self, Self::Json) || (matches!(self, Self::Open) && looks_like_json(body));
        if json {
            if !looks_like_json(body) {
                return Err(not_an_object("it does not begin with {"));
            }
            serde_json::from_slice(body).map_err(|why| not_an_object(&why.to_string()))
        } else {
            serde_urlencoded::from_bytes(body)
                .map_err(|why| Problem::bad(format!("the body is no form: {why}")))
        }
    }

    /// Reads a body that is a JSON object of a certain kind. No form begins like one, so that what
    /// `curl -d` sends is taken for what it is.
    pub fn json_object<'a, T: Deserialize<'a>>(self, body: &'a [u8]) -> Result<T, Problem> {
        // An array would pass for the struct, field by field.
        let object = looks_like_json(body);
        if matches!(self, Self::Form) && !object {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "a form is not understood here: send application/json",
            ));
        }
        if !object {
            return Err(Problem::bad(
                "the body is no JSON object: spec/http.md has the one for this path",
            ));
        }
        serde_json::from_slice(body).map_err(|why| {
            Problem::bad(format!(
                "the body is not understood ({why}): spec/http.md has the one for this path"
            ))
        })
    }

    /// The longest body in which a value of `max` bytes may come. A form spends up to three bytes
    /// on one.
    fn limit(self, max: usize) -> usize {
        let whole = max.saturating_add(MAX_TEXT + SLACK);
        match self {
            Self::Json => whole,
            Self::Form | Self::Open => whole.saturating_mul(3),
        }
    }
}

/// The longest body that is read, in bytes, where values of `max` bytes are taken.
pub fn longest_body(max: usize) -> usize {
    let batch = BodyKind::Json.limit(BATCH_BYTES);
    BodyKind::Form.limit(max).max(batch)
}

fn looks_like_json(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{")
}

/// A body that is here, and counts until it is dropped: the fields of a request are read from it,
/// so that is when the request is done, wherever it was done.
pub struct Body<'a> {
    whole: BytesMut,
    _held: HeldBytes<'a>,
}

impl Deref for Body<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.whole
    }
}

/// The whole body, if it comes in time, there is room for it in `budget`, and a value of at most
/// `max` bytes explains its length.
pub async fn body<'a>(
    headers: &HeaderMap,
    kind: BodyKind,
    payload: web::Payload,
    max: usize,
    budget: &'a Budget,
) -> Result<Body<'a>, Problem> {
    let limit = kind.limit(max);
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|text| text.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(body_too_large(limit));
    }
    // The timer costs nothing while the body is already there.
    match tokio::time::timeout(BODY_TIMEOUT, collect(payload, limit, budget)).await {
        Ok(body) => body,
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not arrive within {BODY_TIMEOUT:?}: send the request again"),
        )),
    }
}

async fn collect(
    mut payload: web::Payload,
    limit: usize,
    budget: &Budget,
) -> Result<Body<'_>, Problem> {
    let mut whole = BytesMut::new();
    let mut held = HeldBytes::nothing(budget);
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|why| {
            Problem::bad(format!("the body cannot be read ({why}): send it again"))
        })?;
        if whole.len() + chunk.len() > limit {
            return Err(body_too_large(limit));
        }
        if !held.add(chunk.len()) {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this node holds as many bodies of requests as it may (CLIENT_MEMORY_BYTES): try again, or ask another node",
            )
            .because(Reason::NoRoom));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Body { whole, _held: held })
}

fn body_too_large(limit: usize) -> Problem {
    too_large(&format!("the body is longer than {limit} bytes"))
}

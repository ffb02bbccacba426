//! `--history`: every operation of a run as a line of a file, for `causeway check`; of lists for
//! `causeway check --lists`.
//!
//! The judgement that counts is [`judged`]: whether an operation was done, was certainly not done,
//! or may have been. Where a reply leaves that open it is "unknown", which a checker has to bear; a
//! write that is said to have failed and is read later would look like a fault of the store.

use super::protocol::Protocol;
use super::tally::Recorded;
use crate::check::history::{Completion, Kind, Operation};
use crate::cli::failure::Failure;
use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Bytes that are collected before they go to the file.
const BUFFER: usize = 1 << 20;

/// How far an operation came.
#[derive(Debug, Clone)]
pub enum Reached {
    /// Nothing of it has left.
    NotSent,
    /// The request may have arrived; no whole reply came, or none that could be read.
    Sent,
    Reply {
        status: StatusCode,
        /// Whether it had a `causal_payload`, which the session has taken over.
        carried: bool,
        body: Bytes,
    },
}

/// Whether an operation was done, by the promises of the store that it was sent to.
pub fn judged(protocol: Protocol, kind: Kind, reached: &Reached) -> Completion {
    match protocol {
        Protocol::Causeway => judge(kind, reached).0,
        // None of them carries a context: a status tells as much as it does of a list.
        _ => judge_list(kind, reached).0,
    }
}

/// Whether an operation was done, and the value that it read. Reads that failed are nobody's
/// business: they say "not done".
fn judge(kind: Kind, reached: &Reached) -> (Completion, Option<&RawValue>) {
    match (kind, reached) {
        (_, Reached::NotSent) => (Completion::Fail, None),
        (
            Kind::Get,
            Reached::Reply {
                status,
                carried: true,
                body,
            },
        ) => match *status {
            StatusCode::NOT_FOUND => (Completion::Ok, None),
            status if status.is_success() => match value(body) {
                Some(value) => (Completion::Ok, Some(value)),
                None => (Completion::Fail, None),
            },
            _ => (Completion::Fail, None),
        },
        (Kind::Get, _) => (Completion::Fail, None),
        // Without its context, later operations of the session do not depend on the write.
        (
            _,
            Reached::Reply {
                status,
                carried: true,
                ..
            },
        ) if status.is_success() => (Completion::Ok, None),
        (_, Reached::Reply { status, .. }) if certainly_refused(*status) => {
            (Completion::Fail, None)
        }
        (_, Reached::Reply { .. } | Reached::Sent) => (Completion::Unknown, None),
    }
}

/// Refusals of a request that no replica has been asked for yet, and of a write that none has room
/// for. Any other one, a 400 included, may be the second replica's answer after the first one took
/// the write and did not say so in time.
fn certainly_refused(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::MISDIRECTED_REQUEST
            | StatusCode::INSUFFICIENT_STORAGE
    )
}

/// Whether an operation on a list was done; it carries no context.
fn judge_list(kind: Kind, reached: &Reached) -> (Completion, Option<&RawValue>) {
    match (kind, reached) {
        (_, Reached::NotSent) => (Completion::Fail, None),
        (Kind::Get, Reached::Reply { status, body, .. }) => match *status {
            StatusCode::NOT_FOUND => (Completion::Ok, None),
            StatusCode::OK => match serde_json::from_slice(body) {
                Ok(list) => (Completion::Ok, Some(list)),
                Err(_) => (Completion::Fail, None),
            },
            _ => (Completion::Fail, None),
        },
        (Kind::Get, _) => (Completion::Fail, None),
        (_, Reached::Reply { status, .. }) if status.is_success() => (Completion::Ok, None),
        (_, Reached::Reply { status, .. }) if certainly_refused(*status) => {
            (Completion::Fail, None)
        }
        (_, Reached::Reply { .. } | Reached::Sent) => (Completion::Unknown, None),
    }
}

/// The value of a reply to a read.
fn value(body: &[u8]) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Found<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    let found: Found<'_> = serde_json::from_slice(body).ok()?;
    Some(found.value)
}

/// A delete that found nothing to delete: it was a read of "not found", and is said to be one. A
/// replica that was asked before may have written the delete all the same.
fn found_nothing(kind: Kind, reached: &Reached) -> bool {
    kind == Kind::Delete
        && matches!(
            reached,
            Reached::Reply {
                status: StatusCode::NOT_FOUND,
                carried: true,
                ..
            }
        )
}

/// The file, shared by all sessions of a run, with their common clock.
pub struct Recorder {
    path: PathBuf,
    began: Instant,
    keys: String,
    /// The operations are on lists, each put an append.
    lists: bool,
    out: Mutex<Out>,
}

struct Out {
    file: BufWriter<File>,
    /// The lines that were written.
    lines: Recorded,
    /// The first error: nothing is written after it.
    error: Option<io::Error>,
}

/// One operation, before it is judged.
pub struct Done<'a> {
    pub session: &'a str,
    pub kind: Kind,
    pub key: &'a str,
    /// The value of a put.
    pub written: &'a str,
    pub node: String,
    pub started: Instant,
    pub reached: &'a Reached,
}

impl Recorder {
    pub fn create(path: &Path, lists: bool) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|e| cannot(path, &e))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            path: path.to_owned(),
            began: Instant::now(),
            keys: format!("h{:x}-", since.map_or(0, |since| since.as_millis())),
            lists,
            out: Mutex::new(Out {
                file: BufWriter::with_capacity(BUFFER, file),
                lines: Recorded::default(),
                error: None,
            }),
        })
    }

    /// The first characters of this run's keys. No other run has the same: what that left in the
    /// cluster is no part of this history, and reading it would look like a value out of nowhere.
    pub fn keys(&self) -> &str {
        &self.keys
    }

    /// Writes down one operation, which ended now. False: the file cannot be written, and the run
    /// is over.
    pub fn record(&self, done: &Done<'_>) -> bool {
        let ended = Instant::now();
        let micros = |at: Instant| {
            let since = at.saturating_duration_since(self.began).as_micros();
            u64::try_from(since).unwrap_or(u64::MAX)
        };
        let quoted = (done.kind == Kind::Put)
            .then(|| RawValue::from_string(format!("\"{}\"", done.written)).ok())
            .flatten();
        let (status, read) = match self.lists {
            true => judge_list(done.kind, done.reached),
            false => judge(done.kind, done.reached),
        };
        let operation = Operation {
            session: Cow::Borrowed(done.session),
            op: done.kind,
            key: Cow::Borrowed(done.key),
            value: quoted.as_deref().or(read),
            status,
            node: Cow::Borrowed(&done.node),
            start_us: micros(done.started),
            end_us: micros(ended),
        };
        let nothing_deleted = !self.lists && found_nothing(done.kind, done.reached);
        let mut lines = Vec::with_capacity(256);
        let mut written = match self.lists {
            true => line(&mut lines, &ListOperation::from(&operation)),
            false => line(&mut lines, &operation),
        };
        if nothing_deleted {
            let read = Operation {
                op: Kind::Get,
                status: Completion::Ok,
                ..operation
            };
            written = written.and_then(|()| line(&mut lines, &read));
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.error.is_none() {
            let written = written.and_then(|()| out.file.write_all(&lines));
            out.error = written.err();
            out.lines.add(status);
            if nothing_deleted {
                out.lines.add_delete_of_nothing();
            }
        }
        out.error.is_none()
    }

    /// The counts of lines written so far.
    pub fn recorded(&self) -> Recorded {
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.lines.clone()
    }

    /// Brings the rest to the file; an error of any time before is told now.
    pub fn finish(&self) -> Result<(), Failure> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let error = out.error.take().or_else(|| out.file.flush().err());
        error.map_or(Ok(()), |e| Err(cannot(&self.path, &e)))
    }
}

/// A line of a history of lists.
#[derive(Serialize)]
struct ListOperation<'a> {
    session: &'a str,
    op: &'static str,
    key: &'a str,
    value: Option<&'a RawValue>,
    status: Completion,
    node: &'a str,
    start_us: u64,
    end_us: u64,
}

impl<'a> From<&'a Operation<'a>> for ListOperation<'a> {
    fn from(operation: &'a Operation<'a>) -> Self {
        Self {
            session: &operation.session,
            op: match operation.op {
                Kind::Put => "append",
                Kind::Get => "get",
                Kind::Delete => "delete",
            },
            key: &operation.key,
            value: operation.value,
            status: operation.status,
            node: &operation.node,
            start_us: operation.start_us,
            end_us: operation.end_us,
        }
    }
}

fn line(into: &mut Vec<u8>, operation: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *into, operation)?;
    into.push(b'\n');
    Ok(())
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::not_done(format!(
        "cannot write the history to {}: {error}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, carried: bool, body: &str) -> Reached {
        Reached::Reply {
            status: StatusCode::from_u16(status).unwrap(),
            carried,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn status(kind: Kind, reached: &Reached) -> Completion {
        judge(kind, reached).0
    }

    #[test]
    fn a_write_has_failed_only_when_nobody_can_have_taken_it() {
        for kind in [Kind::Put, Kind::Delete] {
            let after = |status| super::judge(kind, &reply(status, true, "{}")).0;
            assert_eq!(after(200), Completion::Ok);
            assert_eq!(after(201), Completion::Ok);
            for refused in [405, 408, 413, 415, 421, 507] {
                assert_eq!(after(refused), Completion::Fail, "{refused}");
            }
            // The last of them may follow an attempt at another replica that was not answered.
            for open in [500, 503, 502, 429, 400] {
                assert_eq!(after(open), Completion::Unknown, "{open}");
            }
            assert_eq!(status(kind, &Reached::NotSent), Completion::Fail);
            assert_eq!(status(kind, &Reached::Sent), Completion::Unknown);
            // It was done, and the session does not know its dot.
            assert_eq!(status(kind, &reply(200, false, "")), Completion::Unknown);
        }
    }

    #[test]
    fn a_read_is_what_it_found_or_has_failed() {
        let found = reply(200, true, r#"{"msg":"success","value":{"a": "b"},"n":1}"#);
        let (status_, value) = judge(Kind::Get, &found);
        assert_eq!(status_, Completion::Ok);
        assert_eq!(value.unwrap().get(), r#"{"a": "b"}"#);
        let nothing = reply(404, true, r#"{"msg":"error","causal_payload":"EA"}"#);
        assert!(matches!(judge(Kind::Get, &nothing), (Completion::Ok, None)));
        for none in [
            reply(404, false, "{}"),
            reply(503, true, "{}"),
            reply(200, true, "{}"),
            reply(200, true, ""),
            Reached::Sent,
            Reached::NotSent,
        ] {
            assert_eq!(status(Kind::Get, &none), Completion::Fail, "{none:?}");
        }
    }

    fn recorded(kinds: &[(Kind, Reached)]) -> Vec<serde_json::Value> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let recorder = Recorder::create(&path, false).unwrap();
        for (kind, reached) in kinds {
            assert!(recorder.record(&Done {
                session: "s1",
                kind: *kind,
                key: "k",
                written: "s1-1.text",
                node: "10.0.0.1:80".into(),
                started: Instant::now(),
                reached,
            }));
        }
        recorder.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_says_what_the_format_asks_for() {
        let get = reply(200, true, r#"{"value":"v"}"#);
        let lines = recorded(&[
            (Kind::Put, reply(201, true, "{}")),
            (Kind::Get, get),
            (Kind::Delete, Reached::Sent),
        ]);
        let [put, get, delete] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert_eq!(put["value"], "s1-1.text");
        assert_eq!((&put["op"], &put["status"]), (&"put".into(), &"ok".into()));
        assert_eq!((&put["session"], &put["key"]), (&"s1".into(), &"k".into()));
        assert_eq!(put["node"], "10.0.0.1:80");
        assert!(put["start_us"].as_u64() <= put["end_us"].as_u64());
        assert!(put["end_us"].as_u64() <= get["start_us"].as_u64());
        assert_eq!(get["value"], "v");
        assert_eq!(delete["status"], "unknown");
        assert_eq!(delete["value"], serde_json::Value::Null);
    }

    #[test]
    fn an_operation_on_a_list_is_an_append_or_a_read() {
        let get = reply(200, false, r#"["a","b"]"#);
        let (status_, list) = judge_list(Kind::Get, &get);
        assert_eq!(
            (status_, list.unwrap().get()),
            (Completion::Ok, r#"["a","b"]"#)
        );
        let nothing = reply(404, false, "no such key");
        assert!(matches!(
            judge_list(Kind::Get, &nothing),
            (Completion::Ok, None)
        ));
        let append = |reached| judge_list(Kind::Put, &reached).0;
        assert_eq!(append(reply(204, false, "")), Completion::Ok);
        assert_eq!(append(reply(413, false, "too long")), Completion::Fail);
        assert_eq!(append(reply(503, false, "no quorum")), Completion::Unknown);
        assert_eq!(append(Reached::Sent), Completion::Unknown);
        assert_eq!(append(Reached::NotSent), Completion::Fail);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history");
        let recorder = Recorder::create(&path, true).unwrap();
        for (kind, reached) in [(Kind::Put, reply(204, false, "")), (Kind::Get, get)] {
            let done = Done {
                session: "s1",
                kind,
                key: "k",
                written: "s1-1.text",
                node: String::new(),
                started: Instant::now(),
                reached: &reached,
            };
            assert!(recorder.record(&done));
        }
        recorder.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(
            text.contains(r#""op":"append","key":"k","value":"s1-1.text","status":"ok""#),
            "{text}"
        );
        assert!(
            text.contains(r#""op":"get","key":"k","value":["a","b"],"status":"ok""#),
            "{text}"
        );
    }

    #[test]
    fn a_delete_of_nothing_is_a_read_and_perhaps_a_delete() {
        let lines = recorded(&[(Kind::Delete, reply(404, true, "{}"))]);
        let seen: Vec<_> = lines.iter().map(|l| (&l["op"], &l["status"])).collect();
        assert_eq!(
            seen,
            [
                (&"delete".into(), &"unknown".into()),
                (&"get".into(), &"ok".into())
            ]
        );
    }

    #[test]
    fn an_error_of_the_file_is_told() {
        // Every write to it fails.
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let recorder = Recorder::create(full, false).unwrap();
        let done = Done {
            session: "s1",
            kind: Kind::Put,
            key: "k",
            written: &"v".repeat(2 * BUFFER),
            node: String::new(),
            started: Instant::now(),
            reached: &Reached::NotSent,
        };
        assert!(!recorder.record(&done));
        let told = recorder.finish().unwrap_err().text;
        assert!(told.contains("/dev/full"), "{told}");
        assert!(Recorder::create(Path::new("/nowhere/history"), false).is_err());
    }
}

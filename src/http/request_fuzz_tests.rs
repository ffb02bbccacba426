//! Queries, forms and JSON bodies under bytes that no honest client sends: each ends in fields or
//! in a 4xx, and fields that were read can be sent again.

use super::problem::Problem;
use super::request::{BodyKind, Fields, ParsedFields};
use crate::fuzz::{bounded, changed};
use crate::protocol::clock::Timestamp;
use crate::protocol::cluster::{Cluster, ClusterId, PayloadKey};
use crate::protocol::context::Context;
use crate::protocol::payload::Codec;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::value::RawValue;

/// The longest value, in bytes.
const MAX_VALUE: usize = 4096;

fn codec() -> Codec {
    let cluster = Cluster {
        id: ClusterId([1; 16]),
        key: PayloadKey([1; 32]),
        former: None,
    };
    Codec::new(&cluster, None)
}

/// Valid ones, and one of another cluster.
fn payloads() -> impl Strategy<Value = String> {
    let seen = any::<u16>().prop_map(|n| {
        let clock = Timestamp::from_ms(1_790_000_000_000 + u64::from(n));
        codec().encode(&Context::at(clock, n.into()))
    });
    prop_oneof![
        Just(String::new()),
        seen,
        Just(Codec::unborn().encode(&Context::default())),
    ]
}

fn forms() -> impl Strategy<Value = Vec<u8>> {
    let consistency = prop::sample::select(vec!["causal", "eventual", "", "none"]);
    (
        ".{0,12}",
        any::<String>(),
        payloads(),
        consistency,
        any::<i64>(),
    )
        .prop_map(|(key, value, payload, consistency, partition)| {
            let fields = [
                ("key", key),
                ("value", value),
                ("causal_payload", payload),
                ("consistency", consistency.to_owned()),
                ("partition_id", partition.to_string()),
            ];
            serde_urlencoded::to_string(fields).unwrap().into_bytes()
        })
}

fn objects() -> impl Strategy<Value = Vec<u8>> {
    let values = prop::sample::select(vec![
        "null",
        "1e999",
        "-0.0",
        "\"\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "[1,[2,{}]]",
        "{\"a\":{\"a\":1}}",
        " true ",
    ]);
    (".{0,12}", values, payloads()).prop_map(|(key, value, payload)| {
        let text = |text| serde_json::to_string(&text).unwrap();
        let (key, payload) = (text(key), text(payload));
        format!(r#"{{"key":{key},"value":{value},"causal_payload":{payload}}}"#).into_bytes()
    })
}

/// What a request can ask for: each of it, or a problem that is the client's.
#[derive(Debug, PartialEq)]
struct Read {
    context: Context,
    key: Option<Bytes>,
    value: Option<Bytes>,
    partition: Option<u32>,
    consistency: Option<String>,
}

fn right<T>(read: Result<T, Problem>) -> Result<Option<T>, TestCaseError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(problem) => {
            let said = format!("{problem:?}");
            let status = problem.reply(&codec()).status();
            prop_assert!(status.is_client_error(), "{status}: {said}");
            Ok(None)
        }
    }
}

fn read(fields: &ParsedFields) -> Result<Read, TestCaseError> {
    Ok(Read {
        context: fields.context.clone(),
        key: right(fields.key())?,
        value: right(fields.value(MAX_VALUE))?,
        partition: right(fields.partition_id())?,
        consistency: right(fields.consistency())?.map(|c| format!("{c:?}")),
    })
}

/// Reads the bytes as a part of a request, and what was read once more.
fn taken_or_refused(kind: BodyKind, bytes: &[u8]) -> Result<(), TestCaseError> {
    let fields = bounded(bytes.len(), || kind.fields(bytes).understood(&codec()));
    let Some(fields) = right(fields)? else {
        return Ok(());
    };
    let first = bounded(bytes.len(), || read(&fields))?;
    let text = |bytes: &Bytes| std::str::from_utf8(bytes).unwrap().to_owned();
    let mut object = vec![format!(
        r#""causal_payload":"{}""#,
        codec().encode(&first.context)
    )];
    if let Some(key) = &first.key {
        object.push(format!(
            r#""key":{}"#,
            serde_json::to_string(&text(key)).unwrap()
        ));
    }
    if let Some(value) = &first.value {
        let value = text(value);
        prop_assert!(serde_json::from_str::<&RawValue>(&value).is_ok(), "{value}");
        object.push(format!(r#""value":{value}"#));
    }
    let object = format!("{{{}}}", object.join(","));
    let again = right(Fields::json(object.as_bytes()).understood(&codec()))?;
    let again = read(&again.expect("it was read before"))?;
    // A context without a clock has none in its text either.
    let told = |read: &Read| codec().encode(&read.context);
    let same = (told(&again), &again.key, &again.value);
    prop_assert_eq!(same, (told(&first), &first.key, &first.value));
    Ok(())
}

fn kinds() -> impl Strategy<Value = BodyKind> {
    prop::sample::select(vec![BodyKind::Form, BodyKind::Json, BodyKind::Open])
}

proptest! {
    #[test]
    fn what_clients_send_is_taken_or_refused(kind in kinds(), bytes in prop_oneof![forms(), objects()]) {
        taken_or_refused(kind, &bytes)?;
    }

    #[test]
    fn changed_bodies_are_taken_or_refused(kind in kinds(), bytes in changed(prop_oneof![forms(), objects()])) {
        taken_or_refused(kind, &bytes)?;
    }

    #[test]
    fn any_bytes_are_taken_or_refused(kind in kinds(), bytes in vec(any::<u8>(), 0..200)) {
        taken_or_refused(kind, &bytes)?;
    }

    #[test]
    fn a_query_and_a_body_are_taken_or_refused_together(query in changed(forms()), kind in kinds(), body in changed(objects())) {
        let len = query.len() + body.len();
        let both = || Fields::form(&query).and(kind.fields(&body)).understood(&codec());
        if let Some(fields) = right(bounded(len, both))? {
            read(&fields)?;
        }
    }

    #[test]
    fn bodies_of_other_types_are_taken_or_refused(kind in kinds(), bytes in prop_oneof![
        vec(any::<u8>(), 0..200),
        changed(forms()),
        changed(objects()),
    ]) {
        right(bounded(bytes.len(), || kind.read::<Vec<(String, String)>>(&bytes)))?;
        right(bounded(bytes.len(), || kind.read::<serde_json::Value>(&bytes)))?;
    }
}

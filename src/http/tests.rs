//! Tests that call the surface in process: whatever comes in, no 5xx, and no reply that the OpenAPI
//! document does not describe; values come back as they were.

use super::clients::Clients;
use super::host::Surface;
use super::metrics::Metrics;
use super::openapi_tests::Described;
use super::routes::HttpRoute;
use super::server::configure;
use super::slow::SlowLog;
use crate::node::Node;
use crate::node::config::Config as Settings;
use actix_web::App;
use actix_web::body::to_bytes;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri};
use actix_web::rt::{System, SystemRunner};
use actix_web::test::{TestRequest, call_service, init_service};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Only a node that hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between looks at whether the node has a leader.
const LOOK: Duration = Duration::from_millis(5);

/// The settings of a node alone, which takes values of up to 4096 bytes; or of one in no view.
fn settings(dir: &Path, standby: bool) -> Settings {
    let lookup = |name: &str| match name {
        "VIEW" if standby => None,
        "ip_port" | "VIEW" => Some("127.0.0.1:8080".to_owned()),
        "DATA_DIR" => Some(dir.to_string_lossy().into_owned()),
        "MAX_VALUE_BYTES" => Some("4096".to_owned()),
        _ => None,
    };
    let mut settings = Settings::from_env(lookup).unwrap();
    settings.peer_bind.set_port(0);
    settings
}

/// Runs `case` on many inputs, each against the same surface.
fn many<S: Strategy>(
    cases: u32,
    inputs: S,
    case: impl Fn(&dyn Call, S::Value) -> Result<(), TestCaseError>,
) {
    with_node(false, |system, call| {
        // A node that has just started has no leader yet, not even itself, and its cluster is not
        // born.
        let waits =
            |path| call(TestRequest::get().uri(path)).status == StatusCode::SERVICE_UNAVAILABLE;
        let began = Instant::now();
        while waits("/keys/none") || waits("/ready") {
            assert!(began.elapsed() < PATIENCE, "it is not ready");
            // A refusal at once gives the node's tasks, which run on this thread, no time.
            system.block_on(async { tokio::time::sleep(LOOK).await });
        }
        TestRunner::new(Config::with_cases(cases))
            .run(&inputs, |input| case(call, input))
            .unwrap();
    });
}

/// As many cases as PROPTEST_CASES says, or as a fast suite has time for.
fn cases(few: u32) -> u32 {
    let said = std::env::var("PROPTEST_CASES").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Starts a node alone, or a standby, and lets its surface be called.
fn with_node(standby: bool, test: impl FnOnce(&SystemRunner, &dyn Call)) {
    let system = System::new();
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), standby);
    let node = system.block_on(Node::start(settings)).unwrap();
    let clients = Arc::new(Clients::new(node.config()));
    let metrics = Metrics::new(Arc::clone(&node), Arc::clone(&clients));
    let surface = Surface::new(
        node,
        clients,
        Arc::new(metrics),
        Arc::new(SlowLog::new(None)),
    );
    let app = system.block_on(init_service(
        App::new().configure(|app| configure(app, &surface)),
    ));
    let call = |request: TestRequest| -> Reply {
        system.block_on(async {
            let response: ServiceResponse = call_service(&app, request.to_request()).await;
            let status = response.status();
            let media = response.headers().get(CONTENT_TYPE);
            let media = media.and_then(|m| m.to_str().ok()).map(str::to_owned);
            let body = to_bytes(response.into_body()).await.unwrap().to_vec();
            Reply {
                status,
                media,
                body,
            }
        })
    };
    test(&system, &call);
}

/// A reply as it came back.
pub(super) struct Reply {
    pub status: StatusCode,
    pub media: Option<String>,
    pub body: Vec<u8>,
}

trait Call: Fn(TestRequest) -> Reply {}
impl<F: Fn(TestRequest) -> Reply> Call for F {}

/// Bytes that look like a request often enough to get past the first check.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        4 => vec(any::<u8>(), 0..8),
        8 => prop::sample::select(vec![
            "key", "value", "causal_payload", "consistency", "partition_id", "=", "=", "&", "&",
            "%", "%41", "%ff", "%F0%9F", "+", "{", "}", "\"", "\"key\":", "\"value\":", ",", "null",
            "\"a\"", "[", "]", "\\u0000", "\\ud800", "1e999", "-", " ", "\n", "EO", "EAAA", "eventual",
        ]).prop_map(|word| word.as_bytes().to_vec()),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

#[test]
fn no_bytes_make_the_node_fail() {
    let routes = prop::sample::select(HttpRoute::ALL.to_vec());
    let methods = prop::sample::select(vec![
        Method::GET,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::POST,
        Method::OPTIONS,
    ]);
    let types = prop_oneof![
        Just(None),
        Just(Some(b"application/json".to_vec())),
        Just(Some(
            b"application/x-www-form-urlencoded; charset=utf-8".to_vec()
        )),
        vec(any::<u8>(), 0..12).prop_map(Some),
    ];
    let names = prop::sample::select(vec![
        "if-match",
        "if-none-match",
        "idempotency-key",
        "causal-payload",
        "content-encoding",
        "authorization",
    ]);
    let headers = vec((names, bytes()), 0..3);
    let inputs = (routes, methods, bytes(), types, headers, bytes());
    let described = Described::new();
    many(
        cases(4000),
        inputs,
        |call, (route, method, query, media, headers, body)| {
            let mut uri = route.path().as_bytes().to_vec();
            uri.push(b'?');
            uri.extend(query);
            let Ok(uri) = Uri::try_from(uri.as_slice()) else {
                return Ok(());
            };
            let mut request = TestRequest::with_uri(&uri.to_string()).method(method.clone());
            if let Some(media) = media.and_then(|m| HeaderValue::from_bytes(&m).ok()) {
                request = request.insert_header((CONTENT_TYPE, media));
            }
            for (name, value) in headers {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    request = request.insert_header((name, value));
                }
            }
            let reply = call(request.set_payload(body));
            described
                .is(route, &method, &reply)
                .map_err(TestCaseError::fail)?;
            let Reply { status, body, .. } = reply;
            prop_assert!(status.as_u16() < 500, "{status}");
            let documents = matches!(
                route,
                HttpRoute::Metrics | HttpRoute::Page | HttpRoute::RaftStatus
            );
            let text = route == HttpRoute::Keys || documents && status.is_success();
            if method != Method::HEAD && !text {
                let reply: Value = serde_json::from_slice(&body)
                    .map_err(|why| TestCaseError::fail(why.to_string()))?;
                if !status.is_success() {
                    // The operator's store has errors of its own form, but for wrong methods.
                    let plain = (route.is_operators(&Method::POST)
                        || route.is_administration(&Method::POST))
                        && reply["message"].is_string();
                    prop_assert!(plain || reply["msg"] == "error", "{reply}");
                    prop_assert!(reply["error"].is_string(), "{reply}");
                }
            }
            Ok(())
        },
    );
}

/// A reply to GET with the text of the value.
#[derive(Deserialize)]
struct Exact<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

#[test]
fn a_json_value_comes_back_to_the_letter() {
    many(400, (json(), any::<bool>()), |call, (value, pretty)| {
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        };
        let text = text.map_err(|why| TestCaseError::fail(why.to_string()))?;
        prop_assume!(text.len() <= 4096);
        let body = format!(r#"{{"key":"k", "value": {text} }}"#);
        let put = TestRequest::put().uri("/kvs").set_payload(body);
        prop_assert!(call(put).status.is_success());
        let Reply { status, body, .. } = call(TestRequest::get().uri("/kvs?key=k"));
        prop_assert_eq!(status, StatusCode::OK);
        let reply: Exact =
            serde_json::from_slice(&body).map_err(|why| TestCaseError::fail(why.to_string()))?;
        prop_assert_eq!(reply.value.get(), text);
        Ok(())
    });
}

#[test]
fn a_string_in_a_form_comes_back_under_any_key() {
    many(400, (".{1,200}", any::<String>()), |call, (key, value)| {
        let form = serde_urlencoded::to_string([("key", &key), ("value", &value)])
            .map_err(|why| TestCaseError::fail(why.to_string()))?;
        let put = TestRequest::put().uri("/kvs").set_payload(form);
        prop_assert!(call(put).status.is_success());
        let query = serde_urlencoded::to_string([("key", &key)])
            .map_err(|why| TestCaseError::fail(why.to_string()))?;
        let Reply { status, body, .. } = call(TestRequest::get().uri(&format!("/kvs?{query}")));
        prop_assert_eq!(status, StatusCode::OK);
        let reply: Value =
            serde_json::from_slice(&body).map_err(|why| TestCaseError::fail(why.to_string()))?;
        prop_assert_eq!(reply["value"].as_str(), Some(value.as_str()));
        Ok(())
    });
}

#[test]
fn every_route_takes_the_methods_it_claims_and_refuses_the_others() {
    many(1, Just(()), |call, ()| {
        for route in HttpRoute::ALL {
            for method in ["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"] {
                let claimed = route.allow().split(", ").any(|m| m == method);
                let request = TestRequest::with_uri(route.path())
                    .method(Method::from_bytes(method.as_bytes()).unwrap());
                let refused = call(request).status == StatusCode::METHOD_NOT_ALLOWED;
                prop_assert_eq!(refused, !claimed, "{} {}", method, route.path());
            }
        }
        Ok(())
    });
}

#[test]
fn what_a_standby_answers_is_described() {
    let described = Described::new();
    with_node(true, |_, call| {
        for route in HttpRoute::ALL {
            for method in route.allow().split(", ") {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                for (media, body) in [
                    ("application/x-www-form-urlencoded", "key=k&value=v&k=1"),
                    ("application/json", r#"{"key":"k","value":1,"k":1}"#),
                    (
                        "application/json",
                        r#"{"type":"PUT","value":[],"strategy":"full"}"#,
                    ),
                ] {
                    let uri = format!("{}?key=k&partition_id=0&type=set_k&k=1", route.path());
                    let request = TestRequest::with_uri(&uri)
                        .method(method.clone())
                        .insert_header((CONTENT_TYPE, media))
                        .set_payload(body);
                    let reply = call(request);
                    described.is(route, &method, &reply).unwrap();
                    // Where a standby says that it is in no view yet, a removed node says that it
                    // is in none any more.
                    if reply.status == StatusCode::SERVICE_UNAVAILABLE {
                        assert!(
                            described.has(route, &method, StatusCode::MISDIRECTED_REQUEST),
                            "{method} {}",
                            route.path()
                        );
                    }
                }
            }
        }
    });
}

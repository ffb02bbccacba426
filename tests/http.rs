//! The HTTP surface as clients meet it: a real server on loopback, every route, every error.

mod common;
#[path = "http/operator.rs"]
mod operator;
#[path = "http/view.rs"]
mod view;

use actix_web::dev::ServerHandle;
use causeway::api::kvs::{GetReply, WriteReply};
use causeway::api::problem::ErrorReply;
use causeway::api::status::Status;
use causeway::http;
use causeway::node::Node;
use causeway::protocol::clock::Timestamp;
use causeway::protocol::cluster::{Cluster, ClusterId, PayloadKey};
use causeway::protocol::context::Context;
use causeway::protocol::ids::{LogId, MemberId};
use causeway::protocol::payload::Codec;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const MAX_VALUE: usize = 1 << 20;

/// The nodes' names. Where they listen is another matter: on any port.
const NODE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const OTHER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8081);

struct Fixture {
    node: Arc<Node>,
    server: ServerHandle,
    address: SocketAddr,
    client: Client,
    _dir: TempDir,
}

impl Fixture {
    /// A node alone, which holds every key.
    async fn start() -> Self {
        let this = Self::of(&[NODE], &[]).await;
        this.serves().await;
        this
    }

    /// Waits until the node serves.
    async fn serves(&self) {
        let began = Instant::now();
        while self.get("/ready").await.status() != 200 {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "it does not serve"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A node of two with K = 2, the other of which never comes up.
    async fn without_peer() -> Self {
        Self::of(&[NODE, OTHER], &[("K", "2")]).await
    }

    async fn of(view: &[SocketAddr], more: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = common::config(NODE, view, dir.path(), more);
        (config.bind, config.peer_bind) = (any, any);
        config.max_value_bytes = MAX_VALUE;
        let node = Node::start(config).await.unwrap();
        let (server, bound) = http::serve(Arc::clone(&node), any, 1).unwrap();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self {
            node,
            server: handle,
            address: bound[0],
            client: Client::new(),
            _dir: dir,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    async fn send(&self, method: Method, path: &str, media: &str, body: &str) -> Response {
        self.request(method, path)
            .header("content-type", media)
            .body(body.to_owned())
            .send()
            .await
            .unwrap()
    }

    /// Bytes as they are, and the reply to them.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        String::from_utf8_lossy(&reply).into_owned()
    }
}

async fn error(response: Response, status: u16) -> ErrorReply {
    let url = response.url().clone();
    assert_eq!(response.status(), status, "{url}");
    assert_eq!(response.headers()["content-type"], JSON);
    assert_eq!(
        response.headers().contains_key("retry-after"),
        status == 503
    );
    let reply: ErrorReply = response.json().await.unwrap();
    assert_eq!(reply.msg, "error");
    assert!(
        reply.error.contains(": "),
        "says what to do: {}",
        reply.error
    );
    reply
}

#[actix_web::test]
async fn a_key_lives_and_dies() {
    let node = Fixture::start().await;
    let put = node
        .send(Method::PUT, "/kvs", FORM, "key=sampleKey&value=a+b%26c")
        .await;
    assert_eq!(put.status(), 201);
    assert_eq!(put.headers()["content-type"], JSON);
    let put: WriteReply = put.json().await.unwrap();
    assert_eq!((put.msg.as_ref(), put.copies), ("success", 1));
    assert!(put.timestamp > 0);

    let path = format!("/kvs?key=sampleKey&causal_payload={}", put.causal_payload);
    let got = node.get(&path).await;
    assert_eq!(got.status(), 200);
    let text = got.text().await.unwrap();
    assert!(!text.contains("stale"), "only where it is so");
    let got: GetReply = serde_json::from_str(&text).unwrap();
    assert_eq!(got.msg, "success");
    assert_eq!(got.value, json!("a b&c"));
    assert_eq!(got.partition_id, put.partition_id);
    assert_eq!(got.timestamp, put.timestamp);

    let again = json!({"key": "sampleKey", "value": [1, {"two": null}], "causal_payload": got.causal_payload});
    let again = node
        .send(Method::PUT, "/kvs", JSON, &again.to_string())
        .await;
    assert_eq!(again.status(), 200);
    let got: GetReply = node.get(&path).await.json().await.unwrap();
    assert_eq!(got.value, json!([1, {"two": null}]));

    let body = format!("key=sampleKey&causal_payload={}", got.causal_payload);
    let gone = node.send(Method::DELETE, "/kvs", FORM, &body).await;
    assert_eq!(gone.status(), 200);
    let gone: WriteReply = gone.json().await.unwrap();
    assert_eq!(gone.msg, "success");

    let path = format!("/kvs?key=sampleKey&causal_payload={}", gone.causal_payload);
    let missing = error(node.get(&path).await, 404).await;
    assert!(missing.causal_payload.is_some());
    assert_eq!(missing.partition_id, Some(put.partition_id));
}

#[actix_web::test]
async fn delete_takes_its_fields_from_query_form_or_json() {
    let node = Fixture::start().await;
    for (path, media, body) in [
        ("/kvs?key=k&causal_payload=", FORM, ""),
        ("/kvs", FORM, "key=k"),
        ("/kvs", JSON, r#"{"key":"k","causal_payload":null}"#),
        ("/kvs?causal_payload=", JSON, r#"{"key":"k"}"#),
    ] {
        node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
        let gone = node.send(Method::DELETE, path, media, body).await;
        assert_eq!(gone.status(), 200, "{path} {body}");
        let again = node.send(Method::DELETE, path, media, body).await;
        assert!(error(again, 404).await.causal_payload.is_some());
    }
    let both = node.send(Method::DELETE, "/kvs?key=k", FORM, "key=k").await;
    assert!(
        error(both, 400)
            .await
            .error
            .contains("`key` is given twice")
    );
}

#[actix_web::test]
async fn a_body_without_a_type_is_what_it_looks_like() {
    let node = Fixture::start().await;
    for (body, value) in [
        (r#"{"key":"k","value":"json"}"#, json!("json")),
        ("\n {\"key\":\"k\",\"value\":null}", Value::Null),
        ("key=k&value=form", json!("form")),
        ("key=k&value=", json!("")),
        (
            "&&key=k&value=%7B%22a%22%3A1%7D&other=1&other=2",
            json!("{\"a\":1}"),
        ),
        (r#"{"value":1.50,"key":"\u006b","other":1}"#, json!(1.5)),
    ] {
        let put = node.request(Method::PUT, "/kvs").body(body);
        assert!(put.send().await.unwrap().status().is_success(), "{body}");
        let got: GetReply = node.get("/kvs?key=k").await.json().await.unwrap();
        assert_eq!(got.value, value);
    }
}

#[actix_web::test]
async fn nonsense_in_a_query_is_refused_with_a_reason() {
    let node = Fixture::start().await;
    let long = "k".repeat(1025);
    let cases = [
        ("", "`key` is missing"),
        ("?", "`key` is missing"),
        ("?key", "key is empty"),
        ("?key=&causal_payload=", "key is empty"),
        (&format!("?key={long}"), "1025 bytes"),
        ("?key=a&key=b", "`key` is given twice"),
        ("?key=%zz", "two hexadecimal digits"),
        ("?key=%4", "two hexadecimal digits"),
        ("?key=a%", "two hexadecimal digits"),
        ("?key=%ff", "not UTF-8"),
        ("?%ff=1&key=a", "name is not UTF-8"),
        ("?key=a&other=%ff", "`other` is not UTF-8"),
        ("?key=a&consistency=strong", "neither causal nor eventual"),
        ("?key=a&consistency=", "neither causal nor eventual"),
        (
            "?key=a&consistency=causal&consistency=causal",
            "given twice",
        ),
    ];
    for (query, why) in cases {
        let reply = error(node.get(&format!("/kvs{query}")).await, 400).await;
        assert!(reply.error.contains(why), "{query}: {}", reply.error);
        assert!(reply.causal_payload.is_some(), "{query}");
    }
    // The longest key is one, and so is one of characters that are longer than a byte.
    for key in ["k".repeat(1024), "%C3%A9".repeat(512)] {
        error(node.get(&format!("/kvs?key={key}")).await, 404).await;
    }
}

#[actix_web::test]
async fn a_payload_that_cannot_be_read_is_not_answered_with_another() {
    let node = Fixture::start().await;
    let put = node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    let put: WriteReply = put.json().await.unwrap();
    let good = put.causal_payload;
    let cut = &good[..good.len() - 4];
    let cases = [
        ("?key=k&causal_payload=!", "characters that no payload has"),
        (&format!("?key=k&causal_payload={cut}"), "changed"),
        ("?key=k&causal_payload=AAAAAAAA", "version"),
        ("?key=k&causal_payload=%ff", "not UTF-8"),
        ("?key=k&causal_payload=&causal_payload=", "given twice"),
        (
            &format!("?key=k&causal_payload={good}&causal_payload={good}"),
            "given twice",
        ),
    ];
    for (query, why) in cases {
        let reply = error(node.get(&format!("/kvs{query}")).await, 400).await;
        assert!(reply.error.contains(why), "{query}: {}", reply.error);
        assert_eq!(reply.causal_payload, None, "{query}");
    }
    // One that can be read comes back with every complaint about another field.
    let codec = node.node.codec();
    let seen = codec.decode(&good).unwrap();
    let body = json!({"key": "", "value": 1, "causal_payload": good}).to_string();
    for response in [
        node.get(&format!("/kvs?key=&causal_payload={good}")).await,
        node.get(&format!("/kvs?key=%zz&causal_payload={good}"))
            .await,
        node.send(
            Method::PUT,
            "/kvs",
            FORM,
            &format!("key=k&causal_payload={good}"),
        )
        .await,
        node.send(Method::PUT, "/kvs", JSON, &body).await,
        node.send(
            Method::DELETE,
            "/kvs",
            FORM,
            &format!("causal_payload={good}"),
        )
        .await,
    ] {
        let reply = error(response, 400).await.causal_payload.unwrap();
        assert!(codec.decode(&reply).unwrap().covers(&seen));
    }
}

#[actix_web::test]
async fn nonsense_in_a_body_is_refused_with_a_reason() {
    let node = Fixture::start().await;
    let cases = [
        (FORM, "", "`key` is missing"),
        (FORM, "key=k", "`value` is missing"),
        (FORM, "key=k&value=1&value=2", "`value` is given twice"),
        (FORM, "value=v", "`key` is missing"),
        (FORM, "key=k&value=%", "two hexadecimal digits"),
        (FORM, r#"{"key":"k","value":1}"#, "`key` is missing"),
        (JSON, "", "not a JSON object"),
        (JSON, "key=k&value=v", "not a JSON object"),
        (JSON, r#"["k","v",""]"#, "not a JSON object"),
        (JSON, r#"{"key":"k","value":"v""#, "not a JSON object"),
        (JSON, r#"{"key":"k","value":"v"} x"#, "not a JSON object"),
        (
            JSON,
            r#"{"key":"k","key":"k","value":1}"#,
            "duplicate field `key`",
        ),
        (
            JSON,
            r#"{"key":"k","value":1,"value":1}"#,
            "duplicate field `value`",
        ),
        (JSON, r#"{"key":"k"}"#, "`value` is missing"),
        (JSON, r#"{"key":null,"value":1}"#, "`key` is missing"),
        (
            JSON,
            r#"{"key":5,"value":1}"#,
            "`key` must be a JSON string",
        ),
        (
            JSON,
            r#"{"key":"\ud800","value":1}"#,
            "`key` must be a JSON string",
        ),
        (
            JSON,
            r#"{"key":"k","value":1,"causal_payload":{}}"#,
            "`causal_payload` must be a JSON string",
        ),
        (
            JSON,
            r#"{"key":"k","value":undefined}"#,
            "not a JSON object",
        ),
    ];
    for (media, body, why) in cases {
        let reply = error(node.send(Method::PUT, "/kvs", media, body).await, 400).await;
        assert!(reply.error.contains(why), "{body}: {}", reply.error);
    }
    let bytes = node
        .request(Method::PUT, "/kvs")
        .body(&b"key=k&value=\xff"[..]);
    error(bytes.send().await.unwrap(), 400).await;
}

#[actix_web::test]
async fn other_types_of_body_are_refused() {
    let node = Fixture::start().await;
    for media in ["text/plain", "multipart/form-data; boundary=x", "nonsense"] {
        for method in [Method::PUT, Method::DELETE] {
            let reply = node.send(method, "/kvs", media, "key=k&value=v").await;
            let reply = error(reply, 415).await;
            assert!(reply.error.contains(JSON) && reply.error.contains(FORM));
        }
    }
    let zipped = node
        .request(Method::PUT, "/kvs")
        .header("content-encoding", "gzip");
    error(zipped.body("x").send().await.unwrap(), 415).await;
    for media in ["Application/JSON; charset=utf-8", "application/json"] {
        let put = node
            .send(Method::PUT, "/kvs", media, r#"{"key":"k","value":1}"#)
            .await;
        assert!(put.status().is_success());
    }
}

#[actix_web::test]
async fn a_value_may_be_as_long_as_the_limit_and_no_longer() {
    let node = Fixture::start().await;
    let (fits, long) = ("v".repeat(MAX_VALUE), "v".repeat(MAX_VALUE + 1));
    // Percent-encoded, a form is three times as long as what it says.
    let escaped = |n: usize| format!("key=k&value={}", "%76".repeat(n));
    let quoted = |value: &str| json!({"key": "k", "value": value}).to_string();
    for (media, body) in [
        (FORM, format!("key=k&value={fits}")),
        (FORM, escaped(MAX_VALUE)),
        (JSON, quoted(&fits)),
    ] {
        let put = node.send(Method::PUT, "/kvs", media, &body).await;
        assert!(put.status().is_success());
        let got: GetReply = node.get("/kvs?key=k").await.json().await.unwrap();
        assert_eq!(got.value.as_str().map(str::len), Some(MAX_VALUE));
    }
    for (media, body) in [
        (FORM, format!("key=k&value={long}")),
        (FORM, escaped(MAX_VALUE + 1)),
        (JSON, quoted(&long)),
        (
            JSON,
            format!(r#"{{"key":"k","value":[{}]}}"#, "1".repeat(MAX_VALUE - 1)),
        ),
        // Line ends are two bytes each in JSON.
        (
            FORM,
            format!("key=k&value={}", "%0A".repeat(MAX_VALUE / 2 + 1)),
        ),
        (FORM, format!("key=k&value={}", "v".repeat(16 * MAX_VALUE))),
    ] {
        error(node.send(Method::PUT, "/kvs", media, &body).await, 413).await;
    }
    error(node.send(Method::DELETE, "/kvs", FORM, &long).await, 413).await;
    // A length that is only announced is refused before anything is sent.
    let announced = b"PUT /kvs HTTP/1.1\r\nHost: n\r\nContent-Length: 99999999999\r\n\r\n";
    assert!(node.raw(announced).await.starts_with("HTTP/1.1 413"));
}

/// A write of `member` in `incarnation`, as a context.
fn seen(member: u16, incarnation: u64, seq: u64) -> Context {
    let mut context = Context::default();
    let member = MemberId(member);
    context.see(
        LogId {
            member,
            incarnation,
        },
        seq,
    );
    context
}

impl Fixture {
    /// The replies to a read, a write and a delete with this payload.
    async fn every_way(&self, payload: &str) -> [Response; 3] {
        let body = format!("key=k&value=v&causal_payload={payload}");
        let read = format!("/kvs?key=k&causal_payload={payload}");
        [
            self.get(&read).await,
            self.send(Method::PUT, "/kvs", FORM, &body).await,
            self.send(Method::DELETE, "/kvs", FORM, &body).await,
        ]
    }
}

#[actix_web::test]
async fn a_payload_that_cannot_be_true_is_refused_and_comes_back() {
    let node = Fixture::start().await;
    let codec = node.node.codec();
    let mut ahead = Context::default();
    ahead.clock = Timestamp::from_ms(http::status(&node.node).clock_ms + 60_000);
    for response in node.every_way(&codec.encode(&ahead)).await {
        let reply = error(response, 400).await;
        assert!(reply.error.contains("clock is"), "{}", reply.error);
        let back = codec.decode(&reply.causal_payload.unwrap()).unwrap();
        assert!(back.covers(&ahead) && reply.partition_id == Some(0));
    }
    assert_eq!(http::status(&node.node).keys, 0);
}

#[actix_web::test]
async fn a_payload_of_another_cluster_is_refused_everywhere_and_never_answered() {
    let node = Fixture::start().await;
    let other = Cluster {
        id: ClusterId([7; 16]),
        key: PayloadKey([7; 32]),
        former: None,
    };
    let mut late = seen(0, http::status(&node.node).incarnation, 1);
    late.view = 131_071;
    let payloads = [
        // Of another cluster, of a member that this one never had, with and without a secret, and
        // made by hand.
        Codec::new(&other, None).encode(&late),
        Codec::new(&other, Some(b"s")).encode(&late),
        node.node.codec().encode(&seen(7, 1, 1)),
        "IAAA__8Hqfi2BQ".to_owned(),
    ];
    for payload in payloads {
        let mut responses = Vec::from(node.every_way(&payload).await);
        let explained = format!("/kvs/explain?causal_payload={payload}");
        responses.push(node.get(&explained).await);
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let request = node.request(method, "/keys/k");
            let request = request.header("causal-payload", &payload);
            let body = json!({"type": "APPEND", "value": "x"}).to_string();
            responses.push(request.body(body).send().await.unwrap());
        }
        // To explain one says nothing about who the members are.
        let known = node.node.codec().decode(&payload).is_ok();
        for (i, response) in responses.into_iter().enumerate() {
            if known && i == 3 {
                continue;
            }
            let reply = error(response, 400).await;
            assert_eq!(reply.code.as_deref(), Some("foreign_payload"), "{i}");
            assert_eq!(reply.causal_payload, None);
        }
    }
    assert_eq!(http::status(&node.node).keys, 0);
    error(node.get("/kvs?key=k").await, 404).await;
}

#[actix_web::test]
async fn a_read_of_what_is_missing_names_it_and_an_eventual_one_is_stale() {
    let node = Fixture::start().await;
    let codec = node.node.codec();
    let later = seen(0, http::status(&node.node).incarnation, 9);
    let path = format!("/kvs?key=k&causal_payload={}", codec.encode(&later));
    let eventual = format!("{path}&consistency=eventual");
    assert!(error(node.get(&eventual).await, 404).await.stale);
    node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    let reply = error(node.get(&path).await, 503).await;
    assert!(
        reply.error.contains("up to 1, needed is 9"),
        "{}",
        reply.error
    );
    let back = codec.decode(&reply.causal_payload.unwrap()).unwrap();
    assert!(back.covers(&later) && !reply.stale);
    let got: GetReply = node.get(&eventual).await.json().await.unwrap();
    assert!(got.stale && got.value == "v");
    assert!(codec.decode(&got.causal_payload).unwrap().covers(&later));
    // A write does not wait for what it depends on.
    let body = format!("key=k&value=w&causal_payload={}", codec.encode(&later));
    let put = node.send(Method::PUT, "/kvs", FORM, &body).await;
    assert_eq!(put.status(), 200);
}

#[actix_web::test]
async fn a_node_that_recovers_says_so_and_serves_nothing_but_eventual_reads() {
    let node = Fixture::without_peer().await;
    assert_eq!(node.get("/health").await.status(), 200);
    let why = error(node.get("/ready").await, 503).await.error;
    assert!(why.contains(&OTHER.to_string()), "{why}");
    // A payload may be of the cluster that is not known yet.
    for payload in ["", "MAAA__8Hqfi2BQ"] {
        for response in node.every_way(payload).await {
            assert!(response.headers().contains_key("retry-after"));
            let reply = error(response, 503).await;
            assert!(
                reply.error.contains("1 of 2 nodes of VIEW"),
                "{}",
                reply.error
            );
            assert!(reply.error.contains(&OTHER.to_string()), "{}", reply.error);
            assert!(reply.causal_payload.is_none() && reply.code.is_none());
        }
    }
    let eventual = node.get("/kvs?key=k&consistency=eventual").await;
    error(eventual, 503).await;
    let status: Status = node.get("/status").await.json().await.unwrap();
    assert_eq!(status.state, "forming");
    assert!(
        status
            .reason
            .is_some_and(|why| why.contains(&OTHER.to_string()))
    );
    let metrics = node.get("/metrics").await.text().await.unwrap();
    for line in [
        r#"causeway_peer_lag_dots{peer="127.0.0.1:8081"} 0"#,
        r#"causeway_peer_behind_dots{peer="127.0.0.1:8081"} 0"#,
        r#"causeway_peer_alive{peer="127.0.0.1:8081"} 0"#,
        "causeway_serving 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
}

#[actix_web::test]
async fn a_standby_is_alive_and_says_what_it_is() {
    let standby = Fixture::of(&[], &[]).await;
    let ask = async |method: Method, path: &str| {
        let request = standby.request(method, path);
        request.send().await.unwrap()
    };
    assert_eq!(ask(Method::GET, "/health").await.status(), 200);
    for (method, path) in [
        (Method::GET, "/ready"),
        (Method::GET, "/kvs?key=k"),
        (Method::PUT, "/kvs"),
        (Method::DELETE, "/kvs?key=k"),
        (Method::GET, "/kvs/get_partition_id"),
        (Method::GET, "/kvs/get_all_partition_ids"),
        (Method::GET, "/kvs/get_number_of_keys"),
        (Method::GET, "/view"),
        (Method::GET, "/view/plan?type=set_k&k=2"),
        (Method::DELETE, "/view/change"),
    ] {
        let reply = error(ask(method, path).await, 503).await;
        assert!(reply.error.contains("standby"), "{}", reply.error);
    }
    let add = "ip_port=10.0.0.9:8080&type=add";
    let update = standby
        .send(Method::PUT, "/kvs/view_update", FORM, add)
        .await;
    error(update, 503).await;
    let set = standby.send(Method::PUT, "/view", FORM, "k=2").await;
    error(set, 503).await;
    let status: Status = ask(Method::GET, "/status").await.json().await.unwrap();
    assert_eq!((status.state.as_str(), status.member), ("standby", None));
    assert_eq!(ask(Method::GET, "/metrics").await.status(), 200);
}

#[actix_web::test]
async fn a_standby_that_cannot_store_does_not_start() {
    // Nobody can make a directory there, not even root.
    let dir = std::path::Path::new("/proc/causeway");
    let mut config = common::config(NODE, &[], dir, &[]);
    config.peer_bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let Err(why) = Node::start(config).await else {
        panic!("it starts");
    };
    let why = why.to_string();
    assert!(
        why.contains("/proc/causeway") && why.contains("DATA_DIR"),
        "{why}"
    );
}

#[actix_web::test]
async fn the_cluster_can_be_asked_about() {
    let node = Fixture::start().await;
    let ask = async |path: &str| node.get(path).await.json::<Value>().await.unwrap();
    assert_eq!(
        ask("/kvs/get_partition_id").await,
        json!({"msg": "success", "partition_id": 0})
    );
    assert_eq!(
        ask("/kvs/get_all_partition_ids").await,
        json!({"msg": "success", "partition_id_list": [0]})
    );
    assert_eq!(
        ask("/kvs/get_partition_members?partition_id=0").await,
        json!({"msg": "success", "partition_members": ["127.0.0.1:8080"]})
    );
    node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    assert_eq!(
        ask("/kvs/get_number_of_keys").await,
        json!({"msg": "success", "count": 1})
    );
    for (query, status) in [
        ("", 400),
        ("?partition_id=", 400),
        ("?partition_id=one", 400),
        ("?partition_id=-1", 400),
        ("?partition_id=99999999999", 400),
        ("?partition_id=1", 404),
    ] {
        error(
            node.get(&format!("/kvs/get_partition_members{query}"))
                .await,
            status,
        )
        .await;
    }
}

#[actix_web::test]
async fn a_payload_can_be_explained() {
    let node = Fixture::start().await;
    node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    let incarnation = http::status(&node.node).incarnation;
    for (seq, state) in [(1, "stable"), (2, "missing")] {
        let payload = node.node.codec().encode(&seen(0, incarnation, seq));
        let path = format!("/kvs/explain?causal_payload={payload}");
        let reply: Value = node.get(&path).await.json().await.unwrap();
        let entry = &reply["entries"][0];
        assert_eq!(entry["node"], "127.0.0.1:8080");
        assert_eq!(
            (&entry["seq"], &entry["state"]),
            (&json!(seq), &json!(state))
        );
    }
    let empty: Value = node.get("/kvs/explain").await.json().await.unwrap();
    assert_eq!(empty["entries"], json!([]));
    error(node.get("/kvs/explain?causal_payload=xyz").await, 400).await;
}

#[actix_web::test]
async fn operators_see_whether_it_serves() {
    let node = Fixture::start().await;
    assert_eq!(node.get("/health").await.status(), 200);
    assert_eq!(node.get("/ready").await.status(), 200);
    let status: Status = node.get("/status").await.json().await.unwrap();
    assert_eq!(status.node, "127.0.0.1:8080");
    assert_eq!((status.state.as_str(), status.reason), ("serving", None));
    assert_eq!(status.view, http::status(&node.node).view);
    assert!(status.clock_ms > 0 && status.free_bytes > 0);
    let page = node.get("/").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.unwrap();
    assert!(page.contains("127.0.0.1:8080"));
    let document: Value = node.get("/openapi.json").await.json().await.unwrap();
    assert!(document["paths"]["/kvs"]["put"].is_object());
}

#[actix_web::test]
async fn metrics_count_what_happened() {
    let node = Fixture::start().await;
    node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    for _ in 0..3 {
        node.get("/kvs?key=k").await;
    }
    node.get("/kvs").await;
    node.get("/nowhere").await;
    node.send(Method::DELETE, "/kvs", FORM, "key=k").await;
    node.send(Method::PUT, "/kvs", FORM, "key=l&value=v").await;
    let list = r#"{"type":"PUT","value":["cat"]}"#;
    node.send(Method::POST, "/keys/pets", JSON, list).await;
    node.send(Method::PATCH, "/kvs", FORM, "").await;
    let metrics = node.get("/metrics").await;
    let media = metrics.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(media.starts_with("application/openmetrics-text"));
    let text = metrics.text().await.unwrap();
    for line in [
        r#"causeway_http_request_duration_seconds_count{route="/kvs",method="GET",status="200"} 3"#,
        r#"causeway_http_request_duration_seconds_count{route="/kvs",method="PUT",status="201"} 2"#,
        r#"causeway_http_request_duration_seconds_count{route="/keys/{key}",method="POST",status="204"} 1"#,
        r#"causeway_http_request_duration_seconds_count{route="/kvs",method="other",status="405"} 1"#,
        r#"causeway_http_request_duration_seconds_count{route="/kvs",method="GET",status="400"} 1"#,
        r#"causeway_http_request_duration_seconds_count{route="none",method="GET",status="404"} 1"#,
        "causeway_context_entries_count 6",
        "causeway_keys 1",
        "causeway_unstable_dots 0",
        "causeway_stalled_reads 0",
        "causeway_serving 1",
        &format!(
            "causeway_build_info{{version=\"{}\"}} 1",
            env!("CARGO_PKG_VERSION")
        ),
        "causeway_council_leads 1",
        "causeway_council_has_quorum 1",
        "causeway_council_full 0",
        "causeway_lists 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
    let number = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|n| n.trim().parse::<f64>().ok()).unwrap()
    };
    for name in [
        "causeway_commits_total",
        "causeway_commit_batches_total",
        "causeway_commit_operations_total",
        "causeway_commit_seconds_total",
        "causeway_storage_bytes",
        "causeway_storage_free_bytes",
        "causeway_council_term",
        "causeway_council_committed",
        "causeway_council_applied",
        "causeway_lists_bytes",
    ] {
        assert!(number(name) > 0.0, "{name} in\n{text}");
    }
}

#[actix_web::test]
async fn unknown_paths_and_methods_are_told_apart() {
    let node = Fixture::start().await;
    for path in ["/nowhere", "/kvs/", "/kvs/nothing", "/%zz", "//kvs"] {
        error(node.get(path).await, 404).await;
    }
    for (method, path, allow) in [
        (Method::POST, "/kvs", "GET, HEAD, PUT, DELETE"),
        (Method::GET, "/kvs/view_update", "PUT"),
        (Method::DELETE, "/health", "GET, HEAD"),
    ] {
        let response = node.request(method, path).send().await.unwrap();
        assert_eq!(response.headers()["allow"], allow);
        error(response, 405).await;
    }
    node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    let length = node.get("/kvs?key=k").await.content_length();
    let head = node
        .request(Method::HEAD, "/kvs?key=k")
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(
        head.headers()["content-length"],
        length.unwrap().to_string()
    );
    assert_eq!(head.text().await.unwrap(), "");
}

#[actix_web::test]
async fn what_is_no_http_does_no_harm() {
    let node = Fixture::start().await;
    let cases: [&[u8]; 6] = [
        b"\x00\xff\x16\x03\x01",
        b"GET /kvs?key=\xff HTTP/1.1\r\nHost: n\r\n\r\n",
        b"GET /kvs?key=a b HTTP/1.1\r\nHost: n\r\n\r\n",
        b"PUT /kvs HTTP/1.1\r\nHost: n\r\nContent-Length: -1\r\n\r\n",
        b"PUT /kvs HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PUT /kvs HTTP/1.1\r\nHost: n\r\nContent-Length: 10\r\n\r\nkey=k",
    ];
    for request in cases {
        let reply = node.raw(request).await;
        assert!(
            reply.is_empty() || reply.starts_with("HTTP/1.1 400"),
            "{reply}"
        );
    }
    assert_eq!(node.get("/health").await.status(), 200);
}

#[actix_web::test]
async fn the_server_ends_in_time_with_connections_open() {
    let node = Fixture::start().await;
    let mut idle = TcpStream::connect(node.address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: n\r\n\r\n")
        .await
        .unwrap();
    idle.read_u8().await.unwrap();
    let mut slow = TcpStream::connect(node.address).await.unwrap();
    slow.write_all(b"PUT /kvs HTTP/1.1\r\nHost: n\r\nContent-Length: 9\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    node.server.stop(true).await;
    assert!(
        began.elapsed() < Duration::from_millis(4500),
        "{:?}",
        began.elapsed()
    );
}

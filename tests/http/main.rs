//! The HTTP surface as clients meet it: a real server on loopback, every route, every error.

mod batch;
mod clients;
#[path = "../common/mod.rs"]
mod common;
mod health;
mod kvs;
mod lists;
mod names;
mod operator;
mod payload;
mod server;
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

    /// Waits until lists can be changed.
    async fn has_leader(&self) {
        let began = Instant::now();
        while self.get("/keys/none").await.status() == 503 {
            assert!(began.elapsed() < Duration::from_secs(20), "no leader");
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
            address: bound,
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

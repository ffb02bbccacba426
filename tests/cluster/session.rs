//! A client that carries its `causal_payload` from one request to the next.

use crate::harness::HTTP;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Every answer is there within a second; the rest is for a machine that is busy with other tests.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// A node's answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Value,
    pub took: Duration,
    pub retry_after: bool,
}

impl Reply {
    /// The value, if one was found.
    pub fn value(&self) -> Option<&str> {
        assert!(matches!(self.status, 200 | 404), "{self:?}");
        self.body["value"].as_str()
    }

    /// Whether the write was taken.
    pub fn written(&self) -> bool {
        matches!(self.status, 200 | 201)
    }

    /// The reply, which must not have taken longer than replies may.
    pub fn in_time(self) -> Self {
        assert!(self.took < ANSWER_WITHIN, "{self:?}");
        self
    }
}

/// A client's session.
#[derive(Debug, Clone, Default)]
pub struct Session {
    pub payload: String,
}

impl Session {
    pub async fn put(&mut self, at: SocketAddr, key: &str, value: &str) -> Reply {
        let body = json!({"key": key, "value": value, "causal_payload": self.payload});
        self.ask(request(Method::PUT, at).json(&body)).await
    }

    pub async fn get(&mut self, at: SocketAddr, key: &str) -> Reply {
        let query = [("key", key), ("causal_payload", &self.payload)];
        self.ask(request(Method::GET, at).query(&query)).await
    }

    pub async fn delete(&mut self, at: SocketAddr, key: &str) -> Reply {
        let query = [("key", key), ("causal_payload", &self.payload)];
        self.ask(request(Method::DELETE, at).query(&query)).await
    }

    async fn ask(&mut self, request: RequestBuilder) -> Reply {
        let reply = send(request).await;
        if let Some(payload) = reply.body["causal_payload"].as_str() {
            payload.clone_into(&mut self.payload);
        }
        reply
    }
}

/// The value that a replica has itself, be it old.
pub async fn here(at: SocketAddr, key: &str, payload: &str) -> Reply {
    let query = [
        ("key", key),
        ("consistency", "eventual"),
        ("causal_payload", payload),
    ];
    send(request(Method::GET, at).query(&query)).await
}

fn request(method: Method, at: SocketAddr) -> RequestBuilder {
    HTTP.request(method, format!("http://{at}/kvs"))
}

/// Sends a request of any kind.
pub async fn send(request: RequestBuilder) -> Reply {
    let began = Instant::now();
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    let retry_after = reply.headers().contains_key("retry-after");
    let body: Value = reply.json().await.unwrap();
    Reply {
        status,
        body,
        took: began.elapsed(),
        retry_after,
    }
}

//! The operator's store at one node, and the token that guards it.

use super::{Fixture, JSON, NODE, OTHER};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The reply's status and body; an error has its two fields, and says when to try again.
pub(super) async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let again = response.headers().contains_key("retry-after");
    assert_eq!(again, status == 503);
    let body: Value = response.json().await.unwrap();
    if status >= 400 {
        let fields = body.as_object().unwrap();
        assert_eq!(fields.len(), 2, "{body}");
        assert!(body["error"].is_string() && body["message"].is_string());
    }
    (status, body)
}

#[actix_web::test]
async fn a_key_is_written_once_read_and_deleted() {
    let node = Fixture::start().await;
    // As curl sends it when it is not told what it sends.
    for (media, key) in [(JSON, "a/b c"), (super::FORM, "x")] {
        let body = json!({"key": key, "value": ["v", 1]}).to_string();
        let path = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC);
        let path = path.to_string();
        let (status, reply) = told(node.send(Method::POST, "/write", media, &body).await).await;
        assert_eq!((status, &reply["status"]), (200, &json!("success")));
        assert!(reply["message"].is_string() && reply["copies"] == 1);
        let again = told(node.send(Method::POST, "/write", media, &body).await).await;
        assert_eq!(
            (again.0, &again.1["error"]),
            (409, &json!("Key already exists"))
        );

        let (status, read) = told(node.get(&format!("/read/{path}")).await).await;
        assert_eq!((status, &read["status"]), (200, &json!("success")));
        assert_eq!(
            (&read["key"], &read["value"]),
            (&json!(key), &json!(["v", 1]))
        );
        assert_eq!(read["message"], format!("answered by node 0 ({NODE})"));
        let (_, holders) = told(node.get(&format!("/nodes_for_key/{path}")).await).await;
        let holder =
            json!({"node_id": 0, "node": NODE.to_string(), "address": "127.0.0.1", "port": 8080});
        assert_eq!(holders["nodes"], json!([holder]));

        let delete = format!("/delete/{path}");
        for status in [200, 404] {
            let sent = node.request(Method::DELETE, &delete).send().await.unwrap();
            let (is, reply) = told(sent).await;
            assert_eq!(is, status, "{reply}");
        }
        let (status, gone) = told(node.get(&format!("/read/{path}")).await).await;
        assert_eq!((status, &gone["error"]), (404, &json!("Key not found")));
        let write = node.send(Method::POST, "/write", media, &body).await;
        assert_eq!(told(write).await.0, 200, "it is free again");
    }
    // The same store as that of /kvs.
    let seen: Value = node.get("/kvs?key=x").await.json().await.unwrap();
    assert_eq!(seen["value"], json!(["v", 1]));
}

#[actix_web::test]
async fn what_makes_no_sense_is_refused_in_the_same_form() {
    let node = Fixture::start().await;
    let long = "k".repeat(1025);
    for body in [
        "",
        "key=x&value=y",
        r#"{"key": "x"}"#,
        r#"{"value": "x"}"#,
        r#"{"key": "", "value": 1}"#,
        r#"{"key": 7, "value": 1}"#,
        &json!({"key": long, "value": 1}).to_string(),
        r#"["x", "y"]"#,
    ] {
        let (status, reply) = told(node.send(Method::POST, "/write", JSON, body).await).await;
        assert_eq!(
            (status, &reply["error"]),
            (400, &json!("Invalid input")),
            "{body}"
        );
    }
    let big = json!({"key": "x", "value": "v".repeat(super::MAX_VALUE + 1)}).to_string();
    assert_eq!(
        told(node.send(Method::POST, "/write", JSON, &big).await)
            .await
            .0,
        413
    );
    for path in [format!("/read/{long}"), "/read/%ff".to_owned()] {
        assert_eq!(told(node.get(&path).await).await.0, 400, "{path}");
    }
    for body in [
        "",
        "{}",
        r#"{"strategy": "most"}"#,
        r#"{"strategy": "consistent"}"#,
        r#"{"strategy": "consistent", "replication_factor": 0}"#,
        r#"{"strategy": "consistent", "replication_factor": -1}"#,
        r#"{"strategy": "consistent", "replication_factor": 1.5}"#,
        r#"{"strategy": "consistent", "replication_factor": "two"}"#,
        r#"{"strategy": "consistent", "replication_factor": 65535}"#,
    ] {
        let sent = node.send(Method::POST, "/set_replication_strategy", JSON, body);
        assert_eq!(told(sent.await).await.0, 400, "{body}");
    }
    for id in ["1", "127.0.0.1:9", "x", "-1", "65536"] {
        for what in ["fail", "recover"] {
            let path = format!("/{what}/{id}");
            let sent = node.request(Method::POST, &path).send().await.unwrap();
            let (status, reply) = told(sent).await;
            assert_eq!(
                (status, &reply["error"]),
                (404, &json!("Node not found")),
                "{path}"
            );
        }
    }
}

#[actix_web::test]
async fn a_standby_says_what_it_is() {
    let node = Fixture::of(&[OTHER], &[]).await;
    for path in ["/nodes", "/read/x", "/nodes_for_key/x"] {
        let (status, reply) = told(node.get(path).await).await;
        assert_eq!((status, &reply["error"]), (503, &json!("Unavailable")));
        assert!(
            reply["message"].as_str().unwrap().contains("standby"),
            "{reply}"
        );
    }
    let fail = node.request(Method::POST, "/fail/0").send().await.unwrap();
    assert_eq!(told(fail).await.0, 503);
}

/// Everything that the token guards, and what it leaves open.
const GUARDED: [(&str, &str); 14] = [
    ("POST", "/write"),
    ("GET", "/read/x"),
    ("HEAD", "/read/x"),
    ("DELETE", "/delete/x"),
    ("GET", "/nodes"),
    ("GET", "/nodes_for_key/x"),
    ("POST", "/fail/9"),
    ("POST", "/recover/9"),
    ("POST", "/set_replication_strategy"),
    ("PUT", "/kvs/view_update"),
    ("PUT", "/view"),
    ("DELETE", "/view/change"),
    ("POST", "/keys/x"),
    ("DELETE", "/keys/x"),
];
const OPEN: [(&str, &str); 9] = [
    ("GET", "/kvs?key=x"),
    ("PUT", "/kvs"),
    ("DELETE", "/kvs?key=x"),
    ("GET", "/view"),
    ("GET", "/keys/x"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/kvs/get_partition_id"),
    ("PUT", "/write"),
];

#[actix_web::test]
async fn the_token_guards_what_changes_the_cluster_and_the_operators_store() {
    let secrets = [("CLUSTER_SECRET", "of the nodes"), ("API_TOKEN", "s3cret")];
    let node = Fixture::of(&[NODE], &secrets).await;
    let send = async |(method, path): (&str, &str), token: Option<&str>| {
        let mut request = node.request(method.parse().unwrap(), path);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        request.send().await.unwrap()
    };
    let began = Instant::now();
    for call in GUARDED {
        for token in [
            None,
            Some("Bearer s3cre"),
            Some("Basic s3cret"),
            Some("Bearer "),
        ] {
            let refused = send(call, token).await;
            assert_eq!(refused.status(), 403, "{call:?} {token:?}");
            assert_eq!(refused.headers()["www-authenticate"], "Bearer");
            if call.0 != "HEAD" {
                let (_, reply) = told(refused).await;
                assert_eq!(reply["error"], "Unauthorized");
            }
        }
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "nothing is looked up first"
    );
    for call in GUARDED {
        assert_ne!(
            send(call, Some("Bearer s3cret")).await.status(),
            403,
            "{call:?}"
        );
    }
    for call in OPEN {
        assert_ne!(send(call, None).await.status(), 403, "{call:?}");
    }
    // A token for a lesser right guards that right on all surfaces.
    let lesser = [("WRITE_TOKEN", "w"), ("READ_TOKEN", "r")];
    let node = Fixture::of(&[NODE], &[&secrets[..], &lesser].concat()).await;
    let admits = async |method: Method, path: &str, token: &str| {
        let request = node.request(method, path);
        let request = request.header("authorization", format!("Bearer {token}"));
        request.send().await.unwrap().status() != 403
    };
    for (token, writes, administers) in [
        ("r", false, false),
        ("w", true, false),
        ("s3cret", true, true),
    ] {
        assert!(admits(Method::GET, "/kvs?key=k", token).await);
        assert_eq!(admits(Method::PUT, "/kvs", token).await, writes);
        assert_eq!(admits(Method::PUT, "/view", token).await, administers);
    }
    assert_eq!(node.get("/kvs?key=k").await.status(), 403);
    assert_ne!(node.get("/ready").await.status(), 403);
    // Without a token in the node's environment nothing is guarded.
    let open = Fixture::start().await;
    assert_eq!(open.get("/nodes").await.status(), 200);
}

//! Many keys in one call: batches and snapshots; and sessions joined of several payloads.

use super::*;
use causeway::api::batch::{BatchReply, SnapshotReply};

/// What every reply has.
#[derive(serde::Deserialize)]
struct Carried {
    causal_payload: String,
}

/// Sends JSON, and returns a reply that is no error.
async fn done<T: serde::de::DeserializeOwned>(node: &Fixture, path: &str, body: &Value) -> T {
    let reply = node.send(Method::POST, path, JSON, &body.to_string()).await;
    assert_eq!(reply.status(), 200, "{path}");
    let header = reply.headers()["causal-payload"]
        .to_str()
        .unwrap()
        .to_owned();
    let text = reply.text().await.unwrap();
    let carried: Carried = serde_json::from_str(&text).unwrap();
    assert_eq!(carried.causal_payload, header);
    serde_json::from_str(&text).unwrap()
}

#[actix_web::test]
async fn the_operations_of_a_batch_end_each_for_itself_and_in_order_on_one_key() {
    let node = Fixture::start().await;
    let operations = json!({"operations": [
        {"op": "put", "key": "a", "value": 1},
        {"op": "get", "key": "a"},
        {"op": "put", "key": "a", "value": {"b": null}},
        {"op": "get", "key": "a"},
        {"op": "delete", "key": "a"},
        {"op": "get", "key": "a"},
        {"op": "delete", "key": "nothing"},
        {"op": "put", "key": "n", "value": null},
        {"op": "put", "key": ""},
        {"op": "put", "key": "k"},
        {"op": "get", "key": "k", "value": 1},
        {"op": "swap", "key": "k"},
        {"op": "put", "key": "k", "value": 1, "tll": 5},
        17,
        {"op": "get", "key": "n"},
    ]});
    let reply: BatchReply = done(&node, "/kvs/batch", &operations).await;
    assert_eq!(reply.msg, "success");
    let statuses: Vec<u16> = reply.results.iter().map(|r| r.status).collect();
    assert_eq!(
        statuses,
        [
            201, 200, 200, 200, 200, 404, 404, 201, 400, 400, 400, 400, 400, 400, 200
        ]
    );
    let value = |at: usize| reply.results[at].value.as_ref().map(|v| v.get());
    assert_eq!((value(1), value(3)), (Some("1"), Some(r#"{"b":null}"#)));
    assert_eq!((value(14), value(5)), (Some("null"), None));
    assert_eq!(reply.results[0].copies, Some(1));
    assert!(reply.results[0].timestamp > Some(0));
    assert_eq!(reply.results[5].partition_id, Some(0));
    for (at, result) in reply.results.iter().enumerate() {
        let said = result.error.as_deref().unwrap_or_default();
        assert_eq!(result.error.is_some(), result.status >= 400, "{at}");
        assert!(said.is_empty() || said.contains(": "), "{said}");
    }
    let unknown = reply.results[12].error.as_deref().unwrap();
    assert!(unknown.contains("tll"), "{unknown}");
    // The session has seen all of it.
    let path = format!("/kvs?key=a&causal_payload={}", reply.causal_payload);
    error(node.get(&path).await, 404).await;
}

#[actix_web::test]
async fn a_value_comes_back_from_a_batch_and_a_snapshot_to_the_letter() {
    let node = Fixture::start().await;
    let texts = [
        "12345678901234567890123.10",
        "1E5",
        "-0",
        r#""\ud83d""#,
        r#"{"a":1,"a": 2}"#,
        "[ ]",
    ];
    let puts: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| format!(r#"{{"op":"put","key":"k{i}","value":{text}}}"#))
        .collect();
    let body = format!(r#"{{"operations":[{}]}}"#, puts.join(","));
    let put = node.send(Method::POST, "/kvs/batch", JSON, &body).await;
    let put: BatchReply = serde_json::from_str(&put.text().await.unwrap()).unwrap();
    let gets: Vec<Value> = (0..texts.len())
        .map(|i| json!({"op": "get", "key": format!("k{i}")}))
        .collect();
    let asked = json!({"operations": gets, "causal_payload": put.causal_payload});
    let got: BatchReply = done(&node, "/kvs/batch", &asked).await;
    let keys: Vec<String> = (0..texts.len()).map(|i| format!("k{i}")).collect();
    let asked = json!({"keys": keys, "causal_payload": put.causal_payload});
    let cut: SnapshotReply = done(&node, "/kvs/snapshot", &asked).await;
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(got.results[i].value.as_ref().unwrap().get(), *text);
        let value = cut.values[&format!("k{i}")].as_ref().unwrap();
        assert_eq!(value.value.get(), *text);
        assert_eq!(got.results[i].timestamp, Some(value.timestamp));
    }
}

#[actix_web::test]
async fn a_snapshot_has_every_key_once_and_null_for_what_is_not_there() {
    let node = Fixture::start().await;
    let put = json!({"operations": [{"op": "put", "key": "a", "value": "x"}]});
    let put: BatchReply = done(&node, "/kvs/batch", &put).await;
    let asked = json!({"keys": ["b", "a", "b"], "causal_payload": put.causal_payload});
    let cut: SnapshotReply = done(&node, "/kvs/snapshot", &asked).await;
    assert_eq!(cut.values.len(), 2);
    assert_eq!(cut.values["a"].as_ref().unwrap().value.get(), r#""x""#);
    assert!(cut.values["b"].is_none());
    let nothing: SnapshotReply = done(&node, "/kvs/snapshot", &json!({"keys": []})).await;
    assert!(nothing.values.is_empty());
}

#[actix_web::test]
async fn what_no_batch_can_be_is_refused_as_a_whole() {
    let node = Fixture::start().await;
    let put = node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    let put: WriteReply = put.json().await.unwrap();
    let many = |n: usize| vec![json!({"op": "get", "key": "k"}); n];
    let keys = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
    for (path, media, body, status) in [
        ("/kvs/batch", JSON, json!({"operations": many(1001)}), 413),
        ("/kvs/snapshot", JSON, json!({"keys": keys(1001)}), 413),
        ("/kvs/snapshot", JSON, json!({"keys": ["k", ""]}), 400),
        ("/kvs/snapshot", JSON, json!({"keys": "k"}), 400),
        ("/kvs/batch", JSON, json!({"operation": []}), 400),
        ("/kvs/batch", JSON, json!([]), 400),
        ("/kvs/batch", JSON, json!({"operations": [], "ttl": 5}), 400),
        ("/kvs/batch", FORM, json!("key=k"), 415),
        (
            "/kvs/batch",
            JSON,
            json!({"operations": [], "causal_payload": "!"}),
            400,
        ),
    ] {
        let reply = node
            .send(Method::POST, path, media, &body.to_string())
            .await;
        error(reply, status).await;
    }
    // What `curl -d` calls a form.
    let reply = node.send(Method::POST, "/kvs/batch", FORM, r#"{"operations":[]}"#);
    assert_eq!(reply.await.status(), 200);
    // As many as there may be are done, and a refusal keeps the session.
    let reply: BatchReply = done(&node, "/kvs/batch", &json!({"operations": many(1000)})).await;
    assert_eq!(reply.results.len(), 1000);
    let body = json!({"operations": many(1001), "causal_payload": put.causal_payload});
    let reply = node
        .send(Method::POST, "/kvs/batch", JSON, &body.to_string())
        .await;
    let kept = error(reply, 413).await.causal_payload.unwrap();
    let codec = node.node.codec();
    let seen = codec.decode(&put.causal_payload).unwrap();
    assert!(codec.decode(&kept).unwrap().covers(&seen));
}

#[actix_web::test]
async fn payloads_come_in_field_and_headers_and_the_reply_has_both() {
    let node = Fixture::start().await;
    let put = node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    let header = put.headers()["causal-payload"].to_str().unwrap().to_owned();
    let body: WriteReply = put.json().await.unwrap();
    assert_eq!(body.causal_payload, header);
    let a = header;
    let request = node
        .request(Method::GET, &format!("/kvs?key=none&causal_payload={a}"))
        .header("Causal-Payload", format!(" {a} , , {a}"))
        .header("causal-payload", &a);
    let reply = request.send().await.unwrap();
    assert_eq!(reply.status(), 404);
    let header = reply.headers()["causal-payload"]
        .to_str()
        .unwrap()
        .to_owned();
    let body: ErrorReply = reply.json().await.unwrap();
    assert_eq!(body.causal_payload.as_deref(), Some(&header[..]));
    // One that is none of ours spoils the request, wherever it stands.
    let foreign = node
        .request(Method::GET, &format!("/kvs?key=a&causal_payload={a}"))
        .header("Causal-Payload", format!("{a}, AAAA"));
    let refused = error(foreign.send().await.unwrap(), 400).await;
    assert_eq!(refused.code.as_deref(), Some("foreign_payload"));
    let many = vec![a.as_str(); 65].join(",");
    let many = node
        .request(Method::GET, "/kvs?key=a")
        .header("Causal-Payload", many);
    let refused = error(many.send().await.unwrap(), 400).await;
    assert!(refused.error.contains("64"), "{}", refused.error);
}

#[actix_web::test]
async fn conditions_on_the_newest_value_are_refused_with_the_way_out() {
    let node = Fixture::start().await;
    for (method, path, body) in [
        (Method::GET, "/kvs?key=k", ""),
        (Method::PUT, "/kvs", "key=k&value=v"),
        (Method::DELETE, "/kvs", "key=k"),
        (Method::POST, "/kvs/batch", "{}"),
        (Method::POST, "/kvs/snapshot", "{}"),
    ] {
        for header in ["If-Match", "If-None-Match"] {
            let request = node.request(method.clone(), path).header(header, "*");
            let reply = request.body(body.to_owned()).send().await.unwrap();
            let refused = error(reply, 400).await;
            assert!(refused.error.contains("/keys"), "{}", refused.error);
        }
    }
    error(node.get("/kvs?key=k").await, 404).await;
}

//! Payloads: refused, missing writes, explained.

use super::*;

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
        // Payloads of another cluster with and without a secret, one of a member that this cluster
        // never had, and one made by hand.
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

//! Keys: read, written and deleted, and what is refused.

use super::*;

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

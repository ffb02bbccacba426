//! `/keys` by the letter of HTTP: conditions in all their forms, and headers that come twice.

use super::*;

impl Fixture {
    async fn list(
        &self,
        method: Method,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request = self.request(method, "/keys/pets");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match body {
            Some(body) => request.json(&body),
            None => request,
        }
        .send()
        .await
        .unwrap()
    }

    /// A node alone with one list, and the list's ETag.
    async fn with_list() -> (Self, String) {
        let node = Self::start().await;
        node.has_leader().await;
        let put = json!({"type": "PUT", "value": ["cat"]});
        let reply = node.list(Method::POST, Some(put), &[]).await;
        assert_eq!(reply.status(), 204);
        let tag = reply.headers()["etag"].to_str().unwrap().to_owned();
        (node, tag)
    }
}

#[actix_web::test]
async fn conditions_are_lists_of_tags_that_are_compared_as_they_should_be() {
    let (node, tag) = Fixture::with_list().await;
    let (weak, other) = (format!("W/{tag}"), "\"a,b\"".to_owned());
    let both = format!("{other} , {weak}");
    let (if_match, if_none) = ("if-match", "if-none-match");
    let read = [
        (vec![(if_none, &*tag)], 304),
        (vec![(if_none, &*weak)], 304),
        (vec![(if_none, &*both)], 304),
        (vec![(if_none, &*other), (if_none, &*weak)], 304),
        (vec![(if_none, "*")], 304),
        (vec![(if_none, &*other)], 200),
        (vec![(if_match, &*tag)], 200),
        (vec![(if_match, &*other), (if_match, &*tag)], 200),
        (vec![(if_match, "*")], 200),
        (vec![(if_match, &*weak)], 412),
        (vec![(if_match, &*other)], 412),
        (vec![(if_match, &*tag), (if_none, &*weak)], 304),
        (vec![(if_match, &*weak), (if_none, &*weak)], 412),
        (vec![(if_none, "17")], 400),
        (vec![(if_none, "*"), (if_none, &*tag)], 400),
        (vec![(if_match, "")], 400),
        (vec![(if_match, "\"1")], 400),
    ];
    for (headers, status) in &read {
        for method in [Method::GET, Method::HEAD] {
            let reply = node.list(method, None, headers).await;
            assert_eq!(reply.status(), *status, "{headers:?}");
            if *status != 400 {
                assert_eq!(reply.headers()["etag"], tag.as_str(), "{headers:?}");
            }
        }
    }
    // Where there is no list there is nothing to compare.
    let gone = node
        .request(Method::GET, "/keys/gone")
        .header(if_match, "*");
    assert_eq!(gone.send().await.unwrap().status(), 404);

    let add = |item: &str| json!({"type": "APPEND", "value": item});
    for (headers, status) in [
        (vec![(if_match, &*weak)], 412),
        (vec![(if_match, &*other)], 412),
        (vec![(if_match, &*other), (if_match, &*weak)], 412),
        (vec![(if_none, "*")], 412),
        (vec![(if_match, "17")], 400),
        (vec![(if_match, "")], 400),
        (vec![(if_match, "*"), (if_match, &*tag)], 400),
        (vec![(if_none, &*other)], 400),
        (vec![(if_none, "*"), (if_match, &*tag)], 400),
        (
            vec![("idempotency-key", "a"), ("idempotency-key", "a")],
            400,
        ),
        (
            vec![("idempotency-key", "a"), ("idempotency-key", "b")],
            400,
        ),
        // The last, since it is done.
        (vec![(if_match, &*other), (if_match, &*tag)], 204),
    ] {
        let reply = node.list(Method::POST, Some(add("dog")), &headers).await;
        assert_eq!(reply.status(), status, "{headers:?}");
        if status != 204 {
            let reply = node.list(Method::DELETE, None, &headers).await;
            assert_eq!(reply.status(), status, "{headers:?}");
        }
    }
    let list = node.list(Method::GET, None, &[]).await;
    assert_eq!(list.json::<Value>().await.unwrap(), json!(["cat", "dog"]));
}

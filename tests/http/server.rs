//! The server itself: paths, methods, bytes that are no HTTP, its end.

use super::operator::told;
use super::*;

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
async fn pages_of_other_sites_can_use_no_path() {
    let node = Fixture::start().await;
    for (method, path, name, value) in [
        (Method::GET, "/kvs?key=k", "host", "evil.example"),
        (Method::GET, "/", "host", "evil.example"),
        (Method::PUT, "/kvs", "origin", "http://evil.example"),
        (Method::POST, "/write", "sec-fetch-site", "cross-site"),
    ] {
        let request = node.request(method, path).header(name, value);
        let (status, reply) = told(request.send().await.unwrap()).await;
        assert_eq!(
            (status, &reply["error"]),
            (403, &json!("Forbidden")),
            "{path}"
        );
    }
    let found = node.get("/kvs?key=k").await;
    assert_eq!(found.status(), 404, "nothing was written");
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

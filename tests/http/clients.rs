//! Clients that would use up a node: what they can make it hold is bounded, and they are told so.

use super::*;
use futures_util::future::select_all;

#[actix_web::test]
async fn bodies_beyond_the_budget_are_refused_at_once() {
    // The least that a budget has is one longest body: a form's, some 3 MiB here.
    let node = Fixture::of(&[NODE], &[("CLIENT_MEMORY_BYTES", "1")]).await;
    node.serves().await;
    let head = format!(
        "PUT /kvs HTTP/1.1\r\nHost: n\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\nkey=k&value=",
        3 * MAX_VALUE
    );
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that has refused it may have closed.
        let _ = stream.write_all(&vec![b'x'; MAX_VALUE]).await;
        streams.push(stream);
    }
    let began = Instant::now();
    let replies = streams.iter_mut().map(|stream| {
        Box::pin(async {
            let mut reply = vec![0; 1024];
            let length = stream.read(&mut reply).await.unwrap();
            String::from_utf8_lossy(&reply[..length]).into_owned()
        })
    });
    let (reply, ..) = select_all(replies).await;
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert!(reply.contains("retry-after: 1"), "{reply}");
    assert!(reply.contains("CLIENT_MEMORY_BYTES"), "{reply}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let status: Status = node.get("/status").await.json().await.unwrap();
    let load = status.clients;
    assert!(
        load.refused_bodies > 0 && load.refused_replies == 0,
        "{load:?}"
    );
    assert!(
        load.body_bytes > 0 && load.body_bytes <= load.most_bytes,
        "{load:?}"
    );
    assert!(
        load.connections > 0 && load.connections <= load.most_connections,
        "{load:?}"
    );
    let metrics = node.get("/metrics").await.text().await.unwrap();
    let refused = r#"causeway_clients_refused_total{reason="bodies"} "#;
    let refused = metrics.lines().find_map(|line| line.strip_prefix(refused));
    assert!(refused.is_some_and(|count| count != "0"), "{metrics}");
    // A small one goes through beside them, and a large one when they are gone.
    let small = node.send(Method::PUT, "/kvs", FORM, "key=k&value=v").await;
    assert_eq!(small.status(), 201);
    drop(streams);
    let large = format!("key=k&value={}", "x".repeat(MAX_VALUE));
    let began = Instant::now();
    while node.send(Method::PUT, "/kvs", FORM, &large).await.status() != 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "they count on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

//! Clients that keep the node waiting, as sockets: heads and replies that take too long.

use super::connection::{ClientPatience, ConnectionCounts};
use super::listen::{Service, listen};
use actix_web::{HttpResponse, web};
use futures_util::StreamExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const GET: &[u8] = b"GET /small HTTP/1.1\r\nHost: n\r\n\r\n";
/// Short, so that a test is.
const HEAD: Duration = Duration::from_millis(400);
/// Only a server that waits for ever takes longer.
const LONG: Duration = Duration::from_secs(20);

struct Clients {
    address: SocketAddr,
    counts: Arc<ConnectionCounts>,
}

impl Clients {
    fn start(patience: ClientPatience) -> Self {
        let counts = Arc::<ConnectionCounts>::default();
        let service = Service {
            bind: ([127, 0, 0, 1], 0).into(),
            workers: 1,
            connections: 64,
            patience,
            counts: Arc::clone(&counts),
        };
        let (server, address) = listen(service, configure).unwrap();
        actix_web::rt::spawn(server);
        Self { address, counts }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn late_heads(&self) -> u64 {
        self.counts.late_heads.load(Ordering::Relaxed)
    }
}

fn configure(app: &mut web::ServiceConfig) {
    app.route("/small", web::get().to(|| async { "small" }))
        .route("/body", web::put().to(whole));
}

/// Answers when the whole body is there.
async fn whole(mut body: web::Payload) -> HttpResponse {
    while body.next().await.is_some() {}
    HttpResponse::Ok().body("whole")
}

/// Patience with heads, and all the time of the test for the rest.
fn with_heads() -> ClientPatience {
    ClientPatience {
        head: HEAD,
        ..ClientPatience::DEFAULT
    }
}

/// One reply with a body of so many bytes.
async fn reply(stream: &mut TcpStream, body: usize) {
    let mut read = Vec::new();
    let mut end = None;
    while end.is_none_or(|end| read.len() < end) {
        let more = tokio::time::timeout(LONG, stream.read_buf(&mut read)).await;
        assert_ne!(more.unwrap().unwrap(), 0, "it is closed");
        let head = read.windows(4).position(|four| four == b"\r\n\r\n");
        end = head.map(|at| at + 4 + body);
    }
    assert!(read.starts_with(b"HTTP/1.1 200"));
    assert_eq!(end, Some(read.len()));
}

/// What comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = String::new();
    let ended = tokio::time::timeout(LONG, stream.read_to_string(&mut rest)).await;
    ended.expect("it is closed").unwrap();
    rest
}

#[actix_web::test]
async fn every_head_has_to_come_in_time() {
    let clients = Clients::start(with_heads());
    for before in 0..3 {
        let mut stream = clients.connect().await;
        for _ in 0..before {
            stream.write_all(GET).await.unwrap();
            reply(&mut stream, 5).await;
        }
        let began = Instant::now();
        stream.write_all(b"GET /sm").await.unwrap();
        assert!(rest(&mut stream).await.starts_with("HTTP/1.1 408"));
        assert!(began.elapsed() < 3 * HEAD, "{:?}", began.elapsed());
        assert_eq!(clients.late_heads(), before + 1);
    }
}

#[actix_web::test]
async fn a_head_that_comes_byte_by_byte_gets_no_more_time() {
    let clients = Clients::start(with_heads());
    let mut stream = clients.connect().await;
    // The last head begins in the packet of the one before.
    stream.write_all(&[GET, b"GET "].concat()).await.unwrap();
    reply(&mut stream, 5).await;
    let (mut from, mut to) = stream.split();
    let drip = async {
        let mut byte = tokio::time::interval(HEAD / 8);
        while to.write_all(b"x").await.is_ok() {
            byte.tick().await;
        }
    };
    let mut end = String::new();
    let ended = async {
        tokio::select! {
            _ = from.read_to_string(&mut end) => {}
            () = drip => {}
        }
    };
    tokio::time::timeout(LONG, ended).await.unwrap();
    assert_eq!(clients.late_heads(), 1);
}

#[actix_web::test]
async fn requests_that_come_in_time_are_answered_however_long_the_connection_is_open() {
    let clients = Clients::start(with_heads());
    let mut stream = clients.connect().await;
    let began = Instant::now();
    while began.elapsed() < 3 * HEAD {
        // Two at once, and one in two parts.
        stream.write_all(&[GET, GET].concat()).await.unwrap();
        stream.write_all(&GET[..9]).await.unwrap();
        tokio::time::sleep(HEAD / 4).await;
        stream.write_all(&GET[9..]).await.unwrap();
        let mut read = Vec::new();
        while String::from_utf8_lossy(&read).matches("small").count() < 3 {
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
        }
    }
    assert_eq!(clients.late_heads(), 0);
}

#[actix_web::test]
async fn a_body_may_take_longer_than_a_head() {
    let clients = Clients::start(with_heads());
    let mut stream = clients.connect().await;
    let head = b"PUT /body HTTP/1.1\r\nHost: n\r\nContent-Length: 6\r\n\r\n";
    stream.write_all(head).await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(HEAD / 3).await;
        stream.write_all(b"x").await.unwrap();
    }
    reply(&mut stream, 5).await;
    // And after it nothing has to come at once.
    tokio::time::sleep(2 * HEAD).await;
    stream.write_all(GET).await.unwrap();
    reply(&mut stream, 5).await;
    assert_eq!(clients.late_heads(), 0);
}

#[actix_web::test]
async fn a_connection_without_requests_is_closed_some_day() {
    let clients = Clients::start(ClientPatience {
        head: HEAD / 4,
        idle: HEAD,
    });
    let mut stream = clients.connect().await;
    stream.write_all(GET).await.unwrap();
    reply(&mut stream, 5).await;
    let began = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(began.elapsed() > HEAD / 2, "{:?}", began.elapsed());
    assert_eq!(clients.late_heads(), 0);
}

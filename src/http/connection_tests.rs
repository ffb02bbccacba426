//! Clients that keep the node waiting, as sockets: heads and replies that take too long, and bodies
//! that go on after the reply.

use super::budget::{Budget, counted};
use super::connection::{ClientPatience, ConnectionCounts};
use super::linger::{MOST_DROPPED, places};
use super::listen::{Service, listen};
use actix_web::{HttpResponse, web};
use futures_util::StreamExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const GET: &[u8] = b"GET /small HTTP/1.1\r\nHost: n\r\n\r\n";
const GET_LARGE: &[u8] = b"GET /large HTTP/1.1\r\nHost: n\r\n\r\n";
/// Far more than the kernel keeps of a connection.
const LARGE: usize = 16 << 20;
/// Short, so that a test is.
const HEAD: Duration = Duration::from_millis(400);
/// Only a server that waits for ever takes longer.
const LONG: Duration = Duration::from_secs(20);

struct Clients {
    address: SocketAddr,
    counts: Arc<ConnectionCounts>,
    replies: Arc<Budget>,
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
        let replies = Arc::new(Budget::new(5 * LARGE / 2));
        let budget = Arc::clone(&replies);
        let (server, address) = listen(service, move |app| configure(app, &budget)).unwrap();
        actix_web::rt::spawn(server);
        Self {
            address,
            counts,
            replies,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A client whose kernel reads little ahead of it.
    async fn connect_narrow(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    fn cut_off(&self) -> u64 {
        self.counts.unread_replies.load(Ordering::Relaxed)
    }

    fn lingering(&self) -> u64 {
        self.counts.lingering.load(Ordering::Relaxed)
    }

    fn unread_bodies(&self) -> u64 {
        self.counts.unread_bodies.load(Ordering::Relaxed)
    }

    fn late_heads(&self) -> u64 {
        self.counts.late_heads.load(Ordering::Relaxed)
    }
}

fn configure(app: &mut web::ServiceConfig, budget: &Arc<Budget>) {
    let budget = Arc::clone(budget);
    let large = move || {
        let reply = counted(HttpResponse::Ok().body(vec![b'#'; LARGE]), &budget);
        let reply = reply.unwrap_or_else(|| HttpResponse::ServiceUnavailable().finish());
        async move { reply }
    };
    app.route("/refused", web::put().to(HttpResponse::PayloadTooLarge))
        .route("/small", web::get().to(|| async { "small" }))
        .route("/body", web::put().to(whole))
        .route("/large", web::get().to(large));
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

/// Patience with replies, and all the time of the test for the rest.
fn with_replies() -> ClientPatience {
    ClientPatience {
        head: HEAD,
        reply: HEAD,
        ..ClientPatience::DEFAULT
    }
}

/// Waits until something holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
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
        ..ClientPatience::DEFAULT
    });
    let mut stream = clients.connect().await;
    stream.write_all(GET).await.unwrap();
    reply(&mut stream, 5).await;
    let began = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(began.elapsed() > HEAD / 2, "{:?}", began.elapsed());
    assert_eq!(clients.late_heads(), 0);
}

#[actix_web::test]
async fn a_client_that_orders_and_never_reads_is_cut_off() {
    let clients = Clients::start(with_replies());
    let mut stream = clients.connect_narrow().await;
    stream.write_all(&GET_LARGE.repeat(1_000)).await.unwrap();
    until("a reply waits", || clients.replies.used() > 0).await;
    // Also while it orders more and more.
    let (mut from, mut to) = stream.split();
    let orders = async { while to.write_all(GET_LARGE).await.is_ok() {} };
    let cut = until("it is cut off", || {
        assert!(clients.replies.used() <= LARGE, "one at a time");
        clients.cut_off() == 1
    });
    tokio::join!(orders, cut);
    until("its reply is gone", || clients.replies.used() == 0).await;
    let mut read = Vec::new();
    let end = tokio::time::timeout(LONG, from.read_to_end(&mut read)).await;
    assert!(end.is_ok() && read.len() < LARGE, "{}", read.len());
    // Nobody else notices.
    let mut other = clients.connect().await;
    other.write_all(GET).await.unwrap();
    reply(&mut other, 5).await;
}

#[actix_web::test]
async fn a_client_that_reads_slowly_but_steadily_gets_everything() {
    let clients = Clients::start(with_replies());
    let mut stream = clients.connect_narrow().await;
    stream.write_all(GET_LARGE).await.unwrap();
    let mut read = 0;
    let mut part = vec![0; 1 << 20];
    while read < LARGE {
        tokio::time::sleep(HEAD / 8).await;
        let more = stream.read_exact(&mut part).await;
        read += more.expect("it is not cut off");
    }
    assert_eq!(clients.cut_off(), 0);
}

#[actix_web::test]
async fn what_a_client_ordered_meanwhile_is_answered_when_it_reads_again() {
    let clients = Clients::start(ClientPatience::DEFAULT);
    let mut stream = clients.connect_narrow().await;
    stream.write_all(GET_LARGE).await.unwrap();
    until("a reply waits", || clients.replies.used() > 0).await;
    // Time for the server to find that it cannot write.
    tokio::time::sleep(HEAD / 2).await;
    stream.write_all(GET_LARGE).await.unwrap();
    stream.write_all(GET).await.unwrap();
    stream
        .write_all(b"GET /body HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut read = Vec::new();
    let all = tokio::time::timeout(LONG, stream.read_to_end(&mut read)).await;
    all.expect("all of it comes").unwrap();
    assert_eq!(read.iter().filter(|b| **b == b'#').count(), 2 * LARGE);
    assert!(String::from_utf8_lossy(&read).contains("small"));
    assert_eq!(clients.replies.used(), 0);
}

#[actix_web::test]
async fn replies_beyond_the_budget_are_refused_at_once() {
    let clients = Clients::start(ClientPatience::DEFAULT);
    let mut waiting = Vec::new();
    for held in 1..=2 {
        let mut stream = clients.connect_narrow().await;
        stream.write_all(GET_LARGE).await.unwrap();
        until("a reply waits", || clients.replies.used() == held * LARGE).await;
        waiting.push(stream);
    }
    let mut third = clients.connect().await;
    let close = b"GET /large HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n";
    third.write_all(close).await.unwrap();
    let refused = rest(&mut third).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{}", refused.len());
    assert_eq!(clients.replies.refused(), 1);
    waiting.clear();
    until("they are gone", || clients.replies.used() == 0).await;
}

/// The head of a request that is refused before its body comes: of an announced length, or in
/// chunks.
fn refused_head(length: Option<usize>) -> Vec<u8> {
    let framing = match length {
        Some(length) => format!("Content-Length: {length}"),
        None => "Transfer-Encoding: chunked".to_owned(),
    };
    format!("PUT /refused HTTP/1.1\r\nHost: n\r\n{framing}\r\n\r\n").into_bytes()
}

/// Parts of a body that is refused, each `PART` bytes long.
const PARTS: usize = 48;
const PART: usize = 256 << 10;

/// A client that reads nothing before it has sent everything: 12 MiB, with pauses.
async fn sends_first(stream: &mut TcpStream, chunked: bool, pause: Duration) {
    let head = refused_head((!chunked).then_some(PARTS * PART));
    stream.write_all(&head).await.unwrap();
    let part = match chunked {
        true => [format!("{PART:x}\r\n").as_bytes(), &[b'x'; PART], b"\r\n"].concat(),
        false => vec![b'x'; PART],
    };
    for _ in 0..PARTS {
        stream.write_all(&part).await.expect("it takes everything");
        tokio::time::sleep(pause).await;
    }
    if chunked {
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    }
}

#[actix_web::test]
async fn a_client_that_sends_everything_first_sees_why_it_was_refused() {
    // Each slow one takes three times as long as a head may.
    for pause in [Duration::ZERO, 3 * HEAD / PARTS as u32] {
        let clients = Clients::start(with_heads());
        let mut stream = clients.connect().await;
        sends_first(&mut stream, false, pause).await;
        let refusal = rest(&mut stream).await;
        assert!(refusal.starts_with("HTTP/1.1 413"), "{refusal}");
        assert!(refusal.contains("connection: close"), "{refusal}");
        drop(stream);
        until("its place is free", || clients.lingering() == 0).await;
        assert_eq!((clients.late_heads(), clients.unread_bodies()), (0, 0));
    }
}

#[actix_web::test]
async fn a_client_that_sends_chunks_sees_why_it_was_refused_and_may_go_on() {
    let clients = Clients::start(with_heads());
    let mut stream = clients.connect().await;
    sends_first(&mut stream, true, 3 * HEAD / PARTS as u32).await;
    stream.write_all(GET).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"small") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0);
    }
    let text = String::from_utf8(read).unwrap();
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{text}");
    until("its place is free", || clients.lingering() == 0).await;
    assert_eq!((clients.late_heads(), clients.unread_bodies()), (0, 0));
}

#[actix_web::test]
async fn a_client_that_never_ends_sending_is_not_waited_for_without_end() {
    for length in [Some(1 << 40), None] {
        // By time, with a byte now and then; and by a pause.
        for (whole, pause, drip) in [(HEAD, LONG, true), (LONG, HEAD, false)] {
            let clients = Clients::start(ClientPatience {
                linger: whole,
                linger_pause: pause,
                ..ClientPatience::DEFAULT
            });
            let mut stream = clients.connect().await;
            stream.write_all(&refused_head(length)).await.unwrap();
            let began = Instant::now();
            // The first byte after the reply.
            let mut refusal = Vec::new();
            stream.read_buf(&mut refusal).await.unwrap();
            assert!(refusal.starts_with(b"HTTP/1.1 413"));
            let chunk: &[u8] = if length.is_some() {
                b"x"
            } else {
                b"1\r\nx\r\n"
            };
            stream.write_all(chunk).await.unwrap();
            until("it lingers", || clients.lingering() == 1).await;
            let dripping = async {
                while drip && stream.write_all(chunk).await.is_ok() {
                    tokio::time::sleep(HEAD / 16).await;
                }
            };
            let over = until("its place is free", || clients.lingering() == 0);
            tokio::join!(dripping, over);
            assert!(began.elapsed() >= HEAD, "{:?}", began.elapsed());
            assert_eq!(clients.unread_bodies(), u64::from(drip));
        }
    }
}

#[actix_web::test]
async fn a_client_that_sends_at_speed_is_cut_off_by_its_bytes() {
    for length in [Some(1 << 40), None] {
        let clients = Clients::start(ClientPatience::DEFAULT);
        let mut stream = clients.connect().await;
        stream.write_all(&refused_head(length)).await.unwrap();
        let part = [format!("{PART:x}\r\n").as_bytes(), &[b'x'; PART], b"\r\n"].concat();
        let mut sent = 0;
        while stream.write_all(&part).await.is_ok() {
            sent += part.len();
            assert!(sent < 4 * MOST_DROPPED, "it goes on");
        }
        assert!(sent + part.len() >= MOST_DROPPED, "{sent}");
        assert_eq!(clients.unread_bodies(), 1);
    }
}

#[actix_web::test]
async fn only_some_connections_may_linger() {
    // Of 64 connections.
    let places = places(64);
    let clients = Clients::start(ClientPatience::DEFAULT);
    let mut waiting = Vec::new();
    for held in 1..=places {
        let mut stream = clients.connect().await;
        stream.write_all(&refused_head(Some(9))).await.unwrap();
        until("it lingers", || clients.lingering() == held as u64).await;
        waiting.push(stream);
    }
    let mut another = clients.connect().await;
    another.write_all(&refused_head(Some(9))).await.unwrap();
    assert!(rest(&mut another).await.starts_with("HTTP/1.1 413"));
    until("it is given up", || clients.unread_bodies() == 1).await;
    // The others are waited for until they have sent everything.
    for stream in &mut waiting {
        stream.write_all(b"123456789").await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(rest(stream).await.starts_with("HTTP/1.1 413"));
    }
    until("all places are free", || clients.lingering() == 0).await;
    assert_eq!(clients.unread_bodies(), 1);
}

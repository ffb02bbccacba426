//! Nodes that restart, die, hang, or send nonsense.

use super::common::{
    Node, Request, SOON, brisk, echo, eventually, identity, message_frame, response_frame, soon,
};
use bytes::Bytes;
use causeway::{
    net::{FrameDecoder, NetLimits, RequestError, SendError, answer, dial},
    protocol::ids::MemberId,
};
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::test]
async fn a_peer_that_restarts_is_met_again_in_its_new_incarnation() {
    let (mut a, b) = Node::pair().await;
    let (member, addr) = (b.member, b.addr);
    soon(b.net.shutdown()).await;
    drop(b);
    a.down(member).await;
    assert!(matches!(
        a.net.request(member, &echo("x"), SOON).await,
        Err(RequestError::NotConnected)
    ));

    let mut reborn = identity(2);
    reborn.incarnation = 2;
    let mut b = Node::start_at(reborn, NetLimits::default(), addr).await;
    b.net.add_peer(a.member, a.addr);
    a.up(member, 2).await;
    assert_eq!(a.net.peers()[0].up, Some(2));
    assert!(a.net.request(member, &echo("x"), SOON).await.is_ok());
    assert!(a.net.stats().reconnects.load(Relaxed) >= 1);
    b.up(a.member, 1).await;
    b.net.send(a.member, &Bytes::from("again")).unwrap();
    assert_eq!(a.message().await.0.incarnation, 2);
}

#[tokio::test]
async fn a_peer_that_dials_in_is_dialled_at_once_however_long_the_pause_is() {
    let pause = 20 * SOON;
    let patient = NetLimits {
        backoff_min: pause,
        backoff_max: pause,
        ..NetLimits::default()
    };
    let mut a = Node::start(identity(1), patient.clone()).await;
    let b = Node::start(identity(2), patient.clone()).await;
    let (member, addr) = (b.member, b.addr);
    // It is refused there, and pauses.
    a.net.add_peer(member, addr);
    eventually("it has tried", || a.net.stats().refused.load(Relaxed) == 1).await;
    b.net.add_peer(a.member, a.addr);
    a.up(member, 1).await;

    soon(b.net.shutdown()).await;
    drop(b);
    a.down(member).await;
    let mut reborn = identity(2);
    reborn.incarnation = 2;
    let b = Node::start_at(reborn, patient, addr).await;
    b.net.add_peer(a.member, a.addr);
    a.up(member, 2).await;
}

#[tokio::test]
async fn a_peer_that_dies_in_mid_request_gives_a_typed_error() {
    let (mut a, b) = Node::pair().await;
    let reply = a.net.request(b.member, &Request::Never, SOON);
    assert!(a.net.request(b.member, &echo("x"), SOON).await.is_ok());
    let member = b.member;
    drop(b);
    let error = soon(reply).await.unwrap_err();
    assert!(matches!(error, RequestError::Closed));
    assert!(!error.definitely_not_sent());
    a.down(member).await;
    assert_eq!(a.net.peers()[0].pending, 0);
}

#[tokio::test]
async fn a_request_without_answer_times_out_and_is_forgotten() {
    let (a, b) = Node::pair().await;
    let start = Instant::now();
    let long = a.net.request(b.member, &Request::Never, SOON);
    let timeout = Duration::from_millis(50);
    let short = a.net.request(b.member, &Request::Never, timeout);
    assert!(matches!(soon(short).await, Err(RequestError::TimedOut)));
    assert!(start.elapsed() >= timeout);
    assert_eq!(a.net.peers()[0].pending, 1);
    drop(long);
}

#[tokio::test]
async fn a_listener_that_accepts_and_says_nothing_costs_no_wait() {
    let hole = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let a = Node::start(identity(1), NetLimits::default()).await;
    a.net.add_peer(MemberId(2), hole.local_addr().unwrap());
    let (_held, _) = soon(hole.accept()).await.unwrap();
    assert!(matches!(
        a.net.request(MemberId(2), &echo("x"), SOON).await,
        Err(RequestError::NotConnected)
    ));
    assert!(a.net.send(MemberId(2), &Bytes::new()).is_err());
    // The hello times out, and it is tried again.
    soon(hole.accept()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_falls_silent_after_the_hello_is_given_up_in_bounded_time_and_memory() {
    let hole = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let limits = NetLimits {
        queue_bytes: 1 << 20,
        ..brisk()
    };
    let mut a = Node::start(identity(1), limits).await;
    a.net.add_peer(MemberId(2), hole.local_addr().unwrap());
    let (mut stream, _) = soon(hole.accept()).await.unwrap();
    answer(&mut stream, &identity(2), |_| true, SOON, SOON)
        .await
        .unwrap();
    a.up(MemberId(2), 1).await;

    let reply = a.net.request(MemberId(2), &echo("x"), SOON);
    let message = Bytes::from(vec![1; 10_000]);
    let mut full = false;
    while !full {
        full = matches!(a.net.send(MemberId(2), &message), Err(SendError::QueueFull));
        assert!(a.net.peers()[0].queued_bytes <= 1 << 20);
        tokio::task::yield_now().await;
    }
    assert!(matches!(
        a.net
            .request(MemberId(2), &Request::Echo(message.clone()), SOON)
            .await,
        Err(RequestError::QueueFull)
    ));
    // Long before the request's own time-out.
    let start = Instant::now();
    assert!(matches!(soon(reply).await, Err(RequestError::Closed)));
    assert!(start.elapsed() < Duration::from_secs(10));
    a.down(MemberId(2)).await;
    let peer = &a.net.peers()[0];
    assert_eq!((peer.pending, peer.queued_bytes), (0, 0));
    assert!(peer.dropped > 0);
    soon(hole.accept()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_sends_signs_of_life_but_reads_nothing_is_given_up_after_the_stall_limit() {
    let hole = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let limits = NetLimits {
        stall: Duration::from_millis(800),
        ..brisk()
    };
    let mut a = Node::start(identity(1), limits.clone()).await;
    a.net.add_peer(MemberId(2), hole.local_addr().unwrap());
    let (mut stream, _) = soon(hole.accept()).await.unwrap();
    answer(&mut stream, &identity(2), |_| true, SOON, SOON)
        .await
        .unwrap();
    let alive = tokio::spawn(async move {
        let mut ping = bytes::BytesMut::new();
        let encoder = causeway::net::FrameEncoder { limit: 100 };
        encoder.ping(&mut ping).unwrap();
        while stream.write_all(&ping).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    a.up(MemberId(2), 1).await;
    let message = Bytes::from(vec![1; 1 << 20]);
    while a.net.send(MemberId(2), &message).is_ok() {}
    a.down(MemberId(2)).await;
    soon(alive).await.unwrap();
}

#[tokio::test]
async fn a_handler_that_is_held_up_bounds_the_senders_memory_and_keeps_the_connection() {
    let limits = NetLimits {
        queue_bytes: 1 << 20,
        stall: SOON,
        ..brisk()
    };
    let (a, mut b) = Node::pair_with(limits).await;
    b.message_gate.forget_permits(1);
    let message = Bytes::from(vec![1; 10_000]);
    let mut sent = 0;
    let mut full_since = None;
    // For a while longer than the silence limit: being busy is not being dead.
    while full_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(1)) {
        match a.net.send(b.member, &message) {
            Ok(()) => sent += 1,
            Err(SendError::QueueFull) => {
                full_since.get_or_insert_with(Instant::now);
            }
            Err(other) => panic!("{other}"),
        }
        assert!(a.net.peers()[0].queued_bytes <= 1 << 20);
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    assert!(a.net.peers()[0].dropped > 0);
    b.message_gate.add_permits(1);
    for _ in 0..sent {
        assert_eq!(b.message().await.1.len(), message.len());
    }
    assert_eq!(a.net.stats().reconnects.load(Relaxed), 0);
}

#[tokio::test]
async fn what_a_peer_sent_before_it_went_is_handed_over() {
    let mut b = Node::start(identity(2), brisk()).await;
    b.net.add_peer(MemberId(1), "127.0.0.1:9".parse().unwrap());
    b.message_gate.forget_permits(1);
    let mut stream = TcpStream::connect(b.addr).await.unwrap();
    dial(&mut stream, &identity(1), Some(b.member), SOON)
        .await
        .unwrap();
    // The first sign of life comes at once.
    soon(stream.read_u8()).await.unwrap();
    let messages = message_frame(b"last words").repeat(500);
    stream.write_all(&messages).await.unwrap();
    drop(stream);
    // The next ones find nobody.
    let before = b.net.stats().frames_out.load(Relaxed);
    eventually("a sign of life was refused", || {
        b.net.stats().frames_out.load(Relaxed) > before
    })
    .await;
    b.message_gate.add_permits(1);
    for _ in 0..500 {
        assert_eq!(b.message().await.1, "last words");
    }
}

#[tokio::test]
async fn a_newer_connection_of_a_member_replaces_the_older() {
    let mut b = Node::start(identity(2), NetLimits::default()).await;
    b.net.add_peer(MemberId(1), "127.0.0.1:9".parse().unwrap());
    let mut older = TcpStream::connect(b.addr).await.unwrap();
    dial(&mut older, &identity(1), Some(b.member), SOON)
        .await
        .unwrap();
    let mut newer = TcpStream::connect(b.addr).await.unwrap();
    let mut reborn = identity(1);
    reborn.incarnation = 2;
    dial(&mut newer, &reborn, Some(b.member), SOON)
        .await
        .unwrap();
    let mut rest = Vec::new();
    // Ends, whether by an end of stream or a reset.
    let _ = soon(older.read_to_end(&mut rest)).await;

    let frame = message_frame(b"from the newer");
    newer.write_all(&frame).await.unwrap();
    let (from, message) = b.message().await;
    assert_eq!(from.incarnation, 2);
    assert_eq!(message, "from the newer");
}

#[tokio::test]
async fn bad_frames_end_only_their_own_connection() {
    let (a, b) = Node::pair().await;
    b.net.add_peer(MemberId(3), "127.0.0.3:9".parse().unwrap());
    let too_long = (17u32 << 20).to_le_bytes().to_vec();
    let mut flipped = message_frame(b"some payload").to_vec();
    flipped[12] ^= 4;
    let wrong_way = response_frame(1, &()).to_vec();
    for (i, mut bad) in [too_long, flipped, wrong_way].into_iter().enumerate() {
        bad.extend_from_slice(&[0; 8]);
        let mut stream = TcpStream::connect(b.addr).await.unwrap();
        dial(&mut stream, &identity(3), Some(b.member), SOON)
            .await
            .unwrap();
        stream.write_all(&bad).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(stream.read_to_end(&mut rest)).await;
        eventually("the bad frame is counted", || {
            b.net.stats().bad_frames.load(Relaxed) == i as u64 + 1
        })
        .await;
    }
    assert!(a.net.request(b.member, &echo("x"), SOON).await.is_ok());
    assert_eq!(a.net.stats().reconnects.load(Relaxed), 0);
}

#[tokio::test]
async fn garbage_on_the_port_gets_no_answer_and_does_no_harm() {
    let (a, b) = Node::pair().await;
    let requests = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10),
        vec![0; 1000],
        (0..5000u32).map(|i| (i * 31 % 251) as u8).collect(),
    ];
    for garbage in requests {
        let mut stream = TcpStream::connect(b.addr).await.unwrap();
        let _ = stream.write_all(&garbage).await;
        let mut answer = Vec::new();
        let _ = soon(stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty());
    }
    assert!(a.net.request(b.member, &echo("x"), SOON).await.is_ok());
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_after_the_hello_limit() {
    let limits = NetLimits {
        hello: Duration::from_millis(100),
        ..NetLimits::default()
    };
    let b = Node::start(identity(2), limits).await;
    let mut stream = TcpStream::connect(b.addr).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn both_ends_of_an_idle_connection_send_signs_of_life() {
    let b = Node::start(identity(2), brisk()).await;
    b.net.add_peer(MemberId(1), "127.0.0.1:9".parse().unwrap());
    let mut stream = TcpStream::connect(b.addr).await.unwrap();
    dial(&mut stream, &identity(1), Some(b.member), SOON)
        .await
        .unwrap();
    let mut input = bytes::BytesMut::new();
    soon(async { while stream.read_buf(&mut input).await.unwrap() > 0 && input.len() < 50 {} })
        .await;
    let mut decoder = FrameDecoder::<(), (), ()>::new(100);
    let frame = tokio_util::codec::Decoder::decode(&mut decoder, &mut input).unwrap();
    assert!(matches!(frame, Some(causeway::net::Frame::Ping)));
    // A dialler that says nothing more is dropped in the end.
    soon(async { while matches!(stream.read_buf(&mut input).await, Ok(n) if n > 0) {} }).await;
}

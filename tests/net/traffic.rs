//! Messages and requests between healthy nodes.

use super::common::{Node, Request, SOON, echo, eventually, identity, patient, soon};
use bytes::Bytes;
use causeway::net::{NetLimits, RequestError, SendError};
use causeway::protocol::ids::MemberId;
use std::{sync::atomic::Ordering::Relaxed, time::Duration};

#[tokio::test]
async fn requests_and_messages_go_both_ways() {
    let (mut a, mut b) = Node::pair().await;
    let answer = a.net.request(b.member, &echo("to b"), SOON).await.unwrap();
    assert_eq!(answer, "to b");
    let answer = b.net.request(a.member, &echo("to a"), SOON).await.unwrap();
    assert_eq!(answer, "to a");

    a.net.send(b.member, &Bytes::from("hello")).unwrap();
    let (from, message) = b.message().await;
    assert_eq!((from.member, from.incarnation), (a.member, 1));
    assert_eq!(message, "hello");
    b.net.send(a.member, &Bytes::from("hi")).unwrap();
    assert_eq!(a.message().await.1, "hi");
}

#[tokio::test]
async fn messages_arrive_in_order_small_and_large() {
    let (a, mut b) = Node::pair().await;
    for i in 0..2_000u32 {
        let size = if i % 100 == 0 { 100_000 } else { 4 };
        let mut message = vec![0; size];
        message[..4].copy_from_slice(&i.to_le_bytes());
        a.net.send(b.member, &message.into()).unwrap();
    }
    for i in 0..2_000u32 {
        assert_eq!(b.message().await.1[..4], i.to_le_bytes());
    }
    assert_eq!(a.net.stats().dropped.load(Relaxed), 0);
}

#[tokio::test]
async fn a_value_of_eight_mebibytes_passes_and_a_longer_frame_than_allowed_does_not() {
    let (a, b) = Node::pair().await;
    let large = Bytes::from(vec![42; 8 << 20]);
    let answer = a.net.request(b.member, &Request::Echo(large.clone()), SOON);
    assert!(answer.await.unwrap() == large);

    let huge = Bytes::from(vec![42; 16 << 20]);
    let answer = a.net.request(b.member, &Request::Echo(huge.clone()), SOON);
    let error = answer.await.unwrap_err();
    assert!(matches!(error, RequestError::Unfit(_)));
    assert!(error.definitely_not_sent());
    let error = a.net.send(b.member, &huge).unwrap_err();
    assert!(matches!(error, SendError::Unfit(_)));
    assert_eq!(a.net.stats().unfit.load(Relaxed), 2);
    // The connection is none the worse.
    assert!(a.net.request(b.member, &echo("x"), SOON).await.is_ok());
    assert_eq!(a.net.stats().reconnects.load(Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_at_once() {
    let (a, b) = Node::pair().await;
    let replies: Vec<_> = (0..10_000)
        .map(|i| {
            let text = i.to_string();
            let bytes = Bytes::from(text.clone());
            let request = match i % 2 {
                0 => Request::Echo(bytes),
                _ => Request::Gated(bytes),
            };
            (text, a.net.request(b.member, &request, SOON))
        })
        .collect();
    b.request_gate.add_permits(5_000);
    for (text, reply) in replies {
        assert_eq!(reply.await.unwrap(), text);
    }
    let peer = &a.net.peers()[0];
    assert_eq!((peer.pending, peer.queued_bytes), (0, 0));
}

#[tokio::test]
async fn a_slow_request_holds_up_neither_others_nor_messages() {
    let (a, mut b) = Node::pair().await;
    let slow = a
        .net
        .request(b.member, &Request::Gated("slow".into()), SOON);
    let quick = a.net.request(b.member, &echo("quick"), SOON);
    assert_eq!(quick.await.unwrap(), "quick");
    a.net.send(b.member, &Bytes::from("message")).unwrap();
    assert_eq!(b.message().await.1, "message");
    b.request_gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), "slow");
}

#[tokio::test]
async fn a_held_up_message_holds_up_no_answer_in_work() {
    let (a, mut b) = Node::pair().await;
    let gated = a.net.request(b.member, &Request::Gated("g".into()), SOON);
    b.message_gate.forget_permits(1);
    a.net.send(b.member, &Bytes::from("stuck")).unwrap();
    b.request_gate.add_permits(1);
    assert_eq!(gated.await.unwrap(), "g");
    assert!(b.messages.try_recv().is_err());
    b.message_gate.add_permits(1);
    assert_eq!(b.message().await.1, "stuck");
}

#[tokio::test]
async fn more_requests_than_may_be_in_work_are_answered_in_turn() {
    let limits = NetLimits {
        in_flight: 3,
        ..NetLimits::default()
    };
    let (a, b) = Node::pair_with(limits).await;
    let replies: Vec<_> = (0..50)
        .map(|_| a.net.request(b.member, &Request::Gated("x".into()), SOON))
        .collect();
    for reply in replies {
        b.request_gate.add_permits(1);
        assert!(reply.await.is_ok());
    }
}

#[tokio::test]
async fn requests_that_hang_do_not_keep_a_connection_from_being_read_for_ever() {
    let limits = NetLimits {
        in_flight: 3,
        work: Duration::from_millis(200),
        ..NetLimits::default()
    };
    let (a, mut b) = Node::pair_with(limits).await;
    let hanging: Vec<_> = (0..3)
        .map(|_| a.net.request(b.member, &Request::Never, SOON))
        .collect();
    a.net.send(b.member, &Bytes::from("message")).unwrap();
    let answer = a
        .net
        .request(b.member, &echo("quick"), Duration::from_secs(10));
    assert_eq!(answer.await.unwrap(), "quick");
    assert_eq!(b.message().await.1, "message");
    drop(hanging);
    assert_eq!(a.net.peers()[0].pending, 0);
}

#[tokio::test]
async fn a_broadcast_reaches_whoever_is_connected() {
    let mut nodes = Vec::new();
    for member in 1..=3 {
        nodes.push(Node::start(identity(member), NetLimits::default()).await);
    }
    let addrs: Vec<_> = nodes.iter().map(|n| (n.member, n.addr)).collect();
    for node in &nodes {
        for &(member, addr) in &addrs {
            node.net.add_peer(member, addr);
        }
    }
    nodes[0].up(MemberId(2), 1).await;
    nodes[0].up(MemberId(3), 1).await;
    let everybody: Vec<_> = (1..=4).map(MemberId).collect();
    let queued = nodes[0].net.broadcast(&everybody, &Bytes::from("all"));
    assert_eq!(queued, 2);
    assert_eq!(nodes[1].message().await.1, "all");
    assert_eq!(nodes[2].message().await.1, "all");
}

#[test]
fn a_reply_can_be_awaited_on_another_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (a, b) = runtime.block_on(Node::pair());
    // Without I/O or timers of its own.
    let other = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let answer = other.block_on(a.net.request(b.member, &echo("x"), SOON));
    assert_eq!(answer.unwrap(), "x");
    let timeout = Duration::from_millis(30);
    let answer = other.block_on(a.net.request(b.member, &Request::Never, timeout));
    assert!(matches!(answer, Err(RequestError::TimedOut)));
}

#[tokio::test]
async fn a_shutdown_sends_what_is_queued_and_answers_what_is_in_work() {
    // What a busy machine does not do within the time limit of a shutdown is lost.
    let limits = NetLimits {
        drain: SOON,
        ..NetLimits::default()
    };
    let (a, mut b) = Node::pair_with(limits).await;
    let gated = b.net.request(a.member, &Request::Gated("g".into()), SOON);
    // Answered after the gated request was handed over: frames are taken in order.
    assert!(b.net.request(a.member, &echo("x"), SOON).await.is_ok());
    for _ in 0..1_000 {
        a.net.send(b.member, &Bytes::from("last words")).unwrap();
    }
    let (shut, answer, ()) = tokio::join!(soon(a.net.shutdown()), soon(gated), async {
        a.request_gate.add_permits(1);
    });
    let () = shut;
    assert_eq!(answer.unwrap(), "g");
    for _ in 0..1_000 {
        assert_eq!(b.message().await.1, "last words");
    }
    assert!(matches!(
        a.net.send(b.member, &Bytes::new()),
        Err(SendError::NotConnected)
    ));
    b.down(a.member).await;
}

#[tokio::test]
async fn a_shutdown_waits_for_the_peer_to_read_what_was_sent() {
    let limits = NetLimits {
        heartbeat: Duration::from_millis(20),
        drain: SOON,
        ..patient()
    };
    let (a, mut b) = Node::pair_with(limits).await;
    b.message_gate.forget_permits(1);
    let message = Bytes::from(vec![1; 10_000]);
    for _ in 0..40 {
        a.net.send(b.member, &message).unwrap();
    }
    let net = a.net.clone();
    let shut = tokio::spawn(async move { net.shutdown().await });
    // All of it is with the operating system, and signs of life come to who has nothing more to
    // say.
    eventually("everything is written", || {
        a.net.stats().bytes_out.load(Relaxed) >= 400_000
    })
    .await;
    let before = b.net.stats().frames_out.load(Relaxed);
    eventually("there are several signs of life", || {
        b.net.stats().frames_out.load(Relaxed) >= before + 6 || shut.is_finished()
    })
    .await;
    b.message_gate.add_permits(1);
    for _ in 0..40 {
        assert_eq!(b.message().await.1, message);
    }
    soon(shut).await.unwrap();
    b.down(a.member).await;
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let (a, b) = Node::pair().await;
    let never = a.net.request(b.member, &Request::Never, SOON);
    let also_never = b.net.request(a.member, &Request::Never, SOON);
    assert!(b.net.request(a.member, &echo("x"), SOON).await.is_ok());
    soon(a.net.shutdown()).await;
    assert!(matches!(soon(never).await, Err(RequestError::Closed)));
    assert!(matches!(soon(also_never).await, Err(RequestError::Closed)));
}

#[tokio::test]
async fn a_dropped_reply_leaves_nothing_behind() {
    let (a, b) = Node::pair().await;
    let reply = a.net.request(b.member, &Request::Never, SOON);
    assert_eq!(a.net.peers()[0].pending, 1);
    drop(reply);
    assert_eq!(a.net.peers()[0].pending, 0);
    eventually("the request leaves the queue", || {
        a.net.peers()[0].queued_bytes == 0
    })
    .await;
}

//! Members that come and go, and nodes that change their number at the same address.

use super::common::{Node, Request, SOON, echo, eventually, identity, patient, soon, stranger};
use bytes::Bytes;
use causeway::net::{CallError, NetLimits, NodeIdentity, RequestError, call};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::net::TcpListener;

fn short_drain() -> NetLimits {
    NetLimits {
        drain: Duration::from_millis(100),
        ..patient()
    }
}

#[tokio::test]
async fn what_is_under_way_for_a_removed_member_ends_with_an_error() {
    let (mut a, b) = Node::pair_with(short_drain()).await;
    let out = a.net.request(b.member, &Request::Never, SOON);
    let back = b.net.request(a.member, &Request::Never, SOON);
    assert!(a.net.request(b.member, &echo("x"), SOON).await.is_ok());
    assert!(b.net.request(a.member, &echo("x"), SOON).await.is_ok());
    a.net.remove_peer(b.member);
    let (out, back) = (soon(out).await.unwrap_err(), soon(back).await.unwrap_err());
    assert!(matches!(out, RequestError::Closed), "{out:?}");
    assert!(matches!(back, RequestError::Closed), "{back:?}");
    assert!(!out.definitely_not_sent());
    a.down(b.member).await;
    assert!(a.net.peers().is_empty());
    assert!(a.net.send(b.member, &Bytes::new()).is_err());
    assert!(matches!(
        a.net.request(b.member, &echo("x"), SOON).await,
        Err(RequestError::NotConnected)
    ));
}

#[tokio::test]
async fn what_a_removed_member_still_answers_is_handed_out() {
    let (a, b) = Node::pair_with(NetLimits {
        drain: SOON,
        ..patient()
    })
    .await;
    let gated = a.net.request(b.member, &Request::Gated("g".into()), SOON);
    assert!(a.net.request(b.member, &echo("x"), SOON).await.is_ok());
    a.net.remove_peer(b.member);
    b.request_gate.add_permits(1);
    assert_eq!(soon(gated).await.unwrap(), "g");
}

#[tokio::test]
async fn a_member_that_is_removed_and_added_again_is_met_again() {
    let (mut a, b) = Node::pair_with(short_drain()).await;
    a.net.remove_peer(b.member);
    a.down(b.member).await;
    a.net.add_peer(b.member, b.addr);
    a.up(b.member, 1).await;
    assert!(a.net.request(b.member, &echo("x"), SOON).await.is_ok());
    eventually("the other direction is there again", || {
        b.net.peers()[0].up.is_some()
    })
    .await;
}

#[tokio::test]
async fn another_member_takes_the_address_of_a_removed_one() {
    let mut a = Node::start(identity(1), short_drain()).await;
    // Where no other test comes to listen meanwhile.
    let addr = "127.0.0.78:0".parse().unwrap();
    let b = Node::start_at(identity(2), short_drain(), addr).await;
    b.net.add_peer(a.member, a.addr);
    a.net.add_peer(b.member, b.addr);
    a.up(b.member, 1).await;
    let pending = a.net.request(b.member, &Request::Never, SOON);
    assert!(a.net.request(b.member, &echo("x"), SOON).await.is_ok());
    let successor = identity(3);
    a.net.remove_peer(b.member);
    a.net.add_peer(successor.member, b.addr);
    // As long as the old one is there, it is not taken for the new one.
    let refused = a.net.stats().refused.load(Relaxed);
    eventually("the wrong member is refused", || {
        a.net.stats().refused.load(Relaxed) > refused
    })
    .await;
    assert!(soon(pending).await.is_err());

    soon(b.net.shutdown()).await;
    let c = Node::start_at(successor, patient(), b.addr).await;
    c.net.add_peer(a.member, a.addr);
    a.up(c.member, 1).await;
    let answer = a.net.request(c.member, &Request::Who, SOON).await.unwrap();
    assert_eq!(answer, "m1 1");
    let peers: Vec<_> = a.net.peers().iter().map(|peer| peer.member).collect();
    assert_eq!(peers, [c.member]);
}

/// Who is met at an address, and what it makes of the asking.
async fn met(addr: std::net::SocketAddr) -> (u16, Bytes) {
    let (me, limits) = (stranger(), patient());
    let (greeted, answer) = soon(call(&me, addr, None, &Request::Who, &limits, SOON))
        .await
        .unwrap();
    (greeted.member.0, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_leaves_the_port_free_at_once() {
    // Where no other test comes to listen meanwhile.
    let addr = "127.0.0.79:0".parse().unwrap();
    let mut standby = Node::start_at(stranger(), short_drain(), addr).await;
    let addr = standby.addr;
    for round in 1..=20 {
        // With connections open on it, idle and at work.
        let busy = tokio::spawn(async move {
            let (me, limits) = (stranger(), patient());
            call::<_, Bytes>(&me, addr, None, &Request::Never, &limits, SOON).await
        });
        assert_eq!(met(addr).await.0, standby.member.0);
        // Some are shut down while the call is still on its way.
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        soon(standby.net.shutdown()).await;
        let listener = TcpListener::bind(addr).await.unwrap();
        drop(listener);
        // As the node does: its old network may still be held somewhere.
        let next = NodeIdentity {
            incarnation: round,
            ..match round % 2 {
                1 => identity(2),
                _ => stranger(),
            }
        };
        let number = next.member.0;
        let restarted = Node::start_at(next, short_drain(), addr).await;
        assert_eq!(met(addr).await.0, number);
        let old = std::mem::replace(&mut standby, restarted);
        drop(old);
        // Ended, or was taken by the next: then it ends with that.
        busy.abort();
    }
}

#[tokio::test]
async fn a_shutdown_answers_the_calls_in_work() {
    let limits = NetLimits {
        drain: SOON,
        ..patient()
    };
    let standby = Node::start(stranger(), limits.clone()).await;
    let (me, request) = (identity(1), Request::Gated("g".into()));
    let answered = call::<_, Bytes>(&me, standby.addr, None, &request, &limits, SOON);
    let (answered, ()) = tokio::join!(soon(answered), async {
        standby.request_gate.add_permits(1);
        eventually("the call is in work", || {
            standby.request_gate.available_permits() == 0
        })
        .await;
        soon(standby.net.shutdown()).await;
    });
    assert_eq!(answered.unwrap().1, "g");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever_for_calls() {
    let standby = Node::start(stranger(), short_drain()).await;
    let (me, limits) = (identity(1), patient());
    let never = call::<_, Bytes>(&me, standby.addr, None, &Request::Never, &limits, SOON);
    let (never, ()) = tokio::join!(soon(never), async {
        // One that is answered, so that the other one is most likely there too.
        met(standby.addr).await;
        soon(standby.net.shutdown()).await;
    });
    assert!(!matches!(never.unwrap_err(), CallError::TimedOut));
}

#[tokio::test]
async fn peers_that_are_added_after_a_shutdown_are_ignored() {
    let a = Node::start(identity(1), patient()).await;
    let b = Node::start(identity(2), patient()).await;
    soon(a.net.shutdown()).await;
    a.net.add_peer(b.member, b.addr);
    assert!(a.net.peers().is_empty());
}

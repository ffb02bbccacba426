//! Nodes that do not belong together keep no connection, and both know why.

use super::common::{Node, echo, eventually, identity};
use causeway::{
    net::{HelloRefusal, NetLimits, NodeIdentity, RequestError, Secret, dial},
    protocol::ids::MemberId,
};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::net::TcpStream;

/// Lets member 1, changed as told, dial an ordinary member 2.
async fn refused(change: impl FnOnce(&mut NodeIdentity)) {
    let mut odd = identity(1);
    change(&mut odd);
    let a = Node::start(odd, NetLimits::default()).await;
    let b = Node::start(identity(2), NetLimits::default()).await;
    a.net.add_peer(b.member, b.addr);
    b.net.add_peer(a.member, a.addr);
    eventually("both have counted several refusals", || {
        a.net.stats().refused.load(Relaxed) >= 2 && b.net.stats().refused.load(Relaxed) >= 2
    })
    .await;
    assert_eq!(a.net.peers()[0].up, None);
    assert_eq!(b.net.peers()[0].up, None);
    let timeout = Duration::from_secs(1);
    assert!(matches!(
        a.net.request(b.member, &echo("x"), timeout).await,
        Err(RequestError::NotConnected)
    ));
}

#[tokio::test]
async fn another_version() {
    refused(|me| me.versions = (2, 3)).await;
}

#[tokio::test]
async fn another_fingerprint() {
    refused(|me| me.fingerprint = [8; 32]).await;
}

#[tokio::test]
async fn another_secret() {
    refused(|me| me.secret = Some(Secret::new(b"other"))).await;
}

#[tokio::test]
async fn a_secret_on_one_side_only() {
    refused(|me| me.secret = None).await;
}

#[tokio::test]
async fn an_unknown_member_and_one_that_was_removed() {
    let b = Node::start(identity(2), NetLimits::default()).await;
    let timeout = Duration::from_secs(30);
    let hello = async || {
        let mut stream = TcpStream::connect(b.addr).await.unwrap();
        dial(&mut stream, &identity(1), Some(b.member), timeout).await
    };
    let not_member = |outcome| {
        matches!(
            outcome,
            Err(causeway::net::HelloError::Refused(HelloRefusal::NotMember))
        )
    };
    assert!(not_member(hello().await));
    b.net.add_peer(MemberId(1), "127.0.0.1:9".parse().unwrap());
    assert!(hello().await.is_ok());
    b.net.remove_peer(MemberId(1));
    assert!(not_member(hello().await));
}

#[tokio::test]
async fn an_address_where_another_member_listens() {
    let a = Node::start(identity(1), NetLimits::default()).await;
    let c = Node::start(identity(3), NetLimits::default()).await;
    c.net.add_peer(a.member, a.addr);
    a.net.add_peer(MemberId(2), c.addr);
    eventually("the wrong member is refused", || {
        a.net.stats().refused.load(Relaxed) >= 2 && c.net.stats().refused.load(Relaxed) >= 2
    })
    .await;
    assert_eq!(a.net.peers()[0].up, None);
}

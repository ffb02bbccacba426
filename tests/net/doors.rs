//! Connections that say nothing, or never prove anything, keep no member away.

use super::common::{Node, SOON, brisk, echo, eventually, identity, patient, soon, stranger};
use bytes::Bytes;
use causeway::net::{NetLimits, call, dial};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

/// A connection from a certain address of this machine.
async fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await
}

/// An address that no node has.
fn elsewhere(n: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, 200 + n])
}

/// Holds so many silent connections to `to` from each of some addresses, and opens another for each
/// that is closed, until it is dropped.
struct Siege {
    _connections: JoinSet<()>,
}

impl Siege {
    async fn lay(to: SocketAddr, from: &[IpAddr], each: usize) -> Self {
        let mut connections = JoinSet::new();
        let there = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for address in from {
            for _ in 0..each {
                let (address, there) = (*address, Arc::clone(&there));
                connections.spawn(async move {
                    let first = AtomicBool::new(true);
                    loop {
                        let Ok(mut stream) = connect_from(address, to).await else {
                            // Out of ports for a moment, or the listener is gone.
                            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                            continue;
                        };
                        if first.swap(false, Relaxed) {
                            there.fetch_add(1, Relaxed);
                        }
                        let _ = stream.read(&mut [0; 1]).await;
                    }
                });
            }
        }
        let all = from.len() * each;
        eventually("all have connected", || there.load(Relaxed) == all).await;
        Self {
            _connections: connections,
        }
    }
}

#[tokio::test]
async fn a_member_gets_through_a_crowd_that_says_nothing() {
    let (mut a, b) = Node::pair_with(brisk()).await;
    // Twenty addresses have more places than there are, each for itself one more than it may.
    let many: Vec<IpAddr> = (0..20).map(elsewhere).collect();
    let siege = Siege::lay(b.addr, &many, 17).await;
    // The member comes again, as after a restart.
    for _ in 0..5 {
        a.net.remove_peer(b.member);
        a.down(b.member).await;
        a.net.add_peer(b.member, b.addr);
        soon(a.up(b.member, 1)).await;
        let answer = a.net.request(b.member, &echo("x"), SOON).await;
        assert_eq!(answer.unwrap(), "x");
    }
    assert!(b.net.hellos() <= 128 + 16, "{}", b.net.hellos());
    assert!(b.net.stats().hellos.crowded.load(Relaxed) > 0);
    drop(siege);
    eventually("nobody is in a hello any more", || b.net.hellos() == 0).await;
}

#[tokio::test]
async fn a_stranger_gets_through_a_crowd_that_says_nothing() {
    let b = Node::start(identity(2), brisk()).await;
    let many: Vec<IpAddr> = (0..20).map(elsewhere).collect();
    let _siege = Siege::lay(b.addr, &many, 17).await;
    let (me, request) = (stranger(), echo("x"));
    let limits = brisk();
    let ask = || soon(call::<_, Bytes>(&me, b.addr, None, &request, &limits, SOON));
    // The crowd may be quicker now and then: who has a good reason comes again.
    let mut attempts = 0;
    while ask().await.is_err() {
        attempts += 1;
        assert!(attempts < 100, "never got through");
    }
}

/// Whether the other end has closed a silent connection: it waits for it.
async fn closed(stream: &mut TcpStream) {
    let _ = soon(stream.read(&mut [0; 1])).await;
}

/// Whether a connection is open: the listener has neither ended nor broken it.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 1]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn the_oldest_of_an_address_goes_and_then_the_oldest_of_all() {
    let limits = NetLimits {
        hellos: 4,
        hellos_per_address: 2,
        ..patient()
    };
    let (_a, b) = Node::pair_with(limits).await;
    let mut held = Vec::new();
    // Waits until each is in its hello, so that their order is certain.
    for (n, count) in [(1, 1), (1, 2), (2, 3)] {
        held.push(connect_from(elsewhere(n), b.addr).await.unwrap());
        eventually("it is in its hello", || b.net.hellos() == count).await;
    }
    held.push(connect_from(elsewhere(1), b.addr).await.unwrap());
    closed(&mut held[0]).await;
    assert!(held[1..].iter().all(is_open));

    held.push(connect_from(elsewhere(3), b.addr).await.unwrap());
    eventually("all places are taken", || b.net.hellos() == 4).await;
    held.push(connect_from(elsewhere(4), b.addr).await.unwrap());
    closed(&mut held[1]).await;
    assert!(held[2..].iter().all(is_open));

    // One that has said nothing may still say something in time.
    dial(&mut held[2], &stranger(), None, SOON).await.unwrap();
    eventually("its place is free", || b.net.hellos() == 3).await;
    assert_eq!(b.net.stats().hellos.crowded.load(Relaxed), 2);
}

#[tokio::test]
async fn silence_is_cut_short_and_counted() {
    let limits = NetLimits {
        first_bytes: std::time::Duration::from_millis(50),
        hello: SOON,
        ..NetLimits::default()
    };
    let b = Node::start(identity(2), limits).await;
    let mut silent = connect_from(elsewhere(1), b.addr).await.unwrap();
    closed(&mut silent).await;
    eventually("it is counted", || {
        b.net.stats().hellos.late.load(Relaxed) == 1
    })
    .await;
    assert_eq!(b.net.hellos(), 0);
}

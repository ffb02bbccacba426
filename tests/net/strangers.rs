//! What connections with strangers may carry, how many there may be and for how long, and that they
//! disturb nobody.

use super::common::{
    Node, Request, SOON, echo, eventually, identity, message_frame, patient, request_frame, soon,
    stranger,
};
use bytes::{Bytes, BytesMut};
use causeway::{
    net::{
        CallError, Frame, FrameDecoder, NetLimits, NodeIdentity, RequestError, STRANGER, call, dial,
    },
    protocol::ids::MemberId,
};
use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::codec::Decoder;

/// A greeted connection, worked by hand.
struct Raw {
    stream: TcpStream,
    input: BytesMut,
}

impl Raw {
    async fn dial(me: &NodeIdentity, addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        dial(&mut stream, me, None, SOON).await.unwrap();
        let input = BytesMut::new();
        Self { stream, input }
    }

    async fn send(&mut self, frame: &[u8]) {
        self.stream.write_all(frame).await.unwrap();
    }

    /// The next answer, after signs of life.
    async fn answer(&mut self) -> (u64, Bytes) {
        let mut decoder = FrameDecoder::<(), (), Bytes>::new(1 << 20);
        loop {
            match decoder.decode(&mut self.input).unwrap() {
                Some(Frame::Response(id, answer)) => return (id, answer),
                Some(Frame::Ping) => {}
                Some(other) => panic!("{other:?}"),
                None => {
                    let read = soon(self.stream.read_buf(&mut self.input)).await;
                    assert!(read.unwrap() > 0, "closed");
                }
            }
        }
    }

    async fn echo(&mut self, text: &str) {
        self.send(&request_frame(5, &echo(text))).await;
        assert_eq!(self.answer().await, (5, Bytes::from(text.to_owned())));
    }

    /// Waits for the end, whether by an end of stream or a reset.
    async fn closed(&mut self) {
        let _ = soon(self.stream.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test]
async fn strangers_disturb_neither_each_other_nor_members() {
    let (a, b) = Node::pair_with(patient()).await;
    let mut first = Raw::dial(&stranger(), b.addr).await;
    first.echo("first").await;
    let mut second = Raw::dial(&stranger(), b.addr).await;
    second.echo("second").await;
    first.echo("first again").await;
    let gated = request_frame(1, &Request::Gated("slow".into()));
    first.send(&gated).await;
    second.echo("second again").await;
    let answer = a.net.request(b.member, &echo("member"), SOON).await;
    assert_eq!(answer.unwrap(), "member");
    b.request_gate.add_permits(1);
    assert_eq!(first.answer().await, (1, Bytes::from("slow")));
    assert_eq!(a.net.stats().reconnects.load(Relaxed), 0);
}

#[tokio::test]
async fn members_of_the_same_number_do_not_push_each_other_out_of_a_standby() {
    let standby = Node::start(stranger(), patient()).await;
    let mut first = Raw::dial(&identity(1), standby.addr).await;
    let mut foreign = identity(1);
    foreign.fingerprint = [8; 32];
    let mut second = Raw::dial(&foreign, standby.addr).await;
    second.echo("second").await;
    first.echo("first").await;
}

#[tokio::test]
async fn messages_end_the_connection() {
    let (a, mut b) = Node::pair_with(patient()).await;
    let mut standby = Node::start(stranger(), patient()).await;
    for (node, me) in [(&mut b, stranger()), (&mut standby, identity(1))] {
        let mut raw = Raw::dial(&me, node.addr).await;
        raw.send(&message_frame(b"psst")).await;
        raw.closed().await;
        eventually("the message is counted as a bad frame", || {
            node.net.stats().bad_frames.load(Relaxed) == 1
        })
        .await;
        assert!(node.messages.try_recv().is_err());
    }
    a.net.send(b.member, &Bytes::from("member")).unwrap();
    assert_eq!(b.message().await.1, "member");
    assert_eq!(a.net.stats().reconnects.load(Relaxed), 0);
}

#[tokio::test]
async fn more_requests_than_a_stranger_may_have_in_work_are_answered_in_turn() {
    let b = Node::start(identity(2), patient()).await;
    let mut raw = Raw::dial(&stranger(), b.addr).await;
    for id in 0..50 {
        let gated = Request::Gated("x".into());
        raw.send(&request_frame(id, &gated)).await;
    }
    b.request_gate.add_permits(50);
    let mut answered = Vec::new();
    for _ in 0..50 {
        answered.push(raw.answer().await.0);
    }
    answered.sort_unstable();
    assert!(answered.into_iter().eq(0..50));
}

#[tokio::test]
async fn more_strangers_than_allowed_are_closed_at_once() {
    let limits = NetLimits {
        strangers: 2,
        ..patient()
    };
    let (a, b) = Node::pair_with(limits.clone()).await;
    let mut first = Raw::dial(&stranger(), b.addr).await;
    first.echo("first").await;
    let mut second = Raw::dial(&stranger(), b.addr).await;
    second.echo("second").await;
    let mut third = Raw::dial(&stranger(), b.addr).await;
    third.closed().await;
    let (me, request) = (stranger(), echo("x"));
    let ask = || soon(call::<_, Bytes>(&me, b.addr, None, &request, &limits, SOON));
    let error = ask().await.unwrap_err();
    assert!(
        matches!(error, CallError::Closed | CallError::Io(_)),
        "{error:?}"
    );
    // Members are not counted, and those that have a place keep it.
    first.echo("first").await;
    let answer = a.net.request(b.member, &echo("member"), SOON).await;
    assert_eq!(answer.unwrap(), "member");
    drop(first);
    soon(async { while ask().await.is_err() {} }).await;
    second.echo("second").await;
}

#[tokio::test]
async fn a_strangers_connection_is_closed_when_its_time_is_up() {
    let limits = NetLimits {
        stranger: Duration::from_millis(200),
        silence: SOON,
        ..patient()
    };
    let b = Node::start(identity(2), limits.clone()).await;
    let mut idle = Raw::dial(&stranger(), b.addr).await;
    idle.closed().await;
    let (me, request) = (stranger(), Request::Never);
    let error = soon(call::<_, Bytes>(&me, b.addr, None, &request, &limits, SOON))
        .await
        .unwrap_err();
    assert!(
        matches!(error, CallError::Closed | CallError::Io(_)),
        "{error:?}"
    );
    assert_eq!(b.net.stats().bad_frames.load(Relaxed), 0);
}

#[tokio::test]
async fn a_standby_at_a_members_address_is_not_taken_for_it() {
    let a = Node::start(identity(1), patient()).await;
    let standby = Node::start(stranger(), patient()).await;
    a.net.add_peer(MemberId(2), standby.addr);
    eventually("both have counted several refusals", || {
        a.net.stats().refused.load(Relaxed) >= 2 && standby.net.stats().refused.load(Relaxed) >= 2
    })
    .await;
    assert_eq!(a.net.peers()[0].up, None);
}

#[tokio::test]
async fn a_stranger_has_no_peers_and_is_nobodys_peer() {
    let b = Node::start(identity(2), patient()).await;
    let standby = Node::start(stranger(), patient()).await;
    standby.net.add_peer(b.member, b.addr);
    assert!(standby.net.peers().is_empty());
    b.net.add_peer(STRANGER, standby.addr);
    assert!(b.net.peers().is_empty());
    assert!(b.net.send(STRANGER, &Bytes::new()).is_err());
    assert!(matches!(
        b.net.request(STRANGER, &echo("x"), SOON).await,
        Err(RequestError::NotConnected)
    ));
}

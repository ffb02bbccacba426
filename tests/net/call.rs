//! One request on a connection of its own: who answers, and every way in which there is no answer.

use super::common::{
    Node, Request, SOON, echo, identity, message_frame, patient, response_frame, soon, stranger,
};
use bytes::Bytes;
use causeway::{
    net::{
        CallError, Greeted, HelloError, HelloRefusal, NetLimits, NodeIdentity, STRANGER, answer,
        call,
    },
    protocol::ids::MemberId,
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

async fn ask(
    me: &NodeIdentity,
    addr: SocketAddr,
    expected: Option<MemberId>,
    request: &Request,
) -> Result<(Greeted, Bytes), CallError> {
    soon(call(me, addr, expected, request, &patient(), SOON)).await
}

#[tokio::test]
async fn a_member_answers_a_stranger() {
    let b = Node::start(identity(2), patient()).await;
    for expected in [None, Some(b.member)] {
        let (greeted, answer) = ask(&stranger(), b.addr, expected, &Request::Who)
            .await
            .unwrap();
        assert_eq!((greeted.member, greeted.incarnation), (b.member, 1));
        assert_eq!(answer, format!("{STRANGER} 9"));
    }
}

#[tokio::test]
async fn a_standby_answers_members_of_any_cluster_and_strangers() {
    let standby = Node::start(stranger(), patient()).await;
    let mut foreign = identity(1);
    foreign.fingerprint = [8; 32];
    for (me, who) in [
        (identity(1), "m1 1".to_owned()),
        (foreign, "m1 1".to_owned()),
        (stranger(), format!("{STRANGER} 9")),
    ] {
        for expected in [None, Some(STRANGER)] {
            let (greeted, answer) = ask(&me, standby.addr, expected, &Request::Who)
                .await
                .unwrap();
            assert_eq!((greeted.member, greeted.incarnation), (STRANGER, 9));
            assert_eq!(answer, who);
        }
    }
}

#[tokio::test]
async fn large_requests_and_answers_pass() {
    let b = Node::start(identity(2), patient()).await;
    let large = Bytes::from(vec![42; 8 << 20]);
    let request = Request::Echo(large.clone());
    let (_, answer) = ask(&stranger(), b.addr, None, &request).await.unwrap();
    assert!(answer == large);
}

#[tokio::test]
async fn a_refusal_is_seen_and_nothing_was_sent() {
    let b = Node::start(identity(2), patient()).await;
    let standby = Node::start(stranger(), patient()).await;
    let mut unsecured = stranger();
    unsecured.secret = None;
    let mut foreign = identity(1);
    foreign.fingerprint = [8; 32];
    let refused = |r| HelloError::Refused(r).to_string();
    let refusing = |r| HelloError::Refusing(r).to_string();
    for (me, addr, expected, reason) in [
        (
            stranger(),
            b.addr,
            Some(MemberId(3)),
            refusing(HelloRefusal::WrongMember),
        ),
        (
            stranger(),
            b.addr,
            Some(STRANGER),
            refusing(HelloRefusal::WrongMember),
        ),
        (
            identity(1),
            standby.addr,
            Some(b.member),
            refusing(HelloRefusal::WrongMember),
        ),
        (identity(3), b.addr, None, refused(HelloRefusal::NotMember)),
        (foreign, b.addr, None, refused(HelloRefusal::Fingerprint)),
        (
            unsecured.clone(),
            b.addr,
            None,
            refused(HelloRefusal::SecretMissing),
        ),
        (
            unsecured,
            standby.addr,
            None,
            refused(HelloRefusal::SecretMissing),
        ),
    ] {
        let error = ask(&me, addr, expected, &echo("x")).await.unwrap_err();
        assert!(error.definitely_not_sent());
        let CallError::Hello(error) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.to_string(), reason);
    }
}

#[tokio::test]
async fn nobody_there_and_nothing_said() {
    // An address of its own, so that nobody else comes to listen there.
    let hole = TcpListener::bind("127.0.0.77:0").await.unwrap();
    let addr = hole.local_addr().unwrap();
    let limits = NetLimits {
        hello: Duration::from_millis(50),
        ..patient()
    };
    // The hello's own limit, and the one for everything.
    for (limits, timeout) in [(limits, SOON), (patient(), Duration::from_millis(50))] {
        let (me, request) = (stranger(), echo("x"));
        let outcome = call::<_, Bytes>(&me, addr, None, &request, &limits, timeout);
        let error = soon(outcome).await.unwrap_err();
        assert!(
            matches!(error, CallError::Hello(HelloError::TimedOut)),
            "{error:?}"
        );
        assert!(error.definitely_not_sent());
    }
    drop(hole);
    let error = ask(&stranger(), addr, None, &echo("x")).await.unwrap_err();
    assert!(matches!(error, CallError::Connect(_)), "{error:?}");
    assert!(error.definitely_not_sent());
}

#[tokio::test]
async fn a_request_that_is_too_long_is_not_sent() {
    let b = Node::start(identity(2), patient()).await;
    let request = Request::Echo(vec![0; 16 << 20].into());
    let error = ask(&stranger(), b.addr, None, &request).await.unwrap_err();
    assert!(matches!(error, CallError::Unfit(_)), "{error:?}");
    assert!(error.definitely_not_sent());
}

#[tokio::test]
async fn no_answer_in_time() {
    let b = Node::start(identity(2), patient()).await;
    let timeout = Duration::from_millis(300);
    let (me, limits) = (stranger(), patient());
    let error = soon(call::<_, Bytes>(
        &me,
        b.addr,
        None,
        &Request::Never,
        &limits,
        timeout,
    ))
    .await
    .unwrap_err();
    // On a machine so busy that the hello took as long, nothing was sent; both are typed.
    match error {
        CallError::TimedOut => assert!(!error.definitely_not_sent()),
        CallError::Hello(_) | CallError::Connect(_) => assert!(error.definitely_not_sent()),
        other => panic!("{other:?}"),
    }
}

/// A member that is greeted, reads the request, does as told, and closes.
async fn misbehaves(with: impl AsyncFnOnce(&mut TcpStream)) -> CallError {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (me, request) = (stranger(), echo("x"));
    let (outcome, ()) = tokio::join!(ask(&me, addr, None, &request), async {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        answer(&mut stream, &identity(2), |_| false, SOON, SOON)
            .await
            .unwrap();
        let mut request = [0; 8];
        soon(stream.read_exact(&mut request)).await.unwrap();
        with(&mut stream).await;
    });
    let error = outcome.unwrap_err();
    assert!(!error.definitely_not_sent());
    error
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer() {
    let error = misbehaves(async |_| {}).await;
    assert!(
        matches!(error, CallError::Closed | CallError::Io(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn answers_that_are_none() {
    let error = misbehaves(async |stream| {
        let mut frame = response_frame(0, &Bytes::from("answer"));
        frame[12] ^= 4;
        stream.write_all(&frame).await.unwrap();
        let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    })
    .await;
    assert!(matches!(error, CallError::Frame(_)), "{error:?}");

    let error = misbehaves(async |stream| {
        stream.write_all(&message_frame(b"")).await.unwrap();
        let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    })
    .await;
    // Told from its kind, or from a payload that cannot be read as one.
    assert!(
        matches!(error, CallError::WrongWay | CallError::Frame(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_beyond_the_silence_limit() {
    let limits = NetLimits {
        heartbeat: Duration::from_millis(20),
        silence: Duration::from_millis(100),
        ..patient()
    };
    let b = Node::start(identity(2), limits.clone()).await;
    let (me, request) = (stranger(), Request::Gated("slow".into()));
    let outcome = call::<_, Bytes>(&me, b.addr, None, &request, &limits, SOON);
    let (outcome, ()) = tokio::join!(soon(outcome), async {
        // The listener would take three times the limit.
        tokio::time::sleep(Duration::from_millis(700)).await;
        b.request_gate.add_permits(1);
    });
    assert_eq!(outcome.unwrap().1, "slow");
}

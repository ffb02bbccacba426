//! A small node for the tests: it records messages, echoes requests, and can be held up.

use bytes::{Bytes, BytesMut};
use causeway::{
    net::{
        Belongs, FrameEncoder, Handler, Net, NetConfig, NetLimits, NodeIdentity, Outgoing, PeerId,
        PeerState, Secret,
    },
    protocol::ids::MemberId,
};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};

/// For everything that should happen soon, on a machine that may be busy.
pub const SOON: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    Echo(Bytes),
    /// Echoes once the gate lets it through.
    Gated(Bytes),
    /// Never answers.
    Never,
    /// Tells the number and the incarnation of who asks.
    Who,
}

pub type TestNet = Net<Bytes, Request, Bytes>;

pub struct TestHandler {
    messages: mpsc::UnboundedSender<(PeerId, Bytes)>,
    request_gate: Arc<Semaphore>,
    message_gate: Arc<Semaphore>,
}

impl Handler<Bytes, Request, Bytes> for TestHandler {
    async fn message(&self, from: PeerId, message: Bytes) {
        if let Ok(permit) = self.message_gate.acquire().await {
            drop(permit);
        }
        let _ = self.messages.send((from, message));
    }

    async fn request(&self, from: PeerId, request: Request) -> Bytes {
        match request {
            Request::Echo(bytes) => bytes,
            Request::Gated(bytes) => {
                if let Ok(permit) = self.request_gate.acquire().await {
                    permit.forget();
                }
                bytes
            }
            Request::Never => std::future::pending().await,
            Request::Who => format!("{} {}", from.member, from.incarnation).into(),
        }
    }
}

pub struct Node {
    pub net: TestNet,
    pub member: MemberId,
    pub addr: SocketAddr,
    pub messages: mpsc::UnboundedReceiver<(PeerId, Bytes)>,
    /// A gated request needs a permit of its own.
    pub request_gate: Arc<Semaphore>,
    /// Messages pass while this has a permit (as at the start).
    pub message_gate: Arc<Semaphore>,
    states: watch::Receiver<Vec<(MemberId, PeerState)>>,
}

pub fn identity(member: u16) -> NodeIdentity {
    NodeIdentity {
        member: MemberId(member),
        incarnation: 1,
        cluster: Belongs::default(),
        fingerprint: [7; 32],
        versions: (1, 1),
        secret: Some(Secret::new(b"test")),
        also: None,
    }
}

/// A node without a member number.
pub fn stranger() -> NodeIdentity {
    NodeIdentity::stranger(9, (1, 1), Some(Secret::new(b"test")))
}

/// Long, where nothing is to be given up: a call is not tried again.
pub fn patient() -> NetLimits {
    NetLimits {
        connect: SOON,
        first_bytes: SOON,
        hello: SOON,
        silence: SOON,
        stall: SOON,
        ..NetLimits::default()
    }
}

/// Short, so that the tests are.
pub fn brisk() -> NetLimits {
    NetLimits {
        heartbeat: Duration::from_millis(50),
        silence: Duration::from_millis(500),
        ..NetLimits::default()
    }
}

impl Node {
    pub async fn start(identity: NodeIdentity, limits: NetLimits) -> Self {
        let ip = format!("127.0.0.{}:0", identity.member.0.min(99));
        Self::start_at(identity, limits, ip.parse().unwrap()).await
    }

    pub async fn start_at(identity: NodeIdentity, limits: NetLimits, addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tx, messages) = mpsc::unbounded_channel();
        let (states_tx, states) = watch::channel(Vec::new());
        let request_gate = Arc::new(Semaphore::new(0));
        let message_gate = Arc::new(Semaphore::new(1));
        let handler = TestHandler {
            messages: tx,
            request_gate: Arc::clone(&request_gate),
            message_gate: Arc::clone(&message_gate),
        };
        let member = identity.member;
        let config = NetConfig {
            identity,
            limits,
            on_state: Some(Arc::new(move |member, state| {
                states_tx.send_modify(|states| states.push((member, state)));
            })),
        };
        Self {
            net: Net::start(config, listener, handler),
            member,
            addr,
            messages,
            request_gate,
            message_gate,
            states,
        }
    }

    pub async fn pair() -> (Self, Self) {
        Self::pair_with(NetLimits::default()).await
    }

    /// Members 1 and 2, connected both ways.
    pub async fn pair_with(limits: NetLimits) -> (Self, Self) {
        let mut a = Self::start(identity(1), limits.clone()).await;
        let mut b = Self::start(identity(2), limits).await;
        a.net.add_peer(b.member, b.addr);
        b.net.add_peer(a.member, a.addr);
        a.up(b.member, 1).await;
        b.up(a.member, 1).await;
        (a, b)
    }

    /// Waits for the last state change of `member` to be `state`.
    async fn state(&mut self, member: MemberId, state: PeerState) {
        let reached = |states: &Vec<(MemberId, PeerState)>| {
            states.iter().rev().find(|(m, _)| *m == member) == Some(&(member, state))
        };
        soon(self.states.wait_for(reached)).await.unwrap();
    }

    pub async fn up(&mut self, member: MemberId, incarnation: u64) {
        self.state(member, PeerState::Up { incarnation }).await;
    }

    pub async fn down(&mut self, member: MemberId) {
        self.state(member, PeerState::Down).await;
    }

    pub async fn message(&mut self) -> (PeerId, Bytes) {
        soon(self.messages.recv()).await.unwrap()
    }
}

pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future)
        .await
        .expect("did not happen in time")
}

/// Waits until `condition` holds, where there is nothing to await.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn echo(text: &str) -> Request {
    Request::Echo(Bytes::copy_from_slice(text.as_bytes()))
}

pub fn message_frame(payload: &[u8]) -> BytesMut {
    frame(Outgoing::Message(&Bytes::copy_from_slice(payload)))
}

pub fn request_frame(id: u64, request: &Request) -> BytesMut {
    frame(Outgoing::Request(id, request))
}

pub fn response_frame<T: Serialize>(id: u64, response: &T) -> BytesMut {
    frame(Outgoing::Response(id, response))
}

fn frame<T: Serialize>(item: Outgoing<'_, T>) -> BytesMut {
    use tokio_util::codec::Encoder;
    let mut frame = BytesMut::new();
    FrameEncoder { limit: 1 << 20 }
        .encode(item, &mut frame)
        .unwrap();
    frame
}

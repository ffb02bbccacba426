//! How fast the node-to-node network is over loopback, against bare TCP ping-pong.
//!
//! Both ends run in this process on two worker threads; payloads are 100 bytes both ways. Each line
//! gives the rate and the CPU time of the whole process per operation.

use bytes::Bytes;
use causeway::{
    net::{Belongs, Handler, Net, NetConfig, NetLimits, NodeIdentity, PeerId, PeerState},
    protocol::ids::MemberId,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

const SIZE: usize = 100;
const WAIT: Duration = Duration::from_secs(10);
const RUN: Duration = Duration::from_secs(2);

/// Answers at once, or, for a request that begins with 1, after a trip through a task of another
/// connection.
struct Echo {
    received: Arc<AtomicU64>,
    later: mpsc::UnboundedSender<(Bytes, tokio::sync::oneshot::Sender<Bytes>)>,
}

impl Handler<Bytes, Bytes, Bytes> for Echo {
    async fn message(&self, _from: PeerId, _message: Bytes) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    async fn request(&self, _from: PeerId, request: Bytes) -> Bytes {
        if request.first() != Some(&1) {
            return request;
        }
        let (answer, wait) = tokio::sync::oneshot::channel();
        let _ = self.later.send((request, answer));
        wait.await.unwrap_or_default()
    }
}

struct Node {
    net: Net<Bytes, Bytes, Bytes>,
    addr: std::net::SocketAddr,
    received: Arc<AtomicU64>,
    ups: mpsc::UnboundedReceiver<PeerState>,
}

async fn node(member: u16) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let received = Arc::new(AtomicU64::new(0));
    let (later, mut queue) = mpsc::unbounded_channel::<(Bytes, tokio::sync::oneshot::Sender<_>)>();
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, 512).await > 0 {
            for (request, answer) in batch.drain(..) {
                let _ = answer.send(request);
            }
        }
    });
    let (up, ups) = mpsc::unbounded_channel();
    let config = NetConfig {
        identity: NodeIdentity {
            member: MemberId(member),
            incarnation: 1,
            cluster: Belongs::default(),
            fingerprint: [0; 32],
            versions: (1, 1),
            secret: None,
            also: None,
        },
        limits: NetLimits::default(),
        on_state: Some(Arc::new(move |_, state| {
            let _ = up.send(state);
        })),
    };
    let handler = Echo {
        received: Arc::clone(&received),
        later,
    };
    Node {
        net: Net::start(config, listener, handler),
        addr,
        received,
        ups,
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in parentheses; fields 14 and 15 of the whole, in ticks of 10 ms.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn report(name: &str, operations: u64, start: Instant, cpu_start: Duration) {
    let rate = operations as f64 / start.elapsed().as_secs_f64();
    let micros = (cpu() - cpu_start).as_secs_f64() * 1e6 / operations as f64;
    println!("{name:<44} {rate:>10.0}/s  {micros:>6.2} us CPU each");
}

/// Runs `clients` tasks that each repeat `operation`, and reports their total.
async fn measure<F, Fut>(name: &str, clients: usize, make: F)
where
    F: Fn(Arc<AtomicU64>, Instant) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let done = Arc::new(AtomicU64::new(0));
    let (start, cpu_start) = (Instant::now(), cpu());
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(make(Arc::clone(&done), start + RUN));
    }
    tasks.join_all().await;
    report(name, done.load(Ordering::Relaxed), start, cpu_start);
}

async fn bare_tcp(clients: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.set_nodelay(true).unwrap();
                let mut buffer = [0; SIZE];
                while stream.read_exact(&mut buffer).await.is_ok() {
                    stream.write_all(&buffer).await.unwrap();
                }
            });
        }
    });
    let name = format!("bare TCP, {clients} connections");
    measure(&name, clients, |done, until| async move {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = [0; SIZE];
        while Instant::now() < until {
            stream.write_all(&buffer).await.unwrap();
            stream.read_exact(&mut buffer).await.unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    server.abort();
}

async fn requests(a: &Node, clients: usize, payload: &Bytes, name: &str) {
    let name = format!("{name}, {clients} at once");
    measure(&name, clients, |done, until| {
        let (net, payload) = (a.net.clone(), payload.clone());
        async move {
            while Instant::now() < until {
                net.request(MemberId(2), &payload, WAIT).await.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
}

async fn messages(a: &Node, b: &Node, payload: &Bytes) {
    let before = b.received.load(Ordering::Relaxed);
    let (start, cpu_start) = (Instant::now(), cpu());
    while start.elapsed() < RUN {
        for _ in 0..100 {
            let _ = a.net.send(MemberId(2), payload);
        }
        tokio::task::yield_now().await;
    }
    let received = b.received.load(Ordering::Relaxed) - before;
    report("one-way messages (received)", received, start, cpu_start);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut a, b) = (node(1).await, node(2).await);
        a.net.add_peer(MemberId(2), b.addr);
        b.net.add_peer(MemberId(1), a.addr);
        while !matches!(a.ups.recv().await, Some(PeerState::Up { .. })) {}
        let now = Bytes::from(vec![0; SIZE]);
        let later = Bytes::from(vec![1; SIZE]);
        for clients in [1, 64, 1024] {
            bare_tcp(clients).await;
            requests(&a, clients, &now, "requests answered in place").await;
            requests(&a, clients, &later, "requests answered by another task").await;
        }
        messages(&a, &b, &now).await;
    });
}

//! Connections to the port for nodes that say nothing, more of them than there are places.

use crate::harness::{Cluster, PATIENCE, eventually};
use crate::keys::{append, get, led, post};
use crate::session::Session;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

/// From the port for clients to the one for nodes.
const PEER_DISTANCE: u16 = 10_000;
/// Silent connections to each node.
const SILENT: usize = 300;

/// Holds silent connections from addresses that no node has, and opens another one for each that is
/// closed, until it is dropped.
async fn besiege(nodes: &[SocketAddr]) -> JoinSet<()> {
    let (mut siege, there) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for node in nodes {
        let to = SocketAddr::new(node.ip(), node.port() + PEER_DISTANCE);
        for n in 0..SILENT {
            let there = Arc::clone(&there);
            let from = SocketAddr::from(([127, 0, 0, 200 + (n % 20) as u8], 0));
            siege.spawn(async move {
                let mut new = true;
                loop {
                    let silent = async {
                        let socket = TcpSocket::new_v4()?;
                        socket.bind(from)?;
                        let mut stream = socket.connect(to).await?;
                        if std::mem::take(&mut new) {
                            there.fetch_add(1, Ordering::Relaxed);
                        }
                        stream.read(&mut [0; 1]).await
                    };
                    // Closed, or the node is down: comes again.
                    let _ = silent.await;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
    }
    let all = nodes.len() * SILENT;
    eventually("all have been there", PATIENCE, async || {
        let there = there.load(Ordering::Relaxed);
        (there == all).then_some(()).ok_or(there.to_string())
    })
    .await;
    siege
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_two_comes_back_through_a_crowd_that_says_nothing() {
    let mut cluster = Cluster::new(2, 2)
        .with_all("CLUSTER_SECRET", "0123456789abcdef0123456789abcdef")
        .all_up()
        .await;
    let (one, other) = (cluster.at(0), cluster.at(1));
    let siege = besiege(&[one, other]).await;
    cluster.down(1).await;
    let mut session = Session::default();
    assert!(session.put(one, "k", "alone").await.written());
    cluster.up(1).await;
    eventually("writes have two copies again", PATIENCE, async || {
        let reply = session.put(one, "k", "together").await;
        let two = reply.written() && reply.body["copies"] == 2;
        two.then_some(()).ok_or(format!("{reply:?}"))
    })
    .await;
    cluster.serving().await;
    let read = session.get(other, "k").await;
    assert_eq!(read.value(), Some("together"));
    led(other).await;
    assert_eq!(post(other, "list", &append("x"), &[]).await.status(), 204);
    assert_eq!(get(one, "/keys/list").await.status(), 200);
    drop(siege);
    cluster.end().await;
}

//! Clients and strangers that send what nobody understands.

use crate::harness::{Cluster, HTTP, PATIENCE, Process, eventually};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Connections of each kind.
const EACH: usize = 40;
/// Lines in the log that one address may cause, beside those of a start.
const LINES: usize = 12;

/// Sends the bytes, and waits until the node has done with them.
fn send(to: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may close before all is sent, and with what was sent unread.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_does_not_fill_the_log() {
    let cluster = Cluster::new(1, 1);
    let at = cluster.at(0);
    let process = Process::spawn(cluster.command(0));
    eventually("it serves", PATIENCE, async || {
        let ready = HTTP.get(format!("http://{at}/ready")).send().await;
        let ready = ready.and_then(reqwest::Response::error_for_status);
        ready.map(drop).map_err(|e| e.to_string())
    })
    .await;
    let peers = SocketAddr::new(at.ip(), at.port() + 10_000);
    tokio::task::spawn_blocking(move || {
        for _ in 0..EACH {
            send(at, b"\x00\xff\x16\x03\x01\r\n\r\n");
            send(at, b"GET / HTTP/9.9\r\n\r\n");
            send(peers, &[b'n'; 400]);
            send(peers, b"CAUSEWAY");
        }
    })
    .await
    .unwrap();
    let log = process.end().await;
    assert!(log.lines().count() <= LINES, "{log}");
    assert!(log.contains("does not speak this protocol"), "{log}");
}

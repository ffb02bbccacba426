//! What a node's surface adds to a request: GET of a key that is here, and PUT, against a handler
//! that does nothing, on loopback. One server thread, one client thread, and turns, so that a busy
//! machine slows all of them alike; beside the rate, the processor time that the threads of the
//! server and the node spend on a request, which a busy machine changes least. The PUT waits for
//! the disk: its rate is the disk's.
//!
//! `cargo bench --bench http` takes about 25 s.

#[path = "../tests/common/mod.rs"]
mod common;

use causeway::http;
use causeway::node::Node;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(400);

fn main() -> io::Result<()> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bare = run(async move || http::bare_server(any, 1))?;
    let (dir, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let plain = node(dir.path(), &[])?;
    let signed = node(other.path(), &[("CLUSTER_SECRET", "secret")])?;

    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let put = |body: &str| {
        format!(
            "PUT /kvs HTTP/1.1\r\nHost: n\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let first = put("key=some-key&value=0123456789abcdef");
    let mut payloads = Vec::new();
    for server in [plain, signed] {
        let reply = client.block_on(once(server, &first))?;
        let (_, rest) = reply
            .split_once(r#""causal_payload":""#)
            .unwrap_or_default();
        payloads.push(rest.split('"').next().unwrap_or_default().to_owned());
    }
    let get = |payload: &str| {
        format!("GET /kvs?key=some-key&causal_payload={payload} HTTP/1.1\r\nHost: n\r\n\r\n")
    };
    let cases = [
        (
            "bare",
            bare,
            "GET /bare HTTP/1.1\r\nHost: n\r\n\r\n".to_owned(),
        ),
        ("get", plain, get(&payloads[0])),
        ("get, signed", signed, get(&payloads[1])),
        (
            "put",
            plain,
            put(&format!(
                "key=some-key&value=0123456789abcdef&causal_payload={}",
                payloads[0]
            )),
        ),
    ];
    let (mut rates, mut costs) = (vec![Vec::new(); cases.len()], vec![Vec::new(); cases.len()]);
    for _ in 0..ROUNDS {
        for (case, (_, server, request)) in cases.iter().enumerate() {
            let before = others_cpu_ns()?;
            let (done, seconds) = client.block_on(load(*server, request))?;
            costs[case].push((others_cpu_ns()? - before) as f64 / 1e3 / done);
            rates[case].push(done / seconds);
        }
    }
    let median = |samples: &mut Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    };
    let rates: Vec<f64> = rates.iter_mut().map(median).collect();
    let costs: Vec<f64> = costs.iter_mut().map(median).collect();
    for (((name, ..), rate), cost) in cases.iter().zip(&rates).zip(&costs) {
        println!(
            "{name:12} {rate:9.0} requests/s ({:.3} of bare)  {cost:.2} us of server CPU ({:.3}, {:+.2})",
            rate / rates[0],
            costs[0] / cost,
            cost - costs[0]
        );
    }
    Ok(())
}

/// Processor time of all threads but the main one, which is the client.
fn others_cpu_ns() -> io::Result<u64> {
    let me = std::process::id().to_string();
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?;
        if task.file_name() != me.as_str() {
            let text = std::fs::read_to_string(task.path().join("schedstat"))?;
            let spent = text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
            sum += spent.ok_or_else(|| io::Error::other("no schedstat"))?;
        }
    }
    Ok(sum)
}

/// Runs a node alone, with its data in `dir`.
fn node(dir: &Path, more: &[(&str, &str)]) -> io::Result<SocketAddr> {
    let name = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut config = common::config(name, &[name], dir, more);
    config.bind.set_port(0);
    config.peer_bind.set_port(0);
    run(async move || {
        let bind = config.bind;
        let node = Node::start(config).await.map_err(io::Error::other)?;
        http::serve(node, bind, 1)
    })
}

/// Runs a server on a thread of its own.
fn run(
    start: impl AsyncFnOnce() -> io::Result<(actix_web::dev::Server, SocketAddr)> + Send + 'static,
) -> io::Result<SocketAddr> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async {
            let (server, bound) = start().await?;
            let _ = tell.send(bound);
            server.await
        })
    });
    told.recv().map_err(io::Error::other)
}

/// One request, and its whole reply.
async fn once(server: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut reply = vec![0; 4096];
    let length = stream.read(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply[..length]).into_owned())
}

/// Requests done over all connections, and the seconds that took.
async fn load(server: SocketAddr, request: &str) -> io::Result<(f64, f64)> {
    let began = Instant::now();
    let connections = (0..CONNECTIONS).map(|_| async move {
        let mut stream = TcpStream::connect(server).await?;
        let (mut done, mut reply) = (0u32, [0; 4096]);
        while began.elapsed() < ROUND {
            stream.write_all(request.as_bytes()).await?;
            // A reply is far smaller than a segment, so that one read gets all of it.
            let length = stream.read(&mut reply).await?;
            if !reply[..length].starts_with(b"HTTP/1.1 200") || reply[length - 1] != b'}' {
                return Err(io::Error::other("not the reply that was expected"));
            }
            done += 1;
        }
        Ok(done)
    });
    let done = futures_util::future::try_join_all(connections).await?;
    let done = f64::from(done.iter().sum::<u32>());
    Ok((done, began.elapsed().as_secs_f64()))
}

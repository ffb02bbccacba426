//! `local`: a whole cluster in one process, on loopback, to try things out with.
//!
//! Every node is started by the same code as alone, from the same kind of environment; only the
//! process is shared. Its data stays, so that the next `local` of the same shape goes on where this
//! one ended.

use super::failure::{CommandResult, Failure, note, print};
use crate::descriptors;
use crate::memory;
use crate::node::config::Config;
use crate::server::{self, RunError};
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

const READY_WITHIN: Duration = Duration::from_secs(15);
const READY_POLL: Duration = Duration::from_millis(50);
/// A node that takes longer to end is left behind; what it acknowledged is on disk.
const END_WITHIN: Duration = Duration::from_secs(5);

#[derive(Args)]
pub struct Local {
    /// How many nodes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Replicas per partition
    #[arg(short, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    k: u16,
    /// The first node's port; the others take the ones after it
    #[arg(long, default_value_t = 8081, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Where the nodes keep their data, one directory each [default: ./data/local/n<NODES>-k<K>]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// A node that runs, with its address. Nodes share this task: what they do in earnest runs in tasks
/// and threads of their own.
type Running = Pin<Box<dyn Future<Output = (SocketAddr, Result<(), RunError>)>>>;

pub async fn local(args: Local) -> CommandResult {
    // Another shape is another cluster, with data of its own.
    let data = args.data.clone().unwrap_or_else(|| {
        ["data", "local", &format!("n{}-k{}", args.nodes, args.k)]
            .iter()
            .collect()
    });
    let addresses = addresses(&args)?;
    let configs = configs(&args, &addresses, &data)?;
    descriptors::raise_for(args.nodes.into()).map_err(|e| Failure::not_done(e.to_string()))?;
    configs.iter().try_for_each(free)?;
    let signal_failed = |e| Failure::not_done(format!("cannot wait for signals: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signal_failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signal_failed)?;

    let mut nodes: FuturesUnordered<Running> = configs
        .into_iter()
        .map(|c| Box::pin(async move { (c.address, server::run(c).await) }) as Running)
        .collect();
    let outcome = tokio::select! {
        // The nodes get the signal as well: one that ended by it has not ended early.
        biased;
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        Some(ended) = nodes.next() => Err(ended_early(ended)),
        failed = serve(&addresses, args.k, &data) => failed,
    };
    if outcome.is_ok() {
        end(nodes).await;
    }
    outcome
}

/// Waits until all nodes are ready, says so, and then waits for ever.
async fn serve(addresses: &[SocketAddr], k: u16, data: &Path) -> CommandResult {
    all_ready(addresses).await?;
    print(welcome(addresses, k, data))?;
    std::future::pending().await
}

fn addresses(args: &Local) -> Result<Vec<SocketAddr>, Failure> {
    let last = u32::from(args.port) + u32::from(args.nodes) - 1;
    let last = u16::try_from(last)
        .map_err(|_| Failure::usage(format!("there is no port {last}: choose a lower --port")))?;
    Ok((args.port..=last)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .collect())
}

/// Settings as each node alone would read them.
fn configs(args: &Local, all: &[SocketAddr], data: &Path) -> Result<Vec<Config>, Failure> {
    let shared = |name: &str| match name {
        "CLUSTER_SECRET"
        | "CLUSTER_SECRET_FILE"
        | "CLUSTER_SECRET_ALSO"
        | "CLUSTER_SECRET_ALSO_FILE"
        | "API_TOKEN"
        | "API_TOKEN_FILE"
        | "WRITE_TOKEN"
        | "WRITE_TOKEN_FILE"
        | "READ_TOKEN"
        | "READ_TOKEN_FILE"
        | "HOSTS"
        | "MAX_VALUE_BYTES"
        | "DISK_RESERVE_BYTES" => std::env::var(name).ok(),
        // They share the machine's memory.
        "CLIENT_MEMORY_BYTES" => std::env::var(name).ok().or_else(|| {
            let each = memory::for_clients() / all.len().max(1);
            Some(each.to_string())
        }),
        _ => None,
    };
    all.iter()
        .map(|address| config(*address, all, args.k, data, shared))
        .collect()
}

/// Settings of the node at `address` in a cluster of `all`, with its data below `data`; `shared`
/// has what all of them have.
pub fn config(
    address: SocketAddr,
    all: &[SocketAddr],
    k: u16,
    data: &Path,
    shared: impl Fn(&str) -> Option<String>,
) -> Result<Config, Failure> {
    let own = environment(address, all, k, data);
    let of = |name: &str| own.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
    Config::from_env(|name| of(name).or_else(|| shared(name))).map_err(Failure::usage)
}

/// The environment of a process of its own.
pub fn environment(
    address: SocketAddr,
    all: &[SocketAddr],
    k: u16,
    data: &Path,
) -> [(&'static str, String); 4] {
    let view: Vec<String> = all.iter().map(ToString::to_string).collect();
    let dir = data.join(address.to_string());
    [
        ("ip_port", address.to_string()),
        ("VIEW", view.join(",")),
        ("K", k.to_string()),
        ("DATA_DIR", dir.to_string_lossy().into_owned()),
    ]
}

/// Says which port is in use before any node has touched its data.
pub fn free(config: &Config) -> CommandResult {
    [config.bind, config.peer_bind]
        .into_iter()
        .try_for_each(|at| {
            TcpListener::bind(at).map(drop).map_err(|e| {
                Failure::not_done(format!(
                    "cannot listen on {at} ({}): choose another --port",
                    e.kind()
                ))
            })
        })
}

pub async fn all_ready(addresses: &[SocketAddr]) -> CommandResult {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(1))
        .build()
        .map_err(|e| Failure::not_done(format!("cannot set up an HTTP client: {e}")))?;
    let since = Instant::now();
    for at in addresses {
        let url = format!("http://{at}/ready");
        loop {
            match http.get(&url).send().await {
                Ok(reply) if reply.status().is_success() => break,
                _ if since.elapsed() > READY_WITHIN => {
                    return Err(Failure::not_done(format!(
                        "{at} is not ready after {} s: its log may say why (RUST_LOG=info)",
                        READY_WITHIN.as_secs()
                    )));
                }
                _ => tokio::time::sleep(READY_POLL).await,
            }
        }
    }
    Ok(())
}

fn ended_early((who, ended): (SocketAddr, Result<(), RunError>)) -> Failure {
    Failure::not_done(match ended {
        Ok(()) => format!("node {who} ended by itself"),
        Err(e) => format!("node {who}: {e}"),
    })
}

async fn end(nodes: FuturesUnordered<Running>) {
    let all = nodes.for_each(|(who, ended)| {
        if let Err(e) = ended {
            note(format_args!("node {who}: {e}"));
        }
        std::future::ready(())
    });
    if tokio::time::timeout(END_WITHIN, all).await.is_err() {
        note("not every node ended in time; what they acknowledged is on disk");
    }
}

fn welcome(addresses: &[SocketAddr], k: u16, data: &Path) -> String {
    // Different nodes where there are some: any of them answers for any key.
    let at = |i: usize| {
        addresses
            .get(i % addresses.len().max(1))
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    let (one, two, three) = (at(0), at(1), at(2));
    let more = addresses.last().map(|last| {
        let next = SocketAddr::new(last.ip(), last.port().saturating_add(1));
        next.to_string()
    });
    let more = more.unwrap_or_default();
    format!(
        r#"{nodes} nodes are ready on {one} and the ports after it, K = {k}. Ctrl-C ends them.
Their data is in {data} and stays there; delete it to start afresh.

P=$(curl -s -X PUT http://{one}/kvs -d key=greeting -d value=hello | sed 's/.*"causal_payload":"\([^"]*\)".*/\1/')
curl -s "http://{two}/kvs?key=greeting&causal_payload=$P"
curl -s -X DELETE "http://{three}/kvs?key=greeting&causal_payload=$P"
curl -s http://{one}/status

causeway put greeting hello --node {one}
causeway get greeting --node {two}
causeway status --node {one}

ip_port={more} causeway   # one more node, in another terminal
causeway view add {more} --node {one}
causeway view status --node {one}"#,
        nodes = addresses.len(),
        data = data.display(),
    )
}

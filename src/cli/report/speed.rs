//! Writes, reads, failing and recovering, timed on three nodes under both strategies.

use super::Kind;
use super::cluster::{LocalCluster, Workspace, until_done};
use crate::cli::failure::Failure;
use crate::cli::wire::Wire;
use bytes::Bytes;
use futures_util::future::try_join_all;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

/// Clients that work at the same time.
pub const CLIENTS: usize = 32;
/// Failing and recovering are timed so often.
const FAULTS: usize = 5;

/// Times of many operations of a kind.
pub struct Times {
    pub clients: usize,
    pub count: usize,
    pub mean: Duration,
    pub median: Duration,
    pub p99: Duration,
    /// From the first to the last.
    pub whole: Duration,
}

impl Times {
    fn of(clients: usize, mut took: Vec<Duration>, whole: Duration) -> Self {
        took.sort_unstable();
        let count = took.len().max(1);
        let at = |share: usize| {
            let index = ((count - 1) * share).div_ceil(100);
            took.get(index).copied().unwrap_or_default()
        };
        let sum: Duration = took.iter().sum();
        let share = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            clients,
            count,
            mean: sum / share,
            median: at(50),
            p99: at(99),
            whole,
        }
    }
}

/// All times under one strategy.
pub struct Speed {
    pub kind: Kind,
    pub writes: [Times; 2],
    pub reads: [Times; 2],
    pub fail: Times,
    pub recover: Times,
}

/// Times everything under both strategies.
pub async fn measure(workspace: &Workspace, operations: u32) -> Result<Vec<Speed>, Failure> {
    let cluster = LocalCluster::start(workspace, 3, 2).await?;
    let mut speeds = Vec::new();
    for kind in [Kind::Consistent(2), Kind::Full] {
        cluster.set(kind).await?;
        cluster.level().await?;
        let name = format!("s{}", speeds.len());
        let count = operations as usize;
        let writes = [
            timed(&cluster, &format!("{name}-one"), count, 1, true).await?,
            timed(&cluster, &format!("{name}-many"), count, CLIENTS, true).await?,
        ];
        let reads = [
            timed(&cluster, &format!("{name}-one"), count, 1, false).await?,
            timed(&cluster, &format!("{name}-one"), count, CLIENTS, false).await?,
        ];
        let (mut fail, mut recover) = (Vec::new(), Vec::new());
        for _ in 0..FAULTS {
            cluster.level().await?;
            fail.push(cluster.order("fail", 0).await?);
            recover.push(cluster.order("recover", 0).await?);
        }
        let faults = |took: Vec<Duration>| {
            let whole = took.iter().sum();
            Times::of(1, took, whole)
        };
        speeds.push(Speed {
            kind,
            writes,
            reads,
            fail: faults(fail),
            recover: faults(recover),
        });
    }
    cluster.end().await?;
    Ok(speeds)
}

/// Times `count` operations, shared out to clients, each on a connection of its own to one of the
/// nodes.
async fn timed(
    cluster: &LocalCluster,
    name: &str,
    count: usize,
    clients: usize,
    writing: bool,
) -> Result<Times, Failure> {
    let times = async {
        let connect = (0..clients).map(|client| async move {
            let at = cluster.addresses[client % cluster.addresses.len()];
            let mut wire = Wire::connect(at).await.map_err(Failure::not_done)?;
            // The first request of a connection pays for the connection.
            answered(&mut wire, Method::GET, "/health", Bytes::new()).await?;
            Ok::<_, Failure>((client, wire))
        });
        let ready = try_join_all(connect).await?;
        let began = Instant::now();
        let work = ready.into_iter().map(|(client, mut wire)| async move {
            let mut took = Vec::new();
            for i in (client..count).step_by(clients) {
                let (key, began) = (format!("{name}-{i}"), Instant::now());
                if writing {
                    let body = json!({"key": key, "value": "sixteen bytes..."}).to_string();
                    answered(&mut wire, Method::POST, "/write", body.into()).await?;
                } else {
                    let path = format!("/read/{key}");
                    answered(&mut wire, Method::GET, &path, Bytes::new()).await?;
                }
                took.push(began.elapsed());
            }
            Ok::<_, Failure>(took)
        });
        let took = try_join_all(work).await?;
        Ok(Times::of(clients, took.concat(), began.elapsed()))
    };
    LocalSet::new().run_until(times).await
}

/// Asks until it is done: the time for what is tried again counts as well.
async fn answered(wire: &mut Wire, method: Method, path: &str, body: Bytes) -> Result<(), Failure> {
    until_done(async || {
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.clone()))
            .map_err(Failure::not_done)?;
        let (status, text) = wire.exchange(request).await.map_err(Failure::not_done)?;
        let text = String::from_utf8_lossy(&text);
        Ok((
            status.as_u16(),
            format!("{method} {path}: {status}: {text}"),
        ))
    })
    .await
}

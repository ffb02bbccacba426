//! Writes, reads, failing and recovering, timed on three nodes under both strategies.

use super::Kind;
use super::cluster::{Cluster, Place, done, read_there, write};
use crate::cli::failure::Failure;
use futures_util::future::try_join_all;
use std::time::{Duration, Instant};

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
    /// From the first to the last, divided by their number.
    pub each: Duration,
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
            each: whole / share,
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
pub async fn measure(place: &Place, operations: u32) -> Result<Vec<Speed>, Failure> {
    let cluster = Cluster::start(place, 3, 2).await?;
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

/// Times `count` operations, shared out to clients, each on a connection of its own to one of the nodes.
async fn timed(
    cluster: &Cluster,
    name: &str,
    count: usize,
    clients: usize,
    writing: bool,
) -> Result<Times, Failure> {
    let work = (0..clients).map(|client| async move {
        let node = cluster.at(client)?;
        // The first request of a connection pays for the connection.
        done(
            node.send(node.request(reqwest::Method::GET, "/health"))
                .await?,
        )?;
        Ok::<_, Failure>((client, node))
    });
    let ready = try_join_all(work).await?;
    let began = Instant::now();
    let work = ready.into_iter().map(|(client, node)| async move {
        let mut took = Vec::new();
        for i in (client..count).step_by(clients) {
            let (key, began) = (format!("{name}-{i}"), Instant::now());
            match writing {
                true => write(&node, &key, "sixteen bytes...").await?,
                false => read_there(&node, &key).await?,
            }
            took.push(began.elapsed());
        }
        Ok::<_, Failure>(took)
    });
    let took = try_join_all(work).await?;
    Ok(Times::of(clients, took.concat(), began.elapsed()))
}

//! The log's length, and nodes that are far behind.

use super::cluster::{Cluster, Command, patient};
use causeway::raft::RaftConfig;
use std::time::Instant;

/// Proposals made at the same time share log entries, each is there once, and each gets its own
/// outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_that_wait_are_decided_together() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let before = cluster.status(leader).await.last_log.unwrap();
    let (clients, each) = (256_u64, 40_u64);
    let began = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for client in 0..clients {
        let node = cluster.node(u16::try_from(client % 3).unwrap() + 1);
        running.spawn(async move {
            let mut lengths = Vec::new();
            for item in client * each..(client + 1) * each {
                let push = Command::Push("a".to_owned(), item);
                lengths.push((item, node.propose(push).await.unwrap()));
            }
            lengths
        });
    }
    let lengths = running.join_all().await.concat();
    let took = began.elapsed();
    let entries = cluster.status(leader).await.last_log.unwrap() - before;
    let proposals = clients * each;
    println!("{proposals} proposals in {entries} entries, {took:?}");
    assert!(entries < proposals / 4, "{entries} entries");
    let mut found = cluster.list(leader, "a").await;
    for (item, length) in lengths {
        assert_eq!(found[length - 1], item, "the list had {length} items then");
    }
    found.sort_unstable();
    assert_eq!(found, (0..proposals).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_cut_and_a_node_far_behind_gets_a_snapshot() {
    let config = RaftConfig {
        snapshot_after: 4096,
        ..patient()
    };
    let cluster = Cluster::form(config, 3).await;
    let leader = cluster.leader().await;
    let number = (1..=3).find(|n| *n != leader).unwrap();
    cluster.kill(number).await;
    // More than a snapshot sends at once.
    let push = |list: &str| Command::Push(list.repeat(900_000), 0);
    cluster.propose(leader, push("x")).await.unwrap();
    cluster.propose(leader, push("y")).await.unwrap();
    for item in 0..150 {
        cluster.push(leader, "a", item).await.unwrap();
    }
    // The log is to grow by as much as the snapshot has, twice: once for the next one, once to be
    // cut.
    let first = cluster.status(leader).await.last_log.unwrap();
    for _ in 0..9 {
        let ballast = Command::Ballast("z".repeat(900_000));
        cluster.propose(leader, ballast).await.unwrap();
    }
    cluster
        .until("a short log", async || {
            let status = cluster.status(leader).await;
            let cut = status.last_log.unwrap() + 1 - status.log_len;
            status.snapshot.is_some() && cut > first
        })
        .await;
    cluster.start(number).await;
    cluster.level(number).await;
    // The library tells of it a moment after the state is there.
    cluster
        .until("a snapshot", async || {
            cluster.status(number).await.snapshot.is_some()
        })
        .await;
    let wanted: Vec<u64> = (0..150).collect();
    assert_eq!(cluster.list(number, "a").await, wanted);

    // All from their own snapshots.
    for other in 1..=3 {
        cluster.kill(other).await;
    }
    for other in 1..=3 {
        cluster.start(other).await;
    }
    assert_eq!(cluster.list(number, "a").await, wanted);
    assert_eq!(cluster.propose(number, push("x")).await, Ok(2));
}

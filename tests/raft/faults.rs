//! Lost leaders, splits, and answers that do not arrive.

use super::cluster::{Cluster, Command, LONG, patient};
use causeway::raft::{ConsensusError, RaftConfig};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_costs_a_few_seconds() {
    let cluster = Cluster::of(3).await;
    cluster.push(1, "a", 0).await.unwrap();
    let leader = cluster.leader().await;
    cluster.kill(leader).await;
    let other = cluster.up()[0];
    let began = Instant::now();
    assert_eq!(cluster.push(other, "a", 1).await, Ok(2));
    println!(
        "a proposal after the leader's death took {:?}",
        began.elapsed()
    );
    assert!(began.elapsed() < LONG / 2);
    cluster.start(leader).await;
    assert_eq!(cluster.list(leader, "a").await, [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_and_nothing_acknowledged_is_lost() {
    let config = RaftConfig {
        patience: Duration::from_secs(6),
        ..patient()
    };
    let cluster = Cluster::form(config, 3).await;
    assert_eq!(cluster.push(1, "a", 0).await, Ok(1));
    let old = cluster.leader().await;
    let others: Vec<u16> = (1..=3).filter(|n| *n != old).collect();
    cluster.split(&[old]);
    let began = Instant::now();
    let (alone, majority) =
        tokio::join!(cluster.push(old, "a", 99), cluster.push(others[0], "a", 1));
    assert_eq!(majority, Ok(2));
    // The old leader took its proposal before it noticed the split.
    assert!(
        matches!(alone, Err(ConsensusError::Undecided { .. })),
        "{alone:?}"
    );
    assert!(began.elapsed() < LONG);
    assert!(!cluster.status(old).await.has_quorum);
    // A leader of the past gives no linearizable read, though it has a state to show.
    let node = cluster.node(old);
    let (refused, read) = tokio::join!(cluster.push(old, "a", 98), node.read());
    let no_quorum =
        |error: Option<&ConsensusError>| matches!(error, Some(ConsensusError::NoQuorum { .. }));
    assert!(no_quorum(refused.as_ref().err()), "{refused:?}");
    assert!(no_quorum(read.as_ref().err()), "{read:?}");
    assert!(cluster.node(old).look(|state| !state.lists.is_empty()));

    cluster.heal();
    assert_eq!(cluster.push(others[1], "a", 2).await, Ok(3));
    assert_eq!(cluster.list(old, "a").await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_proposal_counts_once() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let other = (1..=3).find(|n| *n != leader).unwrap();
    cluster.push(other, "a", 0).await.unwrap();
    cluster.swallow(3);
    assert_eq!(cluster.push(other, "a", 1).await, Ok(2));
    assert!(cluster.swallowed());
    assert_eq!(cluster.list(leader, "a").await, [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_come_and_go_lose_and_double_nothing() {
    let cluster = Cluster::of(3).await;
    cluster.delay(Duration::from_millis(2));
    let write = async {
        let mut written = Vec::new();
        for item in 0..120 {
            let at = u16::try_from(item % 3 + 1).unwrap();
            cluster.push(at, "a", item).await.unwrap();
            written.push(item);
        }
        written
    };
    let disturb = async {
        for _ in 0..2 {
            let leader = cluster.leader().await;
            cluster.split(&[leader]);
            cluster
                .until("another leader", async || {
                    let now = cluster.leader().await;
                    now != leader
                })
                .await;
            cluster.heal();
        }
    };
    let (written, ()) = tokio::join!(write, disturb);
    assert_eq!(cluster.list(1, "a").await, written);
}

/// A snapshot takes the place of an entry that its leader waits for: that entry is neither decided
/// nor cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_that_a_snapshot_overtook_decides_when_it_leads_again() {
    let config = RaftConfig {
        patience: Duration::from_secs(8),
        snapshot_after: 4096,
        ..patient()
    };
    let cluster = Cluster::form(config, 3).await;
    let old = cluster.leader().await;
    cluster.split(&[old]);
    let before = cluster.status(old).await.last_log;
    let node = cluster.node(old);
    let waits = tokio::spawn(async move { node.propose(Command::Push("a".to_owned(), 0)).await });
    cluster
        .until("an entry on its way", async || {
            cluster.status(old).await.last_log > before
        })
        .await;
    let overtaken = cluster.status(old).await.last_log;
    cluster
        .until("another leader", async || cluster.leader().await != old)
        .await;
    let new = cluster.leader().await;
    cluster
        .until("a log cut behind that entry", async || {
            let ballast = Command::Ballast("z".repeat(5_000));
            cluster.propose(new, ballast).await.unwrap();
            let status = cluster.status(new).await;
            status.last_log.map(|last| last + 1 - status.log_len) > overtaken.map(|at| at + 1)
        })
        .await;
    cluster.heal();
    cluster.level(old).await;
    // The old leader asked the new one in the end, or was told that the new one does not know.
    if let Err(error) = waits.await.unwrap() {
        assert!(matches!(error, ConsensusError::Undecided { .. }), "{error}");
    }
    loop {
        let leader = cluster.leader().await;
        if leader == old {
            break;
        }
        cluster.kill(leader).await;
        cluster.leader().await;
        cluster.start(leader).await;
        cluster.level(leader).await;
    }
    let length = cluster.list(old, "a").await.len();
    assert_eq!(cluster.push(old, "a", 1).await, Ok(length + 1));
}

//! First starts, restarts, and what every node can be asked.

use super::cluster::{Cluster, Command, LONG, m, patient, set};
use causeway::raft::{ConsensusError, RaftConfig, RaftRole};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

async fn proposals_through_every_node(n: u16) {
    let cluster = Cluster::of(n).await;
    for number in 1..=n {
        let length = cluster.push(number, "a", u64::from(number)).await.unwrap();
        assert_eq!(length, usize::from(number));
    }
    let wanted: Vec<u64> = (1..=u64::from(n)).collect();
    for number in 1..=n {
        assert_eq!(cluster.list(number, "a").await, wanted);
        cluster.level(number).await;
    }
    let leader = cluster.leader().await;
    let status = cluster.status(leader).await;
    assert_eq!(status.role, RaftRole::Leader);
    assert_eq!(status.leader, Some(m(leader)));
    assert!(status.committed >= status.last_applied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node() {
    proposals_through_every_node(1).await;
}

/// With two, both vote: what is decided is on both disks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes() {
    proposals_through_every_node(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes() {
    proposals_through_every_node(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes() {
    proposals_through_every_node(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_has_its_state_from_its_own_disk() {
    let cluster = Cluster::of(3).await;
    for item in 0..20 {
        cluster.push(1, "a", item).await.unwrap();
    }
    let leader = cluster.leader().await;
    let number = (1..=3).find(|n| *n != leader).unwrap();
    cluster.level(number).await;
    let before = cluster.node(number).look(Clone::clone);
    cluster.kill(number).await;
    // Alone: all that it knows is on its disk.
    let others: Vec<u16> = (1..=3).filter(|n| *n != number).collect();
    for other in &others {
        cluster.kill(*other).await;
    }
    cluster.start(number).await;
    assert_eq!(cluster.node(number).look(Clone::clone), before);
    for other in others {
        cluster.start(other).await;
    }
    assert_eq!(cluster.push(number, "a", 20).await, Ok(21));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_stopped_as_a_whole_keeps_what_was_acknowledged() {
    let cluster = Cluster::of(3).await;
    for round in 0..3_u64 {
        for item in 0..10 {
            cluster.push(1, "a", 10 * round + item).await.unwrap();
        }
        for number in 1..=3 {
            cluster.kill(number).await;
        }
        for number in 1..=3 {
            cluster.start(number).await;
            // Harmless where a Raft group is.
            cluster.node(number).initialize(&set(1..=3)).await.unwrap();
        }
        let wanted: Vec<u64> = (0..10 * (round + 1)).collect();
        assert_eq!(cluster.list(2, "a").await, wanted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_raft_group_a_proposal_ends_with_an_error() {
    let config = RaftConfig {
        patience: Duration::from_millis(300),
        ..patient()
    };
    let cluster = Cluster::empty(config);
    cluster.start(1).await;
    let refused = cluster.push(1, "a", 1).await;
    assert!(
        matches!(refused, Err(ConsensusError::NoQuorum { .. })),
        "{refused:?}"
    );
    let refused = cluster.node(1).read().await.map(drop);
    assert!(
        matches!(refused, Err(ConsensusError::NoQuorum { .. })),
        "{refused:?}"
    );
    // Not among the voters: forms nothing.
    cluster.node(1).initialize(&set(2..=4)).await.unwrap();
    assert_eq!(cluster.status(1).await.voters, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_command_is_refused_and_a_stopped_raft_group_says_so() {
    let cluster = Cluster::of(1).await;
    let long = Command::Ballast("x".repeat(causeway::raft::MAX_COMMAND_BYTES));
    let refused = cluster.propose(1, long).await;
    assert!(
        matches!(refused, Err(ConsensusError::TooLong { .. })),
        "{refused:?}"
    );
    let node = cluster.node(1);
    node.shutdown().await.unwrap();
    let refused = node.propose(Command::Push("a".to_owned(), 1)).await;
    assert_eq!(refused, Err(ConsensusError::Stopped));
    assert_eq!(node.read().await.map(drop), Err(ConsensusError::Stopped));
    assert_eq!(node.status().await.role, RaftRole::Stopped);
}

/// As after a panic of the library's task, which leaves no word behind.
#[test]
fn who_asks_a_raft_group_whose_tasks_are_gone_is_told_so_at_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (cluster, node) = runtime.block_on(async {
        let cluster = Cluster::of(1).await;
        let node = cluster.node(1);
        (cluster, node)
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let began = Instant::now();
    let refused = other.block_on(node.propose(Command::Push("a".to_owned(), 1)));
    assert!(
        matches!(refused, Err(ConsensusError::Storage(_))),
        "{refused:?}"
    );
    assert!(began.elapsed() < LONG / 4);
    drop(cluster);
}

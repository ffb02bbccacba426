//! A node that comes back without its disk, and with it without what it promised and confirmed.

use super::cluster::{Cluster, patient};
use causeway::raft::{ConsensusError, RaftConfig};
use std::time::Duration;

/// Takes away the disk of a node that is down.
fn wipe(cluster: &Cluster, number: u16) {
    std::fs::remove_dir_all(cluster.dir.path().join(number.to_string())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_has_no_vote_until_it_has_caught_up() {
    let cluster = Cluster::of(3).await;
    for item in 0..10 {
        cluster.push(1, "a", item).await.unwrap();
    }
    let leader = cluster.leader().await;
    let (wiped, behind) = match leader {
        1 => (2, 3),
        2 => (1, 3),
        _ => (1, 2),
    };
    // The last item is on the leader and on the node that is then wiped.
    cluster.kill(behind).await;
    cluster.push(leader, "a", 10).await.unwrap();
    cluster.kill(wiped).await;
    cluster.kill(leader).await;
    wipe(&cluster, wiped);
    cluster.start(wiped).await;
    cluster.start(behind).await;
    // Longer than an election takes.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!cluster.status(behind).await.has_quorum);
    cluster.start(leader).await;
    cluster.level(wiped).await;
    let wanted: Vec<u64> = (0..=10).collect();
    assert_eq!(cluster.list(behind, "a").await, wanted);
    // Then the vote of the wiped node counts as before: with it the others are a majority.
    cluster
        .until("its vote", async || cluster.status(wiped).await.may_vote)
        .await;
    cluster.kill(cluster.leader().await).await;
    let left = cluster.up()[0];
    assert_eq!(cluster.push(left, "b", 1).await, Ok(1));
}

/// The leader was deposed with the help of the node that then lost its disk. Together the two are a
/// majority, for what contradicts what the node had confirmed before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_not_help_a_leader_that_it_has_deposed() {
    let config = RaftConfig {
        patience: Duration::from_secs(8),
        ..patient()
    };
    let cluster = Cluster::form(config, 3).await;
    cluster.push(1, "a", 0).await.unwrap();
    let old = cluster.leader().await;
    cluster.split(&[old]);
    cluster
        .until("another leader", async || cluster.leader().await != old)
        .await;
    let new = cluster.leader().await;
    let wiped = (1..=3).find(|n| ![old, new].contains(n)).unwrap();
    // Decided: on the disks of the new leader and of the node that loses its own.
    assert_eq!(cluster.push(new, "a", 1).await, Ok(2));
    cluster.kill(new).await;
    cluster.kill(wiped).await;
    wipe(&cluster, wiped);
    cluster.start(wiped).await;
    cluster.heal();
    let refused = cluster.push(old, "a", 2).await;
    let open = matches!(
        refused,
        Err(ConsensusError::NoQuorum { .. } | ConsensusError::Undecided { .. })
    );
    assert!(open, "{refused:?}");
    assert!(!cluster.status(wiped).await.may_vote);
    cluster.start(new).await;
    let list = cluster.list(wiped, "a").await;
    assert_eq!(list[..2], [0, 1]);
    cluster
        .until("its vote", async || cluster.status(wiped).await.may_vote)
        .await;
}

/// One of two voters is left: all that was decided is on its disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_either_may_lose_its_disk() {
    let cluster = Cluster::of(2).await;
    for round in 0..2 {
        cluster.push(1, "a", round).await.unwrap();
        // The leader, so that the other one has to be elected with the vote of a node that knows
        // nothing.
        let wiped = cluster.leader().await;
        cluster.kill(wiped).await;
        wipe(&cluster, wiped);
        cluster.start(wiped).await;
        let wanted: Vec<u64> = (0..=round).collect();
        assert_eq!(cluster.list(wiped, "a").await, wanted);
        // The next one may lose its disk when this one stands for what is decided again.
        cluster
            .until("its vote", async || cluster.status(wiped).await.may_vote)
            .await;
    }
}

//! Nodes that join, leave and die.

use super::cluster::{Cluster, Command, m, patient, set};
use causeway::raft::{RaftConfig, RaftRole, force};
use std::time::Duration;

fn hasty() -> RaftConfig {
    RaftConfig {
        dead_after: Duration::from_secs(2),
        ..patient()
    }
}

async fn voters_become(cluster: &Cluster, at: u16, voters: &[u16], learners: &[u16]) {
    let wanted = (set(voters.iter().copied()), set(learners.iter().copied()));
    cluster
        .until(
            &format!("voters {voters:?} and learners {learners:?}"),
            async || {
                let status = cluster.status(at).await;
                (status.voters, status.learners) == wanted
            },
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_four_members_three_vote_and_all_follow() {
    let cluster = Cluster::of(4).await;
    voters_become(&cluster, 4, &[1, 2, 3], &[4]).await;
    assert_eq!(cluster.push(4, "a", 1).await, Ok(1));
    assert_eq!(cluster.list(4, "a").await, [1]);
    cluster.level(4).await;
    assert_eq!(cluster.status(4).await.role, RaftRole::Learner);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_grows_to_five_and_back_to_one() {
    let cluster = Cluster::of(1).await;
    cluster.push(1, "a", 0).await.unwrap();
    for number in 2..=5 {
        cluster.start(number).await;
    }
    cluster
        .propose(1, Command::Members(set(1..=3)))
        .await
        .unwrap();
    voters_become(&cluster, 3, &[1, 2, 3], &[]).await;
    cluster
        .propose(2, Command::Members(set(1..=5)))
        .await
        .unwrap();
    voters_become(&cluster, 5, &[1, 2, 3, 4, 5], &[]).await;
    assert_eq!(cluster.push(5, "a", 1).await, Ok(2));

    // Two are enough to lose, then two, then the leader of two.
    cluster
        .propose(1, Command::Members(set([2, 3])))
        .await
        .unwrap();
    voters_become(&cluster, 2, &[2, 3], &[]).await;
    assert_eq!(cluster.push(3, "a", 2).await, Ok(3));
    let leader = cluster.leader().await;
    let last = if leader == 2 { 3 } else { 2 };
    cluster
        .propose(2, Command::Members(set([last])))
        .await
        .unwrap();
    voters_become(&cluster, last, &[last], &[]).await;
    for number in 1..=5 {
        if number != last {
            cluster.kill(number).await;
        }
    }
    assert_eq!(cluster.push(last, "a", 3).await, Ok(4));
    assert_eq!(cluster.list(last, "a").await, [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_voter_is_replaced_and_follows_when_it_comes_back() {
    let cluster = Cluster::form(hasty(), 4).await;
    voters_become(&cluster, 1, &[1, 2, 3], &[4]).await;
    let leader = cluster.leader().await;
    let dead = (1..=3).find(|n| *n != leader).unwrap();
    cluster.kill(dead).await;
    let rest: Vec<u16> = (1..=4).filter(|n| *n != dead).collect();
    voters_become(&cluster, leader, &rest, &[dead]).await;
    // Another may be lost now.
    let second = rest.iter().copied().find(|n| *n != leader).unwrap();
    cluster.kill(second).await;
    assert_eq!(cluster.push(leader, "a", 1).await, Ok(1));
    cluster.start(dead).await;
    cluster.level(dead).await;
    assert_eq!(cluster.list(dead, "a").await, [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_node_goes_on_alone_by_force() {
    let cluster = Cluster::form(hasty(), 3).await;
    cluster.push(1, "a", 0).await.unwrap();
    cluster.level(1).await;
    for number in 1..=3 {
        cluster.kill(number).await;
    }
    force(m(1), &cluster.dir.path().join("1")).await.unwrap();
    cluster.start(1).await;
    assert_eq!(cluster.push(1, "a", 1).await, Ok(2));
    voters_become(&cluster, 1, &[1], &[2, 3]).await;
    // The others come back, without what they had.
    for number in 2..=3 {
        std::fs::remove_dir_all(cluster.dir.path().join(number.to_string())).unwrap();
        cluster.start(number).await;
    }
    voters_become(&cluster, 2, &[1, 2, 3], &[]).await;
    assert_eq!(cluster.list(3, "a").await, [0, 1]);
    let empty = cluster.dir.path().join("9");
    assert!(force(m(9), &empty).await.is_err());
}

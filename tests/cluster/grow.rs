//! Nodes that come and go while all of them live.

use crate::harness::{Cluster, PATIENCE, eventually};
use crate::load::{KEYS, Load, assert_causal, count};
use crate::session::Session;
use crate::views::{assert_filled, fill};
use serde_json::Value;
use std::time::Duration;

/// Reads that found nothing, of keys that were there before and are never deleted.
fn not_found(operations: &[Value]) -> usize {
    let nothing = |o: &&Value| o["op"] == "get" && o["status"] == "ok" && o["value"].is_null();
    operations.iter().filter(nothing).count()
}

fn slowest_ms(operations: &[Value]) -> u64 {
    let done = operations.iter().filter(|o| o["status"] == "ok");
    let at = |o: &Value, what: &str| o[what].as_u64().unwrap();
    let took = done.map(|o| at(o, "end_us") - at(o, "start_us"));
    took.max().unwrap_or(0) / 1_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_nodes_become_seven_and_four_again_under_load() {
    const OWN: usize = 40;
    let cluster = Cluster::new(4, 2).with_spares(3).all_up().await;
    let mut nodes = vec![0, 1, 2, 3];
    let mut session = Session::default();
    fill(&cluster, &mut session, &nodes, OWN).await;
    let of_view_one = session.clone();
    cluster.formed().await;
    let load = Load::start(&cluster, 12, 0.0).await;
    let keys = u64::from(KEYS) + OWN as u64;
    cluster.until_keys(&nodes, keys).await;
    for (via, new) in [(0, 4), (4, 5), (5, 6)] {
        let put = session
            .put(cluster.at(via), "step", &format!("{new}"))
            .await;
        assert!(put.written(), "{put:?}");
        let reply = cluster.add(via, new).await;
        nodes.push(new);
        cluster.assert_changed(&reply, &nodes, 2).await;
        // The node just added has what was written through others, and others have what is written
        // through it.
        let at = cluster.at(new);
        let read = session.get(at, "step").await.in_time();
        assert_eq!(read.value(), Some(new.to_string().as_str()), "{read:?}");
        cluster.assert_keys(&nodes, keys + 1).await;
        let put = session.put(at, "step", "through the new one").await;
        assert!(put.written(), "{put:?}");
        for node in &nodes {
            let read = session.clone().get(cluster.at(*node), "step").await;
            assert_eq!(read.value(), Some("through the new one"), "{read:?}");
        }
        assert_filled(&cluster, &of_view_one, &[new], OWN).await;
    }
    // The first ones go, the one that was asked among them.
    for (via, old) in [(6, 0), (1, 1), (4, 2)] {
        let reply = cluster.remove(via, old).await;
        nodes.retain(|n| *n != old);
        cluster.assert_changed(&reply, &nodes, 2).await;
        cluster.assert_keys(&nodes, keys + 1).await;
        cluster.assert_removed(old, &session).await;
    }
    let operations = load.end(PATIENCE).await;
    println!("the slowest answer took {} ms", slowest_ms(&operations));
    assert!(count(&operations, "put", "ok") > 10 && count(&operations, "get", "ok") > 10);
    assert_eq!(not_found(&operations), 0);
    assert_causal(&operations);
    // A context of the first view is good under the last.
    assert_filled(&cluster, &of_view_one, &nodes, OWN).await;
    assert_filled(&cluster, &session, &nodes, OWN).await;
    cluster.level().await;
    cluster.assert_keys(&nodes, keys + 1).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_becomes_two_and_each_of_them_goes_and_comes_back() {
    let secret = "of the cluster";
    let cluster = Cluster::new(1, 1).with_spares(1);
    let cluster = cluster.with_all("CLUSTER_SECRET", secret).all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0], 30).await;
    cluster.formed().await;
    let reply = cluster.add(0, 1).await;
    cluster.assert_changed(&reply, &[0, 1], 1).await;
    cluster.assert_keys(&[0, 1], 30).await;
    // Two vote, and one of the two goes: what is left has to be able to decide. A node that has
    // just come gets its vote after a while only, so the first time takes longer.
    for (gone, left) in [(0, 1), (1, 0)] {
        let reply = cluster.remove(gone, gone).await;
        cluster.assert_view(&reply, &[left], 1).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        cluster.assert_removed(gone, &session).await;
        assert_filled(&cluster, &session, &[left], 30).await;
        let put = session.put(cluster.at(left), "more", "v").await;
        assert!(put.written(), "{put:?}");
        let reply = cluster.add(left, gone).await;
        cluster.assert_changed(&reply, &[0, 1], 1).await;
        cluster.assert_keys(&[0, 1], 31).await;
        assert_filled(&cluster, &session, &[0, 1], 30).await;
    }
    let last = cluster.remove(0, 1).await;
    cluster.assert_view(&last, &[0], 1).await;
    let refused = cluster.remove(0, 0).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_one_after_the_other_through_the_node_added_a_moment_ago() {
    let cluster = Cluster::new(1, 2).with_spares(3).all_up().await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0], 30).await;
    let mut nodes = vec![0];
    for new in [1, 2, 3] {
        let reply = cluster.add(new - 1, new).await;
        nodes.push(new);
        cluster.assert_changed(&reply, &nodes, 2).await;
        // To ask for what is so already is no mistake.
        let again = cluster.add(new, new).await;
        assert_eq!(again.body, reply.body);
    }
    // Both nodes of a partition, one after the other, each through itself.
    let partition = cluster.status(3).await.partition_id;
    let mut pair = Vec::new();
    for node in &nodes {
        if cluster.status(*node).await.partition_id == partition {
            pair.push(*node);
        }
    }
    assert_eq!(pair.len(), 2);
    for gone in pair {
        let reply = cluster.remove(gone, gone).await;
        nodes.retain(|n| *n != gone);
        cluster.assert_changed(&reply, &nodes, 2).await;
        cluster.assert_keys(&nodes, 30).await;
        cluster.assert_removed(gone, &session).await;
        assert_filled(&cluster, &session, &nodes, 30).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_one_node_go_without_a_loss() {
    let mut cluster = Cluster::start(4, 1).await;
    let mut session = Session::default();
    let mut nodes = vec![0, 1, 2, 3];
    fill(&cluster, &mut session, &nodes, 60).await;
    for (via, gone) in [(0, 3), (2, 0), (1, 1)] {
        let reply = cluster.remove(via, gone).await;
        nodes.retain(|n| *n != gone);
        cluster.assert_changed(&reply, &nodes, 1).await;
        cluster.assert_keys(&nodes, 60).await;
        assert_filled(&cluster, &session, &nodes, 60).await;
    }
    // After a restart the view is the last one, whatever VIEW says, and who was removed stays out.
    for node in 0..4 {
        cluster.down(node).await;
    }
    for node in 0..4 {
        cluster.up(node).await;
    }
    cluster.serving().await;
    for gone in [0, 1, 3] {
        cluster.assert_removed(gone, &session).await;
    }
    let reply = cluster.add(2, 2).await;
    cluster.assert_view(&reply, &[2], 1).await;
    assert_filled(&cluster, &session, &[2], 60).await;
    // With everything gone but what a removed node has itself, it still knows that it is out.
    cluster.down(0).await;
    cluster.down(2).await;
    cluster.up(0).await;
    cluster.serving().await;
    cluster.assert_removed(0, &session).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_does_not_keep_a_removed_node_from_anything() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let cluster = Cluster::start(2, 1).await;
    let mut session = Session::default();
    fill(&cluster, &mut session, &[0, 1], 10).await;
    cluster.formed().await;
    // A write, the body of which does not come.
    let mut slow = tokio::net::TcpStream::connect(cluster.at(1)).await.unwrap();
    let head = "PUT /kvs HTTP/1.1\r\nHost: n\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let reply = cluster.remove(0, 1).await;
    cluster.assert_changed(&reply, &[0], 1).await;
    let reply = cluster.add(0, 1).await;
    cluster.assert_changed(&reply, &[0, 1], 1).await;
    // When the body comes, the node does the write as what the node is by then.
    let body = format!("{:<39}", r#""key":"late","value":"v"}"#);
    slow.write_all(body.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let answered = tokio::time::timeout(Duration::from_secs(5), slow.read_exact(&mut answer));
    answered.await.expect("an answer in time").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 201");
    eventually("it is there", PATIENCE, async || {
        let read = session.get(cluster.at(0), "late").await;
        (read.value() == Some("v"))
            .then_some(())
            .ok_or(format!("{read:?}"))
    })
    .await;
    cluster.end().await;
}

//! Partitions that are dead for good: every node died, with its disk.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually, status};
use crate::session::{Reply, Session, send};
use crate::views::CHANGED_WITHIN;
use serde_json::Value;
use std::time::Duration;

/// Nodes count as dead after three seconds, and two more pass before it is said that nobody has
/// their data.
const REFUSED_WITHIN: Duration = Duration::from_secs(8);

impl Cluster {
    /// Ends nodes at once, whose disks are never seen again.
    fn destroy(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.kill(*node);
            self.lose_disk(*node);
        }
    }

    /// Checks that nothing was changed, and that the refusal names these nodes and the way out.
    async fn assert_refused(&self, reply: &Reply, code: &str, nodes: &[usize]) {
        assert_eq!(reply.status, 409, "{reply:?}");
        assert!(reply.took < REFUSED_WITHIN, "{reply:?}");
        assert_eq!(reply.body["code"], code, "{reply:?}");
        let error = reply.body["error"].as_str().unwrap();
        for node in nodes {
            assert!(error.contains(&self.at(*node).to_string()), "{error}");
        }
        for part in [
            "nothing was changed",
            "on their disks",
            "allow_data_loss=true",
            "--lose-data",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let state = self.view(0, "/view").await;
        assert_eq!(state["change"], Value::Null, "{state}");
    }

    /// Checks that a removal was made, with so many partitions left.
    fn assert_removed_to(&self, reply: &Reply, partitions: u64) {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(
            reply.took < REFUSED_WITHIN + CHANGED_WITHIN,
            "it is not waited for: {reply:?}"
        );
        assert_eq!(reply.body["number_of_partitions"], partitions, "{reply:?}");
    }

    /// Checks that keys of every partition of the first view can be written and read.
    async fn assert_serves(&self, nodes: &[usize], partitions: u32) {
        for partition in 0..partitions {
            let key = self.keys(partition, "after").next().unwrap();
            let mut session = Session::default();
            let put = session.put(self.at(nodes[0]), &key, "new").await;
            assert!(put.written(), "{put:?}");
            for node in nodes {
                let read = session.get(self.at(*node), &key).await;
                assert_eq!(read.value(), Some("new"), "{read:?}");
            }
        }
    }

    /// Writes a key of each partition of the first view.
    async fn write_each(&self, partitions: u32) -> Vec<String> {
        let mut keys = Vec::new();
        for partition in 0..partitions {
            let key = self.keys(partition, "before").next().unwrap();
            let put = Session::default().put(self.at(0), &key, "old").await;
            assert!(put.written(), "{put:?}");
            keys.push(key);
        }
        self.level().await;
        keys
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_partition_is_given_up_and_its_nodes_are_removed_one_after_the_other() {
    let mut cluster = Cluster::new(4, 2).with_spares(1).apart().all_up().await;
    cluster.formed().await;
    let keys = cluster.write_each(2).await;
    cluster.destroy(&[2, 3]);
    // A new partition would take slots from the dead one.
    let refused = cluster.add(0, 4).await;
    cluster
        .assert_refused(&refused, "dead_partition", &[2, 3])
        .await;
    let refused = cluster.remove(0, 2).await;
    cluster.assert_refused(&refused, "data_loss", &[2, 3]).await;
    let plan = format!("/view/plan?type=remove&ip_port={}", cluster.at(2));
    let plan = cluster.view(1, &plan).await;
    let lost = plan["data_loss"][0].clone();
    assert_eq!(lost["partition_id"], 1, "{plan}");

    let reply = cluster.remove_losing_data(0, 2).await;
    cluster.assert_removed_to(&reply, 2);
    assert_eq!(reply.body["data_loss"][0], lost, "{reply:?}");
    // The given-up node is shown as given up, and has to go before anything else changes.
    for path in ["/view", "/status"] {
        let url = format!("http://{}{path}", cluster.at(1));
        let state = send(HTTP.get(url)).await.body;
        let members = state["view"]["partitions"][1]["members"].clone();
        assert_eq!(members[0]["node"], cluster.at(3).to_string(), "{members}");
        assert_eq!(members[0]["given_up"], true, "{path}: {members}");
        let other = &state["view"]["partitions"][0]["members"][0];
        assert_eq!(other["given_up"], Value::Null, "{path}: {other}");
    }
    let refused = cluster.add(0, 4).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let error = refused.body["error"].as_str().unwrap();
    assert!(error.contains(&cluster.at(3).to_string()), "{error}");
    assert!(error.contains("given up"), "{error}");
    // The node's data has been given up already.
    let reply = cluster.remove(0, 3).await;
    cluster.assert_removed_to(&reply, 1);
    cluster.assert_view(&reply, &[0, 1], 2).await;
    let read = Session::default().get(cluster.at(1), &keys[0]).await;
    assert_eq!(read.value(), Some("old"), "{read:?}");
    let read = Session::default().get(cluster.at(1), &keys[1]).await;
    assert_eq!(read.status, 404, "{read:?}");
    cluster.assert_serves(&[0, 1], 2).await;
    let reply = cluster.add(1, 4).await;
    cluster.assert_changed(&reply, &[0, 1, 4], 2).await;
    cluster.assert_serves(&[0, 1, 4], 2).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_nodes_of_a_partition_had_that_was_given_up_comes_back_with_them() {
    const OWN: usize = 20;
    let mut cluster = Cluster::new(4, 2).apart().all_up().await;
    cluster.formed().await;
    let keys: Vec<String> = cluster.keys(1, "own").take(OWN).collect();
    let mut session = Session::default();
    for key in &keys {
        let put = session.put(cluster.at(2), key, "kept").await;
        assert!(put.written(), "{put:?}");
    }
    cluster.level().await;
    let dead = [2, 3];
    dead.iter().for_each(|node| cluster.kill(*node));
    let reply = cluster.remove_losing_data(0, 2).await;
    cluster.assert_removed_to(&reply, 2);
    // One is out, the other one is still in the view.
    cluster.up(3).await;
    cluster.until_state(3, "given up").await;
    cluster.up(2).await;
    cluster.until_removed(2).await;
    // The given-up node lives through more than one round of what replicas clear away.
    let began = cluster.status(3).await.uptime_seconds;
    eventually("it has been back for a while", PATIENCE, async || {
        let status = status(cluster.at(3)).await?;
        assert_eq!(status.state, "given up");
        let long = status.uptime_seconds >= began + 2;
        long.then_some(()).ok_or(status.state)
    })
    .await;
    let reply = cluster.remove(0, 3).await;
    cluster.assert_removed_to(&reply, 1);
    cluster.until_removed(3).await;
    for node in dead {
        let said = cluster.config(node).data_dir.join("offered");
        eventually("all was offered", PATIENCE, async || {
            let said = std::fs::read_to_string(&said).map_err(|e| e.to_string())?;
            println!("node {node}: {said}");
            Ok(())
        })
        .await;
        // Each has all of it.
        let said = std::fs::read_to_string(&said).unwrap();
        assert!(!said.contains("nothing that others"), "{node}: {said}");
    }
    cluster.until_keys(&[0, 1], OWN as u64).await;
    for key in &keys {
        let read = Session::default().get(cluster.at(1), key).await;
        assert_eq!(read.value(), Some("kept"), "{read:?}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_partition_does_not_keep_other_nodes_from_being_removed() {
    let mut cluster = Cluster::new(6, 2).apart().all_up().await;
    cluster.formed().await;
    let keys = cluster.write_each(3).await;
    cluster.destroy(&[1, 4, 5]);
    let reply = cluster.remove(0, 1).await;
    cluster.assert_removed_to(&reply, 3);
    // One partition less: its slots would go to the dead one as well.
    let refused = cluster.remove(0, 3).await;
    cluster
        .assert_refused(&refused, "dead_partition", &[4, 5])
        .await;
    let plan = format!("/view/plan?type=remove&ip_port={}", cluster.at(4));
    let plan = cluster.view(0, &plan).await;
    assert_eq!(plan["gaining"][0], Value::Null, "{plan}");
    let reply = cluster.remove_losing_data(2, 4).await;
    cluster.assert_removed_to(&reply, 3);
    let reply = cluster.remove(2, 5).await;
    cluster.assert_removed_to(&reply, 2);
    let reply = cluster.remove(2, 3).await;
    cluster.assert_removed_to(&reply, 1);
    cluster.assert_view(&reply, &[0, 2], 2).await;
    for key in &keys[..2] {
        let read = Session::default().get(cluster.at(2), key).await;
        assert_eq!(read.value(), Some("old"), "{read:?}");
    }
    cluster.assert_serves(&[0, 2], 3).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_dead_partitions_that_need_each_other_both_are_given_up() {
    let mut cluster = Cluster::new(5, 1).apart().all_up().await;
    cluster.formed().await;
    cluster.destroy(&[3, 4]);
    // Its slots would go to the other one.
    let refused = cluster.remove(0, 3).await;
    cluster.assert_refused(&refused, "data_loss", &[3, 4]).await;
    let reply = cluster.remove_losing_data(0, 3).await;
    cluster.assert_removed_to(&reply, 4);
    let lost = reply.body["data_loss"].as_array().unwrap();
    assert_eq!(lost.len(), 2, "{reply:?}");
    let reply = cluster.remove(0, 4).await;
    cluster.assert_removed_to(&reply, 3);
    cluster.assert_view(&reply, &[0, 1, 2], 1).await;
    cluster.assert_serves(&[0, 1, 2], 5).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_node_of_three_is_removed_once_the_dead_one_is() {
    let mut cluster = Cluster::new(3, 1).apart().all_up().await;
    cluster.formed().await;
    cluster.destroy(&[2]);
    let dead = cluster.at(2).to_string();
    let refused = cluster.remove(0, 1).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.took < REFUSED_WITHIN, "{refused:?}");
    let error = refused.body["error"].as_str().unwrap();
    for part in [&*dead, "bring", "remove it first"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let refused = cluster.remove(0, 2).await;
    cluster.assert_refused(&refused, "data_loss", &[2]).await;
    let reply = cluster.remove_losing_data(0, 2).await;
    cluster.assert_removed_to(&reply, 2);
    cluster.assert_view(&reply, &[0, 1], 1).await;
    cluster.assert_serves(&[0, 1], 3).await;
    let reply = cluster.remove(0, 1).await;
    cluster.assert_removed_to(&reply, 1);
    cluster.assert_serves(&[0], 3).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_one_of_two_nodes_is_not_removed_without_it_but_the_way_out_is_told() {
    let mut cluster = Cluster::new(2, 1).apart().all_up().await;
    cluster.formed().await;
    cluster.destroy(&[1]);
    for reply in [
        cluster.remove(0, 1).await,
        cluster.remove_losing_data(0, 1).await,
    ] {
        assert!(reply.status == 503 && reply.retry_after, "{reply:?}");
        assert!(reply.took < REFUSED_WITHIN, "{reply:?}");
        let error = reply.body["error"].as_str().unwrap();
        assert!(error.contains("view force"), "{error}");
    }
    cluster.end().await;
}

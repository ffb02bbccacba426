//! The replication strategy, changed while clients are at work.

use crate::failing::{ask, read, write};
use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use crate::load::{Load, assert_causal, count};
use crate::session::{Reply, send};
use reqwest::Method;
use serde_json::{Value, json};

const OWN: usize = 40;

impl Cluster {
    async fn set_strategy(&self, via: usize, body: Value) -> Reply {
        let url = format!("http://{}/set_replication_strategy", self.at(via));
        let reply = send(HTTP.post(url).json(&body)).await;
        println!(
            "{body}: {} in {:?}: {}",
            reply.status, reply.took, reply.body
        );
        assert!(matches!(reply.status, 200 | 202), "{reply:?}");
        reply
    }

    /// Waits until `nodes` say that all is in place, and that each of `partitions` has so many
    /// nodes.
    async fn assert_placed(&self, nodes: &[usize], strategy: &str, k: u64, partitions: usize) {
        for node in nodes {
            eventually("the view is as asked for", PATIENCE, async || {
                let view = ask(self.at(*node), Method::GET, "/view").await.body;
                let placed = &view["view"];
                let settled = view["change"].is_null() && view["closing"] == json!([]);
                let is = placed["partitions"].as_array().ok_or("none")?.len() == partitions
                    && placed["strategy"] == strategy
                    && placed["k"] == k;
                (settled && is)
                    .then_some(())
                    .ok_or_else(|| view.to_string())
            })
            .await;
        }
    }

    /// Checks that every node answers for all keys, and that those are at so many nodes.
    async fn assert_all_there(&self, nodes: &[usize], copies: usize) {
        for i in 0..OWN {
            let key = format!("own-{i}");
            for node in nodes {
                let read = read(self.at(*node), &key).await;
                assert_eq!(read.body["value"], "v", "{read:?}");
            }
            let at = self.at(nodes[i % nodes.len()]);
            let holders = ask(at, Method::GET, &format!("/nodes_for_key/{key}")).await;
            assert_eq!(
                holders.body["nodes"].as_array().unwrap().len(),
                copies,
                "{holders:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_and_consistent_are_switched_under_load_and_nothing_is_lost() {
    let cluster = Cluster::new(3, 1).with_spares(1).all_up().await;
    cluster.formed().await;
    for i in 0..OWN {
        // A busy machine may need more than the second that an answer has: then it may have been
        // written all the same.
        let mut again = false;
        eventually("it is written", PATIENCE, async || {
            let wrote = write(cluster.at(i % 3), &format!("own-{i}"), "v").await;
            let is = wrote.status == 200 || (again && wrote.status == 409);
            again = wrote.status == 503;
            assert!(is || again, "{wrote:?}");
            is.then_some(()).ok_or_else(|| format!("{wrote:?}"))
        })
        .await;
    }
    let load = Load::start(&cluster, 8, 0.0).await;
    let full = cluster.set_strategy(0, json!({"strategy": "full"})).await;
    assert_eq!(full.body["strategy"], "full");
    assert_eq!(
        (
            &full.body["replication_factor"],
            &full.body["number_of_partitions"]
        ),
        (&json!(3), &json!(1))
    );
    cluster.assert_placed(&[0, 1, 2], "full", 3, 1).await;
    cluster.assert_all_there(&[0, 1, 2], 3).await;
    // A strategy that is in force already changes nothing.
    let again = cluster.set_strategy(1, json!({"strategy": "full"})).await;
    assert_eq!(
        (again.status, &again.body["view"]),
        (200, &full.body["view"])
    );

    // A node that comes later holds everything as well.
    let added = cluster.add(1, 3).await;
    assert_eq!(added.body["number_of_partitions"], 1, "{added:?}");
    cluster.assert_placed(&[0, 1, 2, 3], "full", 4, 1).await;
    cluster.assert_all_there(&[0, 1, 2, 3], 4).await;

    let body = json!({"strategy": "consistent", "replication_factor": 2});
    let two = cluster.set_strategy(3, body).await;
    assert_eq!(two.body["strategy"], "consistent");
    cluster
        .assert_placed(&[0, 1, 2, 3], "consistent", 2, 2)
        .await;
    cluster.assert_all_there(&[0, 1, 2, 3], 2).await;

    // PUT /view is the same by another name.
    let full = cluster.set_strategy(2, json!({"strategy": "full"})).await;
    assert_eq!(full.body["replication_factor"], 4);
    cluster.assert_placed(&[0, 3], "full", 4, 1).await;
    let set = HTTP.put(format!("http://{}/view", cluster.at(0)));
    assert!(matches!(
        send(set.form(&[("k", "4")])).await.status,
        200 | 202
    ));
    cluster.assert_placed(&[0, 3], "consistent", 4, 1).await;
    cluster.assert_all_there(&[1, 2], 4).await;

    let operations = load.end(PATIENCE).await;
    assert!(
        count(&operations, "put", "ok") > 100,
        "clients were at work"
    );
    assert_causal(&operations);
    cluster.level().await;
    cluster.end().await;
}

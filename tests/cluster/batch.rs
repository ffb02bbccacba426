//! Batches and snapshots over several partitions.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use crate::session::Session;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

async fn post(at: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let reply = HTTP.post(format!("http://{at}{path}")).json(body).send();
    let reply = reply.await.unwrap();
    let status = reply.status().as_u16();
    (status, reply.json().await.unwrap())
}

/// Three partitions of one node each: most keys of a batch are elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_done_wherever_its_keys_are_and_ends_for_each_as_its_partition_can() {
    let mut cluster = Cluster::start(3, 1).await;
    let puts: Vec<Value> = (0..300)
        .map(|i| json!({"op": "put", "key": format!("k{i}"), "value": i}))
        .collect();
    let (status, put) = post(cluster.at(0), "/kvs/batch", &json!({"operations": puts})).await;
    assert_eq!(status, 200, "{put}");
    let results = put["results"].as_array().unwrap();
    assert!(results.iter().all(|r| r["status"] == 201), "{put}");
    let partitions: std::collections::BTreeSet<_> = results
        .iter()
        .map(|r| r["partition_id"].as_u64().unwrap())
        .collect();
    assert_eq!(partitions.len(), 3);

    let gets: Vec<Value> = (0..300)
        .map(|i| json!({"op": "get", "key": format!("k{i}")}))
        .collect();
    let asked = json!({"operations": gets, "causal_payload": put["causal_payload"]});
    let (_, got) = post(cluster.at(1), "/kvs/batch", &asked).await;
    for (i, result) in got["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!(
            (&result["status"], &result["value"]),
            (&json!(200), &json!(i))
        );
    }

    // A partition that is away fails its own operations, in time, and no others.
    cluster.down(2).await;
    let began = Instant::now();
    let (status, got) = post(cluster.at(1), "/kvs/batch", &asked).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(status, 200);
    let away = cluster.at(2);
    for (i, result) in got["results"].as_array().unwrap().iter().enumerate() {
        let wanted = match cluster.replicas(&format!("k{i}")) == [away] {
            true => 503,
            false => 200,
        };
        assert_eq!(result["status"], wanted, "k{i}: {result}");
    }
    let keys: Vec<String> = (0..300).map(|i| format!("k{i}")).collect();
    let (status, refused) = post(cluster.at(1), "/kvs/snapshot", &json!({"keys": keys})).await;
    assert_eq!(status, 503, "{refused}");
    cluster.up(2).await;
    eventually("the batch is read whole again", PATIENCE, async || {
        let (status, cut) = post(cluster.at(1), "/kvs/snapshot", &json!({"keys": keys})).await;
        let whole = status == 200 && cut["values"].as_object().unwrap().len() == 300;
        whole.then_some(()).ok_or_else(|| cut.to_string())
    })
    .await;
}

/// A writer writes a post and then, in the same session, its number into an index elsewhere. A
/// snapshot never has an index that names a post which it has not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_never_has_an_effect_without_its_cause() {
    let cluster = Cluster::start(4, 2).await;
    let in_partition = |first: bool| {
        let mut names = (0..).map(|i| format!("key{i}"));
        let home = cluster.replicas("key0");
        names
            .find(|key| (cluster.replicas(key) == home) == first)
            .unwrap()
    };
    let (post_key, index_key) = (in_partition(true), in_partition(false));
    let stop = AtomicBool::new(false);
    let writes = async {
        let mut session = Session::default();
        for n in 0u64.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let at = cluster.at(n as usize % 4);
            let wrote = session.put(at, &post_key, &n.to_string()).await;
            assert!(wrote.written(), "{wrote:?}");
            let wrote = session.put(at, &index_key, &n.to_string()).await;
            assert!(wrote.written(), "{wrote:?}");
        }
    };
    let reads = async {
        let (mut whole, mut unsettled) = (0, 0);
        let end = Instant::now() + PATIENCE;
        while whole < 100 && Instant::now() < end {
            let asked = json!({"keys": [&index_key, &post_key]});
            let at = cluster.at((whole + unsettled) % 4);
            let (status, cut) = post(at, "/kvs/snapshot", &asked).await;
            if status == 503 {
                unsettled += 1;
                continue;
            }
            assert_eq!(status, 200, "{cut}");
            let number = |key: &str| {
                let text = cut["values"][key]["value"].as_str();
                text.map_or(-1, |text| text.parse::<i64>().unwrap())
            };
            let (index, post) = (number(&index_key), number(&post_key));
            assert!(post >= index, "the index names {index}, the post is {post}");
            whole += 1;
        }
        stop.store(true, Ordering::Relaxed);
        (whole, unsettled)
    };
    let ((), (whole, unsettled)) = tokio::join!(writes, reads);
    assert!(whole >= 100, "{whole} snapshots, {unsettled} refused");
}

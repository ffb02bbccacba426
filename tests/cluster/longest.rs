//! What clients may send at most gets wherever values go between nodes.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use crate::keys::{get, led, post};
use crate::session::{Session, here, send};
use causeway::node::config::LONGEST_VALUE;
use reqwest::Method;
use serde_json::json;

/// A key of the greatest length that a node holds.
fn longest_key(cluster: &Cluster, node: usize) -> String {
    let mut keys = (0..).map(|n| format!("{}{n:04}", "k".repeat(1020)));
    keys.find(|key| cluster.replicas(key) == [cluster.at(node)])
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_value_gets_everywhere() {
    let most = LONGEST_VALUE.to_string();
    let cluster = Cluster::new(2, 1).with_all("MAX_VALUE_BYTES", &most);
    let cluster = cluster.all_up().await;
    let (one, other) = (cluster.at(0), cluster.at(1));
    let value = |c: &str| c.repeat(LONGEST_VALUE);
    let key = longest_key(&cluster, 1);
    let mut session = Session::default();

    // Sent on to the node that has it, and back from there.
    let first = value("a");
    eventually("it is written", PATIENCE, async || {
        let reply = session.put(one, &key, &first).await;
        reply.written().then_some(()).ok_or(reply.body.to_string())
    })
    .await;
    eventually("it is read", PATIENCE, async || {
        let reply = session.get(one, &key).await;
        let same = reply.status == 200 && reply.value() == Some(&first);
        same.then_some(()).ok_or(format!("status {}", reply.status))
    })
    .await;
    let longer = session.put(one, &key, &format!("{first}a")).await;
    assert_eq!(longer.status, 413);

    // Copied when another node is to hold it too.
    let url = format!("http://{one}/view");
    let changed = send(HTTP.request(Method::PUT, url).json(&json!({"k": 2}))).await;
    assert!(matches!(changed.status, 200 | 202), "{changed:?}");
    let is_at = async |at, value: &str| {
        eventually("it is there", PATIENCE, async || {
            let reply = here(at, &key, &session.payload).await;
            let same = reply.status == 200 && reply.value() == Some(value);
            same.then_some(()).ok_or(format!("status {}", reply.status))
        })
        .await;
    };
    is_at(one, &first).await;
    is_at(other, &first).await;

    // Streamed from the one to the other, which may take longer than the write waits for it.
    let second = value("b");
    let mut writer = session.clone();
    eventually("it is written", PATIENCE, async || {
        let reply = writer.put(other, &key, &second).await;
        reply.written().then_some(()).ok_or(reply.body.to_string())
    })
    .await;
    is_at(one, &second).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_item_of_a_list_gets_to_every_node() {
    let cluster = Cluster::new(3, 3).snapshot_after(1 << 20);
    let mut cluster = cluster.all_up().await;
    let at = [0, 1, 2].map(|node| cluster.at(node));
    led(at[0]).await;
    let empty = json!({"type": "APPEND", "value": ""});
    let item = "i".repeat((1 << 20) - empty.to_string().len());
    let body = json!({"type": "APPEND", "value": item});
    let key = "k".repeat(1024);
    let mut session = Session::default();
    assert!(session.put(at[0], "k", "v").await.written());
    // Through a node that has to send it on to the leader as well.
    for (n, node) in at.into_iter().enumerate() {
        let key = format!("{n}{}", &key[1..]);
        let once = format!("{n}{}", "o".repeat(254));
        let headers = [
            ("causal-payload", session.payload.as_str()),
            ("idempotency-key", once.as_str()),
        ];
        let reply = post(node, &key, &body, &headers).await;
        assert_eq!(reply.status(), 204, "{}", reply.text().await.unwrap());
        for node in at {
            let list = get(node, &format!("/keys/{key}")).await;
            let list: Vec<String> = list.json().await.unwrap();
            assert!(list == [item.as_str()]);
        }
    }
    // A node that lost its disk gets them in a snapshot: the log is cut after each of them.
    cluster.down(2).await;
    cluster.lose_disk(2);
    cluster.up(2).await;
    for n in 0..3 {
        let path = format!("/keys/{n}{}?consistency=local", &key[1..]);
        eventually("it is there again", PATIENCE, async || {
            let list = get(at[2], &path).await;
            let status = list.status();
            let list: Vec<String> = list.json().await.unwrap_or_default();
            let same = list == [item.as_str()];
            same.then_some(()).ok_or(status.to_string())
        })
        .await;
    }
    cluster.end().await;
}

//! Nodes that act as failed because an operator says so, and come back.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually, status};
use crate::session::{Reply, Session, send};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Asks a node of the operator's store.
pub async fn ask(at: SocketAddr, method: Method, path: &str) -> Reply {
    send(HTTP.request(method, format!("http://{at}{path}"))).await
}

pub async fn write(at: SocketAddr, key: &str, value: &str) -> Reply {
    let body = json!({"key": key, "value": value});
    send(HTTP.post(format!("http://{at}/write")).json(&body)).await
}

pub async fn read(at: SocketAddr, key: &str) -> Reply {
    ask(at, Method::GET, &format!("/read/{key}")).await
}

pub async fn done(at: SocketAddr, path: &str) -> String {
    let reply = ask(at, Method::POST, path).await;
    assert_eq!(
        (reply.status, &reply.body["status"]),
        (200, &json!("success")),
        "{reply:?}"
    );
    reply.body["message"].as_str().unwrap().to_owned()
}

/// The `field` of each node in `/nodes`.
async fn nodes(at: SocketAddr, field: &str) -> Vec<String> {
    let reply = ask(at, Method::GET, "/nodes").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let all = reply.body["nodes"].as_array().unwrap().iter();
    all.map(|n| n[field].as_str().unwrap().to_owned()).collect()
}

/// Checks that a node serves nobody, and says what brings it back.
async fn assert_failed(at: SocketAddr) {
    for path in [
        "/kvs?key=k",
        "/read/k",
        "/keys/k",
        "/view",
        "/ready",
        "/kvs/get_partition_id",
        "/nodes_for_key/k",
    ] {
        let response = HTTP.get(format!("http://{at}{path}")).send().await.unwrap();
        assert_eq!(response.status(), 503, "{path}");
        let text = response.text().await.unwrap();
        assert!(
            text.contains(&format!("POST /recover/{at}")),
            "{path}: {text}"
        );
    }
    assert_eq!(
        ask(at, Method::GET, "/health").await.status,
        200,
        "its process lives"
    );
    assert_eq!(status(at).await.unwrap().state, "failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_node_is_done_without_and_has_everything_when_it_is_back() {
    let mut cluster = Cluster::start(3, 2).await;
    cluster.formed().await;
    let [one, other, third] = [0, 1, 2].map(|node| cluster.at(node));
    let keys: Vec<String> = cluster.keys(0, "k").take(10).collect();
    for (node, key) in keys.iter().enumerate() {
        let wrote = write(cluster.at(node % 3), key, "before").await.in_time();
        assert_eq!(
            (wrote.status, &wrote.body["copies"]),
            (200, &json!(2)),
            "{wrote:?}"
        );
    }

    let said = done(third, "/fail/0").await;
    assert!(said.contains("POST /recover/0"), "{said}");
    assert_failed(one).await;
    // Twice is as good as once, by whatever name, whoever is asked.
    done(other, &format!("/fail/{one}")).await;
    done(one, "/fail/0").await;
    for at in [one, other, third] {
        assert_eq!(nodes(at, "status").await, ["dead", "alive", "alive"]);
        assert_eq!(nodes(at, "state").await, ["failed", "serving", "serving"]);
    }
    eventually("its peer does without it", PATIENCE, async || {
        let status = status(other).await?;
        let alive = status.peers.iter().any(|p| p.alive);
        (!alive)
            .then_some(())
            .ok_or_else(|| "it hears from it".to_owned())
    })
    .await;

    let mut session = Session::default();
    for key in &keys {
        for at in [other, third] {
            let read = read(at, key).await.in_time();
            assert_eq!(read.body["value"], "before", "{read:?}");
            assert_eq!(
                read.body["message"],
                format!("answered by node 1 ({other})")
            );
        }
        let put = session.put(third, key, "meanwhile").await.in_time();
        assert_eq!(
            (put.status, &put.body["copies"]),
            (200, &json!(1)),
            "{put:?}"
        );
    }
    let new = cluster.keys(0, "new").next().unwrap();
    assert_eq!(write(other, &new, "v").await.status, 200);
    assert_eq!(
        ask(third, Method::DELETE, &format!("/delete/{}", keys[9]))
            .await
            .status,
        200
    );

    let said = done(one, "/recover/0").await;
    assert!(said.contains("serves"), "{said}");
    // At once, from the node itself, although nobody said what there is to see.
    for key in &keys[..9] {
        let read = read(one, key).await;
        assert_eq!(read.body["value"], "meanwhile", "{read:?}");
        assert_eq!(read.body["message"], format!("answered by node 0 ({one})"));
    }
    assert_eq!(read(one, &keys[9]).await.status, 404);
    assert_eq!(read(one, &new).await.body["value"], "v");
    assert_eq!(session.get(one, &keys[0]).await.value(), Some("meanwhile"));
    assert_eq!(nodes(third, "status").await, ["alive"; 3]);
    done(other, "/recover/0").await;

    // The process starts again: nothing of it is left.
    done(other, "/fail/0").await;
    cluster.down(0).await;
    assert_eq!(
        nodes(third, "state").await,
        ["no answer", "serving", "serving"]
    );
    for (path, says) in [
        ("/fail/0", "dead already"),
        ("/recover/0", "start its process"),
    ] {
        let reply = ask(third, Method::POST, path).await.in_time();
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(
            reply.body["message"].as_str().unwrap().contains(says),
            "{reply:?}"
        );
    }
    cluster.up(0).await;
    cluster.serving().await;
    cluster.level().await;
    assert_eq!(read(one, &keys[0]).await.body["value"], "meanwhile");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_nodes_failed_is_missed_and_nothing_else() {
    let cluster = Cluster::start(4, 2).await;
    let outside = cluster.at(2);
    let keys = [0, 1].map(|p| cluster.keys(p, "k").next().unwrap());
    for key in &keys {
        assert_eq!(write(cluster.at(0), key, "v").await.status, 200);
    }
    let both = [0, 1].map(|node| async move { format!("/fail/{node}") });
    for path in join_all(both).await {
        done(outside, &path).await;
    }
    let lost = read(outside, &keys[0]).await.in_time();
    assert_eq!(
        (lost.status, &lost.body["error"]),
        (503, &json!("Unavailable")),
        "{lost:?}"
    );
    let lost = Session::default()
        .put(outside, &keys[0], "w")
        .await
        .in_time();
    assert_eq!(lost.status, 503, "{lost:?}");
    assert!(
        lost.body["error"].as_str().unwrap().contains("partition 0"),
        "{lost:?}"
    );
    assert_eq!(read(outside, &keys[1]).await.body["value"], "v");

    // One of them is enough, and a failed one can pass it on.
    done(cluster.at(0), "/recover/1").await;
    assert_eq!(read(cluster.at(1), &keys[0]).await.body["value"], "v");
    done(cluster.at(0), "/recover/0").await;
    cluster.level().await;
    cluster.end().await;
}

/// The Raft leader, by its own account.
async fn leader(cluster: &Cluster, nodes: &[usize]) -> Result<usize, String> {
    for node in nodes {
        let url = format!("http://{}/admin/status", cluster.at(*node));
        let asked = HTTP.get(url).header("accept", "application/json").send();
        let said: Value = asked.await.unwrap().json().await.unwrap();
        if said["state"] == "leader" && said["has_quorum"] == true {
            return Ok(*node);
        }
    }
    Err("nobody leads".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_raft_group_goes_on_when_its_leader_fails() {
    let cluster = Cluster::start(3, 3).await;
    cluster.formed().await;
    let first = leader(&cluster, &[0, 1, 2]).await.unwrap();
    let others: Vec<usize> = (0..3).filter(|n| *n != first).collect();
    let at = cluster.at(others[0]);
    let list = |node: usize| format!("http://{}/keys/pets", cluster.at(node));
    let body = |value: &str| json!({"type": "APPEND", "value": value});
    let post = HTTP.post(list(first)).json(&body("cat"));
    assert_eq!(post.send().await.unwrap().status(), 204);

    done(at, &format!("/fail/{first}")).await;
    eventually("another one leads", PATIENCE, async || {
        leader(&cluster, &others).await.map(drop)
    })
    .await;
    let post = HTTP.post(list(others[1])).json(&body("dog"));
    assert_eq!(post.send().await.unwrap().status(), 204);
    let refused = HTTP.post(list(first)).json(&body("cow")).send();
    assert_eq!(refused.await.unwrap().status(), 503, "it leads nobody");

    done(at, &format!("/recover/{first}")).await;
    eventually("it has the list", PATIENCE, async || {
        let response = HTTP.get(list(first)).send().await.unwrap();
        let text = response.text().await.unwrap();
        (text == r#"["cat","dog"]"#).then_some(()).ok_or(text)
    })
    .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_while_it_was_failed_learns_it_when_it_comes_back() {
    let cluster = Cluster::new(3, 3)
        .with_all("CLUSTER_SECRET", "of the nodes")
        .with_all("API_TOKEN", "s3cret")
        .all_up()
        .await;
    eventually("somebody leads", PATIENCE, async || {
        leader(&cluster, &[0, 1, 2]).await.map(drop)
    })
    .await;
    let (one, third) = (cluster.at(0), cluster.at(2));
    let post = |at: SocketAddr, path: String| {
        let request = HTTP.post(format!("http://{at}{path}"));
        send(request.bearer_auth("s3cret"))
    };
    assert_eq!(ask(one, Method::POST, "/fail/2").await.status, 403);
    // The token is shown to the node that is asked; what it passes on needs none.
    assert_eq!(post(one, "/fail/2".to_owned()).await.status, 200);
    let form = [
        ("ip_port", third.to_string()),
        ("type", "remove".to_owned()),
    ];
    let url = format!("http://{one}/kvs/view_update");
    let removed = HTTP.put(url).bearer_auth("s3cret").form(&form);
    let removed = send(removed).await;
    assert!(matches!(removed.status, 200 | 202), "{removed:?}");
    eventually("the change is done", PATIENCE, async || {
        let view = ask(one, Method::GET, "/view").await;
        // The number also tells that the node was given up.
        let done = view.body["change"].is_null() && view.body["last"]["end"] == "done";
        done.then_some(()).ok_or_else(|| view.body.to_string())
    })
    .await;
    // No view names it any more: it has to be asked itself.
    assert_eq!(post(one, format!("/recover/{third}")).await.status, 404);
    post(third, format!("/recover/{third}")).await;
    eventually("it knows", PATIENCE, async || {
        let state = status(third).await?.state;
        (state == "removed").then_some(()).ok_or(state)
    })
    .await;
    cluster.end().await;
}

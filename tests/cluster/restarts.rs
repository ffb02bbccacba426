//! Nodes that end and start again, with their disk and without it.

use crate::harness::{Cluster, HTTP, PATIENCE, awake, eventually};
use crate::keys::{append, led, post};
use crate::session::{Session, here};
use causeway::node::Node;
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Writes each key with its value, some at a time.
async fn fill(session: &Session, cluster: &Cluster, content: &BTreeMap<String, String>) {
    let nodes = cluster.running();
    let pairs: Vec<_> = content.iter().collect();
    for some in pairs.chunks(64) {
        let writes = some.iter().enumerate().map(|(i, (key, value))| {
            let (mut session, at) = (session.clone(), nodes[i % nodes.len()]);
            async move { session.put(at, key, value).await }
        });
        for write in join_all(writes).await {
            assert!(write.written(), "{write:?}");
        }
    }
}

/// Checks that a node itself has exactly this; `None` stands for a key that is not there.
async fn assert_has(cluster: &Cluster, node: usize, content: &BTreeMap<String, Option<String>>) {
    let at = cluster.at(node);
    for some in content.iter().collect::<Vec<_>>().chunks(64) {
        let reads = some.iter().map(|(key, _)| here(at, key, ""));
        for ((key, value), read) in some.iter().zip(join_all(reads).await) {
            let right = read.value() == value.as_deref();
            assert!(right, "{key} at node {node}: {}", read.status);
        }
    }
    let live = content.values().filter(|v| v.is_some()).count();
    assert_eq!(cluster.status(node).await.keys, live as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_away_takes_in_writes_and_deletes() {
    let mut cluster = Cluster::start(2, 2).await;
    let (one, other) = (cluster.at(0), cluster.at(1));
    let mut session = Session::default();
    eventually("a write has two copies", PATIENCE, async || {
        let put = session.put(one, "first", "v").await;
        let copies = put.body["copies"].as_u64();
        (copies == Some(2)).then_some(()).ok_or(format!("{put:?}"))
    })
    .await;
    let mut expected = BTreeMap::from([("first".to_owned(), Some("v".to_owned()))]);
    for i in 0..60 {
        let at = if i % 2 == 0 { one } else { other };
        let key = format!("key-{i}");
        assert_eq!(session.put(at, &key, "old").await.status, 201);
        expected.insert(key, Some("old".to_owned()));
    }
    cluster.level().await;
    cluster.down(1).await;
    for i in 0..40 {
        let key = format!("key-{i}");
        if i < 20 {
            let gone = session.delete(one, &key).await.in_time();
            assert_eq!((gone.status, &gone.body["copies"]), (200, &1.into()));
            expected.insert(key, None);
        } else {
            let put = session.put(one, &key, "new").await.in_time();
            assert_eq!((put.status, &put.body["copies"]), (200, &1.into()));
            expected.insert(key, Some("new".to_owned()));
        }
    }
    cluster.up(1).await;
    cluster.level().await;
    for node in [0, 1] {
        assert_has(&cluster, node, &expected).await;
    }
    assert_eq!(session.get(other, "key-30").await.value(), Some("new"));
    assert_eq!(session.get(other, "key-3").await.value(), None);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_disk_gets_everything_back() {
    let mut cluster = Cluster::start(2, 2).await;
    let mut session = Session::default();
    // Several chunks, of a few large values and of many small ones.
    let large = (0..20).map(|i| (format!("large-{i}"), i.to_string().repeat(128 << 10)));
    let small = (0..600).map(|i| (format!("small-{i}"), format!("{i}-{}", "s".repeat(4 << 10))));
    let content: BTreeMap<String, String> = large.chain(small).collect();
    fill(&session, &cluster, &content).await;
    let mut expected: BTreeMap<String, Option<String>> =
        content.into_iter().map(|(k, v)| (k, Some(v))).collect();
    let one = cluster.at(0);
    for i in 0..20 {
        let key = format!("small-{i}");
        assert_eq!(session.delete(one, &key).await.status, 200);
        expected.insert(key, None);
    }
    cluster.down(1).await;
    for i in 20..40 {
        let key = format!("small-{i}");
        assert_eq!(session.delete(one, &key).await.status, 200);
        expected.insert(key, None);
    }
    cluster.lose_disk(1);
    cluster.up(1).await;
    // The node forwards meanwhile, and does not answer from a disk that is empty.
    let read = session.get(cluster.at(1), "small-100").await;
    assert!(read.value().is_some_and(|v| v.starts_with("100-")));
    cluster.serving().await;
    cluster.level().await;
    assert_has(&cluster, 1, &expected).await;
    // The other one's disk is not needed any more, and when that is back nothing comes back with
    // it.
    cluster.down(0).await;
    let other = cluster.at(1);
    assert_eq!(session.get(other, "small-5").await.value(), None);
    assert_eq!(session.get(other, "small-25").await.value(), None);
    let put = session.put(other, "small-100", "new").await;
    assert_eq!((put.status, &put.body["copies"]), (200, &1.into()));
    expected.insert("small-100".to_owned(), Some("new".to_owned()));
    cluster.up(0).await;
    cluster.level().await;
    for node in [0, 1] {
        assert_has(&cluster, node, &expected).await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_has_all_that_it_acknowledged() {
    let mut cluster = Cluster::new(1, 1).apart().all_up().await;
    let at = cluster.at(0);
    let writers = (0..16).map(|writer| {
        tokio::spawn(async move {
            let mut acknowledged = 0;
            loop {
                let put = crate::harness::HTTP.put(format!("http://{at}/kvs"));
                let form = [
                    ("key", format!("{writer}")),
                    ("value", format!("{}", acknowledged + 1)),
                ];
                match put.form(&form).send().await {
                    Ok(reply) if reply.status().is_success() => acknowledged += 1,
                    _ => return (writer, acknowledged),
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    eventually("there are many writes", PATIENCE, async || {
        let read = here(at, "15", "").await;
        let n = read.value().and_then(|n| n.parse::<u64>().ok());
        n.filter(|n| *n >= 10).map(drop).ok_or(format!("{read:?}"))
    })
    .await;
    cluster.kill(0);
    let acknowledged = join_all(writers).await;
    cluster.up(0).await;
    eventually("it serves", PATIENCE, async || {
        let ready = crate::harness::HTTP.get(format!("http://{at}/ready"));
        let ready = ready.send().await.map_err(|e| e.to_string())?;
        ready
            .error_for_status()
            .map(drop)
            .map_err(|e| e.to_string())
    })
    .await;
    for writer in acknowledged {
        let (writer, n): (u64, u64) = writer.unwrap();
        let read = here(at, &writer.to_string(), "").await;
        let found: u64 = read.value().unwrap().parse().unwrap();
        // The one after it may have been stored without a reply.
        assert!(found == n || found == n + 1, "{writer}: {found} of {n}");
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_does_not_wait_long_for_a_node_that_is_missing() {
    let mut cluster = Cluster::new(3, 3);
    cluster.up(0).await;
    cluster.up(1).await;
    let took = awake(cluster.serving()).await;
    assert!(took < Duration::from_secs(4), "served after {took:?}");
    let mut session = Session::default();
    let put = session.put(cluster.at(0), "k", "v").await.in_time();
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(session.get(cluster.at(1), "k").await.value(), Some("v"));
    cluster.up(2).await;
    cluster.serving().await;
    cluster.level().await;
    assert_eq!(here(cluster.at(2), "k", "").await.value(), Some("v"));
    cluster.end().await;
}

/// Changes a list, as soon as there is a Raft group that decides it.
async fn decides(at: SocketAddr) {
    led(at).await;
    eventually("a list is changed", PATIENCE, async || {
        let status = post(at, "list", &append("item"), &[]).await.status();
        (status == 204).then_some(()).ok_or(status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raft_group_forms_without_a_first_voter_that_never_came_up() {
    let mut cluster = Cluster::new(3, 3).apart();
    cluster.up(0).await;
    cluster.up(1).await;
    decides(cluster.at(0)).await;
    // The third node joins later, and gets its vote: then either of the others can be done without.
    cluster.up(2).await;
    eventually("it votes", PATIENCE, async || {
        let url = format!("http://{}/view", cluster.at(2));
        let reply = HTTP.get(url).send().await.map_err(|e| e.to_string())?;
        let view: Value = reply.json().await.map_err(|e| e.to_string())?;
        (view["council"]["may_vote"] == true)
            .then_some(())
            .ok_or(view["council"].to_string())
    })
    .await;
    cluster.kill(0);
    decides(cluster.at(2)).await;
    cluster.end().await;
}

/// No disk is lost: two of three can decide without the third one at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_the_first_seconds_is_no_lost_disk() {
    let mut cluster = Cluster::new(3, 3).apart();
    for node in 0..3 {
        cluster.up(node).await;
    }
    let leader = led(cluster.at(0)).await;
    for node in 0..3 {
        cluster.kill(node);
    }
    let others: Vec<usize> = (0..3).filter(|n| cluster.at(*n) != leader).collect();
    for node in &others {
        cluster.up(*node).await;
    }
    decides(cluster.at(others[0])).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_dropped_lets_go_of_its_disk() {
    let cluster = Cluster::new(1, 1);
    drop(Node::start(cluster.config(0)).await.unwrap());
    eventually("its disk is free", PATIENCE, async || {
        let again = Node::start(cluster.config(0)).await;
        let again = again.map_err(|e| e.to_string())?;
        again.shutdown().await.map_err(|e| e.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_ending_sends_clients_to_another_one() {
    let cluster = Cluster::new(1, 1);
    let running = cluster.try_up(0).await.unwrap();
    let at = cluster.at(0);
    let mut session = Session::default();
    eventually("it serves", PATIENCE, async || {
        let put = session.put(at, "k", "v").await;
        put.written().then_some(()).ok_or(format!("{put:?}"))
    })
    .await;
    // Its surface is there a little longer, for what is under way.
    running.node.shutdown().await.unwrap();
    for refused in [
        session.put(at, "k", "w").await,
        session.delete(at, "k").await,
    ] {
        let refused = refused.in_time();
        assert!(refused.status == 503 && refused.retry_after, "{refused:?}");
        let error = refused.body["error"].as_str().unwrap();
        for part in ["shutting down", "nothing was done", "ask another node"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    running.stop().await.unwrap();
}

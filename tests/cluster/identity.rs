//! The cluster that a node belongs to: its birth, other clusters at its members' addresses, and its
//! earlier lives.

use crate::common;
use crate::harness::{Cluster, HTTP, PATIENCE, eventually, launched, status};
use crate::session::{Reply, Session, here, send};
use causeway::node;
use causeway::server::{self, Running};
use reqwest::Method;
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;

/// A node of its own making, in this process.
async fn launch(at: SocketAddr, view: &[SocketAddr], k: &str) -> (Running, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let config = common::config(at, view, dir.path(), &[("K", k)]);
    (server::launch(config, 1).await.unwrap(), dir)
}

async fn change(at: SocketAddr, kind: &str, node: SocketAddr) -> Reply {
    let request = HTTP.put(format!("http://{at}/kvs/view_update"));
    let (kind, node) = (kind.to_owned(), node.to_string());
    send(request.form(&[("type", kind), ("ip_port", node)])).await
}

async fn set_k(at: SocketAddr, k: usize) -> Reply {
    let request = HTTP.put(format!("http://{at}/view"));
    send(request.form(&[("k", k.to_string())])).await
}

/// Asserts that a node serves nobody yet, and says why.
async fn assert_forming(at: SocketAddr, says: &str) {
    let json = r#"{"type":"APPEND","value":"x"}"#;
    let asked = |method: Method, path: &str| HTTP.request(method, format!("http://{at}{path}"));
    for request in [
        asked(Method::GET, "/kvs?key=k"),
        asked(Method::GET, "/kvs?key=k&consistency=eventual"),
        asked(Method::PUT, "/kvs").form(&[("key", "k"), ("value", "v")]),
        asked(Method::DELETE, "/kvs?key=k"),
        asked(Method::GET, "/keys/k"),
        asked(Method::POST, "/keys/k").body(json),
        asked(Method::GET, "/ready"),
    ] {
        let reply = send(request).await;
        assert!(reply.status == 503 && reply.retry_after, "{reply:?}");
        let error = reply.body["error"].as_str().unwrap();
        assert!(error.contains(says), "{error}");
    }
}

/// Waits until a node is ready.
async fn ready(at: SocketAddr) {
    eventually("it is ready", PATIENCE, async || {
        let reply = HTTP.get(format!("http://{at}/ready")).send().await;
        let reply = reply.map_err(|e| e.to_string())?;
        (reply.status() == 200)
            .then_some(())
            .ok_or(format!("{reply:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_born_when_a_majority_is_up_and_its_nodes_serve_alone_afterwards() {
    let mut cluster = Cluster::new(4, 2);
    cluster.up(0).await;
    assert_forming(cluster.at(0), "1 of 4 nodes of VIEW are up").await;
    for node in 1..4 {
        cluster.up(node).await;
    }
    cluster.serving().await;
    let id = cluster.cluster(0).id;
    for node in 1..4 {
        assert_eq!(cluster.cluster(node).id, id);
    }
    let key = cluster.keys(0, "k").next().unwrap();
    let mut session = Session::default();
    assert_eq!(session.put(cluster.at(3), &key, "v").await.status, 201);
    cluster.level().await;
    for node in 0..4 {
        cluster.down(node).await;
    }
    cluster.up(0).await;
    eventually("it serves alone", PATIENCE, async || {
        let read = session.get(cluster.at(0), &key).await;
        (read.status == 200)
            .then_some(())
            .ok_or(format!("{read:?}"))
    })
    .await;
    assert_eq!(cluster.cluster(0).id, id);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_renewed_goes_on_and_takes_no_payload_from_before() {
    let mut cluster = Cluster::start(3, 3).await;
    cluster.formed().await;
    let mut old = Session::default();
    assert_eq!(old.put(cluster.at(0), "k", "v").await.status, 201);
    cluster.level().await;
    let before = cluster.cluster(0).id;
    for node in 0..3 {
        cluster.down(node).await;
    }
    let dir = cluster.config(1).data_dir;
    eventually("the disk is free", PATIENCE, async || {
        let survivor = node::Survivor::find(&dir).map_err(|e| e.to_string())?;
        survivor.renew().map_err(|e| e.to_string())
    })
    .await;
    cluster.up(1).await;
    for node in [0, 2] {
        cluster.up(node).await;
    }
    for node in 0..3 {
        eventually("it goes on", PATIENCE, async || {
            let reply = old.get(cluster.at(node), "k").await;
            let refused = reply.body["code"] == "foreign_payload";
            refused.then_some(()).ok_or(format!("{reply:?}"))
        })
        .await;
        let renewed = cluster.cluster(node);
        assert!(renewed.former == Some(before) && renewed.id != before);
        assert_eq!(renewed, cluster.cluster(0));
        ready(cluster.at(node)).await;
        let read = Session::default().get(cluster.at(node), "k").await;
        assert_eq!(read.value(), Some("v"));
    }
    // The Raft group knows it as well: what it decides next is taken over.
    cluster.formed().await;
    let reply = set_k(cluster.at(2), 2).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    cluster.level().await;
    assert_eq!(cluster.cluster(0).former, Some(before));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_no_cluster_takes_any_more_ends_and_its_data_is_kept() {
    let mut cluster = Cluster::new(3, 1).apart().all_up().await;
    cluster.formed().await;
    for key in cluster.keys(2, "own").take(3).collect::<Vec<_>>() {
        let put = Session::default().put(cluster.at(2), &key, "v").await;
        assert_eq!(put.status, 201, "{put:?}");
    }
    cluster.kill(2);
    let removed = cluster.remove_losing_data(0, 2).await;
    assert_eq!(removed.status, 200, "{removed:?}");
    cluster.up(2).await;
    cluster.until_removed(2).await;
    let dir = cluster.config(2).data_dir;
    eventually("all was offered", PATIENCE, async || {
        let done = std::fs::read_to_string(dir.join("offered"));
        done.map(drop).map_err(|e| e.to_string())
    })
    .await;
    let removed = cluster.remove(0, 1).await;
    assert_eq!(removed.status, 200, "{removed:?}");
    // As if it had ended before that, and the cluster was put back to an earlier state twice since.
    cluster.down(2).await;
    std::fs::remove_file(dir.join("offered")).unwrap();
    cluster.down(0).await;
    for _ in 0..2 {
        let survivor = node::Survivor::find(&cluster.config(0).data_dir).unwrap();
        survivor.renew().unwrap();
    }
    cluster.up(0).await;
    cluster.serving().await;
    cluster.up(2).await;
    eventually("it says that the offer has ended", PATIENCE, async || {
        let offers = status(cluster.at(2)).await?.offers;
        let ended = offers.iter().any(|offer| {
            let why = offer.ended.as_deref();
            why.is_some_and(|why| why.contains("another cluster")) && offer.left == 0
        });
        ended.then_some(()).ok_or(format!("{offers:?}"))
    })
    .await;
    assert!(cluster.log(2).contains("has ended"), "{}", cluster.log(2));
    assert!(!dir.join("offered").exists(), "nobody has it but this node");
    cluster.end().await;
}

/// The bytes of what a node knows of its cluster.
fn place(cluster: &Cluster, node: usize) -> Vec<u8> {
    std::fs::read(cluster.config(node).data_dir.join("place")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_at_a_dead_members_address_changes_nothing() {
    let mut cluster = Cluster::new(3, 3).apart().all_up().await;
    let mut session = Session::default();
    assert_eq!(session.put(cluster.at(0), "k", "v").await.status, 201);
    cluster.level().await;
    cluster.kill(2);
    let places = [0, 1].map(|node| place(&cluster, node));

    // Another cluster, with newer views, has a node where the third one was. Whoever invites an
    // empty node first has it: here those that run would take it for the third one, back without
    // its disk.
    let other = Cluster::start(1, 1).await;
    for node in [0, 1] {
        cluster.freeze(node);
    }
    let (stranger, _dir) = launch(cluster.at(2), &[], "1").await;
    let added = change(other.at(0), "add", cluster.at(2)).await;
    for node in [0, 1] {
        cluster.thaw(node);
    }
    assert_eq!(added.status, 200, "{added:?}");
    for k in [2, 1, 2] {
        assert_eq!(set_k(other.at(0), k).await.status, 200);
    }
    for restarted in [false, true] {
        if restarted {
            for node in [0, 1] {
                cluster.kill(node);
            }
            for node in [0, 1] {
                cluster.up(node).await;
            }
        }
        for node in [0, 1] {
            ready(cluster.at(node)).await;
            eventually("it has met the stranger", PATIENCE, async || {
                let log = cluster.log(node);
                let met = log.contains("different clusters");
                met.then_some(()).ok_or(log)
            })
            .await;
            // Long enough to ask each of the others, one a second.
            let asked = tokio::time::Instant::now() + Duration::from_secs(3);
            while tokio::time::Instant::now() < asked {
                let put = session.put(cluster.at(node), "k", "w").await;
                assert!(put.written(), "{put:?}");
            }
            assert!(
                place(&cluster, node) == places[node],
                "its place is the old one"
            );
        }
    }
    // The other cluster goes on as well.
    let put = Session::default().put(other.at(0), "k", "x").await;
    assert!(put.written(), "{put:?}");
    stranger.stop().await.unwrap();
    cluster.up(2).await;
    ready(cluster.at(2)).await;
    eventually("it is back", PATIENCE, async || {
        let read = session.get(cluster.at(2), "k").await;
        (read.status == 200 && read.value() == Some("w"))
            .then_some(())
            .ok_or(format!("{read:?}"))
    })
    .await;
    cluster.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_clusters_that_add_the_same_node_one_gets_it() {
    let (one, other) = (Cluster::start(1, 1).await, Cluster::start(1, 1).await);
    let spare = Cluster::new(1, 1).with_spares(1);
    let (node, _dir) = launch(spare.at(1), &[], "1").await;
    let (a, b) = tokio::join!(
        change(one.at(0), "add", spare.at(1)),
        change(other.at(0), "add", spare.at(1)),
    );
    let got = [&a, &b].map(|reply| reply.status == 200);
    assert!(got[0] != got[1], "{a:?} {b:?}");
    // Nobody has ended, and whoever has not got it serves on as it did.
    for cluster in [&one, &other] {
        let put = Session::default().put(cluster.at(0), "k", "v").await;
        assert!(put.written(), "{put:?}");
    }
    let joined = node.node.views().unwrap();
    let id = [&one, &other].map(|cluster| cluster.cluster(0).id);
    assert_eq!(
        joined.cluster.unwrap().id,
        if got[0] { id[0] } else { id[1] }
    );
    node.stop().await.unwrap();
    one.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_another_view_or_k_are_not_born_beside_each_other() {
    for (turned, k) in [(true, "1"), (true, "2"), (false, "2")] {
        let spots = Cluster::new(2, 1);
        let [a, b] = [0, 1].map(|node| spots.at(node));
        let view = if turned { [b, a] } else { [a, b] };
        let (one, _dir) = launch(a, &[a, b], "1").await;
        let (other, _dir2) = launch(b, &view, k).await;
        for at in [a, b] {
            eventually("it says why", PATIENCE, async || {
                let reply = send(HTTP.get(format!("http://{at}/ready"))).await;
                let error = reply.body["error"].as_str().unwrap_or_default();
                let says = reply.status == 503 && error.contains("fingerprints differ");
                says.then_some(()).ok_or(format!("{reply:?}"))
            })
            .await;
            assert_forming(at, "1 of 2 nodes of VIEW are up").await;
        }
        one.stop().await.unwrap();
        other.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_birth_a_node_is_not_started_with_another_view_on_the_same_disk() {
    let spots = Cluster::new(2, 1);
    let [a, b] = [0, 1].map(|node| spots.at(node));
    let (one, dir) = launch(a, &[a, b], "1").await;
    assert_forming(a, "1 of 2 nodes of VIEW are up").await;
    one.stop().await.unwrap();
    let config = common::config(a, &[a], dir.path(), &[("K", "1")]);
    let refused = server::launch(config, 1).await.err().unwrap().to_string();
    assert!(refused.contains("another VIEW or K"), "{refused}");
    assert!(refused.contains("empty the data directory"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_started_alone_is_a_cluster_of_its_own_and_the_other_says_so() {
    let spots = Cluster::new(2, 1);
    let [a, b] = [0, 1].map(|node| spots.at(node));
    let (alone, _dir) = launch(b, &[b], "1").await;
    ready(b).await;
    let (other, _dir2) = launch(a, &[a, b], "1").await;
    eventually("it says why", PATIENCE, async || {
        let reply = send(HTTP.get(format!("http://{a}/ready"))).await;
        let error = reply.body["error"].as_str().unwrap_or_default();
        let says = reply.status == 503 && error.contains("differ");
        says.then_some(()).ok_or(format!("{reply:?}"))
    })
    .await;
    assert_forming(a, "1 of 2 nodes of VIEW are up").await;
    ready(b).await;
    alone.stop().await.unwrap();
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_an_earlier_life_is_refused_beside_the_place_of_a_later_one() {
    let spots = Cluster::new(1, 1);
    let at = spots.at(0);
    let mut lives = Vec::new();
    for value in ["first", "second"] {
        let (node, dir) = launch(at, &[at], "1").await;
        ready(at).await;
        let put = Session::default().put(at, "k", value).await;
        assert_eq!(put.status, 201, "{put:?}");
        node.stop().await.unwrap();
        lives.push(dir);
    }
    let [first, second] = [0, 1].map(|life| lives[life].path());
    let mixed = async |names: &[&str]| {
        let swap = || {
            for name in names {
                let [a, b] = [first, second].map(|dir| dir.join(name));
                let aside = first.join("aside");
                std::fs::rename(&a, &aside).unwrap();
                std::fs::rename(&b, &a).unwrap();
                std::fs::rename(&aside, &b).unwrap();
            }
        };
        swap();
        let config = common::config(at, &[at], second, &[("K", "1")]);
        let refused = server::launch(config, 1).await.err();
        swap();
        refused.map(|error| error.to_string())
    };
    for names in [
        &["FORMAT", "data"][..],
        &["council"],
        &["FORMAT", "data", "council"],
        &["place"],
    ] {
        let refused = mixed(names).await.expect("it starts");
        assert!(refused.contains("of cluster"), "{refused}");
        assert!(refused.contains("empty the data directory"), "{refused}");
    }
    // Nothing of it was touched.
    let config = common::config(at, &[at], second, &[("K", "1")]);
    let node = launched(config.clone()).await;
    ready(at).await;
    let read = Session::default().get(at, "k").await;
    assert_eq!((read.status, read.value()), (200, Some("second")));
    node.stop().await.unwrap();
    // The data is nobody's without the file that names its place.
    std::fs::remove_file(second.join("place")).unwrap();
    let refused = server::launch(config, 1).await.err().unwrap().to_string();
    assert!(refused.contains("not born yet"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_of_an_earlier_life_is_refused_and_never_passed_on() {
    let mut cluster = Cluster::start(2, 2).await;
    for k in [1, 2] {
        cluster.formed().await;
        let reply = set_k(cluster.at(0), k).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let mut old = Session::default();
    let put = old.put(cluster.at(0), "k", "v").await;
    assert_eq!(put.status, 201, "{put:?}");
    for node in [0, 1] {
        cluster.down(node).await;
        cluster.lose_disk(node);
    }
    let mut cluster = cluster.all_up().await;
    for node in [0, 1] {
        let at = cluster.at(node);
        for reply in [
            old.get(at, "k").await,
            old.put(at, "k", "poison").await,
            old.delete(at, "k").await,
            here(at, "k", &old.payload).await,
        ] {
            assert_eq!(reply.status, 400, "{reply:?}");
            assert_eq!(reply.body["code"], "foreign_payload");
            assert!(reply.body["causal_payload"].is_null());
        }
    }
    let mut fresh = Session::default();
    assert_eq!(fresh.put(cluster.at(0), "k", "new").await.status, 201);
    for node in [0, 1] {
        let read = fresh.get(cluster.at(node), "k").await;
        assert_eq!((read.status, read.value()), (200, Some("new")));
    }
    // Without any Raft group: the disk says what the cluster is.
    cluster.down(1).await;
    let read = old.get(cluster.at(0), "k").await;
    assert_eq!(read.body["code"], "foreign_payload", "{read:?}");
    cluster.end().await;
}

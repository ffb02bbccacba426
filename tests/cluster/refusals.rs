//! Nodes and disks of another cluster, and payloads that nobody signed.

use crate::harness::{Cluster, PATIENCE, eventually};
use crate::session::{Session, here};
use causeway::node::Node;
use causeway::protocol::payload::{Codec, decode_unverified};

/// Waits until both nodes of a pair have logged `why`, and checks that neither hears the other.
async fn assert_strangers(cluster: &Cluster, why: &str) {
    for node in [0, 1] {
        eventually("it says why", PATIENCE, async || {
            let log = cluster.log(node);
            log.contains(why).then_some(()).ok_or(log)
        })
        .await;
        let status = cluster.status(node).await;
        assert_eq!(status.state, "forming");
        assert!(status.peers.iter().all(|peer| !peer.alive));
        let refused = Session::default().put(cluster.at(node), "k", "v").await;
        assert_eq!(refused.in_time().status, 503);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_another_secret_do_not_talk_and_say_so() {
    let cluster = Cluster::new(2, 2)
        .apart()
        .with(0, "CLUSTER_SECRET", "one")
        .with(1, "CLUSTER_SECRET", "another");
    let cluster = up_both(cluster).await;
    assert_strangers(&cluster, "the cluster secrets differ").await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_another_view_do_not_talk_and_say_so() {
    let cluster = Cluster::new(2, 2).apart();
    let turned = format!("{},{}", cluster.at(1), cluster.at(0));
    let cluster = up_both(cluster.with(1, "VIEW", &turned)).await;
    assert_strangers(&cluster, "the cluster fingerprints differ").await;
    cluster.end().await;
}

async fn up_both(mut cluster: Cluster) -> Cluster {
    for node in [0, 1] {
        cluster.up(node).await;
        eventually("it answers", PATIENCE, async || {
            let health = format!("http://{}/health", cluster.at(node));
            let health = crate::harness::HTTP.get(health).send().await;
            health.map(drop).map_err(|e| e.to_string())
        })
        .await;
    }
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_a_secret_takes_only_payloads_that_it_signed() {
    let secret = "a secret";
    let cluster = Cluster::new(2, 2)
        .with(0, "CLUSTER_SECRET", secret)
        .with(1, "CLUSTER_SECRET", secret)
        .all_up()
        .await;
    let mut session = Session::default();
    assert_eq!(session.put(cluster.at(0), "k", "v").await.status, 201);
    assert_eq!(session.get(cluster.at(1), "k").await.value(), Some("v"));
    let seen = decode_unverified(&session.payload).unwrap().0;
    let own = cluster.cluster(0);
    for (codec, why) in [
        (Codec::new(&own, None), "it is not signed"),
        (Codec::new(&own, Some(b"guessed")), "did not make it"),
    ] {
        let forged = Session {
            payload: codec.encode(&seen),
        };
        for reply in [
            forged.clone().get(cluster.at(0), "k").await,
            forged.clone().put(cluster.at(0), "k", "w").await,
            forged.clone().delete(cluster.at(0), "k").await,
        ] {
            assert_eq!(reply.status, 400, "{reply:?}");
            assert!(reply.body["error"].as_str().unwrap().contains(why));
            assert_eq!(reply.body["code"], "foreign_payload");
        }
    }
    assert_eq!(here(cluster.at(0), "k", "").await.value(), Some("v"));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_rotated_while_sessions_go_on() {
    let (one, two) = (Some("one"), Some("two"));
    let mut cluster = Cluster::start(2, 2).await;
    let mut session = Session::default();
    assert_eq!(session.put(cluster.at(0), "k", "0").await.status, 201);
    // First all take the new one, then they use it, then they take the old one no more.
    let steps = [
        (None, one),
        (one, Some("none")),
        (one, None),
        (one, two),
        (two, one),
        (two, None),
    ];
    for (step, (secret, also)) in steps.into_iter().enumerate() {
        for node in [0, 1] {
            cluster.level().await;
            cluster.down(node).await;
            cluster.set(node, "CLUSTER_SECRET", secret);
            cluster.set(node, "CLUSTER_SECRET_ALSO", also);
            cluster.up(node).await;
            cluster.serving().await;
            cluster.level().await;
            for at in [0, 1].map(|node| cluster.at(node)) {
                let value = format!("{step} {node} {at}");
                let put = session.put(at, "k", &value).await;
                assert_eq!(put.status, 200, "{put:?}");
            }
            let (at, other) = (cluster.at(node), cluster.at(1 - node));
            let value = format!("{step} {node} {}", cluster.at(1));
            for at in [at, other, at] {
                let read = session.get(at, "k").await;
                assert_eq!((read.status, read.value()), (200, Some(value.as_str())));
            }
        }
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_another_node_or_in_use_is_refused() {
    let refusal = async |cluster: &Cluster, node: usize| match cluster.try_up(node).await {
        Ok(_) => panic!("node {node} started"),
        Err(error) => error.to_string(),
    };
    let mut cluster = Cluster::start(2, 2).await;
    let mut session = Session::default();
    assert_eq!(session.put(cluster.at(0), "k", "v").await.status, 201);
    let mut config = cluster.config(0);
    config.peer_bind.set_port(0);
    let text = Node::start(config).await.err().unwrap().to_string();
    assert!(text.contains("another process"), "{text}");
    // The node that has it is none the worse for it.
    assert_eq!(session.get(cluster.at(0), "k").await.value(), Some("v"));
    for node in [0, 1] {
        cluster.down(node).await;
    }

    cluster.swap_disks(0, 1);
    for node in [0, 1] {
        let text = refusal(&cluster, node).await;
        assert!(text.contains("another node"), "{text}");
    }
    cluster.swap_disks(0, 1);

    // A refusal changes nothing and keeps nothing open. The disks of a cluster that was born say
    // what it is.
    let cluster = cluster.with(0, "K", "1").all_up().await;
    assert_eq!(cluster.status(0).await.view.k, 2);
    assert_eq!(session.get(cluster.at(1), "k").await.value(), Some("v"));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_named_and_the_disk_let_go() {
    let cluster = Cluster::new(1, 1);
    let config = cluster.config(0);
    let taken = std::net::TcpListener::bind(config.peer_bind).unwrap();
    let error = Node::start(config.clone()).await.err().unwrap().to_string();
    assert!(error.contains(&config.peer_bind.to_string()), "{error}");
    drop(taken);
    let taken = std::net::TcpListener::bind(config.bind).unwrap();
    let error = cluster.try_up(0).await.err().unwrap().to_string();
    assert!(error.contains(&config.bind.to_string()), "{error}");
    drop(taken);
    eventually("it starts", PATIENCE, async || {
        let node = cluster.try_up(0).await.map_err(|e| e.to_string())?;
        node.stop().await.map_err(|e| e.to_string())
    })
    .await;
}

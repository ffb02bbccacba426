//! The removal of a node that is the only one to hold some of the data: refused unless that may be
//! lost, and what it has comes back with it, whatever happens to it meanwhile.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use crate::session::{Reply, Session, send};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Keys of the whole cluster. Their offer takes longer than the changes of the view that come
/// between.
const KEYS: usize = 2_000;
/// Clients that write at a time.
const CLIENTS: usize = 50;
const OFFERED_WITHIN: Duration = Duration::from_secs(60);
const SOLE: usize = 2;

impl Cluster {
    /// The answer of a node that is asked about views.
    pub async fn view(&self, via: usize, path: &str) -> Value {
        let url = format!("http://{}{path}", self.at(via));
        let reply = send(HTTP.request(Method::GET, url)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body
    }

    async fn metric(&self, via: usize, name: &str) -> Option<u64> {
        let url = format!("http://{}/metrics", self.at(via));
        let text = HTTP.get(url).send().await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().parse().ok()
    }

    /// Waits until no node offers anything any more, as the nodes themselves say.
    async fn until_offered(&self, node: usize) {
        eventually("all was offered", OFFERED_WITHIN, async || {
            let offers = crate::harness::status(self.at(node)).await?.offers;
            offers.is_empty().then_some(()).ok_or(format!("{offers:?}"))
        })
        .await;
    }
}

/// Asks the first node to remove the sole holder, and waits until the node `via` says that this
/// runs. The reply comes later.
async fn removal_that_runs(cluster: &Cluster, via: usize) -> JoinHandle<Reply> {
    let url = format!("http://{}/kvs/view_update", cluster.at(0));
    let form = [
        ("ip_port", cluster.at(SOLE).to_string()),
        ("type", "remove".to_owned()),
    ];
    let reply = tokio::spawn(send(HTTP.request(Method::PUT, url).form(&form)));
    eventually("the removal runs", PATIENCE, async || {
        let state = cluster.view(via, "/view").await;
        let runs = state["change"]["phase"] == "moving data";
        runs.then_some(()).ok_or(state["change"].to_string())
    })
    .await;
    reply
}

/// Three nodes that hold a third each, and so many keys.
async fn filled(keys: usize) -> Cluster {
    let cluster = Cluster::new(3, 1).apart().all_up().await;
    cluster.formed().await;
    let all: Vec<usize> = (0..keys).collect();
    let clients = all.chunks(keys.div_ceil(CLIENTS)).map(async |keys| {
        let mut session = Session::default();
        for i in keys {
            let (at, key) = (cluster.at(i % 3), format!("key-{i}"));
            let put = session.put(at, &key, "value").await;
            assert!(put.written(), "{put:?}");
        }
    });
    join_all(clients).await;
    cluster.until_keys(&[0, 1, 2], keys as u64).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_with_a_sole_holder_that_is_removed_and_comes_and_goes() {
    let mut cluster = filled(KEYS).await;
    let own = cluster.status(SOLE).await.keys;
    assert!(own > KEYS as u64 / 5, "{own}");
    // Some node has asked it how many keys it has by then.
    eventually("the others know its keys", PATIENCE, async || {
        let progress = cluster.view(0, "/view/plan?type=set_k&k=2").await;
        let keys: u64 = progress["gaining"][0]["keys"].as_u64().unwrap_or_default();
        (keys > 0).then_some(()).ok_or(progress.to_string())
    })
    .await;
    cluster.down(SOLE).await;
    let address = cluster.at(SOLE).to_string();

    // Everybody says what only the dead node holds, and the removal is refused.
    let plan = format!("/view/plan?type=remove&ip_port={address}");
    let plan = cluster.view(0, &plan).await;
    let said = &plan["data_loss"][0];
    assert_eq!(said["keys"].as_u64(), Some(own), "{plan}");
    assert_eq!(said["nodes"][0].as_str(), Some(&*address), "{plan}");
    let refused = cluster.remove(0, SOLE).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert_eq!(refused.body["code"], "data_loss");
    let error = refused.body["error"].as_str().unwrap();
    for part in [
        &*own.to_string(),
        &*address,
        "allow_data_loss=true",
        "--lose-data",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let state = cluster.view(1, "/view").await;
    assert_eq!(state["change"], Value::Null, "nothing was changed");
    assert_eq!(&state["without_live_holder"][0], said, "{state}");
    let metric = cluster.metric(0, "causeway_keys_without_live_holder ");
    assert_eq!(metric.await, Some(own));

    // The node goes when the operator says that the data may be lost; the reply names that data.
    let reply = cluster.remove_losing_data(0, SOLE).await;
    cluster.assert_view(&reply, &[0, 1], 1).await;
    assert_eq!(&reply.body["data_loss"][0], said, "{reply:?}");
    cluster.assert_keys(&[0, 1], KEYS as u64 - own).await;

    // The removed node comes back, is added again at once, removed before its offer is over,
    // killed, and added once more.
    cluster.up(SOLE).await;
    cluster.until_removed(SOLE).await;
    let reply = cluster.add(0, SOLE).await;
    cluster.assert_view(&reply, &[0, 1, SOLE], 1).await;
    let offers = cluster.status(SOLE).await.offers;
    println!("offered while it is a member: {offers:?}");
    let reply = cluster.remove(1, SOLE).await;
    cluster.assert_view(&reply, &[0, 1], 1).await;
    cluster.until_removed(SOLE).await;
    println!(
        "offered while it is removed: {:?}",
        cluster.status(SOLE).await.offers
    );
    cluster.kill(SOLE);
    cluster.up(SOLE).await;
    cluster.until_removed(SOLE).await;
    let reply = cluster.add(0, SOLE).await;
    cluster.assert_view(&reply, &[0, 1, SOLE], 1).await;
    cluster.until_offered(SOLE).await;
    cluster.until_keys(&[0, 1, SOLE], KEYS as u64).await;
    let state = cluster.view(1, "/view").await;
    assert_eq!(state["without_live_holder"], Value::Array(Vec::new()));
    assert_eq!(
        cluster.metric(SOLE, "causeway_offered_writes_left ").await,
        Some(0)
    );
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sole_holder_that_dies_during_its_removal_is_waited_for() {
    const BIG: usize = 120;
    let mut cluster = Cluster::new(3, 1).apart().all_up().await;
    cluster.formed().await;
    let (mut session, value) = (Session::default(), "v".repeat(100_000));
    let keys: Vec<String> = cluster.keys(SOLE as u32, "own").take(BIG).collect();
    for key in &keys {
        let put = session.put(cluster.at(SOLE), key, &value).await;
        assert!(put.written(), "{put:?}");
    }
    // Clients are at work, so data moves slowly.
    let at = [cluster.at(0), cluster.at(1)];
    let load = tokio::spawn(async move {
        let mut session = Session::default();
        for i in 0.. {
            session.put(at[i % 2], "busy", &i.to_string()).await;
        }
    });
    let removal = removal_that_runs(&cluster, 1).await;
    cluster.kill(SOLE);
    load.abort();
    eventually("it says what it waits for", PATIENCE, async || {
        let state = cluster.view(1, "/view").await;
        let waits = state["change"]["waits_for"].to_string();
        let told = waits.contains("allow_data_loss=true");
        assert_eq!(state["change"]["given_up"], false, "{state}");
        told.then_some(()).ok_or(state["change"].to_string())
    })
    .await;
    // The node that was asked for the removal answers when it has waited for 10 s, longer than for
    // a dead node.
    let reply = removal.await.unwrap();
    assert_eq!(reply.status, 202, "{reply:?}");
    let state = cluster.view(1, "/view").await;
    assert_eq!(state["change"]["given_up"], false, "{state}");
    let again = cluster.remove(1, SOLE).await;
    assert_eq!(again.status, 409, "{again:?}");
    cluster.up(SOLE).await;
    cluster.until_removed(SOLE).await;
    cluster.until_keys(&[0, 1], BIG as u64 + 1).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_waits_for_a_sole_holder_goes_on_when_its_data_may_be_lost() {
    let mut cluster = Cluster::new(3, 1).apart().all_up().await;
    cluster.formed().await;
    let mut session = Session::default();
    let key = cluster.keys(SOLE as u32, "own").next().unwrap();
    assert!(session.put(cluster.at(SOLE), &key, "1").await.written());
    // A leader that stands still could not decide the removal: its followers elect another one.
    let second = cluster.at(1).to_string();
    while cluster.view(0, "/view").await["council"]["leader"] == second.as_str() {
        cluster.freeze(1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.thaw(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The one that is to copy stands still, so the removal cannot be done before the holder is
    // dead.
    cluster.freeze(1);
    let removal = removal_that_runs(&cluster, 0).await;
    cluster.kill(SOLE);
    cluster.thaw(1);
    let reply = removal.await.unwrap();
    assert_eq!(reply.status, 202, "{reply:?}");
    let reply = cluster.remove_losing_data(0, SOLE).await;
    cluster.assert_view(&reply, &[0, 1], 1).await;
    assert_eq!(
        reply.body["data_loss"][0]["nodes"][0],
        cluster.at(SOLE).to_string()
    );
    assert_eq!(
        Session::default().get(cluster.at(0), &key).await.status,
        404
    );
    cluster.up(SOLE).await;
    cluster.until_removed(SOLE).await;
    cluster.until_offered(SOLE).await;
    cluster.until_keys(&[0, 1], 1).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_only_a_given_up_node_had_is_not_undone() {
    const OWN: usize = 10;
    let mut cluster = Cluster::new(3, 2).apart().all_up().await;
    cluster.formed().await;
    let mut session = Session::default();
    let keys: Vec<String> = cluster.keys(0, "own").take(OWN).collect();
    for key in &keys {
        assert!(session.put(cluster.at(0), key, "1").await.written());
    }
    cluster.level().await;
    let replicas = cluster.replicas(&keys[0]);
    let [stays, goes] = [0, 1].map(|i| (0..3).find(|n| cluster.at(*n) == replicas[i]).unwrap());
    cluster.freeze(stays);
    for key in &keys[1..] {
        let gone = session.delete(cluster.at(goes), key).await;
        assert_eq!(
            (gone.status, gone.body["copies"].as_u64()),
            (200, Some(1)),
            "{gone:?}"
        );
    }
    cluster.kill(goes);
    cluster.thaw(stays);
    let reply = cluster.remove(stays, goes).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    cluster.up(goes).await;
    cluster.until_removed(goes).await;
    cluster.until_offered(goes).await;
    let mut fresh = Session::default();
    assert_eq!(
        fresh.get(cluster.at(stays), &keys[0]).await.value(),
        Some("1")
    );
    for key in &keys[1..] {
        let read = fresh.get(cluster.at(stays), key).await;
        assert_eq!(read.status, 404, "{key}: {read:?}");
    }
    cluster.end().await;
}

//! Changes of the view, as an operator asks for them, and what every node has to say afterwards.

use crate::harness::{Cluster, HTTP, PATIENCE, eventually};
use crate::session::{Reply, Session, here, send};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// A change without data to speak of is done within this time, on a machine that is busy with other
/// tests.
pub const CHANGED_WITHIN: Duration = Duration::from_secs(6);

impl Cluster {
    /// Asks the node `via` to add one.
    pub async fn add(&self, via: usize, node: usize) -> Reply {
        self.update(via, node, "add", &[]).await
    }

    /// Asks the node `via` to remove one.
    pub async fn remove(&self, via: usize, node: usize) -> Reply {
        self.update(via, node, "remove", &[]).await
    }

    /// The same, though that may lose data.
    pub async fn remove_losing_data(&self, via: usize, node: usize) -> Reply {
        let agreed = [("allow_data_loss", "true".to_owned())];
        self.update(via, node, "remove", &agreed).await
    }

    async fn update(&self, via: usize, node: usize, what: &str, more: &[(&str, String)]) -> Reply {
        let url = format!("http://{}/kvs/view_update", self.at(via));
        let mut form = vec![
            ("ip_port", self.at(node).to_string()),
            ("type", what.to_owned()),
        ];
        form.extend_from_slice(more);
        let reply = send(HTTP.request(Method::PUT, url).form(&form)).await;
        println!(
            "{what} {node} through {via}: {} in {:?}: {}",
            reply.status, reply.took, reply.body
        );
        reply
    }

    /// Checks that a change was made, and that all of `nodes` say at once that the view holds just
    /// them.
    pub async fn assert_changed(&self, reply: &Reply, nodes: &[usize], k: usize) {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(reply.took < CHANGED_WITHIN, "{reply:?}");
        self.assert_view(reply, nodes, k).await;
    }

    /// The same, however long the change took, and whether all data is in place or not.
    pub async fn assert_view(&self, reply: &Reply, nodes: &[usize], k: usize) {
        assert!(matches!(reply.status, 200 | 202), "{reply:?}");
        let partitions = nodes.len().div_ceil(k);
        let told = reply.body["number_of_partitions"].as_u64();
        assert_eq!(told, Some(partitions as u64), "{reply:?}");
        let seen = join_all(nodes.iter().map(|node| self.seen_by(*node))).await;
        for (node, view) in nodes.iter().zip(&seen) {
            assert_eq!(view, &seen[0], "nodes {} and {node} differ", nodes[0]);
        }
        let view = &seen[0];
        assert_eq!(view.len(), partitions, "{view:?}");
        assert!(
            view.values().all(|m| (1..=k).contains(&m.len())),
            "{view:?}"
        );
        let members: BTreeSet<SocketAddr> = view.values().flatten().copied().collect();
        let wanted: BTreeSet<SocketAddr> = nodes.iter().map(|n| self.at(*n)).collect();
        assert_eq!(members, wanted);
        for node in nodes {
            let own = self.ask(*node, "get_partition_id").await;
            let own = own["partition_id"].as_u64().unwrap();
            assert!(view[&own].contains(&self.at(*node)), "node {node}: {own}");
        }
    }

    /// The partitions and their members, as a node tells them.
    async fn seen_by(&self, node: usize) -> BTreeMap<u64, BTreeSet<SocketAddr>> {
        let ids = self.ask(node, "get_all_partition_ids").await;
        let mut view = BTreeMap::new();
        for id in ids["partition_id_list"].as_array().unwrap() {
            let id = id.as_u64().unwrap();
            let path = format!("get_partition_members?partition_id={id}");
            let members = self.ask(node, &path).await;
            let members = members["partition_members"].as_array().unwrap().iter();
            let members = members.map(|m| m.as_str().unwrap().parse().unwrap());
            view.insert(id, members.collect());
        }
        view
    }

    async fn ask(&self, node: usize, path: &str) -> Value {
        let url = format!("http://{}/kvs/{path}", self.at(node));
        let reply = send(HTTP.get(url)).await;
        assert_eq!(reply.status, 200, "{path} at node {node}: {reply:?}");
        reply.body
    }

    /// Checks that the members of each partition hold as many keys, and all partitions together
    /// `keys`.
    pub async fn assert_keys(&self, nodes: &[usize], keys: u64) {
        let counted = self.count_keys(nodes).await;
        assert_eq!(counted, Ok(keys));
    }

    /// How many keys all partitions hold together, by what each of `nodes` says.
    pub async fn count_keys(&self, nodes: &[usize]) -> Result<u64, String> {
        let mut counts: BTreeMap<u64, BTreeMap<usize, u64>> = BTreeMap::new();
        for node in nodes {
            let partition = self.ask(*node, "get_partition_id").await;
            let keys = self.ask(*node, "get_number_of_keys").await;
            let partition = partition["partition_id"].as_u64().unwrap();
            let keys = keys["count"].as_u64().unwrap();
            counts.entry(partition).or_default().insert(*node, keys);
        }
        let agreed = |c: &BTreeMap<usize, u64>| c.values().collect::<BTreeSet<_>>().len() == 1;
        if !counts.values().all(agreed) {
            return Err(format!("by partition and node: {counts:?}"));
        }
        Ok(counts.values().filter_map(|c| c.values().next()).sum())
    }

    /// Waits until all partitions together hold so many keys.
    pub async fn until_keys(&self, nodes: &[usize], keys: u64) {
        eventually("all keys are there", PATIENCE, async || {
            let counted = self.count_keys(nodes).await?;
            (counted == keys).then_some(()).ok_or(counted.to_string())
        })
        .await;
    }

    /// Waits until the nodes have agreed on their first view, so that it can be changed.
    pub async fn formed(&self) {
        eventually("views can be changed", PATIENCE, async || {
            // A node that is in the view already changes nothing when it is added.
            let reply = self.add(0, 0).await;
            (reply.status == 200)
                .then_some(())
                .ok_or(format!("{reply:?}"))
        })
        .await;
    }

    /// Checks that a node says that it was removed, whatever it is asked, and hides nobody's past.
    pub async fn assert_removed(&self, node: usize, session: &Session) {
        let at = self.at(node);
        for reply in [
            session.clone().get(at, "k").await,
            session.clone().put(at, "k", "v").await,
            session.clone().delete(at, "k").await,
            here(at, "k", &session.payload).await,
            self.add(node, node).await,
        ] {
            assert_eq!(reply.status, 421, "{reply:?}");
            let error = reply.body["error"].as_str().unwrap();
            assert!(error.contains("removed"), "{error}");
        }
        let kept = session.clone().get(at, "k").await;
        assert!(kept.body["causal_payload"].is_string(), "{kept:?}");
    }

    /// Waits until a node says that it was removed.
    pub async fn until_removed(&self, node: usize) {
        self.until_state(node, "removed").await;
    }

    pub async fn until_state(&self, node: usize, state: &str) {
        eventually(state, PATIENCE, async || {
            let status = crate::harness::status(self.at(node)).await?;
            let there = (status.state == state).then_some(());
            there.ok_or_else(|| format!("node {node} is {} ({:?})", status.state, status.reason))
        })
        .await;
    }
}

/// Writes `key-0` to `key-<n>`, through the nodes in turn.
pub async fn fill(cluster: &Cluster, session: &mut Session, nodes: &[usize], n: usize) {
    for i in 0..n {
        let at = cluster.at(nodes[i % nodes.len()]);
        let put = session
            .put(at, &format!("key-{i}"), &format!("value-{i}"))
            .await;
        assert!(put.written(), "{put:?}");
    }
}

/// Checks that each of `nodes` reads all that [`fill`] wrote, for one who has seen it.
pub async fn assert_filled(cluster: &Cluster, session: &Session, nodes: &[usize], n: usize) {
    for node in nodes {
        let reads = (0..n).map(|i| {
            let (mut session, at) = (session.clone(), cluster.at(*node));
            async move { session.get(at, &format!("key-{i}")).await }
        });
        for (i, read) in join_all(reads).await.into_iter().enumerate() {
            let value = format!("value-{i}");
            assert_eq!(
                read.value(),
                Some(value.as_str()),
                "{i} at {node}: {read:?}"
            );
        }
    }
}

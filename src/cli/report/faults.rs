//! Nodes fail, and everything is read; nodes fail, miss writes, come back, and are read.

use super::Kind;
use super::cluster::{LocalCluster, Workspace, read, write};
use crate::cli::failure::Failure;
use futures_util::future::try_join_all;
use std::time::Duration;

/// Reads while some nodes had failed.
pub struct Loss {
    pub nodes: u16,
    pub kind: Kind,
    pub keys: usize,
    /// Nodes that failed.
    pub failed: Vec<usize>,
    /// Keys that were read with the value that was written.
    pub read: usize,
    /// Keys all of whose nodes had failed, and that were refused with 503.
    pub refused: usize,
    /// Keys all of whose nodes had failed.
    pub gone: usize,
}

impl Loss {
    /// Whether everything was read that can be, and the rest refused in words.
    pub fn is_right(&self) -> bool {
        self.read + self.gone == self.keys && self.refused == self.gone
    }
}

/// Lets every choice of `lose` nodes fail in turn, under both strategies, and reads all keys each
/// time.
pub async fn lose(
    workspace: &Workspace,
    nodes: u16,
    factor: u16,
    keys: usize,
    lose: usize,
) -> Result<Vec<Loss>, Failure> {
    let cluster = LocalCluster::start(workspace, nodes, factor).await?;
    let keys: Vec<String> = (0..keys).map(|i| format!("key-{i}")).collect();
    for (i, key) in keys.iter().enumerate() {
        write(&cluster.at(i)?, key, &format!("value-{i}")).await?;
    }
    let mut losses = Vec::new();
    for kind in [Kind::Consistent(factor), Kind::Full] {
        cluster.set(kind).await?;
        for failed in choices(usize::from(nodes), lose) {
            cluster.level().await?;
            losses.push(one(&cluster, kind, &keys, failed).await?);
        }
    }
    cluster.end().await?;
    Ok(losses)
}

async fn one(
    cluster: &LocalCluster,
    kind: Kind,
    keys: &[String],
    failed: Vec<usize>,
) -> Result<Loss, Failure> {
    let nodes = cluster.addresses.len();
    let alive = (0..nodes).find(|node| !failed.contains(node)).unwrap_or(0);
    let at = cluster.at(alive)?;
    let mut gone = 0;
    for key in keys {
        let path = format!("/nodes_for_key/{key}");
        let reply = at.send(at.request(reqwest::Method::GET, &path)).await?;
        let holders = reply.body["nodes"].as_array().cloned().unwrap_or_default();
        let has_failed = |holder: &serde_json::Value| {
            let id = holder["node_id"].as_u64();
            failed.iter().any(|node| id == Some(*node as u64))
        };
        gone += usize::from(holders.iter().all(has_failed));
    }
    try_join_all(failed.iter().map(|node| cluster.order("fail", *node))).await?;
    // At once: that nobody has a key is only said after a second.
    let replies = try_join_all(keys.iter().map(|key| read(&at, key))).await?;
    let (mut right, mut refused) = (0, 0);
    for (i, reply) in replies.iter().enumerate() {
        match reply.status {
            200 => right += usize::from(reply.value().is_ok_and(|v| v == format!("value-{i}"))),
            503 => refused += usize::from(reply.text("message").is_some()),
            _ => {}
        }
    }
    try_join_all(failed.iter().map(|node| cluster.order("recover", *node))).await?;
    Ok(Loss {
        nodes: nodes as u16,
        kind,
        keys: keys.len(),
        failed,
        read: right,
        refused,
        gone,
    })
}

/// All sets of `size` numbers below `n`.
fn choices(n: usize, size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let with = |last: usize| {
        let rest = choices(last, size - 1).into_iter();
        rest.map(move |mut choice| {
            choice.push(last);
            choice
        })
    };
    (0..n).flat_map(with).collect()
}

/// A node that failed, missed writes, and was read when it was back.
pub struct Comeback {
    pub kind: Kind,
    /// Keys written while it was failed, of those that it holds.
    pub written: usize,
    /// How many of them it answered itself, rightly, at once.
    pub read: usize,
    pub fail: Duration,
    pub recover: Duration,
}

impl Comeback {
    pub fn is_right(&self) -> bool {
        self.written > 0 && self.read == self.written
    }
}

/// Lets node 0 of three fail, writes, lets it recover, and reads from it, under both strategies.
pub async fn come_back(workspace: &Workspace) -> Result<Vec<Comeback>, Failure> {
    const KEYS: usize = 20;
    let cluster = LocalCluster::start(workspace, 3, 2).await?;
    let mut comebacks = Vec::new();
    for kind in [Kind::Consistent(2), Kind::Full] {
        cluster.set(kind).await?;
        cluster.level().await?;
        let (one, other) = (cluster.at(0)?, cluster.at(1)?);
        let fail = cluster.order("fail", 0).await?;
        let mut own = Vec::new();
        for i in 0..KEYS {
            let key = format!("{}-{i}", comebacks.len());
            write(&other, &key, "while it was away").await?;
            let path = format!("/nodes_for_key/{key}");
            let holders = other
                .send(other.request(reqwest::Method::GET, &path))
                .await?;
            let holders = holders.body["nodes"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if holders.iter().any(|holder| holder["node_id"] == 0) {
                own.push(key);
            }
        }
        let recover = cluster.order("recover", 0).await?;
        let mut right = 0;
        for key in &own {
            let reply = read(&one, key).await?;
            let itself = reply.text("message").is_some_and(|m| m.contains("node 0 "));
            right += usize::from(itself && reply.value().is_ok_and(|v| v == "while it was away"));
        }
        comebacks.push(Comeback {
            kind,
            written: own.len(),
            read: right,
            fail,
            recover,
        });
    }
    cluster.end().await?;
    Ok(comebacks)
}

#[cfg(test)]
mod tests {
    use super::choices;

    #[test]
    fn every_choice_is_there_once() {
        assert_eq!(choices(3, 1), [[0], [1], [2]]);
        assert_eq!(choices(3, 2), [[0, 1], [0, 2], [1, 2]]);
        assert_eq!(choices(5, 2).len(), 10);
        assert_eq!(choices(2, 3), Vec::<Vec<usize>>::new());
    }
}

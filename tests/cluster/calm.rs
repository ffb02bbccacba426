//! All nodes are there: what is written is read everywhere at once, under load too.

use crate::harness::{Cluster, PATIENCE, eventually};
use crate::session::Session;
use futures_util::future::join_all;
use std::collections::HashMap;
use std::net::SocketAddr;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_sees_a_write_at_once_with_its_payload() {
    let cluster = Cluster::start(4, 2).await;
    let nodes = cluster.running();
    let mut session = Session::default();
    for i in 0..120 {
        let (key, value) = (format!("key-{}", i % 40), format!("value-{i}"));
        let at = nodes[i % nodes.len()];
        let deleted = i % 5 == 4;
        let done = if deleted {
            session.put(at, &key, "to be deleted").await;
            session.delete(at, &key).await
        } else {
            session.put(at, &key, &value).await
        };
        assert!(done.written(), "{done:?}");
        let reads = nodes.iter().map(|other| {
            let (mut session, key) = (session.clone(), key.clone());
            async move { session.get(*other, &key).await }
        });
        for read in join_all(reads).await {
            let expected = (!deleted).then_some(value.as_str());
            assert_eq!(read.value(), expected, "{key}: {read:?}");
        }
    }
    cluster.level().await;
    cluster.end().await;
}

/// The longest value that a node takes.
const LARGEST: usize = 8 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_values_are_forwarded_and_replicated() {
    let cluster = Cluster::start(4, 2).await;
    let nodes = cluster.running();
    let mut session = Session::default();
    // From a node of the key's partition, and from one that has to send it on.
    for (partition, at) in [(0, nodes[0]), (1, nodes[1])] {
        let key = cluster.keys(partition, "large").next().unwrap();
        let value = partition.to_string().repeat(LARGEST);
        // A busy machine may need more than the second that an answer has.
        eventually("it is written", PATIENCE, async || {
            let put = session.put(at, &key, &value).await;
            assert!(put.written() || put.status >= 500, "{put:?}");
            put.written().then_some(()).ok_or(format!("{put:?}"))
        })
        .await;
        for at in &nodes {
            let read = session.get(*at, &key).await;
            let same = read.value() == Some(value.as_str());
            assert!(same, "{partition} at {at}: {} {:?}", read.status, read.took);
        }
    }
    cluster.level().await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_are_all_answered() {
    const REQUESTS: usize = 1_000;
    let cluster = Cluster::start(4, 2).await;
    let nodes = cluster.running();
    let at = |i: usize| nodes[i % nodes.len()];
    let key = |i: usize| format!("key-{i}");
    let mut sessions = vec![Session::default(); REQUESTS];
    let writes = sessions.iter_mut().enumerate();
    let writes = writes.map(async |(i, session)| session.put(at(i), &key(i), &key(i)).await);
    for write in join_all(writes).await {
        // Not always 201: one that was tried at a second replica may find itself there.
        assert!(write.written(), "{write:?}");
    }
    let reads = sessions.iter_mut().enumerate();
    let reads = reads.map(async |(i, session)| session.get(at(i + 1), &key(i)).await);
    for (i, read) in join_all(reads).await.into_iter().enumerate() {
        assert_eq!(read.value(), Some(key(i).as_str()), "{read:?}");
    }
    cluster.level().await;
    cluster.end().await;
}

/// A session at a hot key, and what it has seen of it.
struct Witness {
    session: Session,
    name: usize,
    /// The last version that it read or wrote: who wrote it, and that one's how-manyth it was.
    current: Option<(usize, u32)>,
    /// The latest version seen of each writer.
    past: HashMap<usize, u32>,
}

impl Witness {
    async fn write(&mut self, at: SocketAddr, n: u32) {
        let value = format!("{}:{n}", self.name);
        let put = self.session.put(at, "hot", &value).await;
        assert!(put.written(), "{put:?}");
        self.see((self.name, n));
    }

    /// Whatever was seen and is not the latest must never be seen again.
    async fn read(&mut self, at: SocketAddr) {
        let read = self.session.get(at, "hot").await;
        let version = read.value().map(|value| {
            let (writer, n) = value.split_once(':').unwrap();
            (writer.parse().unwrap(), n.parse().unwrap())
        });
        if version != self.current {
            let (writer, n) = version.expect("what was seen does not go away");
            let last = self.past.get(&writer);
            let (name, current) = (self.name, self.current);
            assert!(
                last.is_none_or(|last| *last < n),
                "session {name} read {version:?} at {at} after {current:?} and {last:?}"
            );
            self.see((writer, n));
        }
    }

    fn see(&mut self, (writer, n): (usize, u32)) {
        self.current = Some((writer, n));
        self.past.insert(writer, n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_at_a_hot_key_never_go_back() {
    const SESSIONS: usize = 64;
    let cluster = Cluster::start(4, 2).await;
    let nodes = cluster.running();
    let sessions = (0..SESSIONS).map(|name| {
        let nodes = nodes.clone();
        let mut witness = Witness {
            session: Session::default(),
            name,
            current: None,
            past: HashMap::new(),
        };
        async move {
            for n in 0..6 {
                let at = |i: usize| nodes[(name + n as usize + i) % nodes.len()];
                witness.write(at(0), n).await;
                witness.read(at(1)).await;
                witness.read(at(2)).await;
            }
        }
    });
    join_all(sessions.map(tokio::spawn))
        .await
        .into_iter()
        .for_each(|session| session.unwrap());
    cluster.level().await;
    let values = nodes.iter().map(|at| crate::session::here(*at, "hot", ""));
    let values = join_all(values).await;
    assert!(values.iter().all(|v| v.value() == values[0].value()));
    cluster.end().await;
}

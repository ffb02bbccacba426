//! Raft nodes whose disks are slow, hang, or lose what was not yet stored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{CommittedLeaderId, EntryPayload};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::rpc::{self, RaftReply, RaftRequest};
use super::types::{Entry, EntryId, Vote};
use super::{
    ConsensusError, Machine, RaftConfig, RaftNode, RaftRole, Rpc, RpcReply, Transport,
    TransportError,
};
use crate::protocol::ids::MemberId;
use crate::protocol::store::{Batch, StoreError};

/// Items from here on fill the disk.
const FILLS: u64 = 1_000;
const LONG: Duration = Duration::from_secs(20);

/// Proposed items, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Items(Vec<u64>);

impl Machine for Items {
    type Command = u64;
    type Outcome = ();
    type Followed = ();

    fn apply(&mut self, item: u64) {
        self.0.push(item);
    }

    fn fills(item: &u64) -> bool {
        *item >= FILLS
    }

    fn followed(&self) {}

    fn members(&self) -> BTreeSet<MemberId> {
        BTreeSet::new()
    }
}

type Node = RaftNode<Items, Link>;

#[derive(Default)]
struct Mesh {
    nodes: BTreeMap<MemberId, Node>,
    cuts: BTreeSet<(MemberId, MemberId)>,
}

#[derive(Clone)]
struct Link {
    me: MemberId,
    mesh: Arc<Mutex<Mesh>>,
}

impl Transport for Link {
    async fn call(
        &self,
        to: MemberId,
        request: Rpc,
        timeout: Duration,
    ) -> Result<RpcReply, TransportError> {
        let node = {
            let mesh = self.mesh.lock().unwrap();
            let there = |node| mesh.nodes.contains_key(node) && !mesh.cuts.contains(&(self.me, to));
            let known = there(&self.me) && there(&to);
            mesh.nodes.get(&to).filter(|_| known).cloned()
        };
        let node = node.ok_or(TransportError::Unreachable(to))?;
        let reply = tokio::time::timeout(timeout, node.handle(request)).await;
        reply.map_err(|_| TransportError::NoAnswer(to))
    }

    fn alive(&self, member: MemberId) -> bool {
        self.mesh.lock().unwrap().nodes.contains_key(&member)
    }
}

struct Cluster {
    reserve: fn(MemberId) -> u64,
    mesh: Arc<Mutex<Mesh>>,
    dir: TempDir,
}

impl Drop for Cluster {
    /// Nodes and links hold each other.
    fn drop(&mut self) {
        let nodes = std::mem::take(&mut self.mesh.lock().unwrap().nodes);
        drop(nodes);
    }
}

impl Cluster {
    async fn of(n: u16) -> Self {
        Self::with_reserve(n, |_| RaftConfig::default().reserve).await
    }

    /// As [`Cluster::of`], on disks of which so many bytes are to stay free.
    async fn with_reserve(n: u16, reserve: fn(MemberId) -> u64) -> Self {
        let cluster = Self {
            reserve,
            mesh: Arc::default(),
            dir: tempfile::tempdir().unwrap(),
        };
        let members: BTreeSet<MemberId> = (1..=n).map(MemberId).collect();
        for member in &members {
            cluster.start(*member, &member.0.to_string()).await;
        }
        for member in &members {
            cluster.node(*member).initialize(&members).await.unwrap();
        }
        cluster.node(MemberId(1)).propose(0).await.unwrap();
        cluster
    }

    async fn start(&self, me: MemberId, dir: &str) {
        let mesh = Arc::clone(&self.mesh);
        let config = RaftConfig {
            patience: LONG,
            reserve: (self.reserve)(me),
            ..RaftConfig::default()
        };
        let node = RaftNode::open(config, me, Link { me, mesh }, &self.dir.path().join(dir)).await;
        self.mesh.lock().unwrap().nodes.insert(me, node.unwrap());
    }

    fn node(&self, member: MemberId) -> Node {
        self.mesh.lock().unwrap().nodes[&member].clone()
    }

    fn others(&self, than: MemberId) -> Vec<MemberId> {
        let mesh = self.mesh.lock().unwrap();
        mesh.nodes.keys().copied().filter(|m| *m != than).collect()
    }

    async fn leader(&self) -> MemberId {
        let mut found = None;
        until(async || {
            for member in self.others(MemberId(0)) {
                let status = self.node(member).status().await;
                if status.role == RaftRole::Leader && status.has_quorum {
                    found = Some(member);
                }
            }
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
}

/// Nothing is stored by the node until the result is dropped.
async fn hang(node: &Node) -> Sender<()> {
    let (release, held) = channel();
    let (began, hangs) = tokio::sync::oneshot::channel();
    node.inner.disk.submit(Batch::default(), move |_| {
        let _ = began.send(());
        let _ = held.recv();
    });
    hangs.await.unwrap();
    release
}

fn items(node: &Node) -> Vec<u64> {
    node.look(|items| items.0.clone())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_only_node_applies_and_answers_when_it_has_stored() {
    let cluster = Cluster::of(1).await;
    let node = cluster.node(MemberId(1));
    let release = hang(&node).await;
    let proposal = tokio::spawn({
        let node = node.clone();
        async move { node.propose(1).await }
    });
    // The library has decided it.
    until(async || node.status().await.committed > node.status().await.last_applied).await;
    assert_eq!(items(&node), [0]);
    assert!(!proposal.is_finished());
    drop(release);
    proposal.await.unwrap().unwrap();
    assert_eq!(items(&node), [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_confirms_when_it_has_stored() {
    let cluster = Cluster::of(1).await;
    let node = cluster.node(MemberId(1));
    // Its metrics may be behind.
    let next = node.inner.durable.next();
    let mut told = node.inner.raft.metrics();
    let told = told.wait_for(|now| now.last_applied.is_some_and(|id| id.index + 1 == next));
    let prev = told.await.unwrap().last_applied;
    // From a leader of a later term.
    let vote = Vote::new_committed(9, 2);
    let follow = AppendEntriesRequest {
        vote,
        prev_log_id: prev,
        entries: Vec::new(),
        leader_commit: None,
    };
    let entry = Entry {
        log_id: EntryId::new(CommittedLeaderId::new(9, 2), next),
        payload: EntryPayload::Blank,
    };
    let append = AppendEntriesRequest {
        entries: vec![entry],
        ..follow.clone()
    };
    let send = |rpc: AppendEntriesRequest<_>| {
        let (node, request) = (node.clone(), RaftRequest::Append(rpc));
        let rpc = Rpc(rpc::encode(&request, 0).unwrap());
        tokio::spawn(async move {
            let RpcReply(reply) = node.handle(rpc).await;
            rpc::decode::<RaftReply>(&reply).unwrap()
        })
    };
    // An only voter would elect itself again, and wait for its disk.
    node.inner.raft.runtime_config().elect(false);
    send(follow).await.unwrap();
    let release = hang(&node).await;
    let reply = send(append.clone()).await.unwrap();
    assert_eq!(node.status().await.last_log, Some(next));
    assert!(matches!(reply, RaftReply::Failed(_)), "{reply:?}");
    drop(release);
    until(async || {
        let reply = send(append.clone()).await.unwrap();
        matches!(reply, RaftReply::Append(AppendEntriesResponse::Success))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_hangs_is_replaced() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let release = hang(&cluster.node(leader)).await;
    let other = cluster.others(leader)[0];
    cluster.node(other).propose(1).await.unwrap();
    let status = cluster.node(other).status().await;
    assert!(status.leader.is_some_and(|now| now != leader), "{status:?}");
    drop(release);
    until(async || items(&cluster.node(leader)) == [0, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_fails_under_an_entry_stops() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let _held = hang(&node).await;
    let before = node.inner.durable.next();
    let lost = tokio::spawn({
        let node = node.clone();
        async move { node.propose(1).await }
    });
    until(async || node.status().await.last_log >= Some(before)).await;
    node.inner.durable.fail(StoreError::Io {
        what: "a test".to_owned(),
        detail: "the disk is full".to_owned(),
    });
    until(async || node.status().await.role == RaftRole::Stopped).await;
    assert!(lost.await.unwrap().is_err());
}

/// Sends an append to a node as another node would.
async fn append(node: &Node, rpc: AppendEntriesRequest<super::types::Types>) -> RaftReply {
    let rpc = Rpc(rpc::encode(&RaftRequest::Append(rpc), 0).unwrap());
    let RpcReply(reply) = node.handle(rpc).await;
    rpc::decode::<RaftReply>(&reply).unwrap()
}

/// Two of three lost what they had confirmed, and one of them leads: its log is shorter than what
/// is decided here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_leader_is_followed_that_lacks_what_is_decided() {
    let cluster = Cluster::of(1).await;
    let node = cluster.node(MemberId(1));
    for item in 1..4 {
        node.propose(item).await.unwrap();
    }
    let next = node.inner.durable.next();
    let id = |term, index| EntryId::new(CommittedLeaderId::new(term, 2), index);
    let entry = Entry {
        log_id: id(9, next - 2),
        payload: EntryPayload::Blank,
    };
    let own = node.inner.log.decided_before(&Vote::new_committed(9, 2));
    assert_eq!(own.map(|id| id.index), Some(next - 1));
    let rpc = AppendEntriesRequest {
        vote: Vote::new_committed(9, 2),
        prev_log_id: own.map(|own| EntryId::new(own.leader_id, next - 3)),
        entries: vec![entry],
        leader_commit: Some(id(9, next - 2)),
    };
    let reply = append(&node, rpc).await;
    assert!(matches!(reply, RaftReply::Failed(_)), "{reply:?}");
    let failure = tokio::time::timeout(LONG, node.failed()).await.unwrap();
    assert!(failure.to_string().contains("is decided here"), "{failure}");
    assert_eq!(items(&node), [0, 1, 2, 3]);
    assert!(node.propose(4).await.is_err());
}

/// A deposed leader has what was never decided. That says nothing about what is decided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deposed_leader_is_refused_and_no_failure() {
    let cluster = Cluster::of(1).await;
    let node = cluster.node(MemberId(1));
    node.propose(1).await.unwrap();
    let next = node.inner.durable.next();
    let id = EntryId::new(CommittedLeaderId::new(0, 2), next - 1);
    let rpc = AppendEntriesRequest {
        vote: Vote::new_committed(0, 2),
        prev_log_id: Some(id),
        entries: Vec::new(),
        leader_commit: None,
    };
    let reply = append(&node, rpc).await;
    let refused = matches!(
        reply,
        RaftReply::Append(AppendEntriesResponse::HigherVote(_))
    );
    assert!(refused, "{reply:?}");
    node.propose(2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_when_the_library_has_ended_and_nobody_shut_it_down() {
    let cluster = Cluster::of(1).await;
    let node = cluster.node(MemberId(1));
    let failed = tokio::spawn({
        let node = node.clone();
        async move { node.failed().await }
    });
    node.inner.raft.shutdown().await.unwrap();
    tokio::time::timeout(LONG, failed).await.unwrap().unwrap();

    let cluster = Cluster::of(1).await;
    let node = cluster.node(MemberId(1));
    let failed = tokio::spawn({
        let node = node.clone();
        async move { node.failed().await }
    });
    node.shutdown().await.unwrap();
    let told = tokio::time::timeout(Duration::from_millis(100), failed);
    assert!(told.await.is_err());
}

/// While a disk is full its node refuses, others lead, and it goes on when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_full_is_replaced_and_goes_on_when_there_is_room() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let node = cluster.node(leader);
    let full = StoreError::Full {
        what: "a test".to_owned(),
        detail: String::new(),
    };
    let release = hang(&node).await;
    node.inner.durable.fill(Some(full));
    let refused = node.propose(1).await;
    assert!(
        matches!(refused, Err(ConsensusError::Full(_))),
        "{refused:?}"
    );
    let read = node.read().await.map(drop);
    assert!(matches!(read, Err(ConsensusError::Full(_))), "{read:?}");
    let other = cluster.others(leader)[0];
    cluster.node(other).propose(2).await.unwrap();
    // The leader finds out within two seconds.
    until(async || !node.status().await.has_quorum).await;
    node.inner.durable.fill(None);
    drop(release);
    until(async || items(&node) == [0, 2]).await;
    node.propose(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_little_room_makes_way_for_a_voter_that_has_more() {
    const CROWDED: MemberId = MemberId(2);
    let cluster = Cluster::with_reserve(3, |member| match member {
        CROWDED => u64::MAX,
        _ => RaftConfig::default().reserve,
    })
    .await;
    let crowded = cluster.node(CROWDED);
    let leads = async || crowded.status().await.role == RaftRole::Leader;
    until(async || {
        // The others elect nobody before they have missed their leader for a while.
        crowded.inner.raft.trigger().elect().await.unwrap();
        let elected = tokio::time::timeout(Duration::from_millis(300), until(leads));
        elected.await.is_ok()
    })
    .await;
    until(async || cluster.leader().await != CROWDED).await;
    let other = cluster.node(cluster.leader().await);
    assert_eq!(other.propose(FILLS).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_little_room_decides_only_what_does_not_fill_its_disk() {
    let cluster = Cluster::with_reserve(3, |_| u64::MAX).await;
    let leader = cluster.leader().await;
    let other = cluster.node(cluster.others(leader)[0]);
    let (filling, small) = tokio::join!(other.propose(FILLS), other.propose(1));
    assert_eq!(filling, Err(ConsensusError::LeaderFull));
    assert_eq!(small, Ok(()));
    assert_eq!(other.read().await.unwrap().0, [0, 1]);
}

/// The others have an entry that it lost. Went it on in the same term, its next entry would have
/// the same number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_crashed_has_to_be_elected_again() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let (node, others) = (cluster.node(leader), cluster.others(leader));
    until(async || others.iter().all(|m| items(&cluster.node(*m)) == [0])).await;
    // No other can be elected.
    let between = [(others[0], others[1]), (others[1], others[0])];
    cluster.mesh.lock().unwrap().cuts.extend(between);

    let before = node.status().await.last_log;
    let release = hang(&node).await;
    let lost = tokio::spawn({
        let node = node.clone();
        async move { node.propose(1).await }
    });
    for other in &others {
        let other = cluster.node(*other);
        until(async || other.status().await.last_log > before).await;
    }
    assert!(!lost.is_finished());
    // The crash: from now on it says nothing, and what it had stored is all that is left.
    cluster.mesh.lock().unwrap().nodes.remove(&leader);
    let dir = |name: &str| cluster.dir.path().join(name);
    copy(&dir(&leader.0.to_string()), &dir("left"));
    drop(release);
    node.shutdown().await.unwrap();
    // The crash was the copy. What the process did since then, and said, counts for nothing.
    let _ = lost.await.unwrap();

    cluster.start(leader, "left").await;
    let node = cluster.node(leader);
    let next = tokio::spawn({
        let node = node.clone();
        async move { node.propose(2).await }
    });
    cluster.mesh.lock().unwrap().cuts.clear();
    next.await.unwrap().unwrap();
    let decided = node.read().await.unwrap().0;
    assert!(decided == [0, 2] || decided == [0, 1, 2], "{decided:?}");
    for other in others {
        let read = cluster.node(other).read().await.unwrap().0;
        assert_eq!(read, decided);
    }
}

/// The voter that lost its disk has an entry that the leader had only sent when it crashed. It may
/// not stand, and no other than the leader can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_voters_the_one_without_its_vote_elects_the_one_that_lost_an_entry() {
    let cluster = Cluster::of(2).await;
    let wiped = cluster.leader().await;
    let leader = cluster.others(wiped)[0];
    let before = cluster.node(wiped);
    until(async || items(&cluster.node(leader)) == [0]).await;
    cluster.mesh.lock().unwrap().nodes.remove(&wiped);
    before.shutdown().await.unwrap();
    cluster.start(wiped, "another disk").await;
    until(async || cluster.leader().await == leader).await;
    let node = cluster.node(wiped);
    until(async || items(&node) == [0]).await;

    let old = cluster.node(leader);
    let last = old.status().await.last_log;
    let release = hang(&old).await;
    let lost = tokio::spawn({
        let old = old.clone();
        async move { old.propose(1).await }
    });
    until(async || node.status().await.last_log > last).await;
    // The crash, as above.
    cluster.mesh.lock().unwrap().nodes.remove(&leader);
    let dir = |name: &str| cluster.dir.path().join(name);
    copy(&dir(&leader.0.to_string()), &dir("left"));
    drop(release);
    old.shutdown().await.unwrap();
    // The crash was the copy. What the process did since then, and said, counts for nothing.
    let _ = lost.await.unwrap();
    // Else a busy machine took so long that it votes already, and may lead itself.
    let told = !node.status().await.may_vote;

    cluster.start(leader, "left").await;
    cluster.node(wiped).propose(2).await.unwrap();
    let decided = cluster.node(leader).read().await.unwrap().0;
    assert!(
        decided == [0, 2] || (!told && decided == [0, 1, 2]),
        "{decided:?}"
    );
    assert_eq!(node.read().await.unwrap().0, decided);
}

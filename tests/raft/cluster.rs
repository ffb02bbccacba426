//! The cluster that the tests drive: nodes, the links between them, and a simple machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use causeway::protocol::ids::MemberId;
use causeway::raft::{
    ConsensusError, GroupStatus, Machine, RaftConfig, RaftNode, RaftRole, Rpc, RpcReply, Transport,
    TransportError,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// A machine of named lists, which also says who the members are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lists {
    pub members: BTreeSet<MemberId>,
    pub lists: BTreeMap<String, Vec<u64>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    Push(String, u64),
    Members(BTreeSet<MemberId>),
    Ballast(String),
}

impl Machine for Lists {
    type Command = Command;
    /// The length of the list.
    type Outcome = usize;
    type Followed = ();

    fn apply(&mut self, command: Command) -> usize {
        match command {
            Command::Push(list, item) => {
                let list = self.lists.entry(list).or_default();
                list.push(item);
                list.len()
            }
            Command::Members(members) => {
                self.members = members;
                self.members.len()
            }
            Command::Ballast(text) => text.len(),
        }
    }

    fn followed(&self) {}

    fn members(&self) -> BTreeSet<MemberId> {
        self.members.clone()
    }
}

pub type Node = RaftNode<Lists, Link>;

/// The network between the nodes.
#[derive(Default)]
pub struct Mesh {
    nodes: BTreeMap<MemberId, Node>,
    /// One way: from the first to the second nothing arrives.
    cuts: BTreeSet<(MemberId, MemberId)>,
    delay: Duration,
    /// Answers to proposals that are lost on their way back.
    swallow: usize,
}

/// One node's end of the mesh.
#[derive(Clone)]
pub struct Link {
    me: MemberId,
    mesh: Arc<Mutex<Mesh>>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Mesh> {
        self.mesh.lock().unwrap()
    }
}

impl Transport for Link {
    async fn call(
        &self,
        to: MemberId,
        request: Rpc,
        timeout: Duration,
    ) -> Result<RpcReply, TransportError> {
        let (node, cut, delay) = {
            let mesh = self.lock();
            let up = mesh.nodes.contains_key(&self.me);
            let node = mesh.nodes.get(&to).filter(|_| up).cloned();
            (node, mesh.cuts.contains(&(self.me, to)), mesh.delay)
        };
        let lost = TransportError::NoAnswer(to);
        if cut {
            tokio::time::sleep(timeout).await;
            return Err(lost);
        }
        let node = node.ok_or(TransportError::Unreachable(to))?;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let reply = tokio::time::timeout(timeout, node.handle(request)).await;
        let reply = reply.map_err(|_| lost.clone())?;
        let back = {
            let mut mesh = self.lock();
            let known = mesh.nodes.contains_key(&to) && !mesh.cuts.contains(&(to, self.me));
            let swallowed = reply_is_outcome(&reply) && mesh.swallow > 0;
            if swallowed {
                mesh.swallow -= 1;
            }
            known && !swallowed
        };
        if back { Ok(reply) } else { Err(lost) }
    }

    fn alive(&self, member: MemberId) -> bool {
        let mesh = self.lock();
        mesh.nodes.contains_key(&member) && !mesh.cuts.contains(&(member, self.me))
    }
}

/// Answers to proposals come several at a time: that is the fourth kind. Then come their number and
/// the first one, with its kind, the first.
fn reply_is_outcome(reply: &RpcReply) -> bool {
    let bytes = serde_json::to_value(reply).unwrap();
    bytes[0] == 3 && bytes[2] == 0
}

/// Nodes 1 to n, and their directories.
pub struct Cluster {
    pub config: RaftConfig,
    pub mesh: Arc<Mutex<Mesh>>,
    pub dir: TempDir,
}

pub fn m(number: u16) -> MemberId {
    MemberId(number)
}

pub fn set(numbers: impl IntoIterator<Item = u16>) -> BTreeSet<MemberId> {
    numbers.into_iter().map(m).collect()
}

/// Longer than anything here takes, on a busy machine too.
pub const LONG: Duration = Duration::from_secs(20);

impl Cluster {
    /// Without any node.
    pub fn empty(config: RaftConfig) -> Self {
        Self {
            config,
            mesh: Arc::default(),
            dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
        }
    }

    /// A first start of `n` nodes, which are the members.
    pub async fn form(config: RaftConfig, n: u16) -> Self {
        let cluster = Self::empty(config);
        let members = set(1..=n);
        for member in &members {
            cluster.start(member.0).await;
        }
        for member in &members {
            cluster.node(member.0).initialize(&members).await.unwrap();
        }
        cluster.propose(1, Command::Members(members)).await.unwrap();
        cluster
    }

    /// With settings for tests that wait for nothing but the Raft group.
    pub async fn of(n: u16) -> Self {
        Self::form(patient(), n).await
    }

    fn lock(&self) -> MutexGuard<'_, Mesh> {
        self.mesh.lock().unwrap()
    }

    pub fn node(&self, number: u16) -> Node {
        self.lock().nodes[&m(number)].clone()
    }

    pub fn up(&self) -> Vec<u16> {
        self.lock().nodes.keys().map(|m| m.0).collect()
    }

    pub async fn start(&self, number: u16) {
        let link = Link {
            me: m(number),
            mesh: Arc::clone(&self.mesh),
        };
        let dir = self.dir.path().join(number.to_string());
        let node = RaftNode::open(self.config.clone(), m(number), link, &dir).await;
        self.lock().nodes.insert(m(number), node.unwrap());
    }

    /// From one moment to the next nothing comes from the node any more.
    pub async fn kill(&self, number: u16) {
        let node = self.lock().nodes.remove(&m(number)).unwrap();
        node.shutdown().await.unwrap();
    }

    /// Cuts all links between the nodes of one side and all others.
    pub fn split(&self, side: &[u16]) {
        let mut mesh = self.lock();
        let (inside, outside): (Vec<_>, Vec<_>) = mesh
            .nodes
            .keys()
            .copied()
            .partition(|member| side.contains(&member.0));
        for a in &inside {
            for b in &outside {
                mesh.cuts.extend([(*a, *b), (*b, *a)]);
            }
        }
    }

    pub fn heal(&self) {
        self.lock().cuts.clear();
    }

    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Loses the next answers to proposals.
    pub fn swallow(&self, answers: usize) {
        self.lock().swallow = answers;
    }

    pub fn swallowed(&self) -> bool {
        self.lock().swallow == 0
    }

    pub async fn propose(&self, at: u16, command: Command) -> Result<usize, ConsensusError> {
        self.node(at).propose(command).await
    }

    pub async fn push(&self, at: u16, list: &str, item: u64) -> Result<usize, ConsensusError> {
        self.propose(at, Command::Push(list.to_owned(), item)).await
    }

    pub async fn list(&self, at: u16, list: &str) -> Vec<u64> {
        let state = self.node(at).read().await.unwrap();
        state.lists.get(list).cloned().unwrap_or_default()
    }

    /// The leader that a majority follows.
    pub async fn leader(&self) -> u16 {
        let mut found = None;
        self.until("a leader", async || {
            found = self.leader_now().await;
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    async fn leader_now(&self) -> Option<u16> {
        for number in self.up() {
            let status = self.node(number).status().await;
            if status.role == RaftRole::Leader && status.has_quorum {
                return Some(number);
            }
        }
        None
    }

    pub async fn status(&self, number: u16) -> GroupStatus {
        self.node(number).status().await
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let began = Instant::now();
        while !holds().await {
            if began.elapsed() > LONG {
                let mut all = String::new();
                for number in self.up() {
                    all += &format!("\n{:?}", self.status(number).await);
                }
                panic!("{what} did not come about:{all}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a node has applied as much as the leader has decided.
    pub async fn level(&self, number: u16) {
        let wanted = self.node(self.leader().await).read().await.unwrap();
        self.until("a node level with the leader", async || {
            self.node(number).look(|state| *state == wanted)
        })
        .await;
    }
}

impl Drop for Cluster {
    /// Nodes and links hold each other.
    fn drop(&mut self) {
        let nodes = std::mem::take(&mut self.lock().nodes);
        drop(nodes);
    }
}

/// Time enough for anything.
pub fn patient() -> RaftConfig {
    RaftConfig {
        patience: LONG,
        ..RaftConfig::default()
    }
}

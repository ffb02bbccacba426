//! Whole clusters on loopback: nodes in this process, or each in one of its own where a test needs
//! to kill it or to make it stand still.

use crate::common;
use causeway::api::status::Status;
use causeway::node::StartError;
use causeway::node::config::Config;
use causeway::protocol::replica::OpenError;
use causeway::protocol::store::StoreError;
use causeway::protocol::view::View;
use causeway::raft;
use causeway::server::{self, RunError, Running};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// All replicas are equal again after this long.
pub const LEVEL_WITHIN: Duration = Duration::from_secs(5);
/// Patience with what has no limit of its own: only a node that hangs takes longer.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A node that is told to end has this long.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(20);

/// A fresh connection for each request: one that was kept would fail the first request after its
/// node started again.
pub static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(PATIENCE)
        .build()
        .unwrap()
});

/// Waits until `check` finds nothing to complain about.
pub async fn eventually(
    what: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> Result<(), String>,
) {
    let began = Instant::now();
    while let Err(why) = check().await {
        assert!(began.elapsed() < within, "{what}, not in {within:?}: {why}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Time as far as this process gets any: while the machine lets it stand still, none passes.
pub async fn awake(waits: impl Future<Output = ()>) -> Duration {
    let mut waits = std::pin::pin!(waits);
    let mut passed = Duration::ZERO;
    loop {
        tokio::select! {
            () = &mut waits => return passed,
            () = tokio::time::sleep(LOOK) => passed += LOOK,
        }
    }
}

/// An address whose port and peer port nobody uses, and what claims it as long as it is kept.
///
/// A node that is down for a while has to find its ports free again. So all ports lie below those
/// that the system gives to outgoing connections, and a third one, held by the test, keeps other
/// tests away, in this process and in others.
pub fn claim() -> (SocketAddr, TcpListener) {
    const FIRST: u16 = 10_240;
    const COUNT: u16 = 5_000;
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random()));
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
    loop {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        if let Some(claim) = bind(port + COUNT)
            && bind(port).is_some()
            && bind(port + 2 * COUNT).is_some()
        {
            return (SocketAddr::from(([127, 0, 0, 1], port)), claim);
        }
    }
}

/// A cluster, some nodes of which may be down.
pub struct Cluster {
    spots: Vec<Spot>,
    /// The first view.
    view: View,
    k: usize,
    /// Each node in a process of its own.
    apart: bool,
    /// For nodes in this process.
    raft: raft::RaftConfig,
}

/// A node's place: its address and disk, whether it runs or not.
struct Spot {
    address: SocketAddr,
    _claim: TcpListener,
    dir: TempDir,
    more: Vec<(&'static str, String)>,
    /// The node is started without `VIEW`.
    spare: bool,
    running: Option<Life>,
}

enum Life {
    Here(Running),
    Apart(Process),
}

/// A node in a process of its own, which is killed when a test gives up.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Starts `command` with its log collected.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, into) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..n]);
                into.lock().unwrap().push_str(&text);
            }
        });
        Self { child, log }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Ends it as an operator would: what it logged.
    pub async fn end(mut self) -> String {
        self.signal(Signal::TERM);
        let (code, log) = self.ended(END_WITHIN).await;
        assert_eq!(code, Some(0), "{log}");
        log
    }

    /// Waits until it has ended by itself: its exit code, and what it logged.
    pub async fn ended(&mut self, within: Duration) -> (Option<i32>, String) {
        eventually("the process ends", within, async || {
            let ended = self.has_ended().then_some(());
            ended.ok_or_else(|| "it runs on".to_owned())
        })
        .await;
        let code = self.child.try_wait().unwrap().and_then(|c| c.code());
        (code, self.log.lock().unwrap().clone())
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Makes it stand still: its connections stay open, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        // Its threads go on until one of them takes the signal: on a busy machine that is later.
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap();
        assert!(status.stopped());
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }
}

/// Starts a node in this process. One that was told to end gives up waiting for its disk after a
/// while, and goes on in the background: the end of a process would take it along.
pub async fn launched(config: Config) -> Running {
    try_launch(config).await.unwrap()
}

/// The same, where the node may be refused.
async fn try_launch(config: Config) -> Result<Running, RunError> {
    let began = Instant::now();
    loop {
        match server::launch(config.clone(), 1).await {
            Err(error) if is_held(&error) && began.elapsed() < PATIENCE => {}
            launched => return launched,
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether somebody else has the disk.
fn is_held(error: &RunError) -> bool {
    let RunError::Start { error, .. } = error else {
        return false;
    };
    let held = |store: &StoreError| matches!(store, StoreError::Locked { .. });
    match error {
        StartError::Open(OpenError::Store(store)) | StartError::Store(store) => held(store),
        _ => false,
    }
}

impl Cluster {
    /// `n` places, no node running yet.
    pub fn new(n: usize, k: usize) -> Self {
        let spots: Vec<Spot> = (0..n).map(|_| Spot::new(k, false)).collect();
        let addresses: Vec<SocketAddr> = spots.iter().map(|s| s.address).collect();
        Self {
            view: View::first(&addresses, k).unwrap(),
            spots,
            k,
            apart: false,
            raft: raft::RaftConfig::default(),
        }
    }

    /// A cluster that serves, in this process.
    pub async fn start(n: usize, k: usize) -> Self {
        Self::new(n, k).all_up().await
    }

    /// The same with `n` more nodes, which are in no view.
    #[must_use]
    pub fn with_spares(mut self, n: usize) -> Self {
        self.spots.extend((0..n).map(|_| Spot::new(self.k, true)));
        self
    }

    /// The same, each node in a process of its own.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// The same, in this process, with a snapshot of the Raft log after so many bytes at least.
    #[must_use]
    pub fn snapshot_after(mut self, bytes: u64) -> Self {
        self.raft.snapshot_after = bytes;
        self
    }

    /// The same, with a variable in the environment of a node.
    #[must_use]
    pub fn with(mut self, node: usize, name: &'static str, value: &str) -> Self {
        self.spots[node].more.push((name, value.to_owned()));
        self
    }

    /// The same, with a variable in the environment of every node.
    #[must_use]
    pub fn with_all(mut self, name: &'static str, value: &str) -> Self {
        for spot in &mut self.spots {
            spot.more.push((name, value.to_owned()));
        }
        self
    }

    /// From now on a node has this variable in its environment, or has it no more.
    pub fn set(&mut self, node: usize, name: &'static str, value: Option<&str>) {
        let more = &mut self.spots[node].more;
        more.retain(|(other, _)| *other != name);
        more.extend(value.map(|value| (name, value.to_owned())));
    }

    /// Starts every node and waits until all serve.
    pub async fn all_up(mut self) -> Self {
        for node in 0..self.spots.len() {
            self.up(node).await;
        }
        self.serving().await;
        self
    }

    /// From now on a node is started with `VIEW`, or without.
    pub fn name_in_view(&mut self, node: usize, named: bool) {
        self.spots[node].spare = !named;
    }

    /// How many places there are.
    pub fn nodes(&self) -> usize {
        self.spots.len()
    }

    pub fn at(&self, node: usize) -> SocketAddr {
        self.spots[node].address
    }

    /// Where the nodes that run are.
    pub fn running(&self) -> Vec<SocketAddr> {
        let running = self.spots.iter().filter(|s| s.running.is_some());
        running.map(|s| s.address).collect()
    }

    /// The nodes that hold a key.
    pub fn replicas(&self, key: &str) -> Vec<SocketAddr> {
        let partition = self.view.partition_of_key(key.as_bytes());
        let members = self.view.replicas(partition).iter();
        members
            .map(|member| self.at(usize::from(member.0)))
            .collect()
    }

    /// The settings of a node.
    pub fn config(&self, node: usize) -> Config {
        let (spot, view) = (&self.spots[node], self.view_of(node));
        let mut config = common::config(spot.address, &view, spot.dir.path(), &spot.more());
        config.raft = self.raft.clone();
        config
    }

    /// The nodes that a node's `VIEW` names.
    fn view_of(&self, node: usize) -> Vec<SocketAddr> {
        match self.spots[node].spare {
            true => Vec::new(),
            false => self.view.members().map(|(_, address)| address).collect(),
        }
    }

    /// Starts a node, without waiting until it serves.
    pub async fn up(&mut self, node: usize) {
        let life = if self.apart {
            Life::Apart(Process::spawn(self.command(node)))
        } else {
            Life::Here(launched(self.config(node)).await)
        };
        self.spots[node].running = Some(life);
    }

    /// Starts a node in this process, which may be refused.
    pub async fn try_up(&self, node: usize) -> Result<Running, RunError> {
        try_launch(self.config(node)).await
    }

    /// The command that starts a node in a process of its own.
    pub fn command(&self, node: usize) -> Command {
        let (spot, view) = (&self.spots[node], self.view_of(node));
        let environment = common::environment(spot.address, &view, spot.dir.path(), &spot.more());
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.env_clear().envs(environment);
        command
    }

    /// Stops a node in order.
    pub async fn down(&mut self, node: usize) {
        match self.spots[node].running.take() {
            Some(Life::Here(running)) => {
                let end = tokio::time::timeout(END_WITHIN, running.stop()).await;
                end.expect("it ends in time").unwrap();
            }
            Some(Life::Apart(process)) => drop(process.end().await),
            None => {}
        }
    }

    /// Ends a node's process at once.
    pub fn kill(&mut self, node: usize) {
        self.process(node);
        self.spots[node].running = None;
    }

    /// Makes a node stand still: its connections stay open, and nothing is answered.
    pub fn freeze(&self, node: usize) {
        self.process(node).freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self, node: usize) {
        self.process(node).thaw();
    }

    fn process(&self, node: usize) -> &Process {
        match &self.spots[node].running {
            Some(Life::Apart(process)) => process,
            _ => panic!("node {node} is not in a process of its own"),
        }
    }

    /// The lines that a node has logged so far.
    pub fn log(&self, node: usize) -> String {
        self.process(node).log.lock().unwrap().clone()
    }

    /// Removes what a node that is down has on disk.
    pub fn lose_disk(&mut self, node: usize) {
        self.spots[node].dir = tempfile::tempdir().unwrap();
    }

    /// Where a node has its data.
    pub fn dir(&self, node: usize) -> &Path {
        self.spots[node].dir.path()
    }

    /// Exchanges the disks of two nodes that are down.
    pub fn swap_disks(&mut self, one: usize, other: usize) {
        let (low, high) = self.spots.split_at_mut(other);
        std::mem::swap(&mut low[one].dir, &mut high[0].dir);
    }

    /// Keys of a partition that start with `name`.
    pub fn keys(&self, partition: u32, name: &str) -> impl Iterator<Item = String> {
        (0..)
            .map(move |i| format!("{name}-{i}"))
            .filter(move |key| self.view.partition_of_key(key.as_bytes()).0 == partition)
    }

    /// The cluster that a node in this process takes for its own.
    pub fn cluster(&self, node: usize) -> causeway::protocol::cluster::Cluster {
        let Some(Life::Here(running)) = &self.spots[node].running else {
            panic!("node {node} does not run in this process");
        };
        let views = running.node.views().unwrap();
        views.cluster.unwrap()
    }

    /// The status of a node.
    pub async fn status(&self, node: usize) -> Status {
        status(self.at(node)).await.unwrap()
    }

    /// Waits until every node that runs answers, and serves reads if it is in a view.
    pub async fn serving(&self) {
        for at in self.running() {
            eventually("it serves", PATIENCE, async || {
                let status = status(at).await?;
                match &status.reason {
                    Some(why) if !is_out(&status) => Err(format!("{at}: {why}")),
                    _ => Ok(()),
                }
            })
            .await;
        }
    }

    /// Waits until every node that runs and is in a view serves, hears from all its peers, and
    /// nobody lacks anything.
    pub async fn level(&self) {
        eventually("all replicas are level", LEVEL_WITHIN, async || {
            let mut keys = BTreeMap::new();
            for at in self.running() {
                let status = status(at).await?;
                if is_out(&status) {
                    continue;
                }
                let own = keys.entry(status.partition_id).or_insert(status.keys);
                let same = *own == status.keys;
                let level = |lag, behind, alive| lag == 0 && behind == 0 && alive;
                if !same
                    || status.state != "serving"
                    || status.unstable > 0
                    || !status.peers.iter().all(|p| level(p.lag, p.behind, p.alive))
                {
                    return Err(brief(&status));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Stops every node in order.
    pub async fn end(mut self) {
        for node in 0..self.spots.len() {
            self.down(node).await;
        }
    }
}

impl Spot {
    fn new(k: usize, spare: bool) -> Self {
        let (address, claim) = claim();
        Self {
            address,
            _claim: claim,
            dir: tempfile::tempdir().unwrap(),
            more: vec![("K", k.to_string())],
            spare,
            running: None,
        }
    }

    fn more(&self) -> Vec<(&str, &str)> {
        self.more.iter().map(|(n, v)| (*n, v.as_str())).collect()
    }
}

/// Whether a node is in no view.
fn is_out(status: &Status) -> bool {
    matches!(status.state.as_str(), "standby" | "removed")
}

/// The status of the node at an address, if it answers.
pub async fn status(at: SocketAddr) -> Result<Status, String> {
    let url = format!("http://{at}/status");
    let reply = HTTP.get(url).send().await.map_err(|e| e.to_string())?;
    reply.json().await.map_err(|e| e.to_string())
}

fn brief(status: &Status) -> String {
    let mut text = format!(
        "{} is {} ({:?}) with {} keys, {} unstable",
        status.node, status.state, status.reason, status.keys, status.unstable
    );
    for peer in &status.peers {
        let alive = if peer.alive { "alive" } else { "dead" };
        let _ = write!(
            text,
            "; {} is {alive}, lacks {} and has {} more",
            peer.node, peer.lag, peer.behind
        );
    }
    text
}

//! Nodes: their processes come and go, their disks stay. The things that a node does around Raft
//! are here as far as Raft is about them: the group is formed and told who comes and goes, and a
//! node leaves when it is a member no more.

use super::disk::{Device, Trouble};
use super::exec::{Exec, NOBODY, Process};
use super::machine::Watched;
use super::net::{Link, Net, Node, Served, Up};
use causeway::node::state_machine::{Agreed, Command};
use causeway::protocol::cluster::{Cluster, ClusterId, PayloadKey};
use causeway::protocol::ids::MemberId;
use causeway::protocol::view::View;
use causeway::raft::{
    FormingStep, GroupFailure, GroupPast, RaftConfig, RaftNode, first_voters, next_step,
};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Time between looks at who is there, at a first start.
const LOOK: Duration = Duration::from_millis(20);
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const DECIDED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Place {
    device: Device,
    process: Option<Process>,
    /// Its disk names the cluster.
    born: bool,
    /// The node was removed.
    gone: bool,
    /// Starts that were asked for: of those only the last one counts.
    starts: u64,
    /// Whether the disk has done something to this process that may end its part in the Raft group.
    failed: bool,
}

/// All nodes. Clones share them.
#[derive(Clone)]
pub struct Nodes {
    pub exec: Exec,
    pub net: Net,
    pub config: RaftConfig,
    pub first: View,
    places: Arc<Mutex<BTreeMap<MemberId, Place>>>,
    wrong: Arc<Mutex<Option<String>>>,
}

pub fn address(node: MemberId) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 8000 + node.0))
}

impl Nodes {
    pub fn new(exec: Exec, config: RaftConfig, first: View) -> Self {
        Self {
            net: Net::new(exec.clone()),
            exec,
            config,
            first,
            places: Arc::default(),
            wrong: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemberId, Place>> {
        self.places.lock().unwrap()
    }

    /// All nodes that were ever started and are not gone.
    pub fn all(&self) -> Vec<MemberId> {
        let places = self.lock();
        let all = places.iter().filter(|(_, place)| !place.gone);
        all.map(|(node, _)| *node).collect()
    }

    /// Something is not as it has to be.
    pub fn is_wrong(&self, what: String) {
        log::error!("WRONG: {what}");
        self.wrong.lock().unwrap().get_or_insert(what);
    }

    pub fn wrong(&self) -> Option<String> {
        let found = self.wrong.lock().unwrap().clone();
        found.or_else(super::machine::contradiction)
    }

    /// The first voters, and all who begin.
    pub fn founders(&self) -> BTreeSet<MemberId> {
        self.first.members().map(|(m, _)| m).collect()
    }

    pub fn device(&self, node: MemberId) -> Device {
        self.lock().entry(node).or_default().device.clone()
    }

    /// Starts a node that is to come: it was never there, or it was removed, or never came, and its
    /// number is used again.
    pub fn begin(&self, node: MemberId) {
        let absent = {
            let mut places = self.lock();
            let absent = places.get(&node).is_none_or(|place| place.gone);
            places.entry(node).or_default().gone = false;
            absent
        };
        if absent {
            self.start(node);
        }
    }

    pub fn is_born(&self, node: MemberId) -> bool {
        self.lock().get(&node).is_some_and(|p| p.born)
    }

    pub fn set_trouble(&self, node: MemberId, trouble: Option<Trouble>) {
        log::info!("{node}: its disk: {trouble:?}");
        let mut places = self.lock();
        let place = places.entry(node).or_default();
        place.failed |= trouble == Some(Trouble::Fails);
        place.device.set_trouble(trouble);
    }

    /// Starts a node, unless it runs or is gone.
    pub fn start(&self, node: MemberId) {
        let process = self.exec.process();
        let device = {
            let mut places = self.lock();
            let place = places.entry(node).or_default();
            place.starts += 1;
            if place.gone || place.process.is_some() {
                return;
            }
            place.process = Some(process);
            place.failed = place.device.trouble() == Some(Trouble::Fails);
            place.device.clone()
        };
        log::info!("{node}: starts, as process {process}");
        let up = Up {
            process,
            frozen: false,
            raft: None,
        };
        self.net.set_up(node, Some(up));
        let link = Link {
            me: node,
            process,
            net: self.net.clone(),
        };
        self.exec
            .spawn(process, self.clone().live(node, process, link, device));
    }

    /// Starts a node after a while, unless somebody asks for something else before.
    pub fn start_after(&self, node: MemberId, time: Duration) {
        let asked = {
            let mut places = self.lock();
            let place = places.entry(node).or_default();
            place.starts += 1;
            place.starts
        };
        let nodes = self.clone();
        self.exec.after(NOBODY, time, move || {
            let now = nodes.lock()[&node].starts;
            if now == asked {
                nodes.start(node);
            }
        });
    }

    /// From one moment to the next nothing comes from the node any more.
    pub fn kill(&self, node: MemberId) {
        let (device, process) = {
            let mut places = self.lock();
            let place = places.entry(node).or_default();
            place.starts += 1;
            (place.device.clone(), place.process.take())
        };
        if let Some(process) = process {
            log::info!("{node}: is killed");
            self.net.set_up(node, None);
            self.exec.kill(process);
            device.crash(self.exec.draw(|rng| rng.percent(50)));
        }
    }

    /// Takes away the disk of a node that is down.
    pub fn wipe(&self, node: MemberId) {
        log::info!("{node}: loses its disk");
        let mut places = self.lock();
        let place = places.entry(node).or_default();
        place.device.wipe();
        place.born = false;
    }

    pub fn freeze(&self, node: MemberId, frozen: bool) {
        let process = self.lock().entry(node).or_default().process;
        if let Some(process) = process {
            log::info!("{node}: frozen: {frozen}");
            self.net.set_frozen(node, frozen);
            match frozen {
                true => self.exec.freeze(process),
                false => self.exec.thaw(process),
            }
        }
    }

    /// Stops it in order.
    pub async fn shutdown(&self, node: MemberId) {
        let Some(Up {
            process,
            raft: Some(raft),
            ..
        }) = self.net.up(node)
        else {
            return self.kill(node);
        };
        log::info!("{node}: is shut down");
        let (done, end) = tokio::sync::oneshot::channel();
        self.exec.spawn(process, async move {
            if let Err(error) = raft.shutdown().await {
                log::info!("{node}: {error}");
            }
            let _ = done.send(());
        });
        // An error says that it was killed before.
        if end.await.is_ok() {
            let still = self.lock()[&node].process == Some(process);
            if still {
                self.kill(node);
            }
        }
    }

    async fn live(self, me: MemberId, process: Process, link: Link, device: Device) {
        let troubled = device.trouble().is_some();
        let disk = device.open(&self.exec, process);
        let opened = RaftNode::open_simulated(self.config.clone(), me, link.clone(), disk).await;
        let raft = match opened {
            Ok(raft) => raft,
            Err(error) => {
                log::info!("{me}: cannot be opened: {error}");
                let troubled = troubled || device.trouble().is_some();
                return self.end(me, process, &error.to_string(), troubled);
            }
        };
        let up = Up {
            process,
            frozen: false,
            raft: Some(raft.clone()),
        };
        self.net.set_up(me, Some(up));
        if self.founders().contains(&me) {
            let attend = self.clone().attend(me, raft.clone(), link.clone());
            self.exec.spawn(process, attend);
        }
        let follow = self.clone().follow(me, raft.clone(), link.clone());
        self.exec.spawn(process, follow);
        super::views::begin(&self, me, process, &raft);
        let failure = raft.failed().await;
        let may = self.lock()[&me].failed || is_known(&failure);
        self.end(me, process, &failure.to_string(), may);
    }

    /// The part of a node in the Raft group has failed: the process ends, and is started again.
    fn end(&self, me: MemberId, process: Process, why: &str, may: bool) {
        if !may {
            return self.is_wrong(format!("the council of {me} failed: {why}"));
        }
        let nodes = self.clone();
        let why = why.to_owned();
        self.exec.after(NOBODY, Duration::from_millis(1), move || {
            if nodes.lock()[&me].process == Some(process) {
                log::info!("{me}: ends: {why}");
                nodes.kill(me);
                nodes.start_after(me, Duration::from_millis(300));
            }
        });
    }

    /// Takes part in the birth of the cluster, as `node/membership/birth.rs` has it.
    async fn attend(self, me: MemberId, raft: Node, link: Link) {
        let founders = self.founders();
        let voters = first_voters(&founders);
        let (mut soon, mut formed) = (None, false);
        while !self.is_born(me) {
            let others = voters.iter().copied().filter(|m| *m != me);
            let others = join_all(others.map(|other| self.past_of(&link, other))).await;
            if others.iter().flatten().any(|(_, born)| *born) {
                self.lock().entry(me).or_default().born = true;
                return;
            }
            let own = raft.past().await;
            formed |= own == GroupPast::Met;
            if voters.contains(&me) && formed {
                let view = self.first.clone();
                let cluster = self.exec.draw(|rng| Cluster {
                    id: ClusterId(u128::from(rng.next()).to_le_bytes()),
                    key: PayloadKey([rng.below(256) as u8; 32]),
                    former: None,
                });
                let begin = Command::Begin { view, cluster };
                if let Err(error) = raft.propose_within(begin, DECIDED_WITHIN).await {
                    log::info!("{me}: the birth is not decided yet: {error}");
                }
            } else if voters.contains(&me) {
                let now = self.exec.now_us();
                let since = soon.map_or(Duration::ZERO, |at| Duration::from_micros(now - at));
                let pasts: Vec<Option<GroupPast>> =
                    others.iter().map(|o| Some(o.as_ref()?.0)).collect();
                let step = next_step(own, &pasts, since);
                log::debug!("{me}: {own:?}, others {pasts:?}: {step:?}");
                let done = match step {
                    FormingStep::Wait | FormingStep::Soon | FormingStep::Follow => Ok(()),
                    FormingStep::Vote => raft.gain_vote().await,
                    FormingStep::Form => raft.initialize(&founders).await,
                };
                match (done, step) {
                    (Ok(()), FormingStep::Soon) => drop(soon.get_or_insert(now)),
                    (Ok(()), step) => {
                        soon = None;
                        formed = step == FormingStep::Form;
                    }
                    (Err(error), _) => log::info!("{me}: is not formed: {error}"),
                }
            }
            self.exec.sleep(LOOK).await;
        }
    }

    async fn past_of(&self, link: &Link, other: MemberId) -> Option<(GroupPast, bool)> {
        let nodes = self.clone();
        let served: Served<(GroupPast, bool)> = Arc::new(move |node: Option<Node>| {
            let nodes = nodes.clone();
            Box::pin(async move {
                let past = match node {
                    Some(node) => node.past().await,
                    None => GroupPast::Unknown,
                };
                Some((past, nodes.is_born(other)))
            })
        });
        link.ask(other, served, ANSWER_WITHIN).await.ok()
    }

    /// Learns what is decided about the views: by its Raft group, and from others, which may know
    /// that it was removed.
    async fn follow(self, me: MemberId, raft: Node, link: Link) {
        loop {
            let time = self.exec.draw(|rng| rng.within(100, 400));
            self.exec.sleep(Duration::from_millis(time)).await;
            let mut known: Agreed = raft.followed().borrow().clone();
            if known.is_some() {
                self.lock().entry(me).or_default().born = true;
            }
            let all: Vec<MemberId> = self.net.all_up().into_iter().map(|(m, _)| m).collect();
            let other = all[self.exec.draw(|rng| rng.index(all.len()))];
            let served: Served<Agreed> = Arc::new(|node: Option<Node>| {
                Box::pin(async move { Some(node?.followed().borrow().clone()) })
            });
            let told = link.ask(other, served, ANSWER_WITHIN).await.ok().flatten();
            let version = |views: &Agreed| views.as_ref().map(|v| v.views().version);
            if version(&told) > version(&known) {
                known = told;
            }
            let member = known.is_none_or(|views| views.members().contains_key(&me));
            if !member && self.is_known(me) {
                log::info!("{me}: is a member no more");
                let nodes = self.clone();
                self.exec.after(NOBODY, Duration::from_millis(1), move || {
                    nodes.kill(me);
                    nodes.wipe(me);
                    nodes.lock().entry(me).or_default().gone = true;
                });
                return;
            }
        }
    }

    /// Whether a decided view or change has named a node at some time, as far as the node has
    /// heard: one that is to come is no member yet.
    pub fn is_known(&self, me: MemberId) -> bool {
        self.founders().contains(&me) || self.is_born(me)
    }

    /// The leader that a majority follows, if it can be asked.
    pub async fn leader(&self) -> Option<(MemberId, causeway::raft::GroupStatus)> {
        for (node, up) in self.net.all_up() {
            let Some(raft) = up.raft.filter(|_| !up.frozen) else {
                continue;
            };
            let status = raft.status().await;
            if status.role == causeway::raft::RaftRole::Leader && status.has_quorum {
                return Some((node, status));
            }
        }
        None
    }

    /// The applied state and the status of all nodes that run.
    pub async fn looks(&self) -> Vec<(MemberId, Watched, causeway::raft::GroupStatus)> {
        let mut found = Vec::new();
        for (node, up) in self.net.all_up() {
            if let Some(raft) = up.raft {
                found.push((node, raft.look(Clone::clone), raft.status().await));
            }
        }
        found
    }
}

/// Whether the Raft library gave up as it is known to: a leader that was deposed while it stood
/// still finds its replication task ended, and takes that for a failed storage. The node begins
/// anew with the stores that it has. docs/raft.md has more.
fn is_known(failure: &GroupFailure) -> bool {
    match failure {
        GroupFailure::Library(why) => why.contains("replication channel closed"),
        GroupFailure::Store(_) => false,
    }
}

//! The network between the nodes: calls that take their time, come twice, or are lost on the way
//! there or back, and links that are cut one way or both.

use super::exec::{Exec, Process};
use super::machine::Watched;
use causeway::protocol::ids::MemberId;
use causeway::raft::{RaftNode, Rpc, RpcReply, Transport, TransportError};
use futures_util::future::{BoxFuture, Either, select};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::oneshot;

pub type Node = RaftNode<Watched, Link>;

/// A node that runs.
#[derive(Clone)]
pub struct Up {
    pub process: Process,
    pub frozen: bool,
    /// `None` while it is being opened.
    pub raft: Option<Node>,
}

#[derive(Default)]
struct State {
    up: BTreeMap<MemberId, Up>,
    /// From the first to the second nothing arrives.
    cuts: BTreeSet<(MemberId, MemberId)>,
    /// Calls and answers that are lost, in a hundred.
    loss: u64,
    /// Calls that take long, of a hundred.
    late: u64,
}

/// All links. Clones share them.
#[derive(Clone)]
pub struct Net {
    exec: Exec,
    state: Arc<Mutex<State>>,
}

impl Net {
    pub fn new(exec: Exec) -> Self {
        let state = Arc::default();
        Self { exec, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn up(&self, node: MemberId) -> Option<Up> {
        self.lock().up.get(&node).cloned()
    }

    /// All nodes that run.
    pub fn all_up(&self) -> Vec<(MemberId, Up)> {
        self.lock()
            .up
            .iter()
            .map(|(m, up)| (*m, up.clone()))
            .collect()
    }

    pub fn set_up(&self, node: MemberId, up: Option<Up>) {
        let before = {
            let mut state = self.lock();
            match up {
                Some(up) => state.up.insert(node, up),
                None => state.up.remove(&node),
            }
        };
        drop(before);
    }

    /// Lets go of all nodes: they and their links hold each other.
    pub fn clear(&self) {
        let up = std::mem::take(&mut self.lock().up);
        drop(up);
    }

    pub fn set_frozen(&self, node: MemberId, frozen: bool) {
        if let Some(up) = self.lock().up.get_mut(&node) {
            up.frozen = frozen;
        }
    }

    pub fn cut(&self, from: MemberId, to: MemberId) {
        self.lock().cuts.insert((from, to));
    }

    pub fn join(&self, from: MemberId, to: MemberId) {
        self.lock().cuts.remove(&(from, to));
    }

    /// How much is lost, and how much is late, in a hundred.
    pub fn set_weather(&self, loss: u64, late: u64) {
        let mut state = self.lock();
        (state.loss, state.late) = (loss, late);
    }

    /// Everything arrives.
    pub fn heal(&self) {
        self.lock().cuts.clear();
        self.set_weather(0, 0);
    }

    /// Whether nodes hear this one.
    pub fn hears(&self, from: MemberId, to: MemberId) -> bool {
        let state = self.lock();
        let there = state.up.get(&from).is_some_and(|up| !up.frozen);
        there && !state.cuts.contains(&(from, to))
    }

    /// How long a message takes; `None`: it is lost.
    fn trip(&self, from: MemberId, to: MemberId) -> Option<Duration> {
        let state = self.lock();
        let (loss, late) = (state.loss, state.late);
        let cut = state.cuts.contains(&(from, to));
        drop(state);
        self.exec.draw(|rng| {
            let lost = rng.percent(loss);
            let us = match rng.below(100) {
                n if n < late => rng.within(20_000, 900_000),
                99 => rng.within(2_000, 60_000),
                _ => rng.within(60, 900),
            };
            (!lost && !cut).then_some(Duration::from_micros(us))
        })
    }
}

/// A node's answer to a call.
pub type Served<R> = Arc<dyn Fn(Option<Node>) -> BoxFuture<'static, Option<R>> + Send + Sync>;

/// One node's end of all links.
#[derive(Clone)]
pub struct Link {
    pub me: MemberId,
    pub process: Process,
    pub net: Net,
}

impl Link {
    /// Has another node do something.
    pub async fn ask<R: Send + 'static>(
        &self,
        to: MemberId,
        served: Served<R>,
        timeout: Duration,
    ) -> Result<R, TransportError> {
        let exec = &self.net.exec;
        let (back, answer) = oneshot::channel();
        let back = Arc::new(Mutex::new(Some(back)));
        let Some(up) = self.net.up(to) else {
            let refused = self.net.trip(self.me, to);
            exec.sleep(refused.unwrap_or(timeout).min(timeout)).await;
            return Err(TransportError::Unreachable(to));
        };
        let copies = 1 + usize::from(exec.draw(|rng| rng.percent(2)));
        for copy in 0..copies {
            let Some(trip) = self.net.trip(self.me, to) else {
                continue;
            };
            let (link, served, back) = (self.clone(), Arc::clone(&served), Arc::clone(&back));
            let arrives = move || {
                let serve = link.clone().serve(to, served, back);
                link.net.exec.spawn(up.process, serve);
            };
            exec.after(up.process, trip * (1 + 3 * copy as u32), arrives);
        }
        // A call whose answer is lost tells nobody.
        let held = Arc::clone(&back);
        let end = exec.sleep(timeout);
        let result = match select(answer, Box::pin(end)).await {
            Either::Left((Ok(reply), _)) => Ok(reply),
            Either::Left((Err(_), _)) | Either::Right(_) => Err(TransportError::NoAnswer(to)),
        };
        drop(held);
        result
    }

    async fn serve<R: Send + 'static>(
        self,
        to: MemberId,
        served: Served<R>,
        back: Arc<Mutex<Option<oneshot::Sender<R>>>>,
    ) {
        let node = self.net.up(to).and_then(|up| up.raft);
        let Some(reply) = served(node).await else {
            return;
        };
        if let Some(trip) = self.net.trip(to, self.me) {
            let exec = self.net.exec.clone();
            exec.after(self.process, trip, move || {
                if let Some(back) = back.lock().unwrap().take() {
                    drop(back.send(reply));
                }
            });
        }
    }
}

impl Transport for Link {
    async fn call(
        &self,
        to: MemberId,
        request: Rpc,
        timeout: Duration,
    ) -> Result<RpcReply, TransportError> {
        let served: Served<RpcReply> = Arc::new(move |node: Option<Node>| {
            let request = request.clone();
            Box::pin(async move { Some(node?.handle(request).await) })
        });
        self.ask(to, served, timeout).await
    }

    fn alive(&self, member: MemberId) -> bool {
        self.net.hears(member, self.me)
    }
}

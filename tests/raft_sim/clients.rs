//! Clients of the lists: they change and read lists at any node, ask again where they may, and note
//! what they were told and when.

use super::history::{History, Seen};
use super::net::Node;
use super::nodes::Nodes;
use bytes::Bytes;
use causeway::node::state_machine::{Command, Outcome};
use causeway::protocol::hashed::Hashed;
use causeway::protocol::ids::MemberId;
use causeway::protocol::keys::{self, List, ListChange, ListCondition, What};
use causeway::raft::ConsensusError;
use futures_util::future::{Either, select};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// As in a node.
const PATIENCE: Duration = Duration::from_millis(1_700);
/// How long a client waits for a node.
const WAITS: Duration = Duration::from_millis(2_500);
/// How often a client asks again.
const TRIES: usize = 4;

/// State that all clients share.
#[derive(Clone)]
pub struct Clients {
    pub nodes: Nodes,
    pub history: Arc<Mutex<History>>,
    pub stop: Arc<AtomicBool>,
}

/// The outcome of a request.
enum Told<R> {
    Done(R),
    NotDone,
    Unknown,
}

impl Clients {
    /// Goes on until it is told to stop.
    pub async fn work(self, client: u64, pause_ms: u64) {
        let exec = self.nodes.exec.clone();
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let pause = exec.draw(|rng| rng.within(1, pause_ms * 2));
            exec.sleep(Duration::from_millis(pause)).await;
            number += 1;
            let item = format!("{client}.{number}");
            let (kind, key, again) =
                exec.draw(|rng| (rng.below(100), rng.below(3), rng.percent(40)));
            match kind {
                0..40 => {
                    let key = format!("list{key}");
                    self.read(&key).await;
                }
                40..80 => {
                    let key = format!("list{key}");
                    let what = What::Append(Bytes::from(item.clone()));
                    self.change(&key, what, &item, again).await;
                }
                80..86 => {
                    let key = format!("free{key}");
                    self.read(&key).await;
                }
                86..92 => {
                    let key = format!("free{key}");
                    let items = vec![Bytes::from(item.clone()), Bytes::from("x")];
                    self.change(&key, What::Put(items), &item, again).await;
                }
                92..96 => {
                    let key = format!("free{key}");
                    let what = What::Append(Bytes::from(item.clone()));
                    self.change(&key, what, &item, again).await;
                }
                _ => {
                    let key = format!("free{key}");
                    self.change(&key, What::Delete, &item, again).await;
                }
            }
        }
    }

    fn any_node(&self) -> Option<MemberId> {
        let up = self.nodes.net.all_up();
        let able: Vec<MemberId> = up
            .iter()
            .filter(|(_, up)| up.raft.is_some())
            .map(|(m, _)| *m)
            .collect();
        (!able.is_empty()).then(|| able[self.nodes.exec.draw(|rng| rng.index(able.len()))])
    }

    /// Has a node do something in its own process.
    async fn at<R, F>(&self, node: MemberId, serve: impl FnOnce(Node) -> F) -> Told<R>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, ConsensusError>> + Send + 'static,
    {
        let exec = &self.nodes.exec;
        let Some(up) = self.nodes.net.up(node) else {
            return Told::NotDone;
        };
        let Some(raft) = up.raft else {
            return Told::NotDone;
        };
        let (back, answer) = oneshot::channel();
        let served = serve(raft);
        exec.spawn(up.process, async move { drop(back.send(served.await)) });
        let end = Box::pin(exec.sleep(WAITS));
        match select(answer, end).await {
            Either::Left((Ok(Ok(done)), _)) => Told::Done(done),
            Either::Left((
                Ok(Err(
                    ConsensusError::NoQuorum { .. }
                    | ConsensusError::Behind { .. }
                    | ConsensusError::Overloaded
                    | ConsensusError::TooLong { .. }
                    | ConsensusError::Full(_)
                    | ConsensusError::LeaderFull,
                )),
                _,
            )) => Told::NotDone,
            _ => Told::Unknown,
        }
    }

    async fn change(&self, key: &str, what: What, item: &str, again: bool) {
        let began = self.nodes.exec.now_us();
        let change = ListChange {
            key: Bytes::from(key.to_owned()),
            what: what.clone(),
            only: ListCondition::Always,
            once: again.then(|| Bytes::from(item.to_owned())),
            past: None,
        };
        let mut seen = Seen::NotDone;
        let mut done_at = None;
        for turn in 0..TRIES {
            let Some(node) = self.any_node() else {
                break;
            };
            let command = Command::Keys(change.clone());
            let told = self
                .at(node, |raft| async move {
                    raft.propose_within(command, PATIENCE).await
                })
                .await;
            let asks = turn + 1 < TRIES && again;
            match told {
                Told::Done(Outcome::Keys(keys::ListOutcome::Done { revision })) => {
                    seen = Seen::Done(revision);
                    done_at = Some(node);
                    break;
                }
                Told::Done(Outcome::Keys(keys::ListOutcome::NoSuchKey)) => {
                    seen = Seen::Nothing;
                    break;
                }
                Told::Done(other) => {
                    self.nodes
                        .is_wrong(format!("{what:?} was answered with {other:?}"));
                    break;
                }
                // A change that may be done stays unknown, whatever is answered later.
                Told::Unknown => seen = Seen::Unknown,
                Told::NotDone => {}
            }
            if !asks {
                break;
            }
        }
        log::debug!("{key} {what:?}: {seen:?} at {done_at:?}");
        let ended = self.nodes.exec.now_us();
        self.history
            .lock()
            .unwrap()
            .changed(key, what, seen, (began, ended));
    }

    async fn read(&self, key: &str) {
        let began = self.nodes.exec.now_us();
        if let Some(node) = self.any_node() {
            self.read_at(node, key, began).await;
        }
    }

    /// Reads a list at a node, and returns whether that went well.
    pub async fn read_at(&self, node: MemberId, key: &str, began: u64) -> bool {
        let hashed = Hashed::new(Bytes::from(key.to_owned()));
        let told = self
            .at(node, |raft| async move {
                let look = |state: &super::machine::Watched| -> Option<List> {
                    state.decided.keys.get(&hashed).cloned()
                };
                raft.read_within(PATIENCE, look).await
            })
            .await;
        let Told::Done(list) = told else {
            return false;
        };
        let ended = self.nodes.exec.now_us();
        log::debug!(
            "{key} read at {node}: {:?}",
            list.as_ref().map(|l| (l.revision, l.items.len()))
        );
        self.history.lock().unwrap().read(key, list, (began, ended));
        true
    }
}

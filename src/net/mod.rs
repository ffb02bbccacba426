//! Frames between nodes: one kept-open, multiplexed TCP connection a peer.
//!
//! Every node dials every other member. The connection that a node has dialled carries its one-way
//! messages, its requests, and the answers to those; so there are two connections a pair, one for
//! each direction. Each begins with an authenticated `hello`; after it both ends send `frame`s.
//!
//! A node that has no member number (it waits to be invited, or does not know yet which view is in
//! force) is a stranger. A stranger and a member, or two strangers, keep no connection: one makes a
//! `call` to the other, on a connection of its own that carries requests only and is bounded in
//! time. A `Net` takes calls beside its peers; the `Net` of a stranger takes nothing else. What a
//! stranger may ask for is the handler's decision.
//!
//! What may be lost: a message is dropped, and counted, when its peer is down, when too much is
//! waiting for the peer, or when the connection breaks. Messages that arrive do so in the order in
//! which they were sent, on one connection after the other. Every request ends: with its answer, or
//! with an error that says whether the peer may have got it.
//!
//! What is bounded: the bytes and frames waiting for each peer, the requests waiting for answers,
//! the requests in work for each peer, the connections in their hello and with strangers, frames,
//! and every wait. A handler that is slow to take messages is not read from, so that its sender's
//! queue fills up and drops.
//!
//! The payload types are the caller's: `M` for messages, `Q` for requests, `R` for responses. Large
//! values in them should be of a type that serde takes as bytes (such as `bytes::Bytes`), not as a
//! sequence of numbers.

mod call;
mod config;
mod conn;
mod doorman;
mod error;
mod frame;
mod hello;
mod inbound;
mod link;
mod listener;
mod outbuf;
mod peer;
mod stats;

pub use call::call;
pub use config::{FRAME_BYTES, NetConfig, NetLimits, OnState, PeerState};
pub use error::{CallError, RequestError, SendError};
pub use frame::{Frame, FrameDecoder, FrameEncoder, FrameError, HEADER, Outgoing};
pub use hello::{
    Accepted, Belongs, Greeted, HelloError, HelloRefusal, NodeIdentity, STRANGER, Secret, answer,
    dial,
};
pub use link::PendingReply;
pub use stats::{ClosedHellos, LinkStatus, Stats};

use crate::protocol::ids::MemberId;
use arc_swap::ArcSwap;
use conn::NetShared;
use dashmap::DashMap;
use doorman::Doorman;
use link::Link;
use listener::{Lanes, Reception};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    marker::PhantomData,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A type that can travel in a frame.
pub trait Payload: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Payload for T {}

/// The node at the other end of a connection, as its hello says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId {
    /// `STRANGER` if the sender has no member number.
    pub member: MemberId,
    /// The number of the sender's start.
    pub incarnation: u64,
}

impl PeerId {
    /// Whether the sender has no member number: it is of no cluster, or does not know yet of which.
    pub fn is_stranger(&self) -> bool {
        self.member == STRANGER
    }
}

/// Takes what the peers send. Its futures run in the task of the sender's connection, so none may
/// block or compute for long. They are dropped, at whatever point they wait, when that connection
/// ends.
///
/// Requests also come from strangers, and with a stranger's identity from members of any cluster;
/// messages only come from members of the own cluster that were added.
pub trait Handler<M, Q, R>: Send + Sync + 'static {
    /// Takes a message. No further frame of the same peer is read before the future is done.
    fn message(&self, from: PeerId, message: M) -> impl Future<Output = ()> + Send;

    /// Answers a request. The requests of one peer are started in the order in which they came,
    /// among the messages, and may end in any order.
    fn request(&self, from: PeerId, request: Q) -> impl Future<Output = R> + Send;
}

/// This node's connections to its peers. Clones share them.
pub struct Net<M, Q, R> {
    inner: Arc<Inner<R>>,
    kinds: PhantomData<fn(M, Q)>,
}

impl<M, Q, R> Clone for Net<M, Q, R> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            kinds: PhantomData,
        }
    }
}

type Links<R> = HashMap<MemberId, Arc<Link<R>>>;

struct Inner<R> {
    shared: Arc<NetShared>,
    runtime: Handle,
    links: ArcSwap<Links<R>>,
    /// Locked while `links` is changed.
    changing: Mutex<()>,
    lanes: Arc<Lanes>,
    doorman: Arc<Doorman>,
    stop: CancellationToken,
    kill: CancellationToken,
    tasks: TaskTracker,
}

impl<R> Drop for Inner<R> {
    /// Ends everything at once, when the last `Net` is dropped without a shutdown.
    fn drop(&mut self) {
        self.stop.cancel();
        self.kill.cancel();
    }
}

impl<M: Payload, Q: Payload, R: Payload> Net<M, Q, R> {
    /// Starts on the current tokio runtime, which needs its I/O and time drivers: accepts on
    /// `listener`, and dials nobody until `add_peer`. Panics outside of a runtime.
    ///
    /// Accepts the members that were added, and strangers for requests. With a stranger's identity
    /// it accepts every node, for requests. Methods may be called on any thread, with or without a
    /// runtime.
    pub fn start<H: Handler<M, Q, R>>(
        mut config: NetConfig,
        listener: TcpListener,
        handler: H,
    ) -> Self {
        config.limits = config.limits.checked();
        let doorman = Doorman::new(&config.limits);
        let inner = Arc::new(Inner {
            shared: Arc::new(NetShared {
                config,
                stats: Arc::default(),
            }),
            runtime: Handle::current(),
            links: ArcSwap::default(),
            changing: Mutex::new(()),
            lanes: Arc::default(),
            doorman,
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        // Weak, so that the accepting task does not keep the network alive.
        let known = Arc::downgrade(&inner);
        let dialled = Arc::downgrade(&inner);
        let located = Arc::downgrade(&inner);
        let reception = Arc::new(Reception {
            shared: Arc::clone(&inner.shared),
            handler,
            is_member: Box::new(move |member| {
                known
                    .upgrade()
                    .is_some_and(|inner| inner.links.load().contains_key(&member))
            }),
            is_members_address: Box::new(move |address| {
                located.upgrade().is_some_and(|inner| {
                    let links = inner.links.load();
                    let mut addresses = links.values().map(|link| link.addr.ip().to_canonical());
                    addresses.any(|known| known == address)
                })
            }),
            doorman: Arc::clone(&inner.doorman),
            came: Box::new(move |member| {
                if let Some(inner) = dialled.upgrade()
                    && let Some(link) = inner.links.load().get(&member)
                {
                    link.note_coming();
                }
            }),
            lanes: Arc::clone(&inner.lanes),
            strangers: Semaphore::new(inner.shared.config.limits.strangers),
            stop: inner.stop.clone(),
            kill: inner.kill.clone(),
            tasks: inner.tasks.clone(),
            logged: DashMap::new(),
            kinds: PhantomData,
        });
        inner.tasks.spawn(reception.accept(listener));
        Self {
            inner,
            kinds: PhantomData,
        }
    }

    /// Accepts a member and keeps dialling it. Does nothing for a peer known at this address; a
    /// peer known at another address is dialled at this one from now on. Does nothing for this node
    /// itself and for `STRANGER`, on a stranger, and after a shutdown.
    pub fn add_peer(&self, member: MemberId, addr: SocketAddr) {
        let inner = &self.inner;
        let identity = &inner.shared.config.identity;
        if member == identity.member || member == STRANGER || identity.is_stranger() {
            return;
        }
        let link = Arc::new(Link::new(
            member,
            addr,
            inner.shared.config.limits.clone(),
            Arc::clone(&inner.shared.stats),
        ));
        {
            let _changing = inner.changing.lock();
            if inner.stop.is_cancelled() {
                return;
            }
            let mut links = Links::clone(&inner.links.load());
            match links.get(&member) {
                Some(known) if known.addr == addr => return,
                Some(elsewhere) => elsewhere.stop.cancel(),
                None => {}
            }
            links.insert(member, Arc::clone(&link));
            inner.links.store(Arc::new(links));
        }
        let (kill, shared) = (inner.kill.clone(), Arc::clone(&inner.shared));
        inner.tasks.spawn_on(
            async move {
                kill.run_until_cancelled(peer::keep_dialling(link, shared))
                    .await;
            },
            &inner.runtime,
        );
    }

    /// Stops dialling a member, and accepts it no more. For `drain`, queued frames may still leave
    /// and answers may still come; then requests that still wait end with an error. Another member
    /// may be added at the same address at once.
    pub fn remove_peer(&self, member: MemberId) {
        let _changing = self.inner.changing.lock();
        let mut links = Links::clone(&self.inner.links.load());
        if let Some(link) = links.remove(&member) {
            link.stop.cancel();
            self.inner.links.store(Arc::new(links));
            self.inner.lanes.close(member);
        }
    }

    /// Queues a message without waiting.
    ///
    /// # Errors
    /// When the message was dropped. It is counted.
    pub fn send(&self, member: MemberId, message: &M) -> Result<(), SendError> {
        let links = self.inner.links.load();
        let link = links.get(&member).ok_or(SendError::NotConnected)?;
        link.send(&link.encode_message(message)?)
    }

    /// Queues a message for several members, encoded once. Returns for how many it was queued.
    pub fn broadcast(&self, members: &[MemberId], message: &M) -> usize {
        let links = self.inner.links.load();
        let links = || members.iter().filter_map(|member| links.get(member));
        let mut queued = 0;
        let mut frame = None;
        for link in links() {
            if frame.is_none() {
                // Fails for a peer that is down: then the next one encodes.
                frame = link.encode_message(message).ok();
                if frame.is_none() {
                    continue;
                }
            }
            if frame.as_ref().is_some_and(|frame| link.send(frame).is_ok()) {
                queued += 1;
            }
        }
        queued
    }

    /// Sends a request at once, before the reply is awaited; the reply may be awaited on any
    /// runtime. A reply that is still out after `timeout` is given up.
    pub fn request(&self, member: MemberId, request: &Q, timeout: Duration) -> PendingReply<R> {
        match self.inner.links.load().get(&member) {
            Some(link) => link.request(request, timeout),
            None => PendingReply::failed(RequestError::NotConnected),
        }
    }

    /// Totals over all connections.
    pub fn stats(&self) -> &Stats {
        &self.inner.shared.stats
    }

    /// Accepted connections that are in their hello now.
    pub fn hellos(&self) -> usize {
        self.inner.doorman.count()
    }

    /// How every peer stands now, in the order of their numbers.
    pub fn peers(&self) -> Vec<LinkStatus> {
        let links = self.inner.links.load();
        let mut peers: Vec<_> = links.values().map(|link| link.status()).collect();
        peers.sort_by_key(|peer| peer.member);
        peers
    }

    /// Accepts no more, sends what is queued, answers requests in work, and ends when the peers
    /// have read all that, or after `drain`. When this returns all sockets are closed: the same
    /// address can be listened on again at once.
    pub async fn shutdown(&self) {
        let inner = &self.inner;
        {
            // Locked, so that a peer is either stopped here or not added any more.
            let _changing = inner.changing.lock();
            inner.stop.cancel();
            for link in inner.links.load().values() {
                link.stop.cancel();
            }
        }
        inner.tasks.close();
        let drain = inner.shared.config.limits.drain;
        if tokio::time::timeout(drain, inner.tasks.wait())
            .await
            .is_err()
        {
            inner.kill.cancel();
            inner.tasks.wait().await;
        }
    }
}

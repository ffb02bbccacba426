//! The accepting side: takes connections, does the hello, and lets each member have one connection
//! at a time.
//!
//! Strangers all have the same number, and to a stranger the members of different clusters may have
//! the same one. So connections with a stranger at either end do not replace each other; they are
//! bounded in number and time instead. Connections in their hello have places of the [`Doorman`]'s.

use super::{
    Handler, Payload, PeerId,
    config::NetConfig,
    conn::NetShared,
    doorman::{Doorman, HelloPlace},
    frame::Kinds,
    hello::{self, HelloError},
    inbound::{self, Disconnect},
    stats::Stats,
};
use crate::protocol::ids::MemberId;
use dashmap::DashMap;
use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Addresses whose log lines are remembered, and lines of each: so many are logged of an address
/// before it is let in.
const REMEMBERED: usize = 1024;
const REASONS: usize = 6;

/// State that all accepted connections share.
pub struct Reception<M, Q, R, H> {
    pub shared: Arc<NetShared>,
    /// Takes the messages and requests.
    pub handler: H,
    /// Says whether a member's connections are accepted.
    pub is_member: Box<dyn Fn(MemberId) -> bool + Send + Sync>,
    /// Says whether some member has this address.
    pub is_members_address: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// Places for connections in their hello.
    pub doorman: Arc<Doorman>,
    /// Called for every member that has connected.
    pub came: Box<dyn Fn(MemberId) + Send + Sync>,
    /// One place for each member's connection.
    pub lanes: Arc<Lanes>,
    /// Places for connections with a stranger at either end.
    pub strangers: Semaphore,
    /// Cancelled when nothing more is accepted or read.
    pub stop: CancellationToken,
    /// Cancelled when every connection is to end at once.
    pub kill: CancellationToken,
    /// The tasks that a shutdown waits for.
    pub tasks: TaskTracker,
    /// Log lines about an address that was not let in since.
    pub logged: DashMap<IpAddr, HashSet<String>>,
    pub kinds: Kinds<M, Q, R>,
}

impl<M, Q, R, H> Reception<M, Q, R, H>
where
    M: Payload,
    Q: Payload,
    R: Payload,
    H: Handler<M, Q, R>,
{
    /// Accepts until it is stopped.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Some(accepted) = self.stop.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, addr)) => {
                    let from = addr.ip().to_canonical();
                    let place = self.doorman.admit(from, (self.is_members_address)(from));
                    let this = Arc::clone(&self);
                    self.tasks.spawn(async move {
                        let kill = this.kill.clone();
                        kill.run_until_cancelled(this.receive(stream, addr, place))
                            .await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some may be free again in a moment.
                    log::error!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn receive(&self, mut stream: TcpStream, addr: SocketAddr, place: HelloPlace) {
        let NetConfig {
            identity, limits, ..
        } = &self.shared.config;
        let hello = async {
            stream.set_nodelay(true)?;
            let (first, whole) = (limits.first_bytes, limits.hello);
            hello::answer(&mut stream, identity, &self.is_member, first, whole).await
        };
        let greeted = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            () = place.lost() => return self.crowded_out(addr),
            greeted = hello => greeted,
        };
        drop(place);
        let from = match greeted {
            Ok(greeted) => PeerId {
                member: greeted.member,
                incarnation: greeted.incarnation,
            },
            Err(error) => return self.not_greeted(addr, &error),
        };
        match self.shared.strange(from) {
            true => self.serve_strange(stream, addr, from).await,
            false => self.serve_member(stream, addr, from).await,
        }
    }

    /// Serves a member of the own cluster, in place of its older connection.
    async fn serve_member(&self, stream: TcpStream, addr: SocketAddr, from: PeerId) {
        self.remembered(addr, None);
        let lane = self.lanes.enter(from.member);
        // The member may have been removed since its hello, before it had a lane to be closed.
        if !(self.is_member)(from.member) {
            return;
        }
        (self.came)(from.member);
        // Waits for its turn: the handler gets no frames of an older connection after those of a
        // newer one.
        let served = async {
            let _turn = lane.turn.lock().await;
            inbound::serve(stream, from, &self.handler, &self.shared, &self.stop).await
        };
        let ended = tokio::select! {
            ended = served => ended,
            () = lane.replaced.cancelled() => return,
        };
        self.ended(addr, from, &ended);
    }

    /// Serves a connection with a stranger at either end, if there is a place left, for the time
    /// that such a connection may last.
    async fn serve_strange(&self, stream: TcpStream, addr: SocketAddr, from: PeerId) {
        let Ok(_place) = self.strangers.try_acquire() else {
            return self.not_let_in(addr, "too many connections with strangers");
        };
        self.remembered(addr, None);
        let serve = inbound::serve(stream, from, &self.handler, &self.shared, &self.stop);
        let limit = self.shared.config.limits.stranger;
        match tokio::time::timeout(limit, serve).await {
            Ok(ended) => self.ended(addr, from, &ended),
            Err(_) => log::debug!("connection from {addr}: its time is up"),
        }
    }

    /// Counts and logs the end of a connection.
    fn ended(&self, addr: SocketAddr, from: PeerId, ended: &Disconnect) {
        let who = match from.is_stranger() {
            true => "a stranger".to_owned(),
            false => from.member.to_string(),
        };
        if let Disconnect::Frame(_) | Disconnect::WrongWay | Disconnect::StrangeMessage = ended {
            Stats::add(&self.shared.stats.bad_frames, 1);
            log::warn!("connection from {who} at {addr}: {ended}");
        } else {
            log::debug!("connection from {who} at {addr}: {ended}");
        }
    }

    /// Counts and logs a hello that failed.
    fn not_greeted(&self, addr: SocketAddr, error: &HelloError) {
        let stats = &self.shared.stats;
        if let HelloError::Refused(_) | HelloError::Refusing(_) = error {
            Stats::add(&stats.refused, 1);
        }
        Stats::add(stats.hellos.closed_by(error), 1);
        self.not_let_in(addr, &error.to_string());
    }

    /// Counts and logs a hello whose place has gone to a newer connection.
    fn crowded_out(&self, addr: SocketAddr) {
        let crowded = &self.shared.stats.hellos.crowded;
        let before = crowded.fetch_add(1, Ordering::Relaxed);
        // A crowd must not flood the log.
        if (before + 1).is_power_of_two() {
            log::warn!(
                "no connection from {addr}, nor from {before} before: it said nothing for longer than others that waited"
            );
        }
    }

    fn not_let_in(&self, addr: SocketAddr, why: &str) {
        if self.remembered(addr, Some(why)) {
            log::warn!("no connection from {addr}: {why}");
        }
    }

    /// Remembers how the last hello of an address ended (`None`: well). Returns whether that is
    /// new.
    fn remembered(&self, addr: SocketAddr, outcome: Option<&str>) -> bool {
        let Some(line) = outcome else {
            return self.logged.remove(&addr.ip()).is_some();
        };
        if self.logged.len() >= REMEMBERED {
            self.logged.clear();
        }
        let mut lines = self.logged.entry(addr.ip()).or_default();
        lines.len() < REASONS && lines.insert(line.to_owned())
    }
}

/// The current connection of each member.
#[derive(Debug, Default)]
pub struct Lanes(DashMap<MemberId, Lane>);

/// One connection's place.
#[derive(Debug, Clone, Default)]
pub struct Lane {
    /// Locked by the connection that is served.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled when a newer connection takes the place.
    replaced: CancellationToken,
}

impl Lanes {
    /// Ends the member's older connection, and gives the place to a new one.
    fn enter(&self, member: MemberId) -> Lane {
        let mut lane = self.0.entry(member).or_default();
        lane.replaced.cancel();
        lane.replaced = CancellationToken::new();
        lane.clone()
    }

    /// Ends the connection of a node that is no member any more. Its lane stays: should the node
    /// become a member again, a newer connection still has to wait for its turn.
    pub fn close(&self, member: MemberId) {
        if let Some(lane) = self.0.get(&member) {
            lane.replaced.cancel();
        }
    }
}

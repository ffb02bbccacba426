//! The running node: the replica's thread, the committer, the connections to other nodes, and the
//! facade that HTTP handlers use.

pub mod config;
mod core;
mod explain;
mod forward;
mod reply;
mod run;
pub mod status;
mod wire;

pub use run::{RunError, Running, launch, run};

use self::core::{Clocks, Core, Inbox, Input, Shared};
use self::forward::Forwarder;
use crate::net::Net;
use crate::protocol::clock::{Clock, MAX_AHEAD_MS, Timestamp};
use crate::protocol::context::{Codec, Context};
use crate::protocol::health::Health;
use crate::protocol::ids::MemberId;
use crate::protocol::op::{Answer, Consistency, Op, Read, Refusal, Written};
use crate::protocol::reads::{self, Lookup};
use crate::protocol::replica::{Event, OpenError, Setup};
use crate::protocol::store::StoreError;
use crate::protocol::version::{Key, Stamp};
use crate::protocol::view::{PartitionId, View};
use crate::protocol::views::Views;
use crate::storage::Disk;
use crate::storage::{Committer, CommitterStats};
use arc_swap::ArcSwap;
use bytes::Bytes;
use config::Config;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use wire::{Envelope, Forward, Forwarded};

/// The connections that nodes use.
type Links = Net<Envelope, Forward, Forwarded>;

/// Room on disk below which writes are refused, in bytes: compaction needs some while it works.
const MIN_FREE_BYTES: u64 = 128 << 20;
/// Time between looks at the room on disk.
const ROOM_CHECK: Duration = Duration::from_millis(200);

/// An operation that was not done, with what the client is to know all the same.
#[derive(Debug)]
pub struct Failed {
    pub refusal: Refusal,
    /// The request's own context, without what is stable everywhere.
    pub context: Context,
}

/// What a write came to.
#[derive(Debug)]
pub enum Wrote {
    Written(Written),
    /// A delete of a key that is not there.
    NothingToDelete(Context),
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("cannot listen for other nodes on {address}: {error}")]
    Listen {
        address: std::net::SocketAddr,
        error: std::io::Error,
    },
    #[error("the node is not in VIEW")]
    Standby,
}

/// A node of the cluster.
pub struct Node {
    config: Config,
    codec: Codec,
    view: Arc<View>,
    me: MemberId,
    partition: PartitionId,
    shared: Arc<Shared>,
    health: Mutex<Health>,
    inbox: Inbox,
    links: OnceLock<Links>,
    committed: Arc<CommitterStats>,
    spread: AtomicUsize,
    ended: watch::Receiver<Option<Result<(), StoreError>>>,
}

impl Node {
    /// Starts a node: opens its disk, its log and its connections. Serving begins by itself.
    ///
    /// # Errors
    /// When the disk cannot be used, or the address for other nodes is taken.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let view = Arc::new(config.view.clone().ok_or(StartError::Standby)?);
        let me = view.member_at(config.address).ok_or(StartError::Standby)?;
        let partition = view.partition_of(me).ok_or(StartError::Standby)?;
        let (clocks, clock) = (Clocks::start(), Arc::new(Clock::default()));
        let disk = Arc::new(Disk::open(&config.data_dir)?);
        let setup = Setup {
            me,
            views: Arc::new(Views::first(View::clone(&view))),
            start: new_start(clocks.wall_ms()),
            above: 0,
            trusted: false,
            elsewhere: Arc::default(),
        };
        let replica = Core::open(&setup, Arc::clone(&disk), Arc::clone(&clock), clocks)?;
        let shared = Arc::new(Shared {
            clocks,
            clock,
            marks: ArcSwap::from_pointee(replica.marks()),
            disk: Arc::clone(&disk),
        });
        let (inbox, events) = Inbox::new();
        let done = {
            let inbox = inbox.clone();
            move |result: Result<u64, StoreError>| {
                inbox.send_blocking(match result {
                    Ok(no) => Input::Event(Event::Persisted(no)),
                    Err(error) => Input::StorageFailed(error),
                });
            }
        };
        let committer = Committer::start(disk, done)?;
        let (end, ended) = watch::channel(None);
        let node = Arc::new(Self {
            codec: Codec::new(config.cluster_secret.as_deref().map(str::as_bytes)),
            view,
            me,
            partition,
            shared: Arc::clone(&shared),
            health: Mutex::default(),
            inbox,
            links: OnceLock::new(),
            committed: Arc::clone(committer.stats()),
            spread: AtomicUsize::new(usize::from(me.0)),
            ended,
            config,
        });
        let incarnation = replica.log_id().incarnation;
        let links = forward::connect(&node, incarnation).await?;
        let _ = node.links.set(links.clone());
        let send: core::Sender = Arc::new(move |to, envelope| {
            // What cannot be queued is dropped and counted: the protocol sends it again.
            links.broadcast(to, &envelope);
        });
        let core = Core::new(replica, setup, shared, committer, send);
        std::thread::Builder::new()
            .name("replica".into())
            .spawn(move || {
                let result = core.run(events);
                let _ = end.send(Some(result));
            })
            .map_err(|e| StoreError::Io {
                what: "starting the replica's thread".into(),
                detail: e.to_string(),
            })?;
        tokio::spawn(watch_room(Arc::downgrade(&node)));
        Ok(node)
    }

    /// The node's settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Writes and reads the text form of contexts.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The view in force.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// The partition that holds a key.
    pub fn partition_of_key(&self, key: &Key) -> PartitionId {
        self.view.partition_of_key(key)
    }

    /// The node's own number.
    pub fn me(&self) -> MemberId {
        self.me
    }

    /// The longest value that is taken, in bytes of JSON text.
    pub fn max_value_bytes(&self) -> usize {
        self.config.max_value_bytes
    }

    /// Live keys on this node.
    pub fn live_keys(&self) -> u64 {
        self.shared.marks.load().gauges.live_keys
    }

    /// Whether reads are served.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        match &self.shared.marks.load().recovering {
            None => Ok(()),
            Some(reason) => Err(reason.clone()),
        }
    }

    /// Reads a key of `partition`, never older than `context` unless asked so; ends within a second.
    ///
    /// # Errors
    /// When no replica could answer as asked.
    pub async fn get(
        &self,
        key: Key,
        partition: PartitionId,
        context: Context,
        consistency: Consistency,
    ) -> Result<Read, Failed> {
        let context = self.admit(context)?;
        if partition == self.partition {
            let marks = self.shared.marks.load();
            let found = reads::lookup(&*self.shared.disk, &marks, &key, &context, consistency);
            if let Ok(Lookup::Answer(read)) = found {
                return Ok(read);
            }
        }
        let op = Op::Get { key, consistency };
        match self.drive(op, partition, context).await? {
            (Answer::Read(read), _) => Ok(read),
            (other, context) => Err(unexpected(&other, context)),
        }
    }

    /// Writes a key of `partition`, or deletes it with `None`; ends within a second.
    ///
    /// # Errors
    /// When no replica took the write, or none said so in time.
    pub async fn write(
        &self,
        key: Key,
        partition: PartitionId,
        value: Option<Bytes>,
        context: Context,
    ) -> Result<Wrote, Failed> {
        let context = self.admit(context)?;
        let stamp = self.stamp(context.clock);
        let op = Op::Write { key, value, stamp };
        match self.drive(op, partition, context).await? {
            (Answer::Written(written), _) => Ok(Wrote::Written(written)),
            (Answer::NothingToDelete(context), _) => Ok(Wrote::NothingToDelete(context)),
            (other, context) => Err(unexpected(&other, context)),
        }
    }

    /// A stamp of this node, later than `after`.
    fn stamp(&self, after: Timestamp) -> Stamp {
        Stamp {
            ts: self.shared.clock.tick(self.shared.clocks.wall_ms(), after),
            by: self.me,
        }
    }

    /// Checks a client's context against what is possible.
    fn admit(&self, context: Context) -> Result<Context, Failed> {
        let wall_ms = self.shared.clocks.wall_ms();
        if self.shared.clock.too_far_ahead(wall_ms, context.clock) {
            let ahead_ms = context.clock.ms().saturating_sub(wall_ms).max(MAX_AHEAD_MS);
            return Err(Failed {
                refusal: Refusal::ClockAhead { ahead_ms },
                context,
            });
        }
        let unknown = |m: &MemberId| self.view.address(*m).is_none();
        let unknown = context.iter().map(|(log, _)| log.member).find(unknown);
        if let Some(member) = unknown {
            return Err(Failed {
                refusal: Refusal::UnknownMember(member),
                context,
            });
        }
        Ok(context)
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        // Plain data: a thread that panicked cannot have left it half changed.
        self.health
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn forwarder(&self) -> Forwarder<'_> {
        Forwarder::new(self)
    }

    fn next_spread(&self) -> usize {
        self.spread.fetch_add(1, Ordering::Relaxed)
    }

    async fn drive(
        &self,
        op: Op,
        partition: PartitionId,
        context: Context,
    ) -> Result<(Answer, Context), Failed> {
        self.forwarder().drive(op, partition, context).await
    }

    /// Resolves when the node's core has ended, by a failure of the storage or a shutdown.
    ///
    /// # Errors
    /// What made the storage fail.
    pub async fn ended(&self) -> Result<(), StoreError> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Makes everything durable that was taken, and ends.
    ///
    /// # Errors
    /// What made the storage fail.
    pub async fn shutdown(&self) -> Result<(), StoreError> {
        self.inbox.input(Input::Stop).await;
        let ended = self.ended().await;
        if let Some(links) = self.links.get() {
            links.shutdown().await;
        }
        ended
    }
}

impl Drop for Node {
    /// Without a shutdown the core ends all the same, and lets go of the disk a little later.
    fn drop(&mut self) {
        self.inbox.stop();
    }
}

fn unexpected(answer: &Answer, context: Context) -> Failed {
    log::error!("an operation got an answer of another kind: {answer:?}");
    Failed {
        refusal: Refusal::Storage("a replica answered something else than it was asked".into()),
        context,
    }
}

/// A number for this start, larger than earlier ones as far as the wall clock is right: seconds,
/// then 16 random bits, should a clock that was set back meet a disk that was lost.
fn new_start(wall_ms: u64) -> u64 {
    const EPOCH_S: u64 = 1_700_000_000;
    let seconds = (wall_ms / 1_000).saturating_sub(EPOCH_S);
    seconds << 16 | u64::from(rand::random::<u16>())
}

/// Tells the core when the disk has no room for writes, and when it has again.
async fn watch_room(node: std::sync::Weak<Node>) {
    let mut full = false;
    let mut every = tokio::time::interval(ROOM_CHECK);
    loop {
        every.tick().await;
        let Some(node) = node.upgrade() else {
            return;
        };
        let disk = &node.shared.disk;
        let now = match disk.is_nearly_full(MIN_FREE_BYTES) {
            Ok(now) => now,
            Err(error) => {
                log::warn!("cannot tell how much room the disk has: {error}");
                continue;
            }
        };
        if now == full {
            continue;
        }
        full = now;
        let reason = full.then(|| {
            format!(
                "less than {} MiB are free in {}",
                MIN_FREE_BYTES >> 20,
                node.config.data_dir.display()
            )
        });
        match &reason {
            Some(reason) => log::error!("writes are refused: {reason}"),
            None => log::info!("the disk has room again: writes are taken"),
        }
        node.inbox.send(Event::DiskFull(reason)).await;
    }
}

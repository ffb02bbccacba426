//! A node while it is a member of a cluster: the replica's thread, the committer, the connections to other nodes, its
//! part in the council, and the facade that HTTP handlers use.

use crate::council::Council;
use crate::net;
use crate::node::config::Config;
use crate::node::error::StartError;
use crate::node::membership::birth::Forming;
use crate::node::membership::fault::Switch;
use crate::node::membership::holders::{self, Counts};
use crate::node::membership::identity::{self, Place};
use crate::node::membership::liveness::Presence;
use crate::node::membership::state_machine::Decided;
use crate::node::membership::{birth, driver, follow, standby};
use crate::node::replica::core::{self, Clocks, Core, Driver, Report, Shared};
use crate::node::replica::inbox::{Inbox, Input};
use crate::node::requests::offers::Offers;
use crate::node::requests::router::{self, Forwarder};
use crate::node::seal::Seal;
use crate::node::wire::links::{Links, Peers, belongs};
use crate::protocol::clock::{Clock, Doubt, MAX_AHEAD_MS, Timestamp};
use crate::protocol::context::Context;
use crate::protocol::health::Health;
use crate::protocol::ids::MemberId;
use crate::protocol::limits::Limits;
use crate::protocol::marks::Gauges;
use crate::protocol::op::{Answer, Consistency, Op, Read, Refusal, Written};
use crate::protocol::reads::{self, Lookup};
use crate::protocol::replica::{Event, GIVEN_UP, Known, Setup};
use crate::protocol::store::StoreError;
use crate::protocol::version::{Key, Stamp};
use crate::protocol::view::PartitionId;
use crate::protocol::views::Views;
use crate::storage::{Committer, CommitterStats, Disk};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Room on disk below which writes are refused, in bytes: compaction needs some while it works.
pub(super) const MIN_FREE_BYTES: u64 = 128 << 20;
/// Time between looks at the room on disk.
const ROOM_CHECK: Duration = Duration::from_millis(200);
/// A write waits this long for the node's clock to be compared with the others'.
const CLOCK_WITHIN: Duration = Duration::from_millis(500);
/// Time between looks at whether that has happened.
const CLOCK_LOOK: Duration = Duration::from_millis(10);
/// Reports for the council that may wait.
const REPORTS: usize = 64;
/// Where in the data directory the council keeps its log.
pub(super) const COUNCIL_DIR: &str = "council";

/// An operation that was not done, with what the client is to know all the same.
#[derive(Debug)]
pub struct Failed {
    pub refusal: Refusal,
    /// The request's own context, without what is stable everywhere.
    pub context: Context,
}

/// Why a member does not serve clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// It comes with the next view.
    Joining,
    /// It is not in this view any more, and hands over what it has.
    Left { view: u64 },
    /// It was given up while it was to be removed: the others go on without it.
    GivenUp,
}

/// What a write came to.
#[derive(Debug)]
pub enum Wrote {
    Written(Written),
    /// A delete of a key that is not there.
    NothingToDelete(Context),
}

/// A member of a cluster, at work.
pub struct Member {
    pub(super) config: Arc<Config>,
    pub(super) me: MemberId,
    pub(super) switch: Arc<Switch>,
    pub(super) offers: Arc<Offers>,
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Inbox,
    pub(super) links: OnceLock<Links>,
    pub(super) council: OnceLock<Council<Decided, Peers>>,
    pub(super) presence: Arc<Presence>,
    /// How many keys other members last had.
    pub(super) counts: Counts,
    /// The newest views that are known, whether the replica goes by them yet or not.
    pub(super) known: watch::Sender<Arc<Views>>,
    /// Somebody seems to know newer views.
    pub(super) ask: Notify,
    /// The cluster, as the hellos to other nodes name it.
    pub(super) cluster: net::Belongs,
    pub(super) seal: Arc<Seal>,
    /// How far the cluster's birth is.
    pub(super) forming: watch::Sender<Forming>,
    /// What was last said about views of another cluster.
    strange: Mutex<String>,
    /// Cancelled when newer views do not name this member any more.
    pub(super) out: CancellationToken,
    /// The newest views that are known say that this member is given up. That is for good.
    given_up: AtomicBool,
    /// Why the disk takes no writes: it is nearly full.
    full: watch::Sender<Option<String>>,
    health: Mutex<Health>,
    committed: Arc<CommitterStats>,
    spread: AtomicUsize,
    pub(super) stop: CancellationToken,
    ended: watch::Receiver<Option<Result<(), StoreError>>>,
}

impl Member {
    /// Starts a member: opens its disk, its log and its connections. Serving begins by itself.
    ///
    /// # Errors
    /// When the disk cannot be used, or the address for other nodes is taken.
    pub(super) async fn start(
        config: Arc<Config>,
        place: Place,
        switch: Arc<Switch>,
        seal: Arc<Seal>,
        offers: Arc<Offers>,
    ) -> Result<Arc<Self>, StartError> {
        let (clocks, clock) = (Clocks::start(), Arc::new(Clock::default()));
        let disk = Arc::new(Disk::open(&config.data_dir)?);
        place.save(&config.data_dir)?;
        let Place { member: me, views } = place;
        let cluster = belongs(Some(&views));
        if let Some(cluster) = &views.cluster {
            seal.learn(cluster, &config);
        }
        let setup = Setup {
            me,
            views: Arc::clone(&views),
            start: core::new_start(clocks.wall_ms()),
            above: 0,
            trusted: false,
            known: Known::default(),
            limits: Limits::default(),
        };
        let now = clocks.now();
        let driver = Driver::open(setup, Arc::clone(&disk), Arc::clone(&clock), now)?;
        let shared = Arc::new(Shared::of(&driver, Arc::clone(&disk), clock, clocks));
        let (inbox, events) = Inbox::new();
        let stored = inbox.clone();
        let committer = Committer::start(disk, move |result| stored.stored(result))?;
        let (end, ended) = watch::channel(None);
        let member = Arc::new(Self {
            me,
            switch,
            offers,
            shared: Arc::clone(&shared),
            full: watch::Sender::new(None),
            health: Mutex::default(),
            inbox,
            links: OnceLock::new(),
            council: OnceLock::new(),
            presence: Arc::default(),
            counts: Counts::default(),
            known: watch::Sender::new(Arc::clone(&views)),
            ask: Notify::new(),
            cluster,
            seal,
            forming: watch::Sender::default(),
            strange: Mutex::default(),
            out: CancellationToken::new(),
            given_up: AtomicBool::new(views.given_up.contains(&me)),
            committed: Arc::clone(committer.stats()),
            spread: AtomicUsize::new(usize::from(me.0)),
            stop: CancellationToken::new(),
            ended,
            config,
        });
        let incarnation = driver.log_id().incarnation;
        let links = router::connect(&member, incarnation).await?;
        let _ = member.links.set(links.clone());
        let reports = member.join_council().await?;
        identity::mark_cluster(&member.config.data_dir, &views)?;
        let send: core::Sender = Arc::new(move |to, envelope| {
            // What cannot be queued is dropped and counted: the protocol sends it again.
            links.broadcast(to, &envelope);
        });
        let core = Core::new(driver, shared, committer, send, reports);
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
        member.spawn(watch_room(Arc::downgrade(&member)));
        member.spawn(holders::count(Arc::downgrade(&member)));
        Ok(member)
    }

    /// Opens the council, and starts what follows and steers it.
    async fn join_council(self: &Arc<Self>) -> Result<mpsc::Sender<Report>, StartError> {
        let transport = Peers(Arc::downgrade(self));
        let dir = self.config.data_dir.join(COUNCIL_DIR);
        let settings = self.config.council.clone();
        let council = Council::open(settings, self.me, transport, &dir).await?;
        let _ = self.council.set(council.clone());
        let (reports, heard) = mpsc::channel(REPORTS);
        let weak = Arc::downgrade(self);
        self.spawn(follow::take_over(weak.clone(), self.known.subscribe()));
        self.spawn(follow::listen(weak.clone(), council.followed()));
        self.spawn(follow::ask(weak.clone()));
        self.spawn(driver::report(weak.clone(), heard));
        self.spawn(birth::attend(weak.clone()));
        self.spawn(driver::steer(weak));
        Ok(reports)
    }

    /// Runs a task for as long as the member is at work.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(task).await });
    }

    /// The node's settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The views that the replica goes by.
    pub fn views(&self) -> Arc<Views> {
        Arc::clone(&self.shared.marks.load().views)
    }

    /// Why the member serves nobody, although it works.
    pub fn absence(&self) -> Option<Absence> {
        if self.is_given_up() {
            return Some(Absence::GivenUp);
        }
        let marks = self.shared.marks.load();
        if marks.partition.is_some() {
            return None;
        }
        let view = marks.view();
        Some(match marks.views.leaving.contains_key(&self.me) {
            true => Absence::Left { view: view.number },
            false => Absence::Joining,
        })
    }

    /// Whether the others are known to go on without this member, be the replica told already or not.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// The partition that holds a key.
    pub fn partition_of_key(&self, key: &Key) -> PartitionId {
        self.shared.marks.load().view().partition_of_key(key)
    }

    /// The node's own number.
    pub fn me(&self) -> MemberId {
        self.me
    }

    /// Why the disk takes no writes, if it is nearly full.
    pub(super) fn full(&self) -> Option<String> {
        self.full.borrow().clone()
    }

    /// Its part in the council.
    pub(super) fn council(&self) -> Option<&Council<Decided, Peers>> {
        self.council.get()
    }

    /// The newest views that are known, whether the replica goes by them yet or not.
    pub fn known(&self) -> Arc<Views> {
        Arc::clone(&self.known.borrow())
    }

    /// Takes note of newer views, if they are of this cluster.
    pub(super) fn learned(&self, views: &Arc<Views>) {
        let mut foreign = false;
        self.known.send_if_modified(|known| {
            if views.version <= known.version {
                return false;
            }
            foreign = !known.may_become(views);
            if !foreign {
                let given_up = views.given_up.contains(&self.me);
                if given_up && !self.given_up.swap(true, Ordering::Relaxed) {
                    log::warn!("this node serves nobody any more: {GIVEN_UP}");
                }
                *known = Arc::clone(views);
            }
            !foreign
        });
        if foreign {
            self.warn_of(&standby::stranger(views));
        }
    }

    /// Says something of another cluster, once.
    fn warn_of(&self, text: &str) {
        let mut said = self.strange.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != text {
            log::warn!("{text}");
            text.clone_into(&mut said);
        }
    }

    /// Why this node serves no client yet: its cluster is not born.
    pub fn forming(&self) -> Option<String> {
        // As soon as the replica goes by the birth, it is on the disk.
        let born = self.shared.marks.load().views.is_born();
        (!born).then(|| self.forming.borrow().to_string())
    }

    /// Why another node does not talk to this one, when none does.
    pub(super) fn refused(&self) -> Option<String> {
        let peers = self.links.get()?.peers();
        if peers.iter().any(|peer| peer.up.is_some()) {
            return None;
        }
        let mut peers = peers.into_iter();
        peers.find_map(|peer| {
            let why = peer.refused.filter(net::Refusal::is_lasting)?;
            Some(format!("{} at {}: {why}", peer.member, peer.addr))
        })
    }

    /// Live keys on this node.
    pub fn live_keys(&self) -> u64 {
        self.shared.marks.load().gauges.live_keys
    }

    /// The replica's numbers for metrics.
    pub fn gauges(&self) -> Gauges {
        self.shared.marks.load().gauges
    }

    /// Whether reads are served, and writes of clients stamped.
    ///
    /// # Errors
    /// Why not.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(forming) = self.forming() {
            return Err(forming);
        }
        if let Some(reason) = &self.shared.marks.load().recovering {
            return Err(reason.clone());
        }
        self.check_clock().map_err(|refusal| refusal.to_string())?;
        // It serves all the same, as far as it can: reads, and where it is only the council's, writes.
        self.has_room()?;
        // As a node that is cut off does.
        match self.refused() {
            None => Ok(()),
            Some(why) => Err(format!("no other node talks to this one ({why})")),
        }
    }

    /// Whether what this node is to store finds room.
    fn has_room(&self) -> Result<(), String> {
        if let Some(full) = self.full() {
            return Err(format!("writes are refused, the disk is full: {full}"));
        }
        let council = self.council().map_or(Ok(()), Council::has_room);
        council.map_err(|full| format!("the council stores nothing here, {full}"))
    }

    /// Reads a key of `partition`, never older than `context` unless asked so; ends within a second. Says which replica
    /// answered.
    ///
    /// # Errors
    /// When no replica could answer as asked.
    pub async fn get(
        &self,
        key: Key,
        partition: PartitionId,
        context: Context,
        consistency: Consistency,
    ) -> Result<(Read, MemberId), Failed> {
        let context = self.admit(context)?;
        if let Some(Ok(Lookup::Answer(read))) = self.look(&key, partition, &context, consistency) {
            return Ok((read, self.me));
        }
        let op = Op::Get { key, consistency };
        match self.drive(op, partition, context).await? {
            (Answer::Read(read), _, by) => Ok((read, by)),
            (other, context, _) => Err(unexpected(&other, context)),
        }
    }

    /// Looks a key up here, if this is where it belongs.
    pub(super) fn look(
        &self,
        key: &Key,
        partition: PartitionId,
        context: &Context,
        consistency: Consistency,
    ) -> Option<Result<Lookup, StoreError>> {
        let marks = self.shared.marks.load();
        if marks.partition != Some(partition) {
            return None;
        }
        let found = reads::lookup(&*self.shared.disk, &marks, key, context, consistency);
        // A key that is not there may have moved on, since these marks were made or since its partition was looked up.
        let moved = || {
            let now = self.shared.marks.load();
            !Arc::ptr_eq(&now.views, &marks.views)
                || marks.view().partition_of_key(key) != partition
        };
        match found {
            Ok(Lookup::Answer(Read { found: None, .. })) if moved() => None,
            found => Some(found),
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
        if let Err(refusal) = self.checked_clock().await {
            return Err(Failed { refusal, context });
        }
        let stamp = self.stamp(context.clock);
        let op = Op::Write {
            key,
            value,
            stamp,
            orphan: None,
        };
        match self.drive(op, partition, context).await? {
            (Answer::Written(written), ..) => Ok(Wrote::Written(written)),
            (Answer::NothingToDelete(context), ..) => Ok(Wrote::NothingToDelete(context)),
            (other, context, _) => Err(unexpected(&other, context)),
        }
    }

    /// A stamp of this node, later than `after`.
    pub(super) fn stamp(&self, after: Timestamp) -> Stamp {
        Stamp {
            ts: self.shared.clock.tick(self.shared.clocks.now(), after),
            by: self.me,
        }
    }

    /// Whether this node may stamp writes. Just after a start that is not known before another member's clock has
    /// been heard, mostly within 100 ms. A write waits for that, for [`CLOCK_WITHIN`] at most, and is refused then.
    async fn checked_clock(&self) -> Result<(), Refusal> {
        let began = Instant::now();
        loop {
            match self.check_clock() {
                Err(Refusal::Recovering(_)) if began.elapsed() < CLOCK_WITHIN => {
                    tokio::time::sleep(CLOCK_LOOK).await;
                }
                checked => return checked,
            }
        }
    }

    /// Whether this node may stamp writes now.
    fn check_clock(&self) -> Result<(), Refusal> {
        let checked = self.shared.clock.check(self.shared.clocks.now());
        checked.map_err(|doubt| match doubt {
            Doubt::Unchecked => {
                Refusal::Recovering("its clock has not been compared with the others' yet".into())
            }
            Doubt::Off(off_ms) => Refusal::ClockOff { off_ms },
        })
    }

    /// Takes note of a request of a client's.
    pub(super) fn note_request(&self) {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks a client's context against what is possible.
    pub(super) fn admit(&self, context: Context) -> Result<Context, Failed> {
        self.note_request();
        let now = self.shared.clocks.now();
        if self.shared.clock.too_far_ahead(now, context.clock) {
            let wall_ms = self.shared.clock.wall_ms(now);
            let ahead_ms = context.clock.ms().saturating_sub(wall_ms).max(MAX_AHEAD_MS);
            return Err(Failed {
                refusal: Refusal::ClockAhead { ahead_ms },
                context,
            });
        }
        let marks = self.shared.marks.load();
        // Of a newer view there may be members that are not known here yet.
        let unknown = |m: &MemberId| !marks.view().has_existed(*m) && !marks.is_behind(&context);
        let unknown = context.iter().map(|(log, _)| log.member).find(unknown);
        if let Some(member) = unknown {
            return Err(Failed {
                refusal: Refusal::UnknownMember(member),
                context,
            });
        }
        Ok(context)
    }

    pub(super) fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        // Plain data: a thread that panicked cannot have left it half changed.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forwarder(&self) -> Forwarder<'_> {
        Forwarder::new(self)
    }

    pub(super) fn next_spread(&self) -> usize {
        self.spread.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) async fn drive(
        &self,
        op: Op,
        partition: PartitionId,
        context: Context,
    ) -> Result<(Answer, Context, MemberId), Failed> {
        self.forwarder().drive(op, partition, context).await
    }

    /// What the committer has done since the start.
    pub fn counters(&self) -> &CommitterStats {
        &self.committed
    }

    /// Resolves when the member has ended, by a failure of the storage or of its council, or a shutdown.
    ///
    /// # Errors
    /// What failed.
    pub async fn ended(&self) -> Result<(), StoreError> {
        let Some(council) = self.council.get() else {
            return self.core_ended().await;
        };
        tokio::select! {
            ended = self.core_ended() => ended,
            error = council.failed() => {
                let dir = self.config.data_dir.join(COUNCIL_DIR);
                Err(StoreError::Io {
                    what: format!("the council in {}", dir.display()),
                    detail: error.to_string(),
                })
            }
        }
    }

    async fn core_ended(&self) -> Result<(), StoreError> {
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
        self.stop.cancel();
        self.inbox.input(Input::Stop).await;
        let ended = self.core_ended().await;
        if let Some(council) = self.council.get()
            && let Err(error) = council.shutdown().await
        {
            log::error!("{error}");
        }
        if let Some(links) = self.links.get() {
            links.shutdown().await;
        }
        ended
    }
}

impl Drop for Member {
    /// Without a shutdown the core ends all the same, and lets go of the disk a little later.
    fn drop(&mut self) {
        self.stop.cancel();
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

/// Tells the core when the disk has no room for writes, and when it has again.
async fn watch_room(node: Weak<Member>) {
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
        if now == node.full.borrow().is_some() {
            continue;
        }
        let reason = now.then(|| {
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
        node.full.send_replace(reason.clone());
        node.inbox.send(Event::DiskFull(reason)).await;
    }
}

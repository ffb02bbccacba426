//! A member of a cluster at work, of all that it has: its replica, its way to other replicas, the
//! lists, and its part in the cluster. `start.rs` puts it together, `readiness.rs` says whether it
//! serves.

use super::config::Config;
use super::membership::fault::Switch;
use super::membership::part::Membership;
use super::replica::core::Input;
use super::replica::inbox::Inbox;
use super::replica::room::Room;
use super::replica::shared::Shared;
use super::requests::lists::ListService;
use super::requests::router::Router;
use crate::protocol::ids::MemberId;
use crate::protocol::marks::{Gauges, Marks};
use crate::protocol::room::DiskRoom;
use crate::protocol::store::StoreError;
use crate::protocol::views::Views;
use crate::storage::{CommitterStats, Disk, EngineGauges};
use arc_swap::Guard;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How the replica's thread ended, when it has.
pub type ReplicaEnd = watch::Receiver<Option<Result<(), StoreError>>>;

/// A member of a cluster, at work.
pub struct Member {
    membership: Arc<Membership>,
    switch: Arc<Switch>,
    shared: Arc<Shared>,
    inbox: Inbox,
    router: Router,
    lists: ListService,
    room: Room,
    committed: Arc<CommitterStats>,
    ended: ReplicaEnd,
}

impl Member {
    /// A member with this part in its cluster and with this replica, which `inbox` leads to.
    pub(super) fn new(
        membership: Arc<Membership>,
        switch: Arc<Switch>,
        shared: Arc<Shared>,
        inbox: Inbox,
        committed: Arc<CommitterStats>,
        ended: ReplicaEnd,
    ) -> Self {
        let room = Room::default();
        Self {
            router: Router::new(&membership, Arc::clone(&shared), inbox.clone()),
            lists: ListService::new(Arc::clone(&membership), Arc::clone(&shared), room.clone()),
            membership,
            switch,
            shared,
            inbox,
            room,
            committed,
            ended,
        }
    }

    /// The node's settings.
    pub fn config(&self) -> &Config {
        self.membership.config()
    }

    /// The node's own number.
    pub fn me(&self) -> MemberId {
        self.membership.me()
    }

    /// Its part in the cluster: the views, and how they change.
    pub fn membership(&self) -> &Arc<Membership> {
        &self.membership
    }

    /// Takes operations on the causal store to replicas.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The linearizable lists.
    pub fn lists(&self) -> &ListService {
        &self.lists
    }

    /// The newest views that are known, whether the replica goes by them yet or not.
    pub fn known(&self) -> Arc<Views> {
        self.membership.knowledge().views()
    }

    /// The views that the replica goes by.
    pub fn views(&self) -> Arc<Views> {
        Arc::clone(&self.shared.marks.load().views)
    }

    /// How far the replica is.
    pub fn marks(&self) -> Guard<Arc<Marks>> {
        self.shared.marks.load()
    }

    /// Live keys on this node.
    pub fn live_keys(&self) -> u64 {
        self.gauges().live_keys
    }

    /// The replica's numbers for metrics.
    pub fn gauges(&self) -> Gauges {
        self.shared.marks.load().gauges
    }

    /// Work of the committer since the start.
    pub fn counters(&self) -> &CommitterStats {
        &self.committed
    }

    /// What the storage engine under the replica says; `None` while it is not open.
    pub fn engine(&self) -> Option<EngineGauges> {
        self.shared.disk.gauges()
    }

    /// Inputs that wait for the replica's thread, and bytes of clients' requests among them.
    pub fn queue(&self) -> (usize, usize) {
        self.inbox.waiting()
    }

    /// Time since the member began.
    pub fn uptime(&self) -> Duration {
        Duration::from_micros(self.shared.clocks.mono_us())
    }

    /// The node's hybrid clock, in milliseconds since 1970.
    pub fn clock_ms(&self) -> u64 {
        let now = self.shared.clocks.now();
        self.shared.clock.observe_wall(now).ms()
    }

    /// Bytes that the store takes on disk, and bytes that are free there; 0 when the disk does not
    /// say.
    pub fn disk_bytes(&self) -> (u64, u64) {
        let disk = &self.shared.disk;
        (
            disk.size_bytes().unwrap_or(0),
            disk.free_bytes().unwrap_or(0),
        )
    }

    /// The replica's disk, to be told when nobody uses it any more.
    pub(super) fn disk(&self) -> Weak<Disk> {
        Arc::downgrade(&self.shared.disk)
    }

    /// How much room the disk has beside its reserve.
    pub fn disk_room(&self) -> DiskRoom {
        self.room.level()
    }

    /// Whether the disk has room.
    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// The switch by which the node acts as a dead one.
    pub(super) fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The way to the replica.
    pub(super) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Runs a task for as long as the member is at work.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.membership.stop().clone();
        tokio::spawn(async move { stop.run_until_cancelled(task).await });
    }

    /// Resolves when a part of what is on one of the member's disks turns out to be damaged.
    pub(super) async fn damaged(&self) -> StoreError {
        tokio::select! {
            error = self.shared.disk.damaged() => error,
            error = self.membership.damaged() => error,
        }
    }

    /// Resolves when the member's replica has ended, by a failure of its storage or a shutdown.
    ///
    /// # Errors
    /// What failed.
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
        self.membership.stop().cancel();
        self.inbox.input(Input::Stop).await;
        let ended = self.ended().await;
        self.membership.leave_raft().await;
        self.membership.peers().shutdown().await;
        ended
    }
}

impl Drop for Member {
    /// Without a shutdown the core ends all the same, and lets go of the disk a little later.
    fn drop(&mut self) {
        self.membership.stop().cancel();
        self.inbox.stop();
    }
}

//! Puts a member together, and starts all that it does: its replica's thread, its connections, its
//! part in the Raft group, and the tasks that follow and steer that.

use super::config::Config;
use super::damage;
use super::error::StartError;
use super::identity::{self, Place};
use super::member::Member;
use super::membership::fault::Switch;
use super::membership::offers::Offers;
use super::membership::part::Membership;
use super::membership::{birth, driver, follow, progress};
use super::replica::clocks::{Clocks, new_start};
use super::replica::core::{Core, ReplicaReport};
use super::replica::inbox::Inbox;
use super::replica::shared::{ReplicaDriver, Shared};
use super::seal::PayloadSeal;
use super::serve;
use crate::protocol::clock::Clock;
use crate::protocol::limits::Limits;
use crate::protocol::replica::{Known, Setup};
use crate::protocol::store::StoreError;
use crate::storage::{Committer, Disk, is_put_aside};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Reports for the Raft group that may wait.
const REPORTS: usize = 64;

/// The parts that outlive a member: the node has it, whatever it is at the moment.
#[derive(Clone)]
pub struct Lasting {
    /// The node's settings.
    pub config: Arc<Config>,
    /// Writes and reads payloads.
    pub seal: Arc<PayloadSeal>,
    /// Whether the node is to act as a dead one.
    pub switch: Arc<Switch>,
    /// The offers that the node makes or takes in.
    pub offers: Arc<Offers>,
}

/// Starts a member: opens its disk, its log and its connections. Serving begins by itself.
///
/// # Errors
/// When the disk cannot be used, or the address for other nodes is taken.
pub async fn start(node: &Lasting, place: Place) -> Result<Arc<Member>, StartError> {
    let config = Arc::clone(&node.config);
    let (clocks, clock) = (Clocks::start(), Arc::new(Clock::default()));
    let disk = Arc::new(Disk::open(&config.data_dir)?);
    place.save(&config.data_dir)?;
    let Place { member: me, views } = place;
    if let Some(cluster) = &views.cluster {
        node.seal.learn(cluster, &config);
    }
    let setup = Setup {
        me,
        views: Arc::clone(&views),
        start: new_start(clocks.wall_ms()),
        above: 0,
        trusted: false,
        put_aside: is_put_aside(&config.data_dir)?,
        known: Known::default(),
        limits: Limits::default(),
    };
    let now = clocks.now();
    let driver = ReplicaDriver::open(setup, Arc::clone(&disk), Arc::clone(&clock), now)?;
    let shared = Arc::new(Shared::of(&driver, Arc::clone(&disk), clock, clocks));
    let (inbox, events) = Inbox::new();
    let stored = inbox.clone();
    let committer = Committer::start(disk, move |result| stored.stored(result))?;
    let (end, ended) = watch::channel(None);
    let offers = Arc::clone(&node.offers);
    let known = Arc::clone(&views);
    let membership = Membership::new(config, me, known, Arc::clone(&shared), offers);
    let member = Arc::new(Member::new(
        Arc::new(membership),
        Arc::clone(&node.switch),
        Arc::clone(&shared),
        inbox,
        Arc::clone(committer.stats()),
        ended,
    ));
    serve::as_member(&member, driver.log_id().incarnation).await?;
    let reports = join_raft(&member, node).await?;
    let send = Arc::new(member.membership().peers().sender());
    let reserve = node.config.reserve;
    let core = Core::new(driver, shared, committer, send, reports, reserve);
    std::thread::Builder::new()
        .name("replica".into())
        .spawn(move || {
            let result = events.run(core);
            let _ = end.send(Some(result));
        })
        .map_err(|e| StoreError::Io {
            what: "starting the replica's thread".into(),
            detail: e.to_string(),
        })?;
    watch_room(&member);
    let stop = member.membership().stop().clone();
    let disks = [member.disk(), member.membership().raft_disk()];
    member.spawn(damage::scrub_slowly(disks, stop));
    member.spawn(progress::count(Arc::clone(member.membership())));
    Ok(member)
}

/// Opens the Raft group, and starts what follows and steers it.
async fn join_raft(
    member: &Arc<Member>,
    node: &Lasting,
) -> Result<mpsc::Sender<ReplicaReport>, StartError> {
    let part = || Arc::clone(member.membership());
    let raft = member.membership().join_raft().await?;
    // The Raft group's store may be new. Nothing else marks it before the tasks below run.
    identity::mark_cluster(&node.config.data_dir, &member.known())?;
    let (reports, heard) = mpsc::channel(REPORTS);
    let knowledge = Arc::clone(member.membership().knowledge());
    let (seal, inbox) = (Arc::clone(&node.seal), member.inbox().clone());
    member.spawn(follow::take_over(part(), knowledge.follow(), seal, inbox));
    member.spawn(follow::listen(knowledge, raft.followed()));
    member.spawn(follow::ask(part()));
    member.spawn(driver::report(part(), heard));
    member.spawn(birth::attend(part()));
    member.spawn(driver::steer(part()));
    Ok(reports)
}

fn watch_room(member: &Member) {
    let (room, reserve) = (member.room().clone(), member.config().reserve);
    member.spawn(room.watch(member.disk(), member.inbox().clone(), reserve));
}

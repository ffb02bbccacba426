//! The roles of a node in turn: waiting to be a member, at work as one, removed, or acting as a
//! dead one; and how it goes from one to the other.

use super::begin::begin;
use super::config::Config;
use super::damage;
use super::error::StartError;
use super::identity::{self, Place, member_at};
use super::member::Member;
use super::membership::fault::Switch;
use super::requests::orphans::Offering;
use super::role::{Role, RoleWork};
use super::seal::PayloadSeal;
use super::serve;
use super::start::{Lasting, start};
use super::wire::messages::OfferProgress;
use crate::net::STRANGER;
use crate::protocol::payload::Codec;
use crate::protocol::replica::OpenError;
use crate::protocol::store::StoreError;
use crate::protocol::views::Views;
use crate::raft::GroupFailure;
use crate::storage::Disk;
use arc_swap::{ArcSwap, Guard};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Time between looks at whether the data of a member that was removed is still in use.
const LET_GO_LOOK: Duration = Duration::from_millis(10);

/// Time between attempts to open a disk that somebody else holds.
const LOCKED_LOOK: Duration = Duration::from_millis(200);

/// The Raft library may give up once in this time. If it does so more often the node ends.
const GAVE_UP_AGAIN: Duration = Duration::from_secs(60);

/// A node, whatever it is at the moment.
pub struct Node {
    state: Arc<State>,
    stop: CancellationToken,
    ended: watch::Receiver<Option<Result<(), Arc<StartError>>>>,
}

struct State {
    lasting: Lasting,
    role: ArcSwap<Role>,
    started: Instant,
}

impl Node {
    /// Starts a node: as a member if its disk or `VIEW` says so, else as a standby.
    ///
    /// # Errors
    /// When the disk cannot be used, or the address for other nodes is taken.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let lasting = Lasting {
            config: Arc::new(config),
            seal: PayloadSeal::new(),
            switch: Switch::new(),
            offers: Arc::default(),
        };
        let (phase, role) = begin(&lasting).await?;
        let state = Arc::new(State {
            lasting,
            role: ArcSwap::from_pointee(role),
            started: Instant::now(),
        });
        let (end, ended) = watch::channel(None);
        let (stop, life) = (CancellationToken::new(), Arc::clone(&state));
        let stopped = stop.clone();
        tokio::spawn(async move {
            let result = life.go_on(phase, stopped).await;
            if let Err(error) = &result {
                log::error!("the node cannot go on: {error}");
            }
            let _ = end.send(Some(result.map_err(Arc::new)));
        });
        Ok(Arc::new(Self { state, stop, ended }))
    }

    /// The node's settings.
    pub fn config(&self) -> &Config {
        &self.state.lasting.config
    }

    /// Writes and reads the text form of contexts, once the node knows of its cluster.
    pub fn codec(&self) -> Guard<Arc<Codec>> {
        self.state.lasting.seal.codec()
    }

    /// The node's present role.
    pub fn role(&self) -> Arc<Role> {
        self.state.role.load_full()
    }

    /// The offers that this node makes of what it had when it was given up, as long as they are not
    /// over.
    pub fn offers(&self) -> Vec<OfferProgress> {
        self.state.lasting.offers.own()
    }

    /// Time since the start.
    pub fn uptime(&self) -> Duration {
        self.state.started.elapsed()
    }

    /// The switch by which the node acts as a dead one.
    pub(super) fn switch(&self) -> &Switch {
        &self.state.lasting.switch
    }

    /// The longest value that is taken, in bytes of JSON text.
    pub fn max_value_bytes(&self) -> usize {
        self.state.lasting.config.max_value_bytes
    }

    /// Resolves when the node has ended, by a failure or a shutdown.
    ///
    /// # Errors
    /// Why it could not go on.
    pub async fn ended(&self) -> Result<(), Arc<StartError>> {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Makes everything durable that was taken, and ends.
    ///
    /// # Errors
    /// Why it could not.
    pub async fn shutdown(&self) -> Result<(), Arc<StartError>> {
        self.stop.cancel();
        self.ended().await
    }
}

impl Drop for Node {
    /// Without a shutdown it ends all the same, a little later.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Why a member ends.
enum End {
    Stopped(Result<(), StoreError>),
    /// The member was removed.
    Out,
    /// The member is to act as a dead node.
    Failed,
    /// A store of the member failed, by damage or otherwise.
    Broken(StoreError),
    /// The Raft library gave up, for this reason, and no store of the member failed.
    OutOfRaft(String),
}

impl State {
    async fn go_on(&self, mut phase: RoleWork, stop: CancellationToken) -> Result<(), StartError> {
        let mut gave_up = None;
        loop {
            phase = match phase {
                RoleWork::Working(member) => {
                    let offering = self.offer(None);
                    let end = tokio::select! {
                        () = stop.cancelled() => End::Stopped(member.shutdown().await),
                        ended = member.ended() => match ended {
                            Err(error) => End::Broken(error),
                            Ok(()) => End::Stopped(Ok(())),
                        },
                        failure = member.membership().failed() => match failure {
                            GroupFailure::Library(why) if !again(&mut gave_up) => {
                                End::OutOfRaft(why)
                            }
                            failure => End::Broken(member.membership().broken(failure)),
                        },
                        error = member.damaged() => End::Broken(error),
                        () = member.membership().knowledge().left() => End::Out,
                        () = self.lasting.switch.turns(true) => End::Failed,
                    };
                    offering.end().await;
                    match end {
                        End::Stopped(result) => return Ok(result?),
                        End::Failed => self.fall(member).await?,
                        End::Broken(error) => tokio::select! {
                            () = stop.cancelled() => return Ok(()),
                            mended = self.mend(member, error) => mended?,
                        },
                        End::OutOfRaft(why) => tokio::select! {
                            () = stop.cancelled() => return Ok(()),
                            begun = self.take_part_again(member, &why) => begun?,
                        },
                        End::Out => self.retire(member).await?,
                    }
                }
                RoleWork::Failed(ear, former) => {
                    let back = async {
                        self.lasting.switch.turns(false).await;
                        let_go(&former).await;
                    };
                    tokio::select! {
                        () = stop.cancelled() => {
                            ear.shutdown().await;
                            return Ok(());
                        }
                        () = back => {}
                    }
                    ear.shutdown().await;
                    log::warn!("{} recovers", self.lasting.config.address);
                    let begun = tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        begun = self.begin_over() => begun,
                    };
                    begun?
                }
                RoleWork::Waiting(mut standby, former) => {
                    let offering = self.offer(Some(Weak::clone(&former)));
                    let invited = async {
                        let views = standby.invited().await;
                        let_go(&former).await;
                        views
                    };
                    let views = tokio::select! {
                        () = stop.cancelled() => None,
                        views = invited => Some(views),
                    };
                    offering.end().await;
                    standby.stop().await;
                    let Some(views) = views else {
                        return Ok(());
                    };
                    RoleWork::Working(self.join(views).await?)
                }
            };
        }
    }

    /// Offers what the node had as earlier members; of the last one, whose disk is given, too.
    fn offer(&self, in_use: Option<Weak<Disk>>) -> Offering {
        let (config, offers) = (&self.lasting.config, &self.lasting.offers);
        Offering::start(Arc::clone(config), Arc::clone(offers), in_use)
    }

    /// Ends a member that was removed.
    async fn retire(&self, member: Arc<Member>) -> Result<RoleWork, StartError> {
        let views = member.known();
        let view = views.view.number;
        self.role.store(Arc::new(Role::Removed { view }));
        let former = member.disk();
        member.shutdown().await?;
        drop(member);
        let standby = serve::as_standby(&self.lasting.config, Some(views)).await?;
        Ok(RoleWork::Waiting(standby, former))
    }

    /// Ends a member that is to act as a dead one.
    async fn fall(&self, member: Arc<Member>) -> Result<RoleWork, StartError> {
        log::warn!(
            "{} fails, as it was told to: POST /recover or a restart brings it back",
            self.lasting.config.address
        );
        let views = member.known();
        let failed = |silent| {
            let views = Arc::clone(&views);
            self.role.store(Arc::new(Role::Failed { views, silent }));
        };
        failed(false);
        let former = member.disk();
        member.shutdown().await?;
        drop(member);
        let switch = Arc::clone(&self.lasting.switch);
        let ear = serve::as_failed(&self.lasting.config, &views, switch).await?;
        failed(true);
        Ok(RoleWork::Failed(ear, former))
    }

    /// Ends a member of which a store failed. If that is damaged, and others can have the data, the
    /// node begins anew without it.
    async fn mend(&self, member: Arc<Member>, error: StoreError) -> Result<RoleWork, StartError> {
        log::error!("{error}");
        let (views, me) = (member.known(), member.me());
        self.end_broken(member, Some(&error)).await;
        let dir = &self.lasting.config.data_dir;
        if !damage::put_aside_damaged(dir, &views, me).await? {
            return Err(error.into());
        }
        self.begin_over().await
    }

    /// Ends a member whose part in the Raft group ended though its stores are sound, and has the
    /// node begin anew with them.
    async fn take_part_again(
        &self,
        member: Arc<Member>,
        why: &str,
    ) -> Result<RoleWork, StartError> {
        log::error!("{why}: the node begins anew with what it has");
        self.end_broken(member, None).await;
        self.begin_over().await
    }

    /// Ends a member that cannot go on, and waits until nobody uses its disk. `known` is on record
    /// already.
    async fn end_broken(&self, member: Arc<Member>, known: Option<&StoreError>) {
        let views = member.known();
        self.role.store(Arc::new(Role::Broken { views }));
        let former = member.disk();
        if let Err(error) = member.shutdown().await
            && Some(&error) != known
        {
            log::error!("{error}");
        }
        drop(member);
        let_go(&former).await;
    }

    /// Begins anew, as whatever the node finds itself to be.
    async fn begin_over(&self) -> Result<RoleWork, StartError> {
        let (phase, role) = self.begin_again().await?;
        self.role.store(Arc::new(role));
        Ok(phase)
    }

    /// Begins anew, when nobody else looks at the disk.
    async fn begin_again(&self) -> Result<(RoleWork, Role), StartError> {
        loop {
            match begin(&self.lasting).await {
                Err(StartError::Open(OpenError::Store(StoreError::Locked { what, detail })))
                | Err(StartError::Store(StoreError::Locked { what, detail })) => {
                    log::warn!("{what} is held by somebody ({detail}): waiting for it");
                    tokio::time::sleep(LOCKED_LOOK).await;
                }
                begun => return begun,
            }
        }
    }

    /// Begins as a new member.
    async fn join(&self, views: Arc<Views>) -> Result<Arc<Member>, StartError> {
        let config = &self.lasting.config;
        let dir = &config.data_dir;
        let Some(member) = member_at(&views, config.address) else {
            return Err(OpenError::NotInView(STRANGER).into());
        };
        if Place::load(dir)?.is_some() {
            identity::put_aside(dir)?;
        }
        let place = Place { member, views };
        let member = start(&self.lasting, place).await?;
        self.role.store(Arc::new(Role::Member(Arc::clone(&member))));
        Ok(member)
    }
}

/// Whether the Raft library gave up a short while ago already: then there is something wrong that a
/// new begin does not mend. Takes down that it did now.
fn again(gave_up: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let last = gave_up.replace(now);
    last.is_some_and(|last| now - last < GAVE_UP_AGAIN)
}

/// Waits until nobody uses a disk any more. Every request ends.
async fn let_go(disk: &Weak<Disk>) {
    while disk.strong_count() > 0 {
        tokio::time::sleep(LET_GO_LOOK).await;
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;

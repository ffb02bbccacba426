//! The roles of a node in turn: waiting to be a member, at work as one, removed, or acting as a
//! dead one; and how it goes from one to the other.

use super::config::Config;
use super::damage;
use super::error::StartError;
use super::identity::{self, Place, member_at};
use super::member::Member;
use super::membership::fault::Switch;
use super::membership::standby::Standby;
use super::requests::orphans::Offering;
use super::seal::PayloadSeal;
use super::serve;
use super::start::{Lasting, start};
use super::suspect;
use super::wire::links::Links;
use super::wire::messages::OfferProgress;
use crate::net::STRANGER;
use crate::protocol::payload::Codec;
use crate::protocol::replica::OpenError;
use crate::protocol::store::StoreError;
use crate::protocol::view::View;
use crate::protocol::views::Views;
use crate::storage::Disk;
use arc_swap::{ArcSwap, Guard};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Time between looks at whether the data of a member that was removed is still in use.
const LET_GO_LOOK: Duration = Duration::from_millis(10);

/// Time between attempts to open a disk that somebody else holds.
const LOCKED_LOOK: Duration = Duration::from_millis(200);

/// A node's role at the moment.
#[derive(Clone)]
pub enum Role {
    /// In no view yet.
    Standby,
    /// A member at work.
    Member(Arc<Member>),
    /// In the view no more, since this one or an earlier one.
    Removed {
        /// The number of the newest view that it knows.
        view: u64,
    },
    /// A store of the member failed: it looks through its data, and begins anew if a part of that
    /// is damaged.
    Broken {
        /// The newest that it knew.
        views: Arc<Views>,
    },
    /// The node acts as a dead member, until an operator has it recover.
    Failed {
        /// The newest that it knew.
        views: Arc<Views>,
        /// The member has ended.
        silent: bool,
    },
}

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

/// The work of a node between two changes of its role.
enum Phase {
    /// Requests under way may still hold on to the disk that the node had as an earlier member.
    Waiting(Standby, Weak<Disk>),
    Working(Arc<Member>),
    /// The disk of a member that failed, which may still be in use.
    Failed(Links, Weak<Disk>),
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

/// Finds out what the node is, and begins as that. Data that is damaged is put aside, if others can
/// have it.
async fn begin(node: &Lasting) -> Result<(Phase, Role), StartError> {
    let dir = &node.config.data_dir;
    loop {
        let damage = match begin_with_what_is_here(node).await {
            Err(error) if error.is_damage() => error,
            begun => return begun,
        };
        let Some(Place { member, views }) = Place::load(dir)? else {
            return Err(damage);
        };
        if !damage::put_aside_damaged(dir, &views, member).await? {
            return Err(damage);
        }
    }
}

async fn begin_with_what_is_here(node: &Lasting) -> Result<(Phase, Role), StartError> {
    let config = &node.config;
    identity::finish_putting_aside(&config.data_dir)?;
    let place = Place::load(&config.data_dir)?;
    if let Some(place) = &place {
        check(config, place)?;
    }
    let known = place.as_ref().map(|p| Arc::clone(&p.views));
    identity::check_cluster::<StartError>(&config.data_dir, known.as_deref())?;
    // Others may be starting as well, and ask this node what it asks them.
    let standby = serve::as_standby(config, known).await?;
    let first = || {
        let view = config.view.clone()?;
        view.member_at(config.address)?;
        Some(Arc::new(Views::first(view)))
    };
    let had = place.as_ref().map(|p| p.member);
    let Some(known) = place.map(|p| p.views).or_else(first) else {
        if let Err(unusable) = can_store(&config.data_dir) {
            standby.stop().await;
            return Err(unusable);
        }
        log::info!("{} is in no view: standing by", config.address);
        return Ok((Phase::Waiting(standby, Weak::new()), Role::Standby));
    };
    let members = known.members().into_values();
    let others: Vec<_> = members.filter(|a| *a != config.address).collect();
    let newer = standby.seek(&others, &known, had.is_none()).await;
    let views = newer.unwrap_or(known);
    let named = match had {
        Some(member) => Some(member).filter(|m| views.members().contains_key(m)),
        None => member_at(&views, config.address),
    };
    match named {
        Some(member) => {
            standby.stop().await;
            let place = Place { member, views };
            if had.is_some() {
                suspect::count_as_lost(config, &place).await?;
            }
            let member = start(node, place).await?;
            Ok((Phase::Working(Arc::clone(&member)), Role::Member(member)))
        }
        None => {
            let view = views.view.number;
            // A client that asks this node all the same keeps its payload.
            if let Some(cluster) = &views.cluster {
                node.seal.learn(cluster, config);
            }
            if let Some(member) = had {
                // The next start knows it, whether anybody answers then or not.
                Place { member, views }.save(&config.data_dir)?;
            }
            log::warn!(
                "{} was removed (it is view {view} now): standing by",
                config.address
            );
            Ok((Phase::Waiting(standby, Weak::new()), Role::Removed { view }))
        }
    }
}

/// Whether the data is this node's, and of the cluster that `VIEW` describes.
fn check(config: &Config, place: &Place) -> Result<(), StartError> {
    let Place { member, views } = place;
    let address = views.members().get(member).copied();
    if address.is_some_and(|a| a != config.address) {
        let me = member_at(views, config.address).unwrap_or(STRANGER);
        let found = *member;
        return Err(OpenError::OtherNode { found, me }.into());
    }
    let other = |view: &View| view.fingerprint() != views.view.fingerprint();
    if config.view.as_ref().is_some_and(other) {
        if !views.is_born() {
            return Err(OpenError::OtherView.into());
        }
        // After changes of the view an operator may well start the node with the present members.
        log::warn!(
            "VIEW and K are not those of the first view; what is on disk counts: view {}",
            views.view.number
        );
    }
    Ok(())
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
}

impl State {
    async fn go_on(&self, mut phase: Phase, stop: CancellationToken) -> Result<(), StartError> {
        loop {
            phase = match phase {
                Phase::Working(member) => {
                    let offering = self.offer(None);
                    let end = tokio::select! {
                        () = stop.cancelled() => End::Stopped(member.shutdown().await),
                        ended = member.ended() => match ended {
                            Err(error) => End::Broken(error),
                            Ok(()) => End::Stopped(Ok(())),
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
                        End::Out => self.retire(member).await?,
                    }
                }
                Phase::Failed(ear, former) => {
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
                        begun = self.begin_again() => begun,
                    };
                    let (phase, role) = begun?;
                    self.role.store(Arc::new(role));
                    phase
                }
                Phase::Waiting(mut standby, former) => {
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
                    Phase::Working(self.join(views).await?)
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
    async fn retire(&self, member: Arc<Member>) -> Result<Phase, StartError> {
        let views = member.known();
        let view = views.view.number;
        self.role.store(Arc::new(Role::Removed { view }));
        let former = member.disk();
        member.shutdown().await?;
        drop(member);
        let standby = serve::as_standby(&self.lasting.config, Some(views)).await?;
        Ok(Phase::Waiting(standby, former))
    }

    /// Ends a member that is to act as a dead one.
    async fn fall(&self, member: Arc<Member>) -> Result<Phase, StartError> {
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
        Ok(Phase::Failed(ear, former))
    }

    /// Ends a member of which a store failed. If that is damaged, and others can have the data, the
    /// node begins anew without it.
    async fn mend(&self, member: Arc<Member>, error: StoreError) -> Result<Phase, StartError> {
        log::error!("{error}");
        let (views, me) = (member.known(), member.me());
        let role = Role::Broken {
            views: Arc::clone(&views),
        };
        self.role.store(Arc::new(role));
        let former = member.disk();
        if let Err(again) = member.shutdown().await
            && again != error
        {
            log::error!("{again}");
        }
        drop(member);
        let_go(&former).await;
        let dir = &self.lasting.config.data_dir;
        if !damage::put_aside_damaged(dir, &views, me).await? {
            return Err(error.into());
        }
        let (phase, role) = self.begin_again().await?;
        self.role.store(Arc::new(role));
        Ok(phase)
    }

    /// Begins anew, when nobody else looks at the disk.
    async fn begin_again(&self) -> Result<(Phase, Role), StartError> {
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

/// Whether files can be written to a directory. A standby stores nothing yet: without this it would
/// find out when it is added, and the cluster would only see that it ends. A disk that is full now
/// may have room by then.
fn can_store(dir: &Path) -> Result<(), StartError> {
    let tried = fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir).map(drop));
    match tried {
        Err(error) if error.kind() != ErrorKind::StorageFull => Err(StartError::DataDir {
            directory: dir.to_owned(),
            error,
        }),
        _ => Ok(()),
    }
}

/// Waits until nobody uses a disk any more. Every request ends.
async fn let_go(disk: &Weak<Disk>) {
    while disk.strong_count() > 0 {
        tokio::time::sleep(LET_GO_LOOK).await;
    }
}

//! Raft: a replicated state machine on a few nodes, for what the whole cluster has to agree on.
//!
//! The implementation is openraft, which no other part of the program names. The nodes with a vote
//! are at most five; all other members follow the log as learners, so that every node has the
//! decided state at hand ([`RaftNode::look`]). The leader makes the votes follow the members that
//! the state itself names.
//!
//! The state machine ([`Machine`]) and the way to other nodes ([`Transport`]) are the caller's.
//! Everything else is here:
//!
//! | | |
//! |---|---|
//! | `propose` | proposals: find the leader, forward to it, decide many with one log entry |
//! | `sessions` | a proposal that was sent twice is applied once |
//! | `reads` | linearizable reads, those that wait together in one round |
//! | `membership` | which nodes have a vote, and the task that makes it so |
//! | `forming`, `rejoin` | the first voters; a node that comes back without its former disk |
//! | `rpc`, `serve`, `transport` | what nodes say to each other, and what each answers |
//! | `network`, `apply`, `disk`, `runtime`, `types` | openraft's peers, state machine, log, tasks |
//! | `compact` | when the log is cut |
//! | `health`, `status`, `force` | a full disk, what operators see, a lost majority |

mod apply;
mod compact;
mod config;
mod disk;
#[cfg(test)]
mod disk_tests;
mod error;
mod force;
mod forming;
mod health;
mod machine;
mod membership;
mod network;
mod propose;
mod reads;
mod rejoin;
mod rpc;
mod runtime;
mod serve;
mod sessions;
mod status;
#[cfg(test)]
mod store_tests;
#[cfg(not(feature = "teeth"))]
mod teeth;
#[cfg(feature = "teeth")]
pub mod teeth;
mod transport;
mod types;

pub use config::{MAX_COMMAND_BYTES, RaftConfig};
pub use error::{ConsensusError, RaftOpenError};
pub use force::force;
pub use forming::{FormingStep, GroupPast, next_step};
pub use health::GroupFailure;
pub use machine::Machine;
pub use membership::voters::{first_voters, missing_without};
pub use status::{GroupStatus, RaftRole};
pub use transport::{Rpc, RpcReply, Transport, TransportError};

#[cfg(feature = "teeth")]
pub use {
    disk::{Engine, StoreQueue, Stored},
    force::force_simulated,
    runtime::simulated,
};

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use openraft::SnapshotPolicy;
use openraft::error::{Fatal, InitializeError, RaftError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;
use apply::{Applier, Shown};
use compact::Growth;
use disk::{Durable, LogStore, RaftDisk, Snapshots};
use membership::reconcile::Reconciler;
use network::Network;
use propose::ask::{self, LeaderClient, Numbers, Question, Said};
use propose::batch::{Proposals, SessionId};
use propose::decide::{Leader, Queue};
use propose::forward::Forwarder;
use reads::{Reads, Rounds};
use rejoin::eligibility::Eligibility;
use teeth::{RaftRule, broken};
use types::{ProposalResult, Raft};

/// How long a look at the state waits for the Raft library's task.
const STATUS_WITHIN: Duration = Duration::from_millis(200);

/// This node's part in the Raft group. Clones share it. Without [`RaftNode::shutdown`] it ends some
/// time after the last clone is dropped.
pub struct RaftNode<M: Machine, T: Transport> {
    inner: Arc<Inner<M, T>>,
}

impl<M: Machine, T: Transport> Clone for RaftNode<M, T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<M: Machine, T> {
    me: MemberId,
    config: RaftConfig,
    transport: T,
    raft: Raft,
    leader: Leader,
    forwarder: Forwarder,
    reads: Reads,
    numbers: Numbers,
    shown: Shown<M>,
    disk: Arc<RaftDisk>,
    log: LogStore,
    durable: Durable,
    eligibility: Arc<Eligibility>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl<M: Machine, T> Drop for Inner<M, T> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<M: Machine, T: Transport> RaftNode<M, T> {
    /// Opens this node's part in `dir`, a directory of its own. The node takes part as far as it
    /// did before. With an empty directory it waits for a call from another node or for
    /// [`RaftNode::initialize`].
    ///
    /// # Errors
    /// When the directory cannot be used or what is in it is damaged.
    pub async fn open(
        config: RaftConfig,
        me: MemberId,
        transport: T,
        dir: &Path,
    ) -> Result<Self, RaftOpenError> {
        let dir = dir.to_owned();
        Self::open_on(config, me, transport, move || RaftDisk::open(&dir)).await
    }

    /// As [`RaftNode::open`], on a disk that a simulator has.
    ///
    /// # Errors
    /// As [`RaftNode::open`].
    #[cfg(feature = "teeth")]
    pub async fn open_simulated(
        config: RaftConfig,
        me: MemberId,
        transport: T,
        disk: Arc<dyn Engine>,
    ) -> Result<Self, RaftOpenError> {
        Self::open_on(config, me, transport, || RaftDisk::on(disk)).await
    }

    async fn open_on(
        config: RaftConfig,
        me: MemberId,
        transport: T,
        open: impl FnOnce() -> Result<RaftDisk, StoreError> + Send + 'static,
    ) -> Result<Self, RaftOpenError> {
        let opened = runtime::blocking(move || {
            let disk = Arc::new(open()?);
            let log = LogStore::open(Arc::clone(&disk), types::node_id(me))?;
            let snapshots = Snapshots::open(Arc::clone(&disk))?;
            let log = log.with(&snapshots);
            let eligibility = Arc::new(Eligibility::open(Arc::clone(&disk))?);
            Ok::<_, RaftOpenError>((disk, log, snapshots, eligibility))
        });
        let cannot = |error: &dyn std::error::Error| RaftOpenError::Start(error.to_string());
        let (disk, log, snapshots, eligibility) = opened.await.map_err(|e| cannot(&e))??;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        // First of all: what is started below may wait for the disk, which goes on when it has
        // room.
        let (stopped, storing) = (stop.clone(), Arc::clone(&disk).keep_storing());
        runtime::spawn(
            &tasks,
            async move { stopped.run_until_cancelled(storing).await },
        );
        // An error below ends the tasks.
        let unless_opened = stop.clone().drop_guard();
        let growth = Growth::new(config.snapshot_after);
        let (durable, log_store) = (log.durable().clone(), log.clone());
        let applier = Applier::<M>::open(snapshots, durable.clone(), growth.clone()).await;
        let applier = applier.map_err(|e| cannot(&e))?;
        let shown = applier.shown().clone();
        let settings = settings()?;
        let (queue, gathering) = Queue::new();
        let network = Network {
            transport: transport.clone(),
            durable: durable.clone(),
            queue: queue.clone(),
            tasks: tasks.clone(),
        };
        let raft = Raft::new(types::node_id(me), settings, network, log, applier)
            .await
            .map_err(|e| cannot(&e))?;
        raft.runtime_config().elect(eligibility.votes());
        if log_store.led() && eligibility.votes() {
            let elected = raft.trigger().elect().await;
            elected.map_err(|e| cannot(&e))?;
        }
        let leader = Leader::start(raft.clone(), (queue, gathering), &tasks, stop.clone());
        let forwarder = Forwarder::start(transport.clone(), ask::ATTEMPT, &tasks, stop.clone());
        let reconciler = Reconciler {
            me,
            raft: raft.clone(),
            transport: transport.clone(),
            shown: shown.clone(),
            log: log_store.clone(),
            disk: Arc::clone(&disk),
            reserve: config.reserve,
            eligibility: Arc::clone(&eligibility),
            dead_after: config.dead_after,
        };
        let stopped = stop.clone();
        runtime::spawn(&tasks, async move {
            stopped.run_until_cancelled(reconciler.run()).await
        });
        let abstaining =
            health::abstain_while_full(raft.clone(), durable.clone(), Arc::clone(&eligibility));
        let stopped = stop.clone();
        runtime::spawn(&tasks, async move {
            stopped.run_until_cancelled(abstaining).await
        });
        let (stopped, cutting) = (stop.clone(), compact::keep_short(raft.clone(), growth));
        runtime::spawn(
            &tasks,
            async move { stopped.run_until_cancelled(cutting).await },
        );
        let (reads, rounds) = Rounds::new(
            me,
            raft.clone(),
            transport.clone(),
            leader.clone(),
            forwarder.clone(),
            config.patience,
        );
        let stopped = stop.clone();
        runtime::spawn(&tasks, async move {
            stopped.run_until_cancelled(rounds.run()).await
        });
        let run = runtime::random();
        let inner = Inner {
            me,
            config,
            transport,
            raft,
            leader,
            forwarder,
            reads,
            numbers: Numbers::new(SessionId { member: me, run }),
            shown,
            disk,
            log: log_store,
            durable,
            eligibility,
            stop,
            tasks,
        };
        unless_opened.disarm();
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Forms the Raft group at the first start of a cluster. The first voters call it, with the
    /// same set of first `members`, when [`next_step`] says so. Does nothing where a Raft group was
    /// formed before. A node that comes later, or comes back without its disk, must not call this:
    /// it could form a second Raft group. Such a node votes when it has caught up with a leader.
    ///
    /// # Errors
    /// `Storage` or `Stopped`.
    pub async fn initialize(&self, members: &BTreeSet<MemberId>) -> Result<(), ConsensusError> {
        if !members.contains(&self.inner.me) {
            return Ok(());
        }
        self.gain_vote().await?;
        let voters = first_voters(members);
        if !voters.contains(&self.inner.me) {
            return Ok(());
        }
        let voters: BTreeSet<u64> = voters.into_iter().map(types::node_id).collect();
        match self.inner.raft.initialize(voters).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
                Err(ConsensusError::Encoding(error.to_string()))
            }
            Err(RaftError::Fatal(fatal)) => Err(ended(&fatal)),
        }
    }

    /// Has a command decided and applied, once, and returns its outcome. Waits for a leader while
    /// there is none. Ends within the configured patience.
    ///
    /// # Errors
    /// Each says whether the command may be applied all the same.
    pub async fn propose(&self, command: M::Command) -> Result<M::Outcome, ConsensusError> {
        self.propose_within(command, self.inner.config.patience)
            .await
    }

    /// As [`RaftNode::propose`], within another patience.
    ///
    /// # Errors
    /// As [`RaftNode::propose`].
    pub async fn propose_within(
        &self,
        command: M::Command,
        patience: Duration,
    ) -> Result<M::Outcome, ConsensusError> {
        self.has_room()?;
        let number = self.inner.numbers.take()?;
        let proposal = Proposals::one(&number.header(), &command)?;
        let asker = LeaderClient {
            me: self.inner.me,
            transport: &self.inner.transport,
            leader: &self.inner.leader,
            forwarder: &self.inner.forwarder,
            raft: &self.inner.raft,
            patience,
        };
        match asker.ask(Question::Propose(proposal)).await? {
            Said::Answer(ProposalResult::Outcome(outcome)) => {
                postcard::from_bytes(&outcome).map_err(encoding)
            }
            Said::Answer(ProposalResult::Unreadable(why)) => Err(ConsensusError::Encoding(why)),
            // Cannot be: this call still holds the number. If it is, the outcome is not known.
            Said::Answer(ProposalResult::Past | ProposalResult::NoRoom) | Said::ReadIndex(_) => {
                Err(ConsensusError::Undecided { waited: patience })
            }
        }
    }

    /// The state with everything in it that was decided before the call: a linearizable read. Ends
    /// within the configured patience.
    ///
    /// # Errors
    /// `NoQuorum`, `Behind`, `Overloaded`, `Full`, `Storage`, `Stopped`.
    pub async fn read(&self) -> Result<M, ConsensusError> {
        self.read_within(self.inner.config.patience, M::clone).await
    }

    /// As [`RaftNode::read`], within `patience`, and without a copy of the whole state. No entry is
    /// applied while `look` runs, so it must be quick.
    ///
    /// # Errors
    /// As [`RaftNode::read`].
    pub async fn read_within<R>(
        &self,
        patience: Duration,
        look: impl FnOnce(&M) -> R,
    ) -> Result<R, ConsensusError> {
        self.has_room()?;
        let began = runtime::now();
        let needed = match broken(RaftRule::ReadBehind) {
            true => 0,
            false => self.inner.reads.index(patience).await?,
        };
        let mut next = self.inner.shown.next();
        if *next.borrow() < needed {
            let waited = patience.saturating_sub(runtime::now() - began);
            let reached = next.wait_for(|next| *next >= needed);
            match runtime::timeout(waited, reached).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(ConsensusError::Stopped),
                Err(_) => return Err(ConsensusError::Behind { waited: patience }),
            }
        }
        Ok(self.look(look))
    }

    /// The state as this node has it, which may be behind what is decided. After a restart the
    /// state begins with what this node knew to be decided before. No entry is applied while `look`
    /// runs, so it must be quick.
    pub fn look<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        self.inner.shown.look(look)
    }

    /// Watches [`Machine::Followed`], the part of the state that others follow, as this node has
    /// it.
    pub fn followed(&self) -> watch::Receiver<M::Followed> {
        self.inner.shown.followed()
    }

    /// Gains the right to vote, for good: at the first start of a cluster, before the Raft group is
    /// formed ([`next_step`]). Durable when it returns.
    ///
    /// # Errors
    /// `Storage`.
    pub async fn gain_vote(&self) -> Result<(), ConsensusError> {
        let gained = self.inner.eligibility.gain().await;
        gained.map_err(|error| ConsensusError::Storage(error.to_string()))?;
        self.inner.raft.runtime_config().elect(true);
        Ok(())
    }

    /// This node's knowledge of Raft groups of the past.
    pub async fn past(&self) -> GroupPast {
        let inner = &self.inner;
        let led = inner
            .raft
            .with_raft_state(|state| state.vote_ref().is_committed());
        match runtime::timeout(config::HEARTBEAT, led).await {
            Err(_) | Ok(Err(_)) => GroupPast::Unknown,
            // The first entry only names the voters, and is the same wherever a group is formed.
            Ok(Ok(led)) if led || inner.durable.next() > 1 => GroupPast::Met,
            Ok(Ok(_)) if inner.eligibility.votes() => GroupPast::Votes,
            Ok(Ok(_)) => GroupPast::None,
        }
    }

    /// How the Raft group stands, as this node sees it.
    pub async fn status(&self) -> GroupStatus {
        let raft = &self.inner.raft;
        let committed = raft.with_raft_state(|state| state.committed.map(|id| id.index));
        // A disk that hangs can stop the library's task. All but this mark is known without it.
        let committed = runtime::timeout(STATUS_WITHIN, committed).await;
        let committed = committed.ok().and_then(Result::ok).flatten();
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        GroupStatus::new(&metrics, committed, self.inner.eligibility.votes())
    }

    /// Stops taking part and lets go of the directory. Nothing that was acknowledged is lost.
    ///
    /// # Errors
    /// `Storage` when the storage had failed before.
    pub async fn shutdown(&self) -> Result<(), ConsensusError> {
        let inner = &self.inner;
        inner.stop.cancel();
        inner.disk.end_patience();
        if let Err(error) = inner.raft.shutdown().await {
            log::error!("the council's task ended badly: {error}");
        }
        inner.tasks.close();
        inner.tasks.wait().await;
        let disk = Arc::clone(&inner.disk);
        match runtime::blocking(move || disk.close()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ConsensusError::Storage(error.to_string())),
            Err(error) => Err(ConsensusError::Storage(error.to_string())),
        }
    }
}

fn encoding(error: postcard::Error) -> ConsensusError {
    ConsensusError::Encoding(error.to_string())
}

/// Why the Raft library no longer works.
fn ended(fatal: &Fatal<u64>) -> ConsensusError {
    match fatal {
        Fatal::StorageError(error) => ConsensusError::Storage(error.to_string()),
        Fatal::Panicked => ConsensusError::Storage("its task gave up".to_owned()),
        Fatal::Stopped => ConsensusError::Stopped,
    }
}

fn settings() -> Result<Arc<openraft::Config>, RaftOpenError> {
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let settings = openraft::Config {
        cluster_name: "causeway".to_owned(),
        heartbeat_interval: ms(config::HEARTBEAT),
        election_timeout_min: ms(config::ELECTION_MIN),
        election_timeout_max: ms(config::ELECTION_MAX),
        install_snapshot_timeout: ms(config::SEND_PART),
        snapshot_max_chunk_size: config::PART_BYTES,
        // Snapshots are made and the log is cut by its bytes: see `compact`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A follower that is behind is sent entries as long as the log has them.
        replication_lag_threshold: u64::MAX,
        ..openraft::Config::default()
    };
    let settings = settings.validate();
    settings
        .map(Arc::new)
        .map_err(|e| RaftOpenError::Start(e.to_string()))
}

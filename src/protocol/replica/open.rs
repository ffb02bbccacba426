//! From a disk to a replica, and from one replica to the next under newer views.

use super::super::clock::{Clock, Timestamp};
use super::super::ids::{self, LogId, MemberId};
use super::super::limits::Limits;
use super::super::marks::Elsewhere;
use super::super::op::{Answer, Refusal};
use super::super::record::{self, ReplicaIdentity};
use super::super::room::DiskRoom;
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::views::Views;
use super::{
    Effect, Event, Now, Replica, accept, beacons, cohorts, early, effects, finished, forgotten,
    gathered, gossip, handover, hidden, index, logs, peers, promises, reads, recovery, snapshot,
    staging, stream, tombstones, walls,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All that a replica is opened with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The member whose replica it is.
    pub me: MemberId,
    /// A replica lives under one view: when those that concern it change, it is opened again.
    pub views: Arc<Views>,
    /// A number for this start, larger than earlier ones as far as the wall clock is right, below
    /// `1 <<` [`ids::START_BITS`].
    pub start: u64,
    /// An incarnation of this member that is known to others; 0 when there is none.
    pub above: u64,
    /// The disk is known to be as this process left it, and served until now.
    pub trusted: bool,
    /// An empty disk is no lost one: the data that it had is put aside, because some of it cannot
    /// be read.
    pub put_aside: bool,
    /// What an earlier replica of this process knew.
    pub known: Known,
    /// The bounds on bytes, counts and work.
    pub limits: Limits,
}

/// Knowledge of an earlier replica of this process.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The marks of other partitions.
    pub elsewhere: Arc<Elsewhere>,
    /// Members that serve, and when they were last heard of, in microseconds.
    pub heard: BTreeMap<MemberId, u64>,
    /// Writes that were lost with nodes that were given up, as far as those had told of them.
    pub lost: u64,
    /// How many writes the writers of logs had told of.
    pub heads: BTreeMap<LogId, u64>,
    /// Batches that were handed out: the next one gets the number after.
    pub batches: u64,
    /// How much room the disk has.
    pub room: DiskRoom,
    /// Clients are at work here.
    pub busy: bool,
    /// The earlier replica had compared what the disk says with its peers.
    pub proven: bool,
}

/// The rest of a replica that another one takes the place of.
pub struct Ended<T> {
    /// How to open the next one.
    pub setup: Setup,
    /// Reads that the next one has to go on with.
    pub reads: Vec<Event<T>>,
    /// Answers that nobody has got yet.
    pub answers: Vec<(T, Answer)>,
}

/// How far above the last one that is known an incarnation may be, where the number that ought to
/// be is not above it.
pub(super) const MOST_ABOVE: u64 = 1 << 16;

/// An incarnation above the last one that is known, from a number that ought to be but may not.
///
/// Not simply the next one: a disk that was lost may have held that one, used but never heard of.
#[must_use]
pub fn above(last: u64, wanted: u64) -> u64 {
    if wanted > last {
        wanted
    } else {
        last + 1 + (wanted & (MOST_ABOVE - 1))
    }
}

/// Why a replica cannot start on a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk is another node's.
    #[error("the data belongs to another node (member {found}, this is {me})")]
    OtherNode {
        /// Whose disk it is.
        found: MemberId,
        /// Who asked.
        me: MemberId,
    },
    /// The disk is of another cluster.
    #[error(
        "the data was written by a node that was started with another VIEW or K: start it with those, or, if nothing \
         in it is needed, empty the data directory"
    )]
    OtherView,
    /// The disk is of a later time than the views that are known.
    #[error("the data was written under view {found}, and the newest one known is {known}")]
    NewerView {
        /// The number of the view under which the disk was last used.
        found: u64,
        /// The newest number that is known.
        known: u64,
    },
    /// The member is neither in the view in force nor in the next one, nor is it leaving.
    #[error("{0} is in no view")]
    NotInView(MemberId),
}

/// Whether a disk is this node's, and not from a future that it does not know.
fn check_identity(id: &ReplicaIdentity, me: MemberId, views: &Views) -> Result<(), OpenError> {
    let known = views.view.number;
    if id.member != me {
        let found = id.member;
        Err(OpenError::OtherNode { found, me })
    } else if id.fingerprint != views.view.fingerprint() {
        Err(OpenError::OtherView)
    } else if id.view > known {
        let found = id.view;
        Err(OpenError::NewerView { found, known })
    } else {
        Ok(())
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Opens the replica on what its disk holds.
    ///
    /// # Errors
    /// When the store cannot be read, or holds another node's or another cluster's data.
    pub fn open(setup: Setup, store: S, clock: Arc<Clock>, now: Now) -> Result<Self, OpenError> {
        let Setup {
            me, views, limits, ..
        } = setup;
        debug_assert!(limits.are_sound(), "{limits:?}");
        // Nothing of what only a node that is out has may be dropped.
        if !views.members().contains_key(&me) {
            return Err(OpenError::NotInView(me));
        }
        let identity: Option<ReplicaIdentity> = record::load_record(&store, record::IDENTITY)?;
        if let Some(id) = &identity {
            check_identity(id, me, &views)?;
        }
        // Never an incarnation twice, whatever the wall clock says.
        let last = identity.as_ref().map_or(0, |id| id.incarnation);
        let wanted = ids::incarnation(views.view.number, setup.start);
        let log = LogId {
            member: me,
            incarnation: if broken(Rule::ReuseLog) {
                ids::incarnation(views.view.number, 1)
            } else {
                above(last.max(setup.above), wanted)
            },
        };
        let promised: Timestamp =
            record::load_record(&store, record::PROMISED)?.unwrap_or_default();
        clock.observe(promised);
        // A wall clock that was set back must not put new writes behind old ones.
        clock.observe(record::load_record(&store, record::CLOCK)?.unwrap_or_default());

        let own = views.current(me);
        let cohorts = cohorts::Cohorts::open(&views, me, identity.as_ref());
        let intact = cohorts.own().is_some_and(|state| state.filled.is_some());
        let peers = cohorts.peers();
        let is_stranger = |m: &MemberId| *m != me && !peers.contains(m);
        let strangers = views.members().into_keys().filter(is_stranger).collect();

        let counts = record::load_record(&store, record::COUNTS)?.unwrap_or_default();
        let Known {
            elsewhere,
            heard,
            lost,
            heads,
            batches,
            room,
            busy,
            proven,
        } = setup.known;
        let proven = proven || setup.trusted;
        let mut replica = Self {
            limits,
            me,
            log,
            partition: own.map(|id| id.partition),
            leftover: handover::Leftover::of(cohorts.kept()),
            cohorts,
            clock,
            logs: logs::Logs::new(log),
            finished: finished::FinishedLogs::new(record::load_finished(&store)?, lost),
            strangers: beacons::Strangers::new(strangers, elsewhere, &views),
            peers: peers::Peers::new(peers, &heard),
            forgotten: forgotten::ForgottenDeletes::new(record::load_forgotten(&store)?),
            index: index::Index::default(),
            staging: staging::Staging::new(batches, counts),
            early: early::EarlyVersions::new(record::load_early(&store)?),
            gathering: gathered::Gathering::default(),
            accept: accept::Accept::default(),
            hidden: hidden::HiddenWrites::default(),
            tail: stream::Tail::default(),
            stalled: reads::Stalled::default(),
            recovery: recovery::Recovery::new(
                intact,
                intact && setup.trusted,
                proven,
                setup.put_aside,
            ),
            snapshots: snapshot::Snapshots::default(),
            promises: promises::Promises::new(promised),
            sweep: tombstones::Sweep::default(),
            gossip: gossip::Schedule::default(),
            walls: walls::Walls::new(now),
            room,
            busy,
            opened: false,
            restart_above: None,
            effects: effects::Effects::new(),
            views,
            store,
            now,
        };
        replica.load_logs()?;
        for (id, head) in heads {
            replica.logs.hear_head(id, head);
        }
        replica.track(log);
        replica.compare_walls();
        replica.start();
        Ok(replica)
    }

    /// Goes on with the logs that the disk knows, and forgets those that are over or no business of
    /// this replica.
    fn load_logs(&mut self) -> Result<(), StoreError> {
        for (id, known) in record::load_logs(&self.store)? {
            let state = self.cohort_of(id);
            let Some(state) = state.filter(|t| t.knows_logs(self.me)) else {
                self.forget_log(id)?;
                continue;
            };
            let cohort = state.cohort.id;
            self.logs.load(id, cohort, &known, self.now);
        }
        let (cohorts, me) = (&self.cohorts, self.me);
        // Which logs are finished is told by those that are not: without these it says nothing.
        let known = |id| cohorts.get(id).is_some_and(|state| state.knows_logs(me));
        self.finished.retain(known, &mut self.staging);
        Ok(())
    }

    /// Takes all that the disk has about a log off it.
    pub(super) fn forget_log(&mut self, id: LogId) -> Result<(), StoreError> {
        let staging = &mut self.staging;
        staging.delete(record::log_key(id));
        let (from, to) = (record::index_key(id, 0), record::index_key(id, u64::MAX));
        self.store.scan(&from, &to, &mut |key, _| {
            staging.delete(key);
            true
        })
    }

    /// Takes newer views over, if they change nothing for this replica; false when it has to be
    /// opened again.
    pub fn take_views(&mut self, views: &Arc<Views>) -> bool {
        if !self.views.is_same_for(views, self.me) {
            return false;
        }
        self.views = Arc::clone(views);
        let peers = &self.peers;
        let is_stranger = |m: &MemberId| *m != self.me && !peers.contains(*m);
        let others = views.members().into_keys();
        let strangers = others.filter(is_stranger).collect();
        self.strangers.take_views(strangers, views);
        self.stalled.any_may_go();
        // Where logs belong that were opened under a view not known so far shows now.
        for log in self.peers.open_logs().collect::<Vec<_>>() {
            self.track(log);
        }
        true
    }

    /// Ends this replica, so that another one takes its place under these views: once it [is
    /// idle](Self::is_idle), or [has stored everything](Self::is_stored) and [has to
    /// restart](Self::restart_above).
    #[must_use]
    pub fn succeed(&mut self, views: Arc<Views>, start: u64) -> Ended<T> {
        debug_assert!(self.is_stored(), "what is staged would be lost");
        let unheard = self.effects.take().into_iter();
        let unheard = unheard.filter_map(|effect| match effect {
            Effect::Answer { ticket, answer } => Some((ticket, answer)),
            _ => None,
        });
        let mut answers: Vec<(T, Answer)> = unheard.collect();
        let open = self.take_waiting();
        answers.extend(open.map(|ticket| (ticket, Answer::Refused(Refusal::Undecided))));
        let setup = Setup {
            me: self.me,
            views,
            start,
            above: self
                .restart_above
                .max(Some(self.log.incarnation))
                .unwrap_or_default(),
            // If a peer knows a later start of this node, the disk may be an old copy, which tells
            // nothing of that start.
            trusted: self.recovery.serving && self.restart_above.is_none(),
            put_aside: self.recovery.put_aside,
            known: Known {
                elsewhere: self.strangers.published(),
                heard: self.peers.serving(),
                lost: self.finished.lost(),
                heads: self.logs.iter().map(|(id, l)| (id, l.head)).collect(),
                batches: self.staging.next_batch() - 1,
                room: std::mem::take(&mut self.room),
                busy: self.busy,
                proven: self.recovery.proven && self.restart_above.is_none(),
            },
            limits: self.limits,
        };
        let reads = std::mem::take(&mut self.stalled).into_events();
        Ended {
            setup,
            reads,
            answers,
        }
    }
}

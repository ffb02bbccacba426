//! From start to serving.
//!
//! A replica whose disk has served before compares itself with a live peer, for a second at most,
//! and serves. One whose disk is empty, or older than what its peers count on, first fetches a
//! snapshot, however long that takes. In the first start of a partition all disks are empty: when
//! the replicas have told each other so, they serve.

use super::super::ids::MemberId;
use super::super::record::{self, ReplicaIdentity};
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::super::views::CohortId;
use super::compare::Contact;
use super::{Now, Replica, logs::Log, peers::Peer};

/// How long a replica waits for peers before it goes on without those that do not answer, in
/// microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// Why a member that was given up does not serve.
pub const GIVEN_UP: &str = "it was away while it was to be removed, and was given up: the others go on without it, \
     and what only it has is offered to them when it is out of the view";

/// Where a replica is between start and serving.
pub(super) struct Recovery {
    /// This process served from the disk until now: there is nothing to compare.
    trusted: bool,
    /// The disk's word on other cohorts than the own one has been compared with peers, or this
    /// process wrote it.
    pub(super) proven: bool,
    /// What the disk had is put aside, and only somebody who looks at it can say that it is lost.
    pub(super) put_aside: bool,
    /// When the peers could first hear of this start.
    asked_us: Option<u64>,
    pub(super) serving: bool,
    /// Everything of the own cohort is on the disk, as far as is known.
    pub(super) intact: bool,
    /// The disk is old or empty and a peer has data: only a snapshot helps.
    pub(super) fetch: bool,
    /// A snapshot has been taken in.
    pub(super) fetched: bool,
    /// The batch with which the disk learns that this replica has served.
    recorded: Option<u64>,
    pub(super) contact: Option<Contact>,
    /// Readers have to be told, since this was last asked for.
    moved: bool,
}

impl Recovery {
    pub(super) fn new(served: bool, trusted: bool, proven: bool, put_aside: bool) -> Self {
        Self {
            trusted,
            proven,
            put_aside: put_aside && !broken(Rule::ForgetPutAside),
            asked_us: None,
            serving: false,
            intact: served,
            fetch: false,
            fetched: false,
            recorded: None,
            contact: None,
            moved: false,
        }
    }

    /// Whether the disk says that everything of the own cohort is on it, or will say so with a
    /// batch that is on its way. A record that is written meanwhile must not take that back.
    pub(super) fn is_told(&self) -> bool {
        let pending = self.recorded.is_some() && !broken(Rule::TakeBackServed);
        self.intact || pending
    }

    /// From now on the peers may answer.
    pub(super) fn asked(&mut self, now: Now) {
        self.asked_us = Some(now.mono_us);
    }

    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// A snapshot of the own cohort has been taken in.
    pub(super) fn fetched(&mut self) {
        self.fetch = false;
        self.fetched = true;
        self.moved = true;
    }

    /// The disk is old or empty. `fetch` says whether there may be a peer to fetch a snapshot from.
    pub(super) fn distrust(&mut self, fetch: bool) {
        self.fetch = fetch;
        self.intact = false;
        self.recorded = None;
        self.serving = false;
        self.trusted = false;
        self.moved = true;
    }

    /// Nobody has a snapshot to fetch.
    fn give_up_fetching(&mut self) {
        self.fetch = false;
    }

    /// The disk has been compared with all who answer.
    pub(super) fn prove(&mut self) {
        self.proven = true;
        self.moved = true;
    }

    /// The disk will say with this batch that the replica has served.
    fn record(&mut self, batch: u64) {
        self.recorded = Some(batch);
    }

    /// From now on clients are served.
    fn serve(&mut self) {
        self.serving = true;
        self.intact = true;
        self.moved = true;
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Writes down who uses the disk now. When that is durable the peers are asked where they are.
    pub(super) fn start(&mut self) {
        self.stage_identity();
        self.try_serve();
    }

    /// Writes down what the disk is to say of this replica.
    pub(super) fn stage_identity(&mut self) {
        self.stage_identity_as(self.recovery.is_told());
    }

    fn stage_identity_as(&mut self, served: bool) {
        let filled = self
            .cohorts
            .iter()
            .filter(|(id, state)| match self.cohorts.own_id() {
                Some(own) if own == *id => served,
                _ => state.filled.is_some(),
            });
        let own = self.cohorts.own();
        let identity = ReplicaIdentity {
            member: self.me,
            incarnation: self.log.incarnation,
            fingerprint: self.views.view.fingerprint(),
            view: self.views.view.number,
            filled: filled.map(|(id, t)| (id, t.part.clone())).collect(),
            inherited: own.map(|t| (t.cohort.id, t.inherited.clone())),
            next: self.views.coming(self.me),
        };
        let identity = record::encode(&identity);
        self.staging.put(record::IDENTITY, identity);
    }

    /// Whether the others go on without this replica.
    pub(super) fn is_given_up(&self) -> bool {
        self.views.given_up.contains(&self.me)
    }

    /// Why clients are not served, if they are not. Writes are not taken either: a replica has to
    /// know what the partition has promised before it opens a log, and on an old copy of a disk
    /// this incarnation may be one of the past.
    pub(super) fn recovery_reason(&self) -> Option<String> {
        // The others go on without this replica, so it may lack what they have shown to clients.
        if self.is_given_up() {
            return Some(GIVEN_UP.into());
        }
        if self.recovery.serving {
            return None;
        }
        let waiting_for = |members: Vec<MemberId>| {
            let address = |m: &MemberId| self.views.view.address(*m).map(|a| a.to_string());
            members
                .iter()
                .filter_map(address)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Some(own) = self.cohorts.own() else {
            return Some("it is not in the view".into());
        };
        let fetch = self
            .snapshots
            .fetch()
            .filter(|f| f.cohort() == own.cohort.id);
        let others = own
            .cohort
            .replicas
            .iter()
            .copied()
            .filter(|m| *m != self.me);
        let peers = waiting_for(others.collect());
        Some(match (fetch, self.recovery.intact) {
            (Some(fetch), _) => format!("its data is being copied from {}", {
                waiting_for(vec![fetch.source()])
            }),
            (None, true) => format!("it has just started and is asking its peers ({peers})"),
            (None, false) if self.recovery.put_aside => format!(
                "its data was damaged and is put aside, and no replica of its partition that has the data has answered yet ({peers})"
            ),
            (None, false) => format!(
                "its disk is empty or old, and no replica of its partition that has the data has answered yet ({peers})"
            ),
        })
    }

    /// Whether this replica knows of nobody who has data.
    pub(super) fn is_fresh(&self) -> bool {
        self.has_lost_all() && !self.recovery.fetch
    }

    /// Whether others need not wait for what was on this disk. What is put aside may be all that is
    /// left of it.
    pub(super) fn has_lost_all(&self) -> bool {
        self.is_empty() && !self.recovery.put_aside
    }

    /// Whether nothing on this disk can be counted on.
    pub(super) fn is_empty(&self) -> bool {
        match self.cohorts.own_id() {
            Some(_) => !self.recovery.intact && !self.recovery.serving && !self.recovery.fetched,
            // The member leaves, and hands over what it has of the cohorts before.
            None => !self.cohorts.iter().any(|(_, state)| state.filled.is_some()),
        }
    }

    /// Whether there is nobody left to fetch from: all other replicas have told that they have
    /// nothing either.
    fn is_hopeless(&self) -> bool {
        let nothing = |p: &Peer| p.incarnation.is_some() && p.alive(self.now) && p.empty;
        self.replicas().all(nothing)
    }

    /// Whether the peers had time enough to say what they count on.
    pub(super) fn has_waited(&self) -> bool {
        let asked = self.recovery.asked_us;
        asked.is_some_and(|at| self.now.mono_us.saturating_sub(at) >= PATIENCE_US)
    }

    /// Whether everything of a cohort is said to be on this disk. An empty one says nothing.
    pub(super) fn claims(&self, id: CohortId) -> bool {
        match self.cohorts.own_id() == Some(id) {
            true => !self.is_empty(),
            false => self.cohorts.claims(id),
        }
    }

    /// Whether slots that this replica is to serve alone may still come from members that held them
    /// before. Only their word that they have nothing ends the wait: a silent member may have what
    /// was acknowledged.
    fn may_be_filled(&self) -> bool {
        let Some(own) = self.cohorts.own() else {
            return false;
        };
        self.cohorts.iter().any(|(_, state)| {
            let before = state.cohort.until.is_some() && state.part.meets(&own.part);
            let lacking = before && state.filled.is_none();
            let mut suppliers = state.suppliers.iter().map(|m| self.peers.get(*m));
            let nothing = |p: &Peer| p.incarnation.is_some() && p.alive(self.now) && p.empty;
            lacking && !suppliers.all(|p| p.is_some_and(nothing))
        })
    }

    /// Starts to serve when nothing speaks against it any more.
    pub(super) fn try_serve(&mut self) {
        if self.recovery.fetch && self.is_empty() && self.is_hopeless() {
            self.recovery.give_up_fetching();
        }
        let Some(own) = self
            .cohorts
            .own_id()
            .filter(|_| !self.recovery.serving && !self.recovery.fetch)
        else {
            return;
        };
        if self.snapshots.fetch().is_some_and(|f| f.cohort() == own) {
            return;
        }
        let others = self.replicas().count();
        let waited = self.has_waited();
        let ready = if self.is_alone() || self.recovery.fetched || broken(Rule::ServeEmpty) {
            // Nobody shares anything with this replica, or it has just been refilled.
            true
        } else if others == 0 && !self.recovery.intact {
            // An empty disk, alone in its partition: only former holders can fill it.
            !self.may_be_filled() && !self.recovery.put_aside
        } else if self.recovery.intact {
            // A disk that has served: it may be an old copy, until it was compared with a peer.
            self.recovery.trusted
                || waited
                || self.level_with_contact()
                || broken(Rule::TrustOldDisk)
        } else {
            // An empty disk among peers.
            let heard = || self.replicas().filter(|p| p.incarnation.is_some());
            let all = heard().count();
            // A peer that has sent no gossip in this incarnation may yet turn out to have data.
            let told = heard().filter(|p| p.has_gossiped() || broken(Rule::ServeEmpty));
            let fresh = told.filter(|p| p.fresh || p.serving).count();
            // This disk is empty, and so are those of all peers that answered. One of them may
            // serve already: it was the first to hear that from all.
            let all_lost = all > 0 && fresh == all && (all == others || waited);
            all_lost && !self.may_be_filled() && !self.recovery.put_aside
        };
        if !ready {
            return;
        }
        // First the disk records it, then the peers hear it: a peer with an empty disk turns for
        // data to a replica that serves or has served. What a snapshot brought is durable by then
        // too, in this batch or in an earlier one.
        if !self.recovery.intact && self.recovery.recorded.is_none() {
            if !self.recovery.fetched {
                self.pass_over_lost(own);
            }
            self.stage_identity_as(true);
            self.recovery.record(self.staging.next_batch());
        }
        let recorded = self.recovery.recorded.unwrap_or_default();
        let known =
            self.staging.is_durable(recorded) || (self.is_alone() && !self.lacks_stable(own));
        if !known && !broken(Rule::ServeUndurable) {
            // The batch is on its way; the next look is when it is durable.
            return;
        }
        self.recovery.serve();
        if self.opened {
            self.send_gossip(false);
        }
    }

    /// Passes over the stable writes that are not here though there is nobody to fetch them from.
    /// They are lost, and nobody can take back that they were stable.
    fn pass_over_lost(&mut self, cohort: CohortId) {
        let lacking = |log: &Log| log.cohort == cohort && log.received < log.stable;
        let logs = self.logs.iter().filter(|(_, log)| lacking(log));
        for id in logs.map(|(id, _)| id).collect::<Vec<_>>() {
            // The keys of those dots are not known here; a run must not reach across them.
            self.close_run(id);
            self.logs.pass_over_lost(id);
        }
    }

    /// Whether the disk does not have yet all that was everywhere once.
    fn lacks_stable(&self, cohort: CohortId) -> bool {
        let mut logs = self.logs.iter().filter(|(_, log)| log.cohort == cohort);
        logs.any(|(_, log)| log.applied < log.stable)
    }
}

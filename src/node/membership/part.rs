//! A member's part in its cluster, of all that this takes: the other nodes, the views that are
//! known, the Raft group, and what members said of themselves. What is done with it stands in the
//! files beside this one.

use super::counts::Counts;
use super::forming::Forming;
use super::knowledge::Knowledge;
use super::offers::Offers;
use super::state_machine::Decided;
use crate::node::config::Config;
use crate::node::error::StartError;
use crate::node::identity::RAFT_DIR;
use crate::node::replica::shared::Shared;
use crate::node::wire::messages::ViewsKnown;
use crate::node::wire::peers::Peers;
use crate::node::wire::raft_transport::RaftTransport;
use crate::protocol;
use crate::protocol::ids::MemberId;
use crate::protocol::marks::Marks;
use crate::protocol::store::StoreError;
use crate::protocol::views::Views;
use crate::raft::{self, GroupFailure, GroupPast};
use crate::storage::Disk;
use arc_swap::Guard;
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The Raft group of the members, which decides about the views and the lists.
pub type ClusterRaft = raft::RaftNode<Decided, RaftTransport>;

/// A member's part in its cluster.
pub struct Membership {
    config: Arc<Config>,
    me: MemberId,
    peers: Arc<Peers>,
    knowledge: Arc<Knowledge>,
    shared: Arc<Shared>,
    raft: OnceLock<ClusterRaft>,
    counts: Counts,
    offers: Arc<Offers>,
    forming: watch::Sender<Forming>,
    stop: CancellationToken,
}

impl Membership {
    /// The part of a member with this replica and these views that has not joined the Raft group
    /// yet.
    pub fn new(
        config: Arc<Config>,
        me: MemberId,
        views: Arc<Views>,
        shared: Arc<Shared>,
        offers: Arc<Offers>,
    ) -> Self {
        Self {
            peers: Arc::new(Peers::new(Arc::clone(&config), me, &views)),
            knowledge: Arc::new(Knowledge::new(me, views)),
            config,
            me,
            shared,
            raft: OnceLock::new(),
            counts: Counts::default(),
            offers,
            forming: watch::Sender::default(),
            stop: CancellationToken::new(),
        }
    }

    /// Opens the Raft group, on this node's disk.
    ///
    /// # Errors
    /// When its log cannot be used.
    pub async fn join_raft(&self) -> Result<ClusterRaft, StartError> {
        let transport = RaftTransport::over(&self.peers);
        let dir = self.config.data_dir.join(RAFT_DIR);
        let settings = self.config.raft.clone();
        let raft = ClusterRaft::open(settings, self.me, transport, &dir).await?;
        let _ = self.raft.set(raft.clone());
        Ok(raft)
    }

    /// The node's settings.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The node's own number.
    pub fn me(&self) -> MemberId {
        self.me
    }

    /// The other nodes.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// The newest views that are known.
    pub fn knowledge(&self) -> &Arc<Knowledge> {
        &self.knowledge
    }

    /// How far the replica is.
    pub fn marks(&self) -> Guard<Arc<Marks>> {
        self.shared.marks.load()
    }

    /// The node's part in the Raft group; `None` while that is being opened.
    pub fn raft(&self) -> Option<&ClusterRaft> {
        self.raft.get()
    }

    /// How many keys other members last had.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The offers that this node makes or takes in.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// Cancelled when the member is to end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// How far the cluster's birth is.
    pub fn forming(&self) -> String {
        self.forming.borrow().to_string()
    }

    /// Takes note of how far the cluster's birth is.
    pub fn formed(&self, forming: Forming) {
        self.forming.send_replace(forming);
    }

    /// The views that are decided and their changes, as far as this node knows.
    pub fn agreed(&self) -> Arc<protocol::changes::ViewChanges> {
        let followed = self.raft().map(ClusterRaft::followed);
        let agreed = followed.and_then(|followed| followed.borrow().clone());
        // Before the Raft group has met all know the first view alone.
        agreed.unwrap_or_else(|| {
            let view = self.knowledge.views().view.clone();
            Arc::new(protocol::changes::ViewChanges::first(view))
        })
    }

    /// This node's knowledge of Raft groups of the past.
    pub async fn past_groups(&self) -> GroupPast {
        match self.raft() {
            Some(raft) => raft.past().await,
            // The Raft group's part is being opened.
            None => GroupPast::Unknown,
        }
    }

    /// This node's views, for a node that knows views up to `version`.
    pub async fn views_known(&self, version: u64) -> ViewsKnown {
        let known = self.knowledge.views();
        let newer = (known.version > version).then(|| Box::new(Views::clone(&known)));
        let past = self.past_groups().await;
        let marks = self.marks();
        let settled = marks.views.version == known.version && !marks.gauges.dropping;
        ViewsKnown {
            newer,
            past,
            settled,
        }
    }

    /// Resolves when this node's part in the Raft group has failed; never while there is none.
    pub async fn failed(&self) -> GroupFailure {
        match self.raft() {
            Some(raft) => raft.failed().await,
            None => std::future::pending().await,
        }
    }

    /// The disk of this node's Raft log.
    pub fn raft_disk(&self) -> Weak<Disk> {
        self.raft().map(ClusterRaft::disk).unwrap_or_default()
    }

    /// Resolves when a part of what is on that disk turns out to be damaged; never while there is
    /// none.
    pub async fn damaged(&self) -> StoreError {
        let damaged = self.raft_disk().upgrade().map(|disk| disk.damaged());
        match damaged {
            Some(damaged) => damaged.await,
            None => std::future::pending().await,
        }
    }

    /// The error of a node that cannot go on without its part in the Raft group.
    pub fn broken(&self, failure: GroupFailure) -> StoreError {
        let dir = self.config.data_dir.join(RAFT_DIR);
        StoreError::Io {
            what: format!("the council in {}", dir.display()),
            detail: failure.to_string(),
        }
    }

    /// Ends the part in the Raft group.
    pub async fn leave_raft(&self) {
        if let Some(raft) = self.raft()
            && let Err(error) = raft.shutdown().await
        {
            log::error!("{error}");
        }
    }
}

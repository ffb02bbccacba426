//! Disaster recovery on a node that is stopped: more than half of the Raft group's voters are gone
//! for good, and it goes on alone; or the whole cluster was put back to an earlier state.
//!
//! Either way there were things that clients may have seen and that are gone now. So it becomes
//! another cluster, which goes on from the one before: the other nodes follow it, and no payload
//! that was made before is taken.

use crate::raft;

use crate::node::identity::{self, OtherCluster, Place, RAFT_DIR};
use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;
use crate::protocol::views::Views;
use crate::storage::{Disk, Held};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a node cannot be made to go on alone.
#[derive(Debug, thiserror::Error)]
pub enum ForceError {
    /// The directory holds no member of a view.
    #[error("{0} is not the data directory of a node that has been in a view")]
    NoMember(PathBuf),
    /// A node runs on the directory.
    #[error("a node runs on {0}: end it first")]
    Running(PathBuf),
    /// The node was removed before.
    #[error(
        "the node of {dir} was removed (it was view {view} then): it cannot decide for the others"
    )]
    Removed {
        /// The data directory.
        dir: PathBuf,
        /// The number of the view without the node.
        view: u64,
    },
    /// The node's own store cannot be opened.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The directory has data of another cluster.
    #[error("{0}")]
    OtherCluster(#[from] OtherCluster),
    /// The Raft group's data cannot be used.
    #[error("{0}")]
    Raft(#[from] raft::RaftOpenError),
}

/// The stopped node in a data directory. Nothing can start on the directory as long as the value
/// lives.
pub struct Survivor {
    dir: PathBuf,
    member: MemberId,
    /// The newest view that it knows.
    pub view: u64,
    /// The node's own address.
    pub address: SocketAddr,
    /// All others that the view names or that have to do with it.
    pub others: Vec<SocketAddr>,
    views: Arc<Views>,
    _held: Held,
}

impl Survivor {
    /// The node in `dir`. Nothing is changed.
    ///
    /// # Errors
    /// When there is none, it runs, or it was removed.
    pub fn find(dir: &Path) -> Result<Self, ForceError> {
        let no_member = || ForceError::NoMember(dir.to_owned());
        let Place { member, views } = Place::load(dir)?.ok_or_else(no_member)?;
        let held = match Disk::hold(dir) {
            Err(StoreError::Locked { .. }) => return Err(ForceError::Running(dir.to_owned())),
            held => held?,
        };
        identity::check_cluster::<ForceError>(dir, Some(&views))?;
        let view = views.view.number;
        let mut members = views.members();
        let removed = || ForceError::Removed {
            dir: dir.to_owned(),
            view,
        };
        let address = members.remove(&member).ok_or_else(removed)?;
        if !dir.join(RAFT_DIR).exists() {
            return Err(no_member());
        }
        Ok(Self {
            dir: dir.to_owned(),
            member,
            view,
            address,
            others: members.into_values().collect(),
            views,
            _held: held,
        })
    }

    /// Makes the node the only voter of the Raft group. [`raft::force`] says what has to be made
    /// sure of before.
    ///
    /// # Errors
    /// When the Raft group's directory cannot be used, or holds no Raft group.
    pub async fn force(self) -> Result<(), ForceError> {
        raft::force(self.member, &self.dir.join(RAFT_DIR)).await?;
        self.renew()
    }

    /// Makes the node's cluster another one, which goes on from it: the node has that decided when
    /// it runs again, and all others follow. To be done on one node only.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub fn renew(self) -> Result<(), ForceError> {
        let Self {
            member, views, dir, ..
        } = self;
        // After a crash the data may still name the cluster before this one, which the next one
        // does not go on from.
        identity::mark_cluster(&dir, &views)?;
        let mut views = Views::clone(&views);
        // Before its birth a cluster has answered nobody.
        let Some(former) = views.cluster else {
            return Ok(());
        };
        views.cluster = Some(identity::draw(Some(former.id)));
        views.version += 1;
        let views = Arc::new(views);
        Ok(Place { member, views }.save(&dir)?)
    }
}

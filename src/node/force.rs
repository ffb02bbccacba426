//! Disaster recovery: more than half of the council's voters are gone for good, and the node in one data directory goes
//! on alone.

use super::member::COUNCIL_DIR;
use super::place::Place;
use crate::council;
use crate::protocol::ids::MemberId;
use crate::protocol::store::StoreError;
use crate::storage::{Disk, Held};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why a node cannot be made to go on alone.
#[derive(Debug, thiserror::Error)]
pub enum ForceError {
    #[error("{0} is not the data directory of a node that has been in a view")]
    NoMember(PathBuf),
    #[error("a node runs on {0}: end it first")]
    Running(PathBuf),
    #[error(
        "the node of {dir} was removed (it was view {view} then): it cannot decide for the others"
    )]
    Removed { dir: PathBuf, view: u64 },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Council(#[from] council::OpenError),
}

/// The stopped node in a data directory. Nothing can start on the directory as long as the value lives.
pub struct Survivor {
    dir: PathBuf,
    member: MemberId,
    /// The newest view that it knows.
    pub view: u64,
    pub address: SocketAddr,
    /// All others that the view names or that have to do with it.
    pub others: Vec<SocketAddr>,
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
        let view = views.view.number;
        let mut members = views.members();
        let removed = || ForceError::Removed {
            dir: dir.to_owned(),
            view,
        };
        let address = members.remove(&member).ok_or_else(removed)?;
        if !dir.join(COUNCIL_DIR).exists() {
            return Err(no_member());
        }
        Ok(Self {
            dir: dir.to_owned(),
            member,
            view,
            address,
            others: members.into_values().collect(),
            _held: held,
        })
    }

    /// Makes the node the only voter of the council. [`council::force`] says what has to be made sure of before.
    ///
    /// # Errors
    /// When the council's directory cannot be used, or holds no council.
    pub async fn force(self) -> Result<(), ForceError> {
        Ok(council::force(self.member, &self.dir.join(COUNCIL_DIR)).await?)
    }
}

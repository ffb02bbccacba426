//! A look at all that a stopped node has on its disk: whether it is as it was written.
//!
//! Opening a store checks its journals and manifests, and does what a start of the node does: a
//! torn end of the journal, as a crash leaves it, is repaired. Then all tables are read.

use crate::node::identity::{Place, RAFT_DIR};
use crate::protocol::store::StoreError;
use crate::storage::{Disk, read_format};
use std::path::{Path, PathBuf};

/// Why a directory was not found to be whole.
#[derive(Debug, thiserror::Error)]
pub enum ScrubError {
    /// The directory holds no member of a view.
    #[error("{0} is not the data directory of a node that has been in a view")]
    NoMember(PathBuf),
    /// A node runs on the directory.
    #[error(
        "a node runs on {0}, which scrubs its disk once a day by itself: end it to have it done now"
    )]
    Running(PathBuf),
    /// Something is damaged, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One of the two stores of a node, which is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where.
    pub directory: PathBuf,
    /// The length of its tables.
    pub bytes: u64,
}

/// Looks through the stores in a data directory, and names those that are whole.
///
/// # Errors
/// At the first damage, which the error names; when there is nothing to look through.
pub fn scrub(data_dir: &Path) -> Result<Vec<Scrubbed>, ScrubError> {
    if Place::load(data_dir)?.is_none() {
        return Err(ScrubError::NoMember(data_dir.to_owned()));
    }
    let mut whole = Vec::new();
    for directory in [data_dir.to_owned(), data_dir.join(RAFT_DIR)] {
        // To open what is not there would make it.
        if read_format(&directory)?.is_none() {
            continue;
        }
        let disk = match Disk::open(&directory) {
            Err(StoreError::Locked { .. }) => return Err(ScrubError::Running(data_dir.to_owned())),
            opened => opened?,
        };
        let mut bytes = 0;
        disk.scrub(&mut |some| {
            bytes += some;
            true
        })?;
        whole.push(Scrubbed { directory, bytes });
    }
    Ok(whole)
}

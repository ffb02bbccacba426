//! A look into a data directory whose node does not run.
//!
//! The engine repairs and tidies up whenever it opens a directory. So that nothing of the original
//! changes, a copy is opened, in a scratch directory that goes away again; the original is only
//! locked while it is copied.

use crate::node::identity::Place;
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::record::{self, KeyCounts, LogRecord, ReplicaIdentity};
use crate::protocol::store::{Store, StoreError};
use crate::protocol::version::Version;
use crate::protocol::views::Views;
use crate::storage::Disk;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The parts of a data directory that are the replica's: the version of its format, and the
/// engine's files.
const PARTS: [&str; 2] = ["FORMAT", "data"];

/// Why a directory cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The directory holds no member of a view.
    #[error("{0} is not the data directory of a node that has been in a view")]
    NoMember(PathBuf),
    /// A node runs on the directory.
    #[error(
        "a node runs on {0}: end it first, or look into a copy that was made while it was ended"
    )]
    Running(PathBuf),
    /// The data cannot be copied to a scratch directory.
    #[error("cannot copy {from} to {to}: {error}")]
    Copy {
        /// The original.
        from: PathBuf,
        /// The copy.
        to: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
    /// The copy cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A replica's data on disk, opened as a copy.
pub struct Inspection {
    /// The node's number.
    pub member: MemberId,
    /// The newest views that the node knows.
    pub views: Arc<Views>,
    /// `None` when the replica has never served.
    pub identity: Option<ReplicaIdentity>,
    /// How many keys and tombstones there are.
    pub counts: KeyCounts,
    /// All logs that are not forgotten yet, with what is applied here and what is stable.
    pub logs: Vec<(LogId, LogRecord)>,
    /// Versions that came ahead of their logs.
    pub early: usize,
    disk: Disk,
    _copy: TempDir,
}

impl Inspection {
    /// Looks into `dir`. The copy is made in `scratch`, and takes as much room as the data.
    ///
    /// # Errors
    /// When a node runs on it, it is none, the copy does not fit, or the data is damaged.
    pub fn of(dir: &Path, scratch: &Path) -> Result<Self, InspectError> {
        let no_member = || InspectError::NoMember(dir.to_owned());
        let Place { member, views } = Place::load(dir)?.ok_or_else(no_member)?;
        let held = match Disk::hold(dir) {
            Err(StoreError::Locked { .. }) => return Err(InspectError::Running(dir.to_owned())),
            held => held?,
        };
        let failed = |error| InspectError::Copy {
            from: dir.to_owned(),
            to: scratch.to_owned(),
            error,
        };
        let copy = tempfile::Builder::new()
            .prefix("causeway-")
            .tempdir_in(scratch);
        let copy = copy.map_err(failed)?;
        for part in PARTS {
            copy_all(&dir.join(part), &copy.path().join(part)).map_err(failed)?;
        }
        drop(held);
        let disk = Disk::open(copy.path())?;
        Ok(Self {
            member,
            views,
            identity: record::load_record(&disk, record::IDENTITY)?,
            counts: record::load_record(&disk, record::COUNTS)?.unwrap_or_default(),
            logs: record::load_logs(&disk)?,
            early: record::load_early(&disk)?.len(),
            disk,
            _copy: copy,
        })
    }

    /// Shows the versions of keys that begin with `prefix`, tombstones too, by slot, until `visit`
    /// returns false.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn keys(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(Version) -> bool,
    ) -> Result<(), StoreError> {
        let (from, to) = record::DATA;
        let mut damaged = None;
        self.disk.scan(from, to, &mut |place, bytes| {
            let key = record::key_of(&place);
            if !key.starts_with(prefix) {
                return true;
            }
            match record::decode_version(key, &bytes) {
                Ok(version) => visit(version),
                Err(error) => {
                    damaged = Some(error);
                    false
                }
            }
        })?;
        damaged.map_or(Ok(()), Err)
    }
}

/// Copies a file, or a directory with all that is in it.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

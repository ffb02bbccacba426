//! Why a node cannot start, or cannot go on.

use crate::node::identity::OtherCluster;
use crate::protocol::replica::OpenError;
use crate::protocol::store::StoreError;
use crate::raft;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a node cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The replica cannot be opened.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The disk cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The Raft group's log cannot be used.
    #[error("{0}")]
    Raft(#[from] raft::RaftOpenError),
    /// Nothing can be stored where the data is to be.
    #[error("nothing can be stored in {}: {error}; give another DATA_DIR", .directory.display())]
    DataDir {
        /// Where.
        directory: PathBuf,
        /// The operating system's reason.
        error: std::io::Error,
    },
    /// A part of the data is another cluster's.
    #[error("{0}")]
    OtherCluster(#[from] OtherCluster),
    /// The address for other nodes is taken.
    #[error("cannot listen for other nodes on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's reason.
        error: std::io::Error,
    },
}

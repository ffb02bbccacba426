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
    /// Data is damaged, and no other node can have it.
    #[error(
        "{error}; no other node has this data: put back a copy of {dir}, or move {dir}/data and {dir}/FORMAT away to go on \
         without what is in them",
        dir = .directory.display()
    )]
    Damaged {
        /// The directory of the damaged store.
        directory: PathBuf,
        /// The damage.
        error: StoreError,
    },
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

impl StartError {
    /// Whether data that was stored cannot be read as it was.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Open(OpenError::Store(StoreError::Corrupt { .. }))
                | Self::Store(StoreError::Corrupt { .. })
                | Self::Raft(raft::RaftOpenError::Store(StoreError::Corrupt { .. }))
        )
    }
}

/// A variable that makes no sense. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A variable is not set that has to be; its name, and what it is for.
    #[error("{0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// A variable is set to nothing; its name.
    #[error("{0} is empty: give it a value or do not set it")]
    Empty(&'static str),
    /// A secret has a character that a header cannot carry; its name. The value is not repeated.
    #[error(
        "{0} has a character that a header cannot carry: use visible ASCII characters, without spaces"
    )]
    NotForAHeader(&'static str),
    /// A secret stands in a variable and in a file.
    #[error("{0} and {1} are both set: set one of them")]
    Twice(&'static str, &'static str),
    /// A token for a lesser right without the one for everything; its name.
    #[error("{0} is set and API_TOKEN is not: anybody could change the cluster, so set both")]
    LesserToken(&'static str),
    /// A token without a secret guards nothing.
    #[error(
        "API_TOKEN is set and CLUSTER_SECRET is not: whoever reaches the port for other nodes could do \
         what the token guards, so set both, or neither"
    )]
    TokenWithoutSecret,
    // `{:?}` keeps a value with line breaks on one line.
    /// A variable has a value that makes no sense.
    #[error("{name}={value:?}: {problem}")]
    Nonsense {
        /// The name of the variable.
        name: &'static str,
        /// The value as it was found.
        value: String,
        /// The reason, for people.
        problem: String,
    },
}

//! Why a hello comes to nothing.

use std::io;

/// Why one end refuses the other. The variants speak from the refusing end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    #[error("no common protocol version (the refusing side speaks {min} to {max})")]
    Version { min: u16, max: u16 },
    #[error(
        "the cluster fingerprints differ: not started with the same view and replication factor"
    )]
    Fingerprint,
    #[error("a cluster secret is set only on the refusing side")]
    SecretMissing,
    #[error("a cluster secret is set, but not on the refusing side")]
    SecretUnexpected,
    #[error("the cluster secrets differ")]
    BadSecret,
    #[error("the refused node is not a member")]
    NotMember,
    #[error("another member was expected at this address")]
    WrongMember,
    #[error(
        "the two belong to different clusters (a node that is to change its cluster needs an empty data directory)"
    )]
    Foreign,
    #[error("for a reason that this version does not know (code {0})")]
    Other(u8),
}

impl HelloRefusal {
    /// Whether the refusal lasts until an operator changes something: the two nodes were started
    /// for different clusters, or with different secrets or versions.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Version { .. }
            | Self::Fingerprint
            | Self::SecretMissing
            | Self::SecretUnexpected
            | Self::BadSecret
            | Self::Foreign => true,
            Self::NotMember | Self::WrongMember | Self::Other(_) => false,
        }
    }
}

/// Why a hello came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    #[error("the other side refused: {0}")]
    Refused(HelloRefusal),
    #[error("refused by this side: {0}")]
    Refusing(HelloRefusal),
    #[error("the other side does not speak this protocol")]
    Foreign,
    #[error("the hello took too long")]
    TimedOut,
    #[error("{0}")]
    Io(#[from] io::Error),
}

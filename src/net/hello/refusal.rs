//! Why a hello comes to nothing.

use std::io;

/// Why one end refuses the other. The variants speak from the refusing end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    /// The two ends speak no common version.
    #[error("no common protocol version (the refusing side speaks {min} to {max})")]
    Version {
        /// The oldest version that the refusing end speaks.
        min: u16,
        /// The newest version that it speaks.
        max: u16,
    },
    /// The nodes were started with different first views.
    #[error(
        "the cluster fingerprints differ: not started with the same view and replication factor"
    )]
    Fingerprint,
    /// The refused end has no secret, and the refusing end asks for one.
    #[error("a cluster secret is set only on the refusing side")]
    SecretMissing,
    /// The refused end has a secret, and the refusing end has none.
    #[error("a cluster secret is set, but not on the refusing side")]
    SecretUnexpected,
    /// The proof was made with another secret.
    #[error("the cluster secrets differ")]
    BadSecret,
    /// The refusing end does not know the member.
    #[error("the refused node is not a member")]
    NotMember,
    /// The node that was dialled is not the expected member.
    #[error("another member was expected at this address")]
    WrongMember,
    /// The nodes are of different clusters, and neither goes on from the other.
    #[error(
        "the two belong to different clusters (a node that is to change its cluster needs an empty data directory)"
    )]
    Foreign,
    /// A code of a later version.
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
    /// The other end refused.
    #[error("the other side refused: {0}")]
    Refused(HelloRefusal),
    /// This end refused.
    #[error("refused by this side: {0}")]
    Refusing(HelloRefusal),
    /// The first bytes are no hello of this protocol.
    #[error("the other side does not speak this protocol")]
    Foreign,
    /// The hello was not over within its limit.
    #[error("the hello took too long")]
    TimedOut,
    /// The connection failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

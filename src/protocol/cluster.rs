//! Which cluster a node belongs to.
//!
//! A cluster is *born* once: with the first entry of its Raft group, which holds a random id and a
//! random key. From then on the id tells it apart from every other cluster, an earlier one of the
//! same nodes included, and the key makes sure that a `causal_payload` is one that its nodes have
//! made.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Names a cluster for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

/// The key that authenticates payloads. Only the nodes of the cluster know it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadKey(pub [u8; 32]);

/// A cluster as it is born: id, key, and the cluster before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Random, drawn at the birth.
    pub id: ClusterId,
    /// Signs the payloads of this cluster.
    pub key: PayloadKey,
    /// The cluster that this one goes on from, after a disaster: its nodes may follow.
    pub former: Option<ClusterId>,
}

impl Cluster {
    /// Whether nodes of the other cluster may follow this one: it is the same, or goes on from
    /// that.
    #[must_use]
    pub fn goes_on_from(&self, other: ClusterId) -> bool {
        self.id == other || self.former == Some(other)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PayloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PayloadKey(..)")
    }
}

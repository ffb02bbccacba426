//! A version of a key, and the order in which versions win.

use super::clock::Timestamp;
use super::context::Context;
use super::ids::{Dot, MemberId};
use super::sound::{Unsound, checked_when_read, ensure};
use super::teeth::{Rule, broken};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Bytes of a version without its key, value and dependencies, about.
const BASE_BYTES: usize = 96;
/// Bytes of one dependency, about.
const DEP_BYTES: usize = 24;

/// A key: 1 byte to 1 KiB of UTF-8.
pub type Key = Bytes;

/// The longest key, in bytes.
pub const LONGEST_KEY: usize = 1024;

/// A key that can be stored.
///
/// # Errors
/// When it is empty or too long.
pub fn ensure_key(key: &Key) -> Result<(), Unsound> {
    let fits = (1..=LONGEST_KEY).contains(&key.len());
    ensure(fits, "a key that is empty or too long")
}

/// When a write was stamped and where: decides which of two versions of a key wins.
///
/// The node that a client talked to stamps the write, so that a write which has to be tried at a
/// second replica keeps its place in the order, however late the first replica wakes up. A clock
/// never gives a timestamp twice, so two writes with one stamp are one write; but for a node that
/// has lost its disk and may give again what only that disk knew of. Then the dots decide.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Larger than every timestamp in the write's past.
    pub ts: Timestamp,
    /// The member whose clock gave `ts`.
    pub by: MemberId,
}

/// One write of a key: a value, or a tombstone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Version {
    /// The key that was written.
    pub key: Key,
    /// JSON text; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Decides which version of the key wins.
    pub stamp: Stamp,
    /// The write itself: its log, and its place there.
    pub dot: Dot,
    /// The wall clock of the replica that took the write, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The writer's causal past, without writes that were stable by then.
    pub deps: Context,
}

checked_when_read!(Version);

impl Version {
    fn check(&self) -> Result<(), Unsound> {
        ensure_key(&self.key)
    }

    /// The place in the total order of versions: causal order first, because timestamps grow
    /// along causality, then the wall clock, then the node.
    #[must_use]
    pub fn order(&self) -> (Stamp, Dot) {
        (self.stamp, self.dot)
    }

    /// Whether this version replaces `other`.
    #[must_use]
    pub fn beats(&self, other: &Version) -> bool {
        if broken(Rule::OrderByWallClock) {
            return (self.wall_ms, self.order()) > (other.wall_ms, other.order());
        }
        self.order() > other.order()
    }

    /// Approximate bytes in memory and on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        BASE_BYTES + self.key.len() + value + DEP_BYTES * self.deps.len()
    }
}

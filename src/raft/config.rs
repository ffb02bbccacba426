//! Settings of the Raft group, and its fixed timings.

use std::time::Duration;

/// A leader sends heartbeats this often. Also how long it waits for an answer to entries before it
/// sends them again.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(150);
/// The election timeout is drawn between these: a node that has heard of no leader for so long, and
/// whose promise to the last one has run out, stands for election.
pub(super) const ELECTION_MIN: Duration = Duration::from_millis(500);
pub(super) const ELECTION_MAX: Duration = Duration::from_millis(1000);
/// A leader without an answer from a majority for this long takes no more proposals.
pub(super) const QUORUM_LOST: Duration = Duration::from_millis(1500);

/// Bytes of a snapshot that are sent at once, and the time for it.
pub(super) const PART_BYTES: u64 = 1 << 20;
pub(super) const SEND_PART: Duration = Duration::from_secs(3);

/// Bytes of a command, encoded, at most: the longest body that clients send, and its key and past.
pub const MAX_COMMAND_BYTES: usize = (1 << 20) + (192 << 10);

/// Settings of a node's part in the Raft group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftConfig {
    /// How long a proposal or a read may take. From 100 ms; longer than 3 s to outlast the loss of
    /// a leader.
    pub patience: Duration,
    /// A voter that has not been heard of for this long is replaced by a node that is alive. From 1
    /// s.
    pub dead_after: Duration,
    /// Bytes of the log between two snapshots, at least; as many as the last snapshot has, if that
    /// is more. The part between the last two stays in the log, for nodes that are a little behind;
    /// those further behind are sent the snapshot.
    pub snapshot_after: u64,
    /// Bytes of the disk that commands leave free which [fill](super::Machine::fills) it.
    pub reserve: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            dead_after: Duration::from_secs(10),
            snapshot_after: 64 << 20,
            reserve: 128 << 20,
        }
    }
}

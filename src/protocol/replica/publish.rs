//! The replica's marks, as one snapshot for the rest of the node.

use super::super::clock::Doubt;
use super::super::marks::{Gauges, Mark, Marks, PeerMark};
use super::super::store::Store;
use super::logs::Log;
use super::{Replica, snapshot};
use std::sync::Arc;

impl<S: Store, T> Replica<S, T> {
    /// The marks, when something moved since the last call.
    pub fn changed_marks(&mut self) -> Option<Arc<Marks>> {
        let moved = [
            self.cohorts.take_moved(),
            self.logs.take_moved(),
            self.finished.take_moved(),
            self.peers.take_moved(),
            self.strangers.take_moved(),
            self.staging.take_moved(),
            self.gossip.take_moved(),
            self.recovery.take_moved(),
            self.snapshots.take_moved(),
            self.leftover.take_moved(),
            self.stalled.take_moved(),
        ];
        moved.contains(&true).then(|| Arc::new(self.marks()))
    }

    /// The marks as they are.
    #[must_use]
    pub fn marks(&self) -> Marks {
        let mark = |log: &Log| Mark {
            applied: log.applied,
            stable: log.stable,
            exposed: log.exposed,
            seal: log.seal,
        };
        let unstable = |log: &Log| log.applied - log.stable.min(log.applied);
        Marks {
            views: Arc::clone(&self.views),
            own: self.log,
            partition: self.partition,
            cohorts: self
                .cohorts
                .iter()
                .map(|(id, _)| (id, self.is_filled(id)))
                .collect(),
            recovering: self.recovery_reason(),
            logs: self.logs.iter().map(|(id, log)| (id, mark(log))).collect(),
            finished: self.finished.published(),
            elsewhere: self.strangers.published(),
            peers: self
                .peers
                .iter()
                .map(|(member, peer)| PeerMark {
                    member,
                    replica: self.is_replica(member),
                    alive: peer.alive(self.now),
                    serving: peer.serving,
                    applied: peer.applied.clone(),
                })
                .collect(),
            gauges: Gauges {
                live_keys: self.staging.counts().live,
                tombstones: self.staging.counts().tombstones,
                lost: self.finished.lost(),
                unstable: self.logs.iter().map(|(_, log)| unstable(log)).sum(),
                indexed: self.indexed(),
                clock_off_ms: match self.clock.check(self.now) {
                    Err(Doubt::Off(off_ms)) => off_ms,
                    Ok(()) | Err(Doubt::Unchecked) => 0,
                },
                stalled_reads: self.stalled.len() as u64,
                dropping: !self.leftover.is_empty(),
                copied: self.snapshots.copied(),
                copying: self.snapshots.fetch().map(snapshot::Fetch::state),
            },
        }
    }
}

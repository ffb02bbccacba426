//! Eligibility: whether this node may vote, and which leaders it may follow.
//!
//! A node that comes back without its disk has forgotten what it promised and what it confirmed,
//! while others still count on both. Its vote could elect a leader that lacks a decided entry. And
//! if it followed a leader that was deposed with its help, the two could be a majority for entries
//! that contradict decided ones. So a node with a new directory
//!
//! 1. follows no leader until so many of the other voters have promised nothing later that no later
//!    leader can have been elected, with this node's former vote or without ([`is_enough`]). A
//!    voter that does not answer may be about to be elected with that vote, so the node then waits
//!    [`ABSTAIN`] first. From then on it follows leaders as every node does;
//! 2. grants no vote until it has, from such a leader, everything that was decided before it came
//!    back. Before that it only joins others: it elects a candidate if so many other voters have
//!    elected that candidate that every majority includes one of them. Of two voters that is the
//!    other one alone; while the voters change from three to two it may be the two others of the
//!    three. Such a candidate has everything that was ever decided, also when this node's log is
//!    longer ([`ask_voters`](super::ask_voters)).
//!
//! A node that forms the Raft group at the first start of a cluster has nothing to forget, and
//! votes at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::protocol::store::{Batch, StoreError};
use crate::raft::disk::RaftDisk;
use crate::raft::runtime;
use crate::raft::teeth::{RaftRule, broken};
use crate::raft::types::LeaderId;

/// Longer than an election takes, and than a message of the node's former life can be on its way:
/// elections in which it may have voted are over, and entries that it confirmed are counted.
const ABSTAIN: Duration = Duration::from_secs(3);
const KEY: &[u8] = b"e";
/// Above every rank: no leader is followed.
const NONE: u64 = u64::MAX;

/// This node's right to vote.
pub struct Eligibility {
    disk: Arc<RaftDisk>,
    opened: Instant,
    votes: AtomicBool,
    /// Leaders of this rank and of later ones are followed.
    from: AtomicU64,
    /// The rank of the candidate that this node elected last, since it was opened.
    elected: AtomicU64,
}

impl Eligibility {
    /// Reads whether the right was gained before. Blocks.
    ///
    /// # Errors
    /// When reading fails.
    pub fn open(disk: Arc<RaftDisk>) -> Result<Self, StoreError> {
        let votes = disk.get(KEY)?.is_some() || broken(RaftRule::VoteWithoutLog);
        Ok(Self {
            disk,
            opened: runtime::now(),
            votes: AtomicBool::new(votes),
            from: AtomicU64::new(if votes { 0 } else { NONE }),
            elected: AtomicU64::new(NONE),
        })
    }

    /// As if opened [`ABSTAIN`] ago.
    #[cfg(test)]
    pub fn has_waited(mut self) -> Self {
        self.opened -= ABSTAIN;
        self
    }

    pub fn votes(&self) -> bool {
        self.votes.load(Ordering::Relaxed)
    }

    /// Whether a leader may be followed.
    pub fn follows(&self, leader: &LeaderId) -> bool {
        rank(leader) >= self.from.load(Ordering::Acquire)
    }

    /// Follows `leader` and later ones from now on: enough others have promised nothing later.
    pub fn follow_from(&self, leader: &LeaderId) {
        self.from.fetch_min(rank(leader), Ordering::AcqRel);
    }

    /// This node has elected a candidate.
    pub fn elect(&self, candidate: &LeaderId) {
        self.elected.store(rank(candidate), Ordering::Release);
    }

    /// Whether this node is known to have elected a candidate, and no other one since.
    pub fn has_elected(&self, candidate: &LeaderId) -> bool {
        self.elected.load(Ordering::Acquire) == rank(candidate)
    }

    /// Whether the node has abstained for long enough to gain the right, once it is level.
    pub fn waited(&self) -> bool {
        !self.votes() && runtime::now() - self.opened >= ABSTAIN
    }

    /// Gains the right, for good.
    ///
    /// # Errors
    /// When the right cannot be stored.
    pub async fn gain(&self) -> Result<(), StoreError> {
        if self.votes() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(KEY, &b"1"[..]);
        self.disk.write(batch).await?;
        self.votes.store(true, Ordering::Relaxed);
        self.from.store(0, Ordering::Release);
        Ok(())
    }
}

/// Leaders in their order, as numbers: by term, and in one term by node.
fn rank(leader: &LeaderId) -> u64 {
    leader.term << u16::BITS | leader.node_id
}

/// Whether every majority of the voters includes one that has `answered`, also a majority that this
/// node was part of in its former life. `answered` does not include this node. While a change of
/// the voters is half done there are two sets of voters.
pub fn is_enough<N: Ord>(voters: &[BTreeSet<N>], answered: &BTreeSet<N>) -> bool {
    let meets_all = |set: &BTreeSet<N>| {
        let majority = set.len() / 2 + 1;
        set.intersection(answered).count() > set.len() - majority
    };
    !voters.is_empty() && voters.iter().all(meets_all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[u64]) -> BTreeSet<u64> {
        numbers.iter().copied().collect()
    }

    /// Node 9 has lost its disk. Whichever majority it was part of, another of that majority has
    /// answered.
    #[test]
    fn enough_others_meet_every_majority() {
        for others in 1..=4_u64 {
            let all: Vec<u64> = (1..=others).chain([9]).collect();
            let majority = all.len() / 2 + 1;
            for answers in 0..1_u64 << others {
                let answered: BTreeSet<u64> = (1..=others)
                    .filter(|n| answers >> (n - 1) & 1 == 1)
                    .collect();
                let meets = (0..1_u64 << all.len()).all(|chosen| {
                    let quorum = all
                        .iter()
                        .enumerate()
                        .filter(|(at, _)| chosen >> at & 1 == 1);
                    let quorum: BTreeSet<u64> = quorum.map(|(_, n)| *n).collect();
                    quorum.len() < majority || !quorum.is_disjoint(&answered)
                });
                assert_eq!(
                    is_enough(&[set(&all)], &answered),
                    meets,
                    "{all:?} {answered:?}"
                );
            }
        }
        let half_done = [set(&[1, 2, 9]), set(&[1, 3, 4])];
        assert!(!is_enough(&half_done, &set(&[1, 2])));
        assert!(is_enough(&half_done, &set(&[1, 2, 3])));
        assert!(!is_enough(&[], &set(&[1])));
    }
}

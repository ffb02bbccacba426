//! A node that its last entry takes out of the voters, and that stands for election all the same,
//! until that is decided (Ongaro's thesis, section 4.2.2).
//!
//! The voters change in two steps, and the second one leaves the new voters alone. Who has that
//! entry counts by the new voters at once; who lacks it needs a majority of the old ones as well,
//! and those of them that have the entry refuse, since their log is longer. When only nodes that
//! the entry takes out have it, and one more is away or has lost its disk, the rest cannot elect
//! anybody, though a majority of the new voters is there. So one of those that have the entry has
//! to lead until it is decided. The library lets nobody stand who has no vote. The election is held
//! here, and the library is told that it is won, as by its leader of old:
//!
//! 1. The node promises itself, in a term later than all that it knows of. The promise is on its
//!    disk, behind its log, before anybody is asked: no vote is asked for twice.
//! 2. It asks the voters that its last entry names. Each goes by what it has promised and by its
//!    log, as for any candidate. The node's own vote counts for nothing.
//! 3. When a majority has elected it, it leads. Then the entry is decided, and it goes
//!    ([`reconcile`](super::reconcile)).
//!
//! That is safe for the reasons for which every election is: its log is as long as those of a
//! majority of the voters by whom it counts, and whoever counts by others has to be elected by one
//! of that majority. Nothing in this takes a candidate to be one of the voters. An entry can come
//! in between only from a leader that this node has promised itself to later, and then the library
//! refuses what was won.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use openraft::raft::VoteRequest;

use crate::raft::config::{ELECTION_MAX, ELECTION_MIN};
use crate::raft::disk::LogStore;
use crate::raft::rpc::{self, RaftReply, RaftRequest};
use crate::raft::runtime;
use crate::raft::teeth::{RaftRule, broken};
use crate::raft::transport::Transport;
use crate::raft::types::{Raft, RaftMetrics, Vote, member};

/// The part of such a node in elections.
#[derive(Default)]
pub struct OutgoingVoter {
    waits: Option<Wait>,
    /// The latest term of which voters told that did not elect it.
    seen: u64,
}

/// It waits for a leader.
struct Wait {
    /// Its promise: any news of a leader or a candidate begins the wait anew.
    promised: Promise,
    until: Instant,
}

/// A vote, and when it was last promised or heard of.
type Promise = (Vote, Option<Moment>);
type Moment = <runtime::Library as openraft::AsyncRuntime>::Instant;

/// How things stand at such a node.
struct Situation {
    promised: Promise,
    /// That it is taken out is not decided, as far as it knows.
    outgoing: bool,
    /// The voters that its last entry names.
    voters: Vec<Vec<u64>>,
}

impl OutgoingVoter {
    /// Looks how things stand, and holds an election if it is time. Nothing comes of it where the
    /// node votes or was taken out for good.
    pub async fn look<T: Transport>(&mut self, raft: &Raft, transport: &T, log: &LogStore) {
        let me = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            may_be_outgoing(&metrics).then_some(metrics.id)
        };
        let found = match me.filter(|_| !broken(RaftRule::LeaveUndecided)) {
            Some(me) => situation(raft, me).await.map(|found| (me, found)),
            None => None,
        };
        let Some((me, found)) = found.filter(|(_, found)| found.outgoing) else {
            self.waits = None;
            return;
        };
        let now = runtime::now();
        let waits = self.waits.take();
        let wait = waits.filter(|wait| wait.promised == found.promised);
        let wait = wait.unwrap_or_else(|| Wait {
            until: now + election_timeout(&found.promised.0),
            promised: found.promised,
        });
        if now < wait.until {
            self.waits = Some(wait);
            return;
        }
        // A node that reaches too few of them would only hold up the leader that they may have.
        let reached = |id: &u64| member(*id).is_some_and(|node| transport.alive(node));
        let reached = found.voters.iter().flatten().copied().filter(reached);
        if is_majority(&found.voters, &reached.collect()) {
            self.stand(me, &found, raft, transport, log).await;
        }
    }

    async fn stand<T: Transport>(
        &mut self,
        me: u64,
        found: &Situation,
        raft: &Raft,
        transport: &T,
        log: &LogStore,
    ) {
        let term = found.promised.0.leader_id.term.max(self.seen) + 1;
        let own = Vote::new(term, me);
        if !promise(raft, log, own).await {
            return;
        }
        // The promise, and the candidate that has it: from here on nothing is taken from an
        // earlier leader.
        let Some(found) = situation(raft, me).await else {
            return;
        };
        if !found.outgoing || found.promised.0 != own {
            return;
        }
        log::info!("this node stands for election until it is decided that it has no vote: {own}");
        let request = RaftRequest::Vote(VoteRequest::new(own, log.last()));
        let asked: BTreeSet<u64> = found.voters.iter().flatten().copied().collect();
        let ask = |id: u64| {
            let request = &request;
            async move {
                let to = member(id)?;
                match rpc::call(transport, to, request, ELECTION_MIN).await {
                    Ok(RaftReply::Vote(reply)) => Some((id, reply)),
                    _ => None,
                }
            }
        };
        let mut answers: FuturesUnordered<_> = asked.into_iter().map(ask).collect();
        let mut elected = BTreeSet::new();
        while let Some(answer) = answers.next().await {
            let Some((voter, reply)) = answer else {
                continue;
            };
            if !reply.vote_granted || reply.vote != own {
                self.seen = self.seen.max(reply.vote.leader_id.term);
                continue;
            }
            elected.insert(voter);
            if is_majority(&found.voters, &elected) {
                promise(raft, log, Vote::new_committed(term, me)).await;
                return;
            }
        }
    }
}

/// Whether the node may be an outgoing one, as far as can be seen without asking the library.
fn may_be_outgoing(metrics: &RaftMetrics) -> bool {
    let stored = &metrics.membership_config;
    let votes = stored.voter_ids().any(|id| id == metrics.id);
    !votes && *stored.log_id() > metrics.last_applied && metrics.current_leader != Some(metrics.id)
}

async fn situation(raft: &Raft, me: u64) -> Option<Situation> {
    let look = raft.with_raft_state(move |state| {
        let memberships = &state.membership_state;
        let (before, now) = (memberships.committed(), memberships.effective());
        let voted = before.voter_ids().any(|id| id == me);
        let votes = now.voter_ids().any(|id| id == me);
        Situation {
            promised: (*state.vote_ref(), state.vote_last_modified()),
            outgoing: voted && !votes && *now.log_id() > state.committed,
            voters: now.get_joint_config().clone(),
        }
    });
    look.await.ok()
}

/// Has the library promise a vote of this node's own, or lead by it. Whether it did.
async fn promise(raft: &Raft, log: &LogStore, vote: Vote) -> bool {
    let promised = raft.vote(VoteRequest::new(vote, log.last()));
    // A disk that hangs must not hold up all else that is looked after.
    let promised = runtime::timeout(ELECTION_MIN, promised).await;
    matches!(promised, Ok(Ok(reply)) if reply.vote_granted && reply.vote == vote)
}

/// How long nothing must have been heard, after this was promised. As for all others: whoever
/// follows a leader waits until its promise has run out.
fn election_timeout(promised: &Vote) -> Duration {
    let range = (ELECTION_MAX - ELECTION_MIN).as_millis();
    let range = u64::try_from(range).unwrap_or(u64::MAX).max(1);
    let drawn = ELECTION_MIN + Duration::from_millis(runtime::random() % range);
    match promised.is_committed() {
        true => ELECTION_MAX + drawn,
        false => drawn,
    }
}

/// Whether `nodes` are a majority of the voters: of each set, while a change of them is half done.
fn is_majority(voters: &[Vec<u64>], nodes: &BTreeSet<u64>) -> bool {
    let most = |set: &Vec<u64>| {
        let there = set.iter().filter(|id| nodes.contains(id)).count();
        there > set.len() / 2
    };
    !voters.is_empty() && voters.iter().all(most)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_majority_of_each_set_elects() {
        let is_majority = |voters: &[&[u64]], nodes: &[u64]| {
            let voters: Vec<Vec<u64>> = voters.iter().map(|set| set.to_vec()).collect();
            super::is_majority(&voters, &nodes.iter().copied().collect())
        };
        assert!(is_majority(&[&[2, 3, 4]], &[2, 3]));
        assert!(!is_majority(&[&[2, 3, 4]], &[2]));
        assert!(!is_majority(&[&[2, 3, 4]], &[1, 2]), "1 has no vote");
        assert!(!is_majority(&[&[2, 3]], &[2]));
        assert!(!is_majority(&[&[1, 2, 3], &[2, 3, 4]], &[1, 2]));
        assert!(is_majority(&[&[1, 2, 3], &[2, 3, 4]], &[2, 3]));
        assert!(!is_majority(&[], &[1]));
    }
}

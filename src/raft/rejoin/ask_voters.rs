//! The questions of a node that comes back without its former disk. Before it follows a leader it
//! asks the other voters whether they know of a later one. Before it elects a candidate it asks
//! whether they have elected that one.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::protocol::ids::MemberId;
use crate::raft::disk::LogStore;
use crate::raft::rejoin::eligibility::{Eligibility, is_enough};
use crate::raft::rpc::{self, Promised, RaftReply, RaftRequest};
use crate::raft::teeth::{RaftRule, broken};
use crate::raft::transport::Transport;
use crate::raft::types::{LeaderId, Raft, Vote, member, node_id};

/// Time for each of two rounds of questions. The leader sends entries again that were not taken
/// meanwhile.
const ASK: Duration = Duration::from_millis(500);

/// This node's promise. `None` as long as the node does not vote: it may have forgotten promises.
/// `None` too while the promise is not on its disk: a crash may take it back.
///
/// And `None` while it is not known whether this node elected the candidate that it goes by. The
/// library takes over the vote of a node that refuses this one's own, and does not look at that
/// node's log. [Whoever counts on the promise](may_elect) would take that for an election.
pub async fn promised(
    me: MemberId,
    raft: &Raft,
    eligibility: &Eligibility,
    log: &LogStore,
) -> Option<Promised> {
    if !eligibility.votes() {
        return None;
    }
    // From the library's own state, not from its metrics: these may lag behind a vote just granted.
    let promised = raft.with_raft_state(|state| {
        let promised = Promised {
            leader: state.vote_ref().leader_id,
            voters: state
                .membership_state
                .effective()
                .membership()
                .get_joint_config()
                .clone(),
        };
        (promised, state.vote_ref().is_committed())
    });
    let (promised, leads) = promised.await.ok()?;
    let leader = &promised.leader;
    // In term 0 nobody stands.
    let elected = leads
        || leader.term == 0
        || leader.voted_for() == Some(node_id(me))
        || eligibility.has_elected(leader)
        || broken(RaftRule::CountRefusals);
    (elected && log.promised() == promised.leader).then_some(promised)
}

/// Whether the leader with this vote may be followed: asks the other voters whether they have
/// promised anything later.
///
/// A voter that does not answer may be a candidate to which this node has promised its vote in its
/// former life, and which is about to be elected with that vote. So unless all of them answer, this
/// node waits until such an election is over.
pub async fn may_follow<T: Transport>(
    me: MemberId,
    transport: &T,
    eligibility: &Eligibility,
    leader: Vote,
) -> bool {
    let leader = leader.leader_id;
    let Some(id) = leader.voted_for() else {
        return false;
    };
    let own = promise_of(transport, id).await;
    // The leader does not answer, or has itself promised something later.
    let Some(own) = own.filter(|own| own.leader <= leader) else {
        return false;
    };
    let others = others_of(&own.voters, &[id, node_id(me)]);
    let promises: Vec<_> = promises_of(transport, &others).collect().await;
    let earlier = promises
        .into_iter()
        .filter(|(_, promised)| promised.is_some_and(|promised| promised <= leader));
    let mut earlier: BTreeSet<u64> = earlier.map(|(node, _)| node).collect();
    // No voter is left that may be about to be elected with this node's former vote.
    let settled = earlier == others || eligibility.waited();
    earlier.insert(id);
    let enough = is_enough(&own.voters, &earlier) && settled;
    if enough {
        log::info!("this node came without its log, and follows leader {leader}");
        eligibility.follow_from(&leader);
    }
    enough
}

/// Whether a candidate with this vote may be elected by a node that has no right to vote yet: asks
/// the other voters whether they have elected it. So many must have that every majority has one of
/// them, this node not counted.
///
/// Such a candidate has everything that was ever decided, whatever this node has. A majority stored
/// each decided entry, so one of the voters that elected the candidate did. That voter stored it
/// before it elected the candidate, since afterwards it takes nothing from earlier leaders. So the
/// candidate's log was no shorter than one with all decided entries, as for any vote. It is not
/// enough that a voter goes by the candidate: the voter may have [refused it](promised). Nor is it
/// enough that a voter has promised nothing later: that voter could still store an entry of an
/// earlier leader, which is then decided with a confirmation from this node's former life.
///
/// A later candidate may be about to be elected with a vote from this node's former life. Entries
/// decided with the present candidate have to be in the later one's log. If every majority includes
/// the present candidate itself, as of two voters, it has to elect the later one, which so has its
/// log. Else this node waits until such an election is over.
pub async fn may_elect<T: Transport>(
    me: MemberId,
    transport: &T,
    eligibility: &Eligibility,
    candidate: Vote,
) -> bool {
    let candidate = candidate.leader_id;
    let Some(id) = candidate.voted_for() else {
        return false;
    };
    let own = promise_of(transport, id).await;
    // The candidate does not answer, or stands no more.
    let Some(own) = own.filter(|own| own.leader == candidate) else {
        return false;
    };
    let mut elected = BTreeSet::from([id]);
    // Of two voters: every majority includes the candidate, so no later one passes it by.
    if is_enough(&own.voters, &elected) {
        return true;
    }
    // A later candidate may be about to be elected with this node's former vote.
    if !eligibility.waited() {
        return false;
    }
    let others = others_of(&own.voters, &[id, node_id(me)]);
    let mut promises = promises_of(transport, &others);
    while let Some((node, promised)) = promises.next().await {
        if promised.is_some_and(|promised| promised == candidate) {
            elected.insert(node);
        }
        // As soon as enough have answered: the candidate waits no longer than one call takes.
        if is_enough(&own.voters, &elected) {
            return true;
        }
    }
    false
}

/// All voters but those in `without`.
fn others_of(voters: &[BTreeSet<u64>], without: &[u64]) -> BTreeSet<u64> {
    let all = voters.iter().flatten().copied();
    all.filter(|node| !without.contains(node)).collect()
}

/// Asks nodes for the leader or candidate to which each has promised itself. Yields the answers as
/// they come.
fn promises_of<'a, T: Transport>(
    transport: &'a T,
    nodes: &BTreeSet<u64>,
) -> FuturesUnordered<impl Future<Output = (u64, Option<LeaderId>)> + use<'a, T>> {
    let ask = |node: &u64| {
        let node = *node;
        async move {
            let promised = promise_of(transport, node).await;
            (node, promised.map(|promised| promised.leader))
        }
    };
    nodes.iter().map(ask).collect()
}

/// Asks a node what it has promised.
async fn promise_of<T: Transport>(transport: &T, node: u64) -> Option<Promised> {
    let to = member(node)?;
    match rpc::call(transport, to, &RaftRequest::Promised, ASK).await {
        Ok(RaftReply::Promised(promised)) => Some(promised),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::disk::RaftDisk;
    use crate::raft::transport::{Rpc, RpcReply, TransportError};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use tempfile::TempDir;

    /// The promise of each voter that answers, and the voters that all know of.
    #[derive(Clone)]
    struct Voters {
        promised: BTreeMap<u64, LeaderId>,
        voters: Vec<BTreeSet<u64>>,
    }

    impl Voters {
        fn new(voters: &[&[u64]], promised: &[(u64, LeaderId)]) -> Self {
            let set = |numbers: &&[u64]| numbers.iter().copied().collect();
            Self {
                promised: promised.iter().copied().collect(),
                voters: voters.iter().map(set).collect(),
            }
        }
    }

    impl Transport for Voters {
        async fn call(
            &self,
            to: MemberId,
            _: Rpc,
            _: Duration,
        ) -> Result<RpcReply, TransportError> {
            let promised = Promised {
                leader: *self
                    .promised
                    .get(&node_id(to))
                    .ok_or(TransportError::NoAnswer(to))?,
                voters: self.voters.clone(),
            };
            let reply = rpc::encode(&RaftReply::Promised(promised), 0).unwrap();
            Ok(RpcReply(reply))
        }

        fn alive(&self, _: MemberId) -> bool {
            true
        }
    }

    fn eligibility() -> (Eligibility, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let disk = RaftDisk::open(dir.path()).unwrap();
        (Eligibility::open(Arc::new(disk)).unwrap(), dir)
    }

    /// A node that has just come back, and one that came back a while ago.
    fn both() -> ([Eligibility; 2], [TempDir; 2]) {
        let ((now, a), (before, b)) = (eligibility(), eligibility());
        ([now, before.has_waited()], [a, b])
    }

    /// With the vote that node 3 forgot, node 2 was elected after node 1, and may have had decided
    /// what node 1 does not have.
    #[tokio::test]
    async fn an_earlier_leader_of_the_same_term_is_not_followed() {
        let (eligibility, _dir) = eligibility();
        let (first, second) = (LeaderId::new(7, 1), LeaderId::new(7, 2));
        let voters = Voters::new(&[&[1, 2, 3]], &[(1, first), (2, second)]);
        let ask = |vote| may_follow(MemberId(3), &voters, &eligibility, vote);
        assert!(!ask(Vote::new_committed(7, 1)).await);
        assert!(!eligibility.follows(&second));
        assert!(ask(Vote::new_committed(7, 2)).await);
        assert!(eligibility.follows(&second) && !eligibility.follows(&first));
    }

    /// Node 4 says nothing: it may be a candidate whom node 9 has promised its vote before it lost
    /// its disk.
    #[tokio::test]
    async fn a_leader_is_followed_when_no_other_can_be_elected_with_a_forgotten_vote() {
        let ([now, before], _dirs) = both();
        let leader = LeaderId::new(7, 1);
        let vote = Vote::new_committed(7, 1);
        let said = [(1, leader), (2, leader), (3, LeaderId::new(5, 4))];
        let silent = Voters::new(&[&[1, 2, 3, 4, 9]], &said);
        assert!(!may_follow(MemberId(9), &silent, &now, vote).await);
        assert!(!now.follows(&leader));
        assert!(may_follow(MemberId(9), &silent, &before, vote).await);
        let mut all = silent.clone();
        all.promised.insert(4, leader);
        assert!(may_follow(MemberId(9), &all, &now, vote).await);
        // No time makes up for too few.
        let mut few = silent;
        few.promised.remove(&3);
        let ([_, before], _dirs) = both();
        assert!(!may_follow(MemberId(9), &few, &before, vote).await);
    }

    #[tokio::test]
    async fn of_two_voters_the_other_one_is_elected_at_once() {
        let (eligibility, _dir) = eligibility();
        let candidate = LeaderId::new(7, 1);
        let vote = Vote::new(7, 1);
        let ask = async |voters: &[&[u64]], promised| {
            let voters = Voters::new(voters, &[(1, promised)]);
            may_elect(MemberId(9), &voters, &eligibility, vote).await
        };
        assert!(ask(&[&[1, 9]], candidate).await);
        // The candidate stands no more.
        assert!(!ask(&[&[1, 9]], LeaderId::new(8, 1)).await);
        assert!(!ask(&[&[1, 2, 9]], candidate).await);
        assert!(!ask(&[&[1, 9], &[9]], candidate).await);
    }

    /// The voters change from three to two, and one of the two has lost its disk: no majority is
    /// without it.
    #[tokio::test]
    async fn a_candidate_is_elected_when_others_who_meet_every_majority_have_elected_it() {
        let ([now, before], _dirs) = both();
        let candidate = LeaderId::new(7, 1);
        let vote = Vote::new(7, 1);
        let half_done: &[&[u64]] = &[&[1, 2, 9], &[2, 9]];
        let elected = Voters::new(half_done, &[(1, candidate), (2, candidate)]);
        assert!(may_elect(MemberId(9), &elected, &before, vote).await);
        // A later one may be about to be elected with a forgotten vote.
        assert!(!may_elect(MemberId(9), &elected, &now, vote).await);
        // A voter that has promised nothing later may still store what an earlier leader sends.
        let earlier = [(1, candidate), (2, LeaderId::new(6, 3))];
        let earlier = Voters::new(half_done, &earlier);
        assert!(!may_elect(MemberId(9), &earlier, &before, vote).await);
        let later = [(1, candidate), (2, LeaderId::new(7, 2))];
        let later = Voters::new(half_done, &later);
        assert!(!may_elect(MemberId(9), &later, &before, vote).await);
        let silent = Voters::new(half_done, &[(1, candidate)]);
        assert!(!may_elect(MemberId(9), &silent, &before, vote).await);
        // Two of five: the three others are a majority.
        let five: &[&[u64]] = &[&[1, 2, 3, 4, 9]];
        let two = [(1, candidate), (2, candidate)];
        assert!(!may_elect(MemberId(9), &Voters::new(five, &two), &before, vote).await);
        let three = [(1, candidate), (2, candidate), (4, candidate)];
        assert!(may_elect(MemberId(9), &Voters::new(five, &three), &before, vote).await);
    }
}

//! Coming back without a disk: before the node follows a leader it asks the other voters whether they know of a later one.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::network::{self, Promised, Reply, Request};
use super::standing::{Standing, is_enough};
use super::transport::Transport;
use super::types::{LeaderId, Raft, Vote, member, node_id};
use crate::protocol::ids::MemberId;

/// Time for each of two rounds of questions. The leader sends again what was not taken meanwhile.
const ASK: Duration = Duration::from_millis(500);

/// What this node has promised. None as long as it does not vote: it may have forgotten some of it.
pub async fn promised(raft: &Raft, standing: &Standing) -> Option<Promised> {
    if !standing.votes() {
        return None;
    }
    // As the library has it now, not as it last told: what a grant was sent for has to be in it.
    let promised = raft.with_raft_state(|state| Promised {
        leader: state.vote_ref().leader_id,
        voters: state
            .membership_state
            .effective()
            .membership()
            .get_joint_config()
            .clone(),
    });
    promised.await.ok()
}

/// Whether the leader with this vote may be followed: asks the other voters.
pub async fn may_follow<T: Transport>(
    me: MemberId,
    transport: &T,
    standing: &Standing,
    leader: Vote,
) -> bool {
    let leader = leader.leader_id;
    let ask = |node| nothing_later(transport, node, &leader);
    let Some(id) = leader.voted_for() else {
        return false;
    };
    let Some((_, voters)) = ask(id).await else {
        return false;
    };
    let others: BTreeSet<u64> = voters.iter().flatten().copied().collect();
    let others = others
        .into_iter()
        .filter(|node| ![id, node_id(me)].contains(node));
    let answers = join_all(others.map(ask)).await;
    let mut answered: BTreeSet<u64> = answers
        .into_iter()
        .flatten()
        .map(|(node, _)| node)
        .collect();
    answered.insert(id);
    let enough = is_enough(&voters, &answered);
    if enough {
        log::info!("this node came without its log, and follows leader {leader}");
        standing.follow_from(&leader);
    }
    enough
}

/// Whether a candidate with this vote may be elected by a node that has no right to vote yet: when every majority needs the
/// candidate itself, so that it has all that was ever decided. That is so of two voters.
pub async fn may_elect<T: Transport>(transport: &T, candidate: Vote) -> bool {
    let Some(id) = candidate.leader_id.voted_for() else {
        return false;
    };
    match nothing_later(transport, id, &candidate.leader_id).await {
        Some((_, voters)) => is_enough(&voters, &BTreeSet::from([id])),
        None => false,
    }
}

/// Asks a voter: its number and the voters that it knows of, if it votes and has promised nothing later than `leader`.
async fn nothing_later<T: Transport>(
    transport: &T,
    node: u64,
    leader: &LeaderId,
) -> Option<(u64, Vec<BTreeSet<u64>>)> {
    let to = member(node)?;
    match network::call(transport, to, &Request::Promised, ASK).await {
        Ok(Reply::Promised(promised)) if promised.leader <= *leader => {
            Some((node, promised.voters))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::council::disk::CouncilDisk;
    use crate::council::transport::{Rpc, RpcReply, TransportError};
    use std::sync::Arc;

    /// Voters 1 to 3, of whom each but 3 has promised a leader.
    #[derive(Clone)]
    struct Voters([LeaderId; 2]);

    impl Transport for Voters {
        async fn call(
            &self,
            to: MemberId,
            _: Rpc,
            _: Duration,
        ) -> Result<RpcReply, TransportError> {
            let promised = Promised {
                leader: self.0[usize::from(to.0) - 1],
                voters: vec![BTreeSet::from([1, 2, 3])],
            };
            let reply = network::encode(&Reply::Promised(promised), 0).unwrap();
            Ok(RpcReply(reply))
        }

        fn alive(&self, _: MemberId) -> bool {
            true
        }
    }

    /// With the vote that node 3 forgot, node 2 was elected after node 1, and may have had decided what node 1 does not have.
    #[tokio::test]
    async fn an_earlier_leader_of_the_same_term_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = CouncilDisk::open(dir.path()).unwrap();
        let standing = Standing::open(Arc::new(disk)).unwrap();
        let (first, second) = (LeaderId::new(7, 1), LeaderId::new(7, 2));
        let voters = Voters([first, second]);
        let ask = |vote| may_follow(MemberId(3), &voters, &standing, vote);
        assert!(!ask(Vote::new_committed(7, 1)).await);
        assert!(!standing.follows(&second));
        assert!(ask(Vote::new_committed(7, 2)).await);
        assert!(standing.follows(&second) && !standing.follows(&first));
    }
}

//! Coming back without a disk: before the node follows a leader it asks the other voters whether they know of a later one.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::network::{self, Promised, Reply, Request};
use super::standing::{Standing, is_enough};
use super::transport::Transport;
use super::types::{Raft, Vote, member, node_id};
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
        term: state.vote_ref().leader_id.term,
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
    let term = leader.leader_id.term;
    let ask = |node| nothing_later(transport, node, term);
    let Some(id) = leader.leader_id.voted_for() else {
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
        log::info!("this node came without its log, and follows the leader of term {term}");
        standing.follow_from(term);
    }
    enough
}

/// Whether a candidate with this vote may be elected by a node that has no right to vote yet: when every majority needs the
/// candidate itself, so that it has all that was ever decided. That is so of two voters.
pub async fn may_elect<T: Transport>(transport: &T, candidate: Vote) -> bool {
    let Some(id) = candidate.leader_id.voted_for() else {
        return false;
    };
    match nothing_later(transport, id, candidate.leader_id.term).await {
        Some((_, voters)) => is_enough(&voters, &BTreeSet::from([id])),
        None => false,
    }
}

/// Asks a voter: its number and the voters that it knows of, if it votes and has promised nothing later than `term`.
async fn nothing_later<T: Transport>(
    transport: &T,
    node: u64,
    term: u64,
) -> Option<(u64, Vec<BTreeSet<u64>>)> {
    let to = member(node)?;
    match network::call(transport, to, &Request::Promised, ASK).await {
        Ok(Reply::Promised(promised)) if promised.term <= term => Some((node, promised.voters)),
        _ => None,
    }
}

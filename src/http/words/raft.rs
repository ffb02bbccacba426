//! How the Raft group stands at one node, as `/admin/status` says it.

use super::name;
use crate::api::raft::{RaftPeer, RaftStatus};
use crate::node::Member;
use crate::raft::RaftRole;

/// How the Raft group stands, as this node sees it.
pub async fn raft_status(member: &Member) -> Option<RaftStatus> {
    let raft = member.membership().raft()?;
    let status = raft.status().await;
    let state = match status.role {
        RaftRole::Learner => "learner",
        RaftRole::Follower => "follower",
        RaftRole::Candidate => "candidate",
        RaftRole::Leader => "leader",
        RaftRole::Stopped => "stopped",
    };
    let others = status
        .voters
        .union(&status.learners)
        .filter(|m| **m != member.me());
    let peers = others.map(|peer| {
        let matched = status.matched.get(peer).copied().flatten();
        RaftPeer {
            node: name(member, *peer),
            votes: status.voters.contains(peer),
            alive: member.membership().peers().is_up(*peer),
            match_index: matched,
            next_index: matched.map(|index| index + 1),
        }
    });
    Some(RaftStatus {
        node: member.config().address.to_string(),
        state: state.to_owned(),
        leader: status.leader.map(|leader| name(member, leader)),
        term: status.term,
        has_quorum: status.has_quorum,
        full: raft.has_room().err().map(|full| full.to_string()),
        log_len: status.log_len,
        last_applied: status.last_applied,
        commit_idx: status.committed,
        peers: peers.collect(),
        keys: raft.look(|decided| decided.keys.len()),
        uptime_seconds: member.uptime().as_secs(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

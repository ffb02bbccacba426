//! Answers to other nodes of the Raft group.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::error::RaftError;
use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};

use super::machine::Machine;
use super::propose::ask;
use super::propose::batch::{Proposal, Proposals};
use super::rejoin::ask_voters;
use super::rpc::{self, Promised, RaftReply, RaftRequest};
use super::teeth::{RaftRule, broken};
use super::transport::{Rpc, RpcReply, Transport};
use super::types::{EntryId, LeaderId, ProposalResult, Vote};
use super::{RaftNode, config, runtime};

type Elected = Result<VoteResponse<u64>, RaftError<u64>>;

impl<M: Machine, T: Transport> RaftNode<M, T> {
    /// Answers another node's call.
    pub async fn handle(&self, rpc: Rpc) -> RpcReply {
        let reply = match rpc::decode(&rpc.0) {
            Ok(request) => self.serve(request).await,
            Err(error) => RaftReply::Failed(error.to_string()),
        };
        // The other end cannot decode an empty answer either, and takes it for one of a wrong kind.
        let bytes = rpc::encode(&reply, reply.size()).unwrap_or_else(|error| {
            log::error!("an answer of the council has no encoding: {error}");
            Bytes::new()
        });
        RpcReply(bytes)
    }

    async fn serve(&self, request: RaftRequest) -> RaftReply {
        let raft = &self.inner.raft;
        let failed = |fatal: &dyn std::error::Error| RaftReply::Failed(fatal.to_string());
        // With a full disk, requests that wait for it would gather without end.
        if let Err(error) = self.has_room() {
            return failed(&error);
        }
        if !self.is_sound(&request) {
            return RaftReply::Failed("its log contradicts the leader's".to_owned());
        }
        match request {
            RaftRequest::Append(rpc) if !self.may_follow(rpc.vote).await => unsafe_yet(),
            RaftRequest::Snapshot(rpc) if !self.may_follow(rpc.vote).await => unsafe_yet(),
            RaftRequest::Append(rpc) => {
                let (leader, decided) = (rpc.vote.leader_id, rpc.leader_commit);
                let last = rpc.entries.last().map(|entry| entry.log_id);
                let last = last.or(rpc.prev_log_id);
                match raft.append_entries(rpc).await {
                    Ok(reply) => {
                        self.may_vote(leader, decided).await;
                        self.confirm(reply, last).await
                    }
                    Err(error) => failed(&error),
                }
            }
            RaftRequest::Vote(rpc) => match self.elect(rpc).await {
                Some(Ok(reply)) => RaftReply::Vote(reply),
                Some(Err(error)) => failed(&error),
                None => unsafe_yet(),
            },
            RaftRequest::Snapshot(rpc) => match raft.install_snapshot(rpc).await {
                Ok(reply) => RaftReply::Snapshot(Ok(reply)),
                Err(RaftError::APIError(error)) => RaftReply::Snapshot(Err(error)),
                Err(RaftError::Fatal(error)) => failed(&error),
            },
            RaftRequest::Propose(proposals) => {
                let decided = self.decide(proposals);
                // The other node waits no longer than one attempt.
                match runtime::timeout(ask::ATTEMPT, decided).await {
                    Ok(Ok(answers)) => RaftReply::Proposed(answers),
                    Ok(Err(reply)) => reply,
                    Err(_) => RaftReply::Unsure,
                }
            }
            RaftRequest::ReadIndex => self.inner.leader.read_index().await,
            RaftRequest::MayVote => RaftReply::MayVote(self.inner.eligibility.votes()),
            RaftRequest::MayLead => {
                let inner = &self.inner;
                let has_room = !inner.disk.is_scarce(inner.config.reserve);
                RaftReply::MayLead(has_room && inner.eligibility.votes())
            }
            RaftRequest::Promised => match self.promised().await {
                Some(promised) => RaftReply::Promised(promised),
                None => unsafe_yet(),
            },
        }
    }

    /// Decides what other nodes propose, but for what fills a disk that has little room left.
    async fn decide(&self, proposals: Proposals) -> Result<Vec<ProposalResult>, RaftReply> {
        let inner = &self.inner;
        if !inner.disk.is_scarce(inner.config.reserve) {
            return inner.leader.decide(proposals).await;
        }
        if let Some(refusal) = inner.leader.refusal() {
            return Err(RaftReply::Refused(refusal));
        }
        let fills = |proposal: &Proposal<'_>| {
            let command = postcard::from_bytes::<M::Command>(proposal.command);
            command.is_ok_and(|command| M::fills(&command))
        };
        let (rest, refused) = proposals.without(fills);
        let decided = match rest.count() {
            Some(0) => Vec::new(),
            _ => inner.leader.decide(rest).await?,
        };
        let mut decided = decided.into_iter();
        let answers = refused.into_iter().map(|refused| match refused {
            true => Some(ProposalResult::NoRoom),
            false => decided.next(),
        });
        answers.collect::<Option<_>>().ok_or(RaftReply::Unsure)
    }

    /// The answer to a leader: confirms entries up to `last` only once they are durable here.
    async fn confirm(&self, reply: AppendEntriesResponse<u64>, last: Option<EntryId>) -> RaftReply {
        if broken(RaftRule::ConfirmBeforeDurable) {
            return RaftReply::Append(reply);
        }
        let confirmed = rpc::confirmed(&reply, last);
        // The leader waits no longer than a heartbeat.
        let stored = runtime::timeout(config::HEARTBEAT, self.inner.durable.wait(confirmed));
        match stored.await {
            Ok(Ok(())) => RaftReply::Append(reply),
            Ok(Err(error)) => RaftReply::Failed(error.to_string()),
            Err(_) => RaftReply::Failed("its disk takes too long".to_owned()),
        }
    }

    // The rare futures below are boxed: a transport may call the other node's `handle` directly,
    // and that calls back here.

    async fn may_follow(&self, leader: Vote) -> bool {
        let inner = &self.inner;
        if inner.eligibility.follows(&leader.leader_id) || broken(RaftRule::FollowAnyLeader) {
            return true;
        }
        let asked: BoxFuture<'_, bool> = Box::pin(ask_voters::may_follow(
            inner.me,
            &inner.transport,
            &inner.eligibility,
            leader,
        ));
        asked.await
    }

    /// The answer to a candidate. None when this node may not elect it yet.
    async fn elect(&self, mut rpc: VoteRequest<u64>) -> Option<Elected> {
        let inner = &self.inner;
        if !inner.eligibility.votes() {
            if !self.may_elect(rpc.vote).await {
                return None;
            }
            // The candidate has everything that was ever decided. Entries that this node has beyond
            // that were only sent to it, by a leader that lost them. They must not keep the only
            // possible candidate from being elected, so the candidate's log counts as long enough.
            rpc.last_log_id = rpc.last_log_id.max(inner.log.last());
        }
        let candidate = rpc.vote;
        let answer = inner.raft.vote(rpc).await;
        if let Ok(reply) = &answer
            && reply.vote_granted
            && reply.vote == candidate
        {
            inner.eligibility.elect(&candidate.leader_id);
        }
        Some(answer)
    }

    async fn may_elect(&self, candidate: Vote) -> bool {
        if broken(RaftRule::ElectAnybody) {
            return true;
        }
        let inner = &self.inner;
        let asked: BoxFuture<'_, bool> = Box::pin(ask_voters::may_elect(
            inner.me,
            &inner.transport,
            &inner.eligibility,
            candidate,
        ));
        asked.await
    }

    async fn promised(&self) -> Option<Promised> {
        let inner = &self.inner;
        ask_voters::promised(inner.me, &inner.raft, &inner.eligibility, &inner.log).await
    }

    /// Gains the right to vote, if this node lacks nothing that was decided before it came back. A
    /// leader knows all that was decided only once an entry of its own term is.
    async fn may_vote(&self, leader: LeaderId, decided: Option<EntryId>) {
        let all = decided.filter(|id| id.leader_id == leader);
        let level = |id: EntryId| *self.inner.shown.next().borrow() > id.index;
        if self.inner.eligibility.waited()
            && all.is_some_and(level)
            && let Err(error) = self.gain_vote().await
        {
            log::error!("this node does not vote in the council yet: {error}");
        }
    }
}

fn unsafe_yet() -> RaftReply {
    RaftReply::Failed("it came without its log, and does not take part yet".to_owned())
}

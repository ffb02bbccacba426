//! Makes the Raft group's membership follow the members that the replicated state names. Every node
//! runs the reconciler. On the leader it makes one change at a time, and looks again after each.
//! Where the node is about to lose its vote, it also sees to it that this gets decided
//! ([`outgoing`](super::outgoing)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::ChangeMembers;

use crate::protocol::ids::MemberId;
use crate::raft::apply::Shown;
use crate::raft::disk::{LogStore, RaftDisk};
use crate::raft::machine::Machine;
use crate::raft::membership::outgoing::OutgoingVoter;
use crate::raft::membership::voters::{self, MembershipStep, Picture};
use crate::raft::rejoin::eligibility::Eligibility;
use crate::raft::rpc::{self, RaftReply, RaftRequest};
use crate::raft::runtime;
use crate::raft::status;
use crate::raft::transport::Transport;
use crate::raft::types::{Raft, RaftMetrics, member, node_id};

const EVERY: Duration = Duration::from_millis(200);
/// Time for one change, before the reconciler looks again at what is to be done.
const CHANGE: Duration = Duration::from_secs(5);
/// Time for a question to another node.
const ASK: Duration = Duration::from_millis(500);
/// A learner that lacks no more entries than this may vote.
const LEVEL: u64 = 64;

/// The task on one node.
pub struct Reconciler<M: Machine, T> {
    pub me: MemberId,
    pub raft: Raft,
    pub transport: T,
    pub shown: Shown<M>,
    pub log: LogStore,
    pub disk: Arc<RaftDisk>,
    /// Room on the disk below which this node had better not lead, in bytes.
    pub reserve: u64,
    pub eligibility: Arc<Eligibility>,
    /// A voter that this node has not heard of for this long is dead.
    pub dead_after: Duration,
}

impl<M: Machine, T: Transport> Reconciler<M, T> {
    /// Reconciles until it is dropped.
    pub async fn run(self) {
        let mut heard = BTreeMap::new();
        let mut outgoing = OutgoingVoter::default();
        loop {
            let began = runtime::now();
            self.step_back().await;
            // As for any election: who has no room could store no vote.
            if self.eligibility.votes() && self.log.durable().room().is_ok() {
                outgoing.look(&self.raft, &self.transport, &self.log).await;
            }
            let picture = self.picture(&mut heard);
            if let Some(step) = self.next_step(picture).await {
                self.change(step).await;
            }
            runtime::sleep(EVERY.saturating_sub(runtime::now() - began)).await;
        }
    }

    /// A leader that was removed sends no more heartbeats, so that the voters that are left elect
    /// another one. So does one with little room on its disk, while a voter has more: it decides
    /// nothing that would fill the disk.
    async fn step_back(&self) {
        let (voters, leaving, leads): (BTreeSet<MemberId>, _, _) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let voters = metrics.membership_config.voter_ids();
            let (leaving, leads) = (status::is_leaving(&metrics), status::leads(&metrics));
            (voters.filter_map(member).collect(), leaving, leads)
        };
        let mut ready = 0;
        if leaving {
            for voter in &voters {
                ready += usize::from(self.may_vote(*voter).await);
            }
        }
        let leave = leaving && !voters.is_empty() && ready > voters.len() / 2;
        let yields =
            leads && self.disk.is_scarce(self.reserve) && self.other_may_lead(&voters).await;
        self.raft.runtime_config().heartbeat(!leave && !yields);
    }

    async fn other_may_lead(&self, voters: &BTreeSet<MemberId>) -> bool {
        for voter in voters.iter().filter(|voter| **voter != self.me) {
            let reply = rpc::call(&self.transport, *voter, &RaftRequest::MayLead, ASK).await;
            if matches!(reply, Ok(RaftReply::MayLead(true))) {
                return true;
            }
        }
        false
    }

    /// The next step. Gives votes only to nodes that grant them: else no node could be elected
    /// after this leader.
    async fn next_step(&self, picture: Option<Picture>) -> Option<MembershipStep> {
        let mut picture = picture?;
        loop {
            let step = voters::next_step(&picture)?;
            let MembershipStep::Vote(voters) = &step else {
                return Some(step);
            };
            let mut abstains = None;
            for new in voters - &picture.voters {
                if !self.may_vote(new).await {
                    abstains = Some(new);
                }
            }
            match abstains {
                Some(node) => drop(picture.level.remove(&node)),
                None => return Some(step),
            }
        }
    }

    async fn may_vote(&self, node: MemberId) -> bool {
        let reply = rpc::call(&self.transport, node, &RaftRequest::MayVote, ASK).await;
        matches!(reply, Ok(RaftReply::MayVote(true)))
    }

    /// How things stand, if this node leads and can change them.
    fn picture(&self, heard: &mut BTreeMap<MemberId, Instant>) -> Option<Picture> {
        let (members, electable) = self.shown.look(|m| (m.members(), m.electable()));
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let last = membership.get_joint_config().last();
        let voters: BTreeSet<MemberId> = last
            .into_iter()
            .flatten()
            .filter_map(|id| member(*id))
            .collect();
        let known: BTreeSet<MemberId> = membership
            .nodes()
            .filter_map(|(id, _)| member(*id))
            .collect();
        let alive = self.alive(&(&members | &known), heard);
        if !status::leads(&metrics) || !status::has_quorum(&metrics) {
            return None;
        }
        Some(Picture {
            me: self.me,
            learners: &known - &voters,
            members,
            electable,
            voters,
            joint: membership.get_joint_config().len() > 1,
            alive,
            level: level(&metrics),
        })
    }

    /// The nodes that are alive. Every node keeps track of them, so that a new leader knows which
    /// ones have been dead for long.
    fn alive(
        &self,
        nodes: &BTreeSet<MemberId>,
        heard: &mut BTreeMap<MemberId, Instant>,
    ) -> BTreeSet<MemberId> {
        heard.retain(|member, _| nodes.contains(member));
        let now = runtime::now();
        for node in nodes {
            let at = heard.entry(*node).or_insert(now);
            if *node == self.me || self.transport.alive(*node) {
                *at = now;
            }
        }
        let alive = heard.iter().filter(|(_, at)| now - **at < self.dead_after);
        alive.map(|(node, _)| *node).collect()
    }

    async fn change(&self, step: MembershipStep) {
        let ids = |set: &BTreeSet<MemberId>| set.iter().copied().map(node_id).collect();
        let change = match &step {
            MembershipStep::Learn(node) => {
                ChangeMembers::AddNodes(BTreeMap::from([(node_id(*node), ())]))
            }
            MembershipStep::Vote(voters) => ChangeMembers::ReplaceAllVoters(ids(voters)),
            MembershipStep::Forget(nodes) => ChangeMembers::RemoveNodes(ids(nodes)),
        };
        // Voters that lose their vote stay learners, so that the log tells them.
        let change = self.raft.change_membership(change, true);
        match runtime::timeout(CHANGE, change).await {
            Ok(Ok(_)) => log::info!("the council's membership has changed: {step:?}"),
            Ok(Err(error)) => log::debug!("not now: {step:?}: {error}"),
            Err(_) => log::warn!("the council's membership is slow to change: {step:?}"),
        }
    }
}

fn level(metrics: &RaftMetrics) -> BTreeSet<MemberId> {
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = metrics.replication.iter().flatten();
    matched
        .filter(|(_, at)| at.is_some_and(|at| at.index + LEVEL >= last))
        .filter_map(|(id, _)| member(*id))
        .collect()
}

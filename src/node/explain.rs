//! What a node tells about itself and about a context, in words.

use crate::council::Role;
use crate::node::member::Member;
use crate::node::readiness::Absence;
use crate::node::status::{
    EntryState, Explained, MemberStatus, PartitionStatus, PeerStatus, RaftPeer, RaftStatus, Status,
    ViewStatus,
};
use crate::protocol::context::Context;
use crate::protocol::ids::{self, LogId, MemberId};
use crate::protocol::marks::Marks;

/// A member of another partition that was not heard of for this long counts as dead, in
/// microseconds. Beacons come ten times a second in clusters of up to 64 nodes.
const ELSEWHERE_DEAD_US: u64 = 2_000_000;

impl Member {
    pub(super) fn name(&self, member: MemberId) -> String {
        self.membership().knowledge().name(member)
    }

    pub(super) fn is_alive(&self, member: MemberId, marks: &Marks) -> bool {
        if member == self.me() {
            return true;
        }
        match marks.peers.iter().find(|p| p.member == member) {
            Some(peer) => peer.alive,
            None => self.router().is_alive(member, ELSEWHERE_DEAD_US),
        }
    }

    /// The node at this moment.
    pub fn status(&self) -> Status {
        let forming = self.forming();
        let marks = self.marks();
        let view = marks.view();
        let partitions = view.partitions().map(|(id, replicas)| PartitionStatus {
            partition_id: id.0,
            members: replicas
                .iter()
                .map(|m| MemberStatus {
                    node: self.name(*m),
                    member: m.0,
                    alive: self.is_alive(*m, &marks),
                    given_up: marks.views.given_up.contains(m),
                })
                .collect(),
        });
        Status {
            node: self.config().address.to_string(),
            member: Some(self.me().0),
            incarnation: self.incarnation(&marks),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: match self.absence() {
                _ if forming.is_some() => "forming",
                Some(Absence::Joining) => "joining",
                Some(Absence::Left { .. }) => "leaving",
                Some(Absence::GivenUp) => "given up",
                None if marks.recovering.is_none() => "serving",
                None => "recovering",
            }
            .to_owned(),
            reason: forming.or_else(|| marks.recovering.clone()),
            partition_id: marks.partition.map(|p| p.0),
            view: ViewStatus {
                number: view.number,
                k: view.replication_factor(),
                partitions: partitions.collect(),
            },
            keys: marks.gauges.live_keys,
            tombstones: marks.gauges.tombstones,
            lost_writes: marks.gauges.lost,
            unstable: marks.gauges.unstable,
            stalled_reads: marks.gauges.stalled_reads,
            peers: self.peers(&marks),
            offers: Vec::new(),
            storage_bytes: self.disk_bytes().0,
            free_bytes: self.disk_bytes().1,
            uptime_seconds: self.uptime().as_secs(),
            clock_ms: self.clock_ms(),
        }
    }

    fn incarnation(&self, marks: &Marks) -> u64 {
        let own = marks.logs.keys().filter(|log| log.member == self.me());
        own.map(|log| log.incarnation).max().unwrap_or(0)
    }

    fn peers(&self, marks: &Marks) -> Vec<PeerStatus> {
        let applied = |log: &LogId| marks.logs.get(log).map_or(0, |m| m.applied);
        marks
            .peers
            .iter()
            .map(|peer| PeerStatus {
                node: self.name(peer.member),
                member: peer.member.0,
                alive: peer.alive,
                lag: marks
                    .logs
                    .iter()
                    .map(|(log, m)| {
                        m.applied
                            .saturating_sub(peer.applied.get(log).copied().unwrap_or(0))
                    })
                    .sum(),
                behind: peer
                    .applied
                    .iter()
                    .filter(|(log, _)| marks.logs.contains_key(log))
                    .map(|(log, theirs)| theirs.saturating_sub(applied(log)))
                    .sum(),
            })
            .collect()
    }

    /// How the council stands, as this node sees it.
    pub async fn raft_status(&self) -> Option<RaftStatus> {
        let council = self.membership().council()?;
        let status = council.status().await;
        let state = match status.role {
            Role::Learner => "learner",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Stopped => "stopped",
        };
        let others = status
            .voters
            .union(&status.learners)
            .filter(|m| **m != self.me());
        let peers = others.map(|member| {
            let matched = status.matched.get(member).copied().flatten();
            RaftPeer {
                node: self.name(*member),
                votes: status.voters.contains(member),
                alive: self.membership().peers().is_up(*member),
                match_index: matched,
                next_index: matched.map(|index| index + 1),
            }
        });
        Some(RaftStatus {
            node: self.config().address.to_string(),
            state: state.to_owned(),
            leader: status.leader.map(|leader| self.name(leader)),
            term: status.term,
            has_quorum: status.has_quorum,
            full: council.has_room().err().map(|full| full.to_string()),
            log_len: status.log_len,
            last_applied: status.last_applied,
            commit_idx: status.committed,
            peers: peers.collect(),
            keys: council.look(|decided| decided.keys.len()),
            uptime_seconds: self.uptime().as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// Says of each entry of a context what it stands for and who has it.
    pub fn explain(&self, context: &Context) -> Vec<Explained> {
        let marks = self.marks();
        context
            .iter()
            .map(|(log, seq)| self.explain_entry(&marks, log, seq))
            .collect()
    }

    fn explain_entry(&self, marks: &Marks, log: LogId, seq: u64) -> Explained {
        let writer = self.name(log.member);
        let mut holders: Vec<String> = marks
            .peers
            .iter()
            .filter(|p| p.applied.get(&log).is_some_and(|a| *a >= seq))
            .map(|p| self.name(p.member))
            .collect();
        let here = marks.logs.get(&log).is_some_and(|m| m.applied >= seq);
        if here {
            holders.insert(0, self.config().address.to_string());
        }
        let first = format!("the first {seq} writes that {writer} took since its start");
        let first = format!("{first} {:x}", ids::start_of(log.incarnation));
        let partition = marks.partition_of(log);
        let (state, text) = if marks.is_finished(log) {
            let text = "that log is closed and was complete at every replica";
            (EntryState::Finished, text.to_owned())
        } else if marks.is_stable(log, seq) {
            let text = "every replica of the partition has them, no read waits for them";
            (EntryState::Stable, text.to_owned())
        } else if here {
            let text = "they are here, but not known to be at every replica";
            (EntryState::Here, text.to_owned())
        } else if marks.is_tracked(log) {
            let have = marks.logs.get(&log).map_or(0, |m| m.applied);
            let text = format!(
                "here are only the first {have}: a read of this partition has to wait or go to {}",
                if holders.is_empty() {
                    writer.clone()
                } else {
                    holders.join(" or ")
                }
            );
            (EntryState::Missing, text)
        } else {
            let text = "they belong to another partition: ask one of its nodes who has them";
            (EntryState::Elsewhere, text.to_owned())
        };
        Explained {
            node: writer,
            member: log.member.0,
            incarnation: log.incarnation,
            seq,
            partition_id: partition.map(|p| p.0),
            state,
            holders,
            text: format!("{first}: {text}"),
        }
    }
}

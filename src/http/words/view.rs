//! How the views stand and what a change would do, as `/view` says it: the data, and the sentences
//! in it.

use super::status::is_alive;
use super::{in_words, name, names, strategy};
use crate::api::status::MemberStatus;
use crate::api::view::{
    ChangeData, ChangeState, ClosingCohort, CouncilState, Ending, Gaining, LastChange, Move, Phase,
    PlacedPartition, Placement, Plan, PlannedGain, PlannedPartition, ViewState,
};
use crate::node::{Gain, Member, Moved, Planned, Progress, UnheldSlots};
use crate::protocol::changes::{End, FinishedChange, RunningChange, ViewChanges};
use crate::protocol::ids::MemberId;
use crate::protocol::placement::Change;
use crate::protocol::slots::SlotSet;
use crate::protocol::view::{PartitionId, View};
use crate::protocol::views::Cohort;
use crate::raft::{GroupStatus, RaftRole};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// How views stand, as this node knows it.
pub async fn view_state(member: &Member) -> ViewState {
    let membership = member.membership();
    let changes = membership.agreed();
    let status = match membership.raft() {
        Some(raft) => Some(raft.status().await),
        None => None,
    };
    let gaining = changes.gaining();
    let progress = membership.ask_progress(changes.members().into_keys()).await;
    let offers = membership.offers_seen(&progress);
    let words = Words {
        member,
        changes: &changes,
        unheld: membership.unheld_as_known(&changes),
        progress,
    };
    let views = changes.views();
    let closing: Vec<_> = views.closing.iter().map(|c| words.closing(c)).collect();
    ViewState {
        node: member.config().address.to_string(),
        view: placement(member, &changes),
        change: words.change(&gaining, &closing, status.as_ref()),
        closing,
        behind: names(member, changes.behind()),
        leaving: views.leaving.values().map(SocketAddr::to_string).collect(),
        last: changes.last().map(|last| last_change(member, last)),
        without_live_holder: words.unheld.into_iter().map(Into::into).collect(),
        offers: offers.into_iter().map(Into::into).collect(),
        council: council_state(member, status.as_ref()),
    }
}

/// The effect of a change, in words.
pub fn plan(member: &Member, planned: Planned) -> Plan {
    let data = change_data(member, planned.change, planned.node);
    let next = &planned.next;
    let leaving = planned
        .node
        .filter(|_| matches!(planned.change, Change::Remove(_)));
    let one = |moved: &Moved| Move {
        from: moved.from.0,
        to: moved.to.0,
        slots: moved.slots,
        keys: moved.keys,
    };
    let gain = |gain: &Gain| PlannedGain {
        node: gain.node.to_string(),
        partition_id: gain.partition.0,
        slots: gain.slots,
        keys: gain.keys,
    };
    let busy = planned.busy;
    Plan {
        text: data.to_string(),
        change: data,
        from_view: planned.from_view,
        view: next.number,
        k: next.replication_factor(),
        partitions: partitions(next),
        moves: planned.moves.iter().map(one).collect(),
        gaining: planned.gaining.iter().map(gain).collect(),
        leaving: leaving.as_ref().map(SocketAddr::to_string),
        data_loss: planned.data_loss.into_iter().map(Into::into).collect(),
        busy: busy.map(|(change, node)| change_data(member, change, node).to_string()),
    }
}

fn partitions(view: &View) -> Vec<PlannedPartition> {
    let partition = |(id, replicas): (PartitionId, &[MemberId])| PlannedPartition {
        partition_id: id.0,
        slots: view.slots_of(id).len(),
        members: replicas
            .iter()
            .filter_map(|m| view.address(*m))
            .map(|address| address.to_string())
            .collect(),
    };
    view.partitions().map(partition).collect()
}

fn placement(member: &Member, changes: &ViewChanges) -> Placement {
    let view = &changes.views().view;
    let marks = member.marks();
    let one = |m: &MemberId| MemberStatus {
        node: name(member, *m),
        member: m.0,
        alive: is_alive(member, *m, &marks),
        given_up: changes.views().given_up.contains(m),
    };
    let partitions = view.partitions().map(|(id, replicas)| PlacedPartition {
        partition_id: id.0,
        slots: view.slots_of(id).len(),
        members: replicas.iter().map(one).collect(),
    });
    Placement {
        number: view.number,
        k: view.replication_factor(),
        strategy: strategy(view),
        partitions: partitions.collect(),
    }
}

/// A change as data; `node` is the node that comes or goes.
pub fn change_data(member: &Member, change: Change, node: Option<SocketAddr>) -> ChangeData {
    let address = |m| node.map_or_else(|| name(member, m), |node| node.to_string());
    match change {
        Change::Add(address) => ChangeData::Add {
            node: address.to_string(),
        },
        Change::Remove(m) => ChangeData::Remove { node: address(m) },
        Change::SetK(k) => ChangeData::SetK { k },
    }
}

fn last_change(member: &Member, last: &FinishedChange) -> LastChange {
    let change = change_data(member, last.change, last.node);
    LastChange {
        text: change.to_string(),
        change,
        view: last.number,
        end: match last.end {
            End::Cancelled => Ending::Cancelled,
            End::InForce => Ending::InForce,
            End::Done => Ending::Done,
        },
        given_up: last.given_up,
        without: names(member, &last.without),
    }
}

fn council_state(member: &Member, status: Option<&GroupStatus>) -> CouncilState {
    let role = match status.map(|s| s.role) {
        Some(RaftRole::Leader) => "leader",
        Some(RaftRole::Follower) => "follower",
        Some(RaftRole::Candidate) => "candidate",
        Some(RaftRole::Learner) => "learner",
        Some(RaftRole::Stopped) | None => "stopped",
    };
    CouncilState {
        role: role.to_owned(),
        leader: status.and_then(|s| s.leader).map(|m| name(member, m)),
        term: status.map_or(0, |s| s.term),
        has_quorum: status.is_some_and(|s| s.has_quorum),
        voters: status.map_or_else(Vec::new, |s| names(member, &s.voters)),
        may_vote: status.is_some_and(|s| s.may_vote),
        last_log: status.and_then(|s| s.last_log),
    }
}

/// Says how a change is doing.
struct Words<'a> {
    member: &'a Member,
    changes: &'a ViewChanges,
    unheld: Vec<UnheldSlots>,
    /// The progress of the members that have told it.
    progress: BTreeMap<MemberId, Progress>,
}

impl Words<'_> {
    /// The change that is under way, if any.
    fn change(
        &self,
        gaining: &BTreeMap<MemberId, SlotSet>,
        closing: &[ClosingCohort],
        status: Option<&GroupStatus>,
    ) -> Option<ChangeState> {
        let Some(running) = self.changes.running() else {
            let last = self.changes.last().filter(|last| last.end == End::InForce);
            return last.map(|last| self.closing_change(last, closing));
        };
        let gains = gaining.iter().map(|(m, slots)| self.gaining(*m, slots));
        let gaining: Vec<Gaining> = gains.collect();
        let change = change_data(self.member, running.change, running.node);
        Some(ChangeState {
            text: change.to_string(),
            change,
            view: running.number,
            phase: Phase::MovingData,
            given_up: running.given_up,
            slots: gaining.iter().map(|g| g.slots).sum(),
            slots_here: gaining.iter().filter_map(|g| g.slots_here).sum(),
            keys: gaining.iter().filter_map(|g| g.keys).sum(),
            bytes: gaining.iter().filter_map(|g| g.bytes).sum(),
            waits_for: self.waits(running, status),
            gaining,
        })
    }

    /// A change whose view is in force.
    fn closing_change(&self, last: &FinishedChange, closing: &[ClosingCohort]) -> ChangeState {
        let change = change_data(self.member, last.change, last.node);
        ChangeState {
            text: change.to_string(),
            change,
            view: last.number,
            phase: Phase::Closing,
            given_up: last.given_up,
            slots: 0,
            slots_here: 0,
            keys: 0,
            bytes: 0,
            gaining: Vec::new(),
            waits_for: closing.iter().map(|c| c.waits_for.clone()).collect(),
        }
    }

    fn gaining(&self, member: MemberId, slots: &SlotSet) -> Gaining {
        let ready = self.is_ready(member);
        let next = self.changes.views().next.as_ref();
        let progress = self.progress.get(&member).filter(|p| self.is_up_to_date(p));
        let gained = slots.len();
        let here = progress.map(|p| gained.saturating_sub(p.missing));
        Gaining {
            node: name(self.member, member),
            member: member.0,
            partition_id: next.and_then(|v| v.partition_of(member)).map(|p| p.0),
            slots: gained,
            slots_here: if ready { Some(gained) } else { here },
            keys: progress.map(|p| p.keys),
            bytes: progress.map(|p| p.bytes),
            ready,
            state: self.state(member),
        }
    }

    fn is_ready(&self, member: MemberId) -> bool {
        let running = self.changes.running();
        running.is_some_and(|r| r.ready.contains(&member))
    }

    fn is_up_to_date(&self, progress: &Progress) -> bool {
        progress.version >= self.changes.views().version
    }

    /// The nodes that the running change waits for, with the reason.
    fn waits(&self, running: &RunningChange, status: Option<&GroupStatus>) -> Vec<String> {
        let mut waits = Vec::new();
        if !status.is_some_and(|s| s.has_quorum) {
            waits.push("the council has no quorum: nothing can be decided".to_owned());
        }
        let awaited = self.changes.awaited(&BTreeSet::new());
        let names = awaited.iter().filter(|m| !running.ready.contains(m));
        waits.extend(names.map(|m| format!("{} {}", name(self.member, *m), self.state(*m))));
        waits.extend(self.waits_for_agreement(running));
        waits.extend(self.waits_for_dead(running));
        if waits.is_empty() {
            waits.push("the council is about to put the view in force".to_owned());
        }
        waits
    }

    /// A dead node that is not given up, because that may lose data.
    fn waits_for_agreement(&self, running: &RunningChange) -> Option<String> {
        let Change::Remove(member) = running.change else {
            return None;
        };
        let dead = !running.given_up && !running.lose_data && self.silence(member).is_some();
        let partition = self.changes.views().view.partition_of(member)?;
        let unheld = self.unheld.iter().filter(|u| u.partition == partition);
        let unheld: Vec<UnheldSlots> = unheld.filter(|_| dead).cloned().collect();
        (!unheld.is_empty()).then(|| {
            format!(
                "no live node holds {}: bring it back, cancel the change, or ask for the removal again with \
                 allow_data_loss=true (view remove --lose-data)",
                in_words(unheld)
            )
        })
    }

    /// Partitions that the change takes slots from or gives slots to, and that have died since it
    /// began.
    fn waits_for_dead(&self, running: &RunningChange) -> Option<String> {
        let views = self.changes.views();
        let next = views.next.as_ref()?;
        let removed = match running.change {
            Change::Remove(member) => views.view.partition_of(member),
            Change::Add(_) | Change::SetK(_) => None,
        };
        let died = |u: &&UnheldSlots| {
            let partition = u.partition;
            let mut left = views.view.replicas(partition).iter();
            let left = left.any(|m| !views.given_up.contains(m));
            let mut replicas = views.view.replicas(partition).iter();
            let silent = replicas.all(|m| self.silence(*m).is_some());
            let changes = next.since(partition) != views.view.since(partition);
            silent && left && changes && removed != Some(partition)
        };
        let died: Vec<UnheldSlots> = self.unheld.iter().filter(died).cloned().collect();
        (!died.is_empty()).then(|| {
            format!(
                "no live node holds {}: bring it back, or cancel the change and remove these nodes first, with \
                 allow_data_loss=true (view remove --lose-data)",
                in_words(died)
            )
        })
    }

    /// How a member is doing, to go on a sentence that begins with its name.
    fn state(&self, member: MemberId) -> String {
        if self.is_ready(member) {
            return "has all that it is to hold".to_owned();
        }
        if let Some(silence) = self.silence(member) {
            return silence;
        }
        let Some(progress) = self.progress.get(&member) else {
            return "did not say how far it is".to_owned();
        };
        if !self.is_up_to_date(progress) {
            return "does not know of the change yet".to_owned();
        }
        let Progress { missing, keys, .. } = *progress;
        match progress.from {
            Some(from) if missing > 0 => {
                let from = name(self.member, from);
                format!("copies slots from {from}, {keys} keys so far, {missing} slots to come")
            }
            _ if missing > 0 => {
                format!("looks for a node to copy {missing} slots from")
            }
            _ if progress.lacking > 0 => {
                format!("takes in the last {} writes", progress.lacking)
            }
            _ => "has all that it is to hold, and tells the council".to_owned(),
        }
    }

    /// Since when a member does not answer, if it does not.
    fn silence(&self, member: MemberId) -> Option<String> {
        let me = self.member;
        let peers = me.membership().peers();
        let away = peers.away(member).filter(|_| member != me.me())?;
        Some(format!("does not answer since {} s", away.as_secs()))
    }

    fn closing(&self, cohort: &Cohort) -> ClosingCohort {
        let views = self.changes.views();
        let silent = views.sharing(cohort).into_iter().filter_map(|m| {
            let silence = self.silence(m)?;
            Some(format!("{} {silence}", name(self.member, m)))
        });
        let behind = self.changes.behind().iter().filter(|m| {
            let part = views.part(cohort, **m);
            !part.is_empty() && self.silence(**m).is_none()
        });
        let behind = behind.map(|m| format!("{} {}", name(self.member, *m), self.state(*m)));
        let waits: Vec<String> = silent.chain(behind).collect();
        let id = cohort.id;
        ClosingCohort {
            partition_id: id.partition.0,
            since: id.since,
            until: cohort.until,
            slots: cohort.slots.len(),
            replicas: names(self.member, &cohort.replicas),
            waits_for: if let Some(earlier) = views.predecessors(cohort).next() {
                format!("{id} ends after {}, whose slots it took over", earlier.id)
            } else if let Some(dead) = views.dead_owner(cohort) {
                format!(
                    "{id} has all that is left of slots of partition {}, whose nodes are all given up: remove them, so \
                     that others hold these slots",
                    dead.0
                )
            } else if waits.is_empty() {
                format!("late writes of {id} are on their way to all who hold its slots")
            } else {
                waits.join("; ")
            },
        }
    }
}

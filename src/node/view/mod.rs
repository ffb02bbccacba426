//! What an operator can ask about views: how they stand, and what a change would do.
//!
//! Every member answers from what it knows itself, and asks those that copy data how far they are.

mod plan;
mod status;

pub use status::{
    ChangeData, ChangeState, ClosingCohort, CouncilState, Ending, Gaining, LastChange, Move, Phase,
    PlacedPartition, Placement, Plan, PlannedGain, PlannedPartition, Strategy, ViewState,
};

use crate::council::{Role, Status};
use crate::node::member::Member;
use crate::node::membership::holders::{Unheld, in_words};
use crate::node::status::MemberStatus;
use crate::node::wire::messages::{OfferState, Progress};
use crate::protocol::council::{Council, End, Finished, Running};
use crate::protocol::ids::MemberId;
use crate::protocol::placement::Change;
use crate::protocol::slots::SlotSet;
use crate::protocol::view::PartitionId;
use crate::protocol::views::Cohort;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Numbers about views, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewGauges {
    /// The number of the view in force.
    pub number: u64,
    /// A change is under way.
    pub changing: bool,
    /// Slots that this node is to hold and does not have yet.
    pub slots_to_come: usize,
    /// Members that are leaving.
    pub leaving: usize,
    /// The last change, or the running one, did not wait for the node that it removed.
    pub given_up: bool,
    /// Slots that no live node holds the data of, as far as this node knows, and their keys where
    /// some node remembers how many there were.
    pub unheld_slots: usize,
    pub unheld_keys: u64,
}

impl Member {
    /// How views stand, as this node knows it.
    pub async fn view_state(&self) -> ViewState {
        let council = self.membership().agreed();
        let status = match self.membership().council() {
            Some(council) => Some(council.status().await),
            None => None,
        };
        let gaining = council.gaining();
        let progress = self
            .membership()
            .ask_progress(council.members().into_keys())
            .await;
        let offers = self.offers_seen(&progress);
        let words = Words {
            member: self,
            council: &council,
            unheld: self.membership().unheld_as_known(&council),
            progress,
        };
        let views = council.views();
        let closing: Vec<_> = views.closing.iter().map(|c| words.closing(c)).collect();
        ViewState {
            node: self.config().address.to_string(),
            view: self.placement(&council),
            change: words.change(&gaining, &closing, status.as_ref()),
            closing,
            behind: self.membership().knowledge().names(council.behind()),
            leaving: views.leaving.values().map(SocketAddr::to_string).collect(),
            last: council.last().map(|last| self.last(last)),
            without_live_holder: words.unheld,
            offers,
            council: self.council_state(status.as_ref()),
        }
    }

    /// The same in numbers, for metrics.
    pub fn view_gauges(&self) -> ViewGauges {
        let council = self.membership().agreed();
        let (running, last) = (council.running(), council.last());
        let given_up = match running {
            Some(running) => running.given_up,
            None => last.is_some_and(|last| last.given_up),
        };
        let unheld = self.membership().unheld_as_known(&council);
        ViewGauges {
            number: self.views().view.number,
            changing: running.is_some() || last.is_some_and(|last| last.end == End::InForce),
            slots_to_come: self.membership().slots_to_come(),
            leaving: council.views().leaving.len(),
            given_up,
            unheld_slots: unheld.iter().map(|u| u.slots).sum(),
            unheld_keys: unheld.iter().filter_map(|u| u.keys).sum(),
        }
    }

    /// The offers that are not over of what nodes had that were given up, as those say that make or
    /// take them.
    fn offers_seen(&self, progress: &BTreeMap<MemberId, Progress>) -> Vec<OfferState> {
        let mut seen: BTreeMap<(String, String), OfferState> = BTreeMap::new();
        let told = progress.values().flat_map(|p| p.offers.iter().cloned());
        for offer in told {
            let known = seen.entry((offer.node.clone(), offer.directory.clone()));
            let known = known.or_insert_with(|| offer.clone());
            // Of two who tell of one, the one that heard of it last is right.
            if offer.left() < known.left() {
                *known = offer;
            }
        }
        seen.into_values().collect()
    }

    fn placement(&self, council: &Council) -> Placement {
        let view = &council.views().view;
        let marks = self.marks();
        let member = |m: &MemberId| MemberStatus {
            node: self.name(*m),
            member: m.0,
            alive: self.is_alive(*m, &marks),
            given_up: council.views().given_up.contains(m),
        };
        let partitions = view.partitions().map(|(id, replicas)| PlacedPartition {
            partition_id: id.0,
            slots: view.slots_of(id).len(),
            members: replicas.iter().map(member).collect(),
        });
        Placement {
            number: view.number,
            k: view.replication_factor(),
            strategy: Strategy::of(view),
            partitions: partitions.collect(),
        }
    }

    fn change_data(&self, change: Change, node: Option<SocketAddr>) -> ChangeData {
        let address = |member| node.map_or_else(|| self.name(member), |node| node.to_string());
        match change {
            Change::Add(address) => ChangeData::Add {
                node: address.to_string(),
            },
            Change::Remove(member) => ChangeData::Remove {
                node: address(member),
            },
            Change::SetK(k) => ChangeData::SetK { k },
        }
    }

    fn last(&self, last: &Finished) -> LastChange {
        let change = self.change_data(last.change, last.node);
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
            without: self.membership().knowledge().names(&last.without),
        }
    }

    fn council_state(&self, status: Option<&Status>) -> CouncilState {
        let role = match status.map(|s| s.role) {
            Some(Role::Leader) => "leader",
            Some(Role::Follower) => "follower",
            Some(Role::Candidate) => "candidate",
            Some(Role::Learner) => "learner",
            Some(Role::Stopped) | None => "stopped",
        };
        CouncilState {
            role: role.to_owned(),
            leader: status.and_then(|s| s.leader).map(|m| self.name(m)),
            term: status.map_or(0, |s| s.term),
            has_quorum: status.is_some_and(|s| s.has_quorum),
            voters: status
                .map_or_else(Vec::new, |s| self.membership().knowledge().names(&s.voters)),
            may_vote: status.is_some_and(|s| s.may_vote),
            last_log: status.and_then(|s| s.last_log),
        }
    }
}

/// Says how a change is doing.
struct Words<'a> {
    member: &'a Member,
    council: &'a Council,
    unheld: Vec<Unheld>,
    /// Of those members that said it.
    progress: BTreeMap<MemberId, Progress>,
}

impl Words<'_> {
    /// The change that is under way, if any.
    fn change(
        &self,
        gaining: &BTreeMap<MemberId, SlotSet>,
        closing: &[ClosingCohort],
        status: Option<&Status>,
    ) -> Option<ChangeState> {
        let Some(running) = self.council.running() else {
            let last = self.council.last().filter(|last| last.end == End::InForce);
            return last.map(|last| self.closing_change(last, closing));
        };
        let gains = gaining.iter().map(|(m, slots)| self.gaining(*m, slots));
        let gaining: Vec<Gaining> = gains.collect();
        let change = self.member.change_data(running.change, running.node);
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
    fn closing_change(&self, last: &Finished, closing: &[ClosingCohort]) -> ChangeState {
        let change = self.member.change_data(last.change, last.node);
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
        let next = self.council.views().next.as_ref();
        let progress = self.progress.get(&member).filter(|p| self.is_up_to_date(p));
        let gained = slots.len();
        let here = progress.map(|p| gained.saturating_sub(p.missing));
        Gaining {
            node: self.member.name(member),
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
        let running = self.council.running();
        running.is_some_and(|r| r.ready.contains(&member))
    }

    fn is_up_to_date(&self, progress: &Progress) -> bool {
        progress.version >= self.council.views().version
    }

    /// What the running change waits for.
    fn waits(&self, running: &Running, status: Option<&Status>) -> Vec<String> {
        let mut waits = Vec::new();
        if !status.is_some_and(|s| s.has_quorum) {
            waits.push("the council has no quorum: nothing can be decided".to_owned());
        }
        let awaited = self.council.awaited(&BTreeSet::new());
        let names = awaited.iter().filter(|m| !running.ready.contains(m));
        waits.extend(names.map(|m| format!("{} {}", self.member.name(*m), self.state(*m))));
        waits.extend(self.waits_for_agreement(running));
        waits.extend(self.waits_for_dead(running));
        if waits.is_empty() {
            waits.push("the council is about to put the view in force".to_owned());
        }
        waits
    }

    /// A dead node that is not given up, because that may lose data.
    fn waits_for_agreement(&self, running: &Running) -> Option<String> {
        let Change::Remove(member) = running.change else {
            return None;
        };
        let dead = !running.given_up && !running.lose_data && self.silence(member).is_some();
        let partition = self.council.views().view.partition_of(member)?;
        let unheld = self.unheld.iter().filter(|u| u.partition_id == partition.0);
        let unheld: Vec<Unheld> = unheld.filter(|_| dead).cloned().collect();
        (!unheld.is_empty()).then(|| {
            format!(
                "no live node holds {}: bring it back, cancel the change, or ask for the removal again with \
                 allow_data_loss=true (view remove --lose-data)",
                in_words(&unheld)
            )
        })
    }

    /// Partitions that the change takes slots from or gives slots to, and that have died since it began.
    fn waits_for_dead(&self, running: &Running) -> Option<String> {
        let views = self.council.views();
        let next = views.next.as_ref()?;
        let removed = match running.change {
            Change::Remove(member) => views.view.partition_of(member),
            Change::Add(_) | Change::SetK(_) => None,
        };
        let died = |u: &&Unheld| {
            let partition = PartitionId(u.partition_id);
            let mut left = views.view.replicas(partition).iter();
            let left = left.any(|m| !views.given_up.contains(m));
            let mut replicas = views.view.replicas(partition).iter();
            let silent = replicas.all(|m| self.silence(*m).is_some());
            let changes = next.since(partition) != views.view.since(partition);
            silent && left && changes && removed != Some(partition)
        };
        let died: Vec<Unheld> = self.unheld.iter().filter(died).cloned().collect();
        (!died.is_empty()).then(|| {
            format!(
                "no live node holds {}: bring it back, or cancel the change and remove these nodes first, with \
                 allow_data_loss=true (view remove --lose-data)",
                in_words(&died)
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
                let from = self.member.name(from);
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
        let away = me
            .membership()
            .peers()
            .away(member)
            .filter(|_| member != me.me())?;
        Some(format!("does not answer since {} s", away.as_secs()))
    }

    fn closing(&self, cohort: &Cohort) -> ClosingCohort {
        let views = self.council.views();
        let silent = views.sharing(cohort).into_iter().filter_map(|m| {
            let silence = self.silence(m)?;
            Some(format!("{} {silence}", self.member.name(m)))
        });
        let behind = self.council.behind().iter().filter(|m| {
            let part = views.part(cohort, **m);
            !part.is_empty() && self.silence(**m).is_none()
        });
        let behind = behind.map(|m| format!("{} {}", self.member.name(*m), self.state(*m)));
        let waits: Vec<String> = silent.chain(behind).collect();
        let id = cohort.id;
        ClosingCohort {
            partition_id: id.partition.0,
            since: id.since,
            until: cohort.until,
            slots: cohort.slots.len(),
            replicas: self.member.membership().knowledge().names(&cohort.replicas),
            waits_for: if let Some(earlier) = views.predecessor(cohort) {
                format!("{id} ends after {earlier}, whose slots it took over")
            } else if waits.is_empty() {
                format!("late writes of {id} are on their way to all who hold its slots")
            } else {
                waits.join("; ")
            },
        }
    }
}

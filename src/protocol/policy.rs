//! When the Raft leader waits no longer: what it has decided about a change that runs, and about
//! members that are leaving.
//!
//! Pure: a situation in, commands out. Nothing is remembered between two looks, so a command is
//! proposed again until the Raft group's state shows it. The leader describes the situation: a node
//! by its connections, the simulator by which nodes are cut off, frozen or down.

use super::changes::{RunningChange, ViewChanges, ViewCommand};
use super::ids::MemberId;
use super::placement::Change;
use std::collections::{BTreeMap, BTreeSet};

/// How long members may be away, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A member that has been away for longer is not waited for where that can be helped.
    pub dead_us: u64,
    /// A member that is leaving and has been away for longer is given up: what only it had is lost.
    pub leaving_us: u64,
    /// A node that is to come and has not been there for longer does not come: the change is
    /// cancelled.
    pub coming_us: u64,
}

impl Default for Patience {
    /// The patience of nodes. An operator waits 10 s for an answer: by then it is known that a node
    /// does not come.
    fn default() -> Self {
        Self {
            dead_us: 3_000_000,
            leaving_us: 5_000_000,
            coming_us: 6_000_000,
        }
    }
}

/// The leader's knowledge.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// The decided state.
    pub changes: &'a ViewChanges,
    /// Members that the leader does not hear, and for how long, in microseconds.
    pub away: BTreeMap<MemberId, u64>,
    /// For how long it has led with a majority behind it, in microseconds. Before that it may have
    /// been the one that was cut off: nobody counts as away for longer.
    pub led_us: u64,
    /// Members of the Raft group with a vote.
    pub voters: BTreeSet<MemberId>,
    /// Members that other nodes hear: it may be no more than the leader's own way to them. Asked
    /// for those that are [doubted](Self::doubted).
    pub heard: BTreeSet<MemberId>,
    /// The dead member that is being removed, when slots of it have no other live holder. Asked for
    /// the one that is [not to be lost](Self::not_to_be_lost).
    pub only_holder: Option<MemberId>,
    /// How long members may be away.
    pub patience: Patience,
}

impl Situation<'_> {
    /// Members that may be about to be given up: of these it matters whether anybody else hears
    /// them.
    #[must_use]
    pub fn doubted(&self) -> BTreeSet<MemberId> {
        let running = self.changes.running();
        let removed = running.filter(|r| !r.given_up).and_then(leaving_with);
        let leaving = self.changes.views().leaving.keys().copied();
        let dead = |m: &MemberId| self.is_away(*m, self.patience.dead_us);
        removed.into_iter().chain(leaving).filter(dead).collect()
    }

    /// The dead member that is being removed, unless its data may be lost: of this one it matters
    /// whether any other live member holds the data.
    #[must_use]
    pub fn not_to_be_lost(&self) -> Option<MemberId> {
        let running = self.changes.running();
        let running = running.filter(|r| !r.given_up && !r.lose_data);
        let removed = running.and_then(leaving_with);
        removed.filter(|m| self.is_away(*m, self.patience.dead_us))
    }

    /// The commands to propose now, in this order.
    #[must_use]
    pub fn due(&self) -> Vec<ViewCommand> {
        let of_change = self.changes.running().and_then(|r| self.due_of(r));
        let leaving = self.changes.views().leaving.keys().copied();
        let lost = leaving.filter(|m| self.is_away(*m, self.patience.leaving_us));
        let lost = lost.map(|member| ViewCommand::GiveUp { member });
        of_change.into_iter().chain(lost).collect()
    }

    /// The command to propose about the running change.
    fn due_of(&self, running: &RunningChange) -> Option<ViewCommand> {
        let number = running.number;
        let coming = match running.change {
            Change::Add(address) => self.changes.member_at(address),
            Change::Remove(_) | Change::SetK(_) => None,
        };
        let absent = |m: &MemberId| self.is_away(*m, self.patience.coming_us);
        if coming.is_some_and(|m| !running.ready.contains(&m) && absent(&m)) {
            return Some(ViewCommand::Cancel { number });
        }
        let nobody = BTreeSet::new();
        let complete = self.changes.awaited(&nobody).is_empty();
        if let Some(member) = leaving_with(running) {
            if !running.given_up && self.is_away(member, 0) {
                // The removed member is away. Once it counts as dead it is given up, unless no
                // other live member holds its data: that is lost only with the operator's consent.
                let dead = self.is_away(member, self.patience.dead_us);
                let waits = self.only_holder == Some(member) && !running.lose_data;
                return (dead && !waits).then_some(ViewCommand::GiveUp { member });
            }
            if self.voters.contains(&member) {
                // The removed member still votes: the Raft group has to replace its vote first.
                return None;
            }
        }
        if complete {
            return Some(ViewCommand::Enact {
                number,
                without: nobody,
            });
        }
        // Dead members are not waited for, but the one being added: it was never there.
        let dead = |m: &MemberId| self.is_away(*m, self.patience.dead_us);
        let gaining = self.changes.gaining().into_keys();
        let without: BTreeSet<MemberId> =
            gaining.filter(|m| Some(*m) != coming && dead(m)).collect();
        let passes = self.changes.awaited(&without).is_empty();
        passes.then_some(ViewCommand::Enact { number, without })
    }

    /// Whether a member has not been heard, by anybody, for longer than this.
    fn is_away(&self, member: MemberId, than_us: u64) -> bool {
        let away = self.away.get(&member).map(|us| (*us).min(self.led_us));
        away.is_some_and(|us| us > than_us) && !self.heard.contains(&member)
    }
}

/// The member that a change removes.
#[must_use]
pub fn leaving_with(running: &RunningChange) -> Option<MemberId> {
    match running.change {
        Change::Remove(member) => Some(member),
        Change::Add(_) | Change::SetK(_) => None,
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

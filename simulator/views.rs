//! Views that change: what the operator asks for, how the nodes hear of it, and how a process goes
//! on in another view.
//!
//! The Raft group itself is taken for granted here: one state, which a node learns of when it can
//! reach a majority.

use super::oracle::Oracle;
use super::world::{Failed, What, World};
use causeway::protocol::changes::{ViewChanges, ViewCommand, ViewOutcome};
use causeway::protocol::ids::MemberId;
use causeway::protocol::placement::Change;
use causeway::protocol::policy::{Patience, Situation};
use causeway::protocol::version::Key;
use causeway::protocol::view::View;
use causeway::protocol::views::Views;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Time between looks at the running change, in microseconds.
const STEER_US: u64 = 80_000;
/// How long members may be away: less than in life, so that nodes are often given up that come
/// back.
const PATIENCE: Patience = Patience {
    dead_us: 700_000,
    leaving_us: 1_500_000,
    coming_us: 3_000_000,
};
/// A change that takes this long is cancelled, while there are faults, in microseconds.
const CANCEL_US: u64 = 6_000_000;

/// The Raft group, and everything that it ever decided.
pub struct Decisions {
    pub changes: ViewChanges,
    /// By version.
    decided: Vec<Arc<Views>>,
    since_us: u64,
    asked: u8,
    /// The Raft leader, and since when.
    leader: Option<(usize, u64)>,
    /// Since when the leader does not hear members.
    away_since: BTreeMap<MemberId, u64>,
}

impl Decisions {
    pub fn new(view: View) -> Self {
        let changes = ViewChanges::first(view);
        Self {
            decided: vec![Arc::new(changes.views().clone())],
            changes,
            since_us: 0,
            asked: 0,
            leader: None,
            away_since: BTreeMap::new(),
        }
    }

    pub fn latest(&self) -> Arc<Views> {
        Arc::clone(&self.decided[self.decided.len() - 1])
    }

    /// Whether a view that was to come next was dropped: that view is not to come any more, and was
    /// never in force.
    pub fn is_dropped(&self, number: u64) -> bool {
        let came = |views: &Arc<Views>| views.view.number == number;
        let comes = self.latest().next.as_ref().map(|v| v.number);
        comes != Some(number) && !self.decided.iter().any(came)
    }

    /// Whether nothing has been decided yet: all know the views that they start with.
    pub fn is_first(&self) -> bool {
        self.decided.len() == 1
    }
}

pub fn address(i: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (i / 250) as u8, (i % 250) as u8 + 1], 8080))
}

impl World {
    /// The view in force.
    pub fn view(&self) -> &View {
        &self.decisions.changes.views().view
    }

    /// The nodes of the view in force.
    pub fn members(&self) -> Vec<usize> {
        let members = self.view().members();
        members.map(|(m, _)| usize::from(m.0)).collect()
    }

    /// Whether a node has the Raft group's word: the node can talk to a majority.
    fn hears_raft(&self, node: usize) -> bool {
        let members = self.decisions.changes.members();
        let reached = members.keys().filter(|m| {
            let other = usize::from(m.0);
            let up = self.nodes[other].process.is_some();
            let cut =
                self.net.is_cut(node, other, self.now) || self.net.is_cut(other, node, self.now);
            other == node || (up && !cut)
        });
        reached.count() * 2 > members.len()
    }

    /// The operator asks for a change.
    pub fn ask_for(&mut self, change: Asked) -> Result<(), Failed> {
        let members: Vec<MemberId> = self.view().members().map(|(m, _)| m).collect();
        let (change, give_up) = match change {
            Asked::Add => {
                let Some(spare) = self.nodes.iter().position(|n| !n.begun) else {
                    return Ok(());
                };
                (Change::Add(address(spare)), false)
            }
            Asked::Remove { node } => {
                let member = members[node % members.len()];
                let it = &self.nodes[usize::from(member.0)];
                let down = it.process.is_none() && !it.comparing;
                (Change::Remove(member), down && node % 4 != 0)
            }
            Asked::SetK { k } => (Change::SetK(k), false),
            Asked::GiveUp { node, down_us } => {
                let member = members[node % members.len()];
                return self.give_partition_up(member, down_us);
            }
        };
        let outcome = self.decide(ViewCommand::Change {
            change,
            give_up,
            lose_data: true,
        })?;
        match outcome {
            ViewOutcome::Started { .. } => {
                self.decisions.since_us = self.now;
                self.decisions.asked = 0;
                if let (Change::Remove(member), true) = (change, give_up) {
                    self.give_up(member)?;
                }
            }
            ViewOutcome::Refused(causeway::protocol::changes::ViewRefusal::Busy { .. })
                if self.decisions.asked < 20 && !self.healed =>
            {
                self.decisions.asked += 1;
                self.after(200_000, What::Ask(change_of(&change)));
            }
            _ => {}
        }
        Ok(())
    }

    /// Nobody waits for a node any more, be it dead, frozen or cut off: writes that only this node
    /// has are gone for the others, and so are those that it takes before it hears of that. The
    /// node goes on until it hears.
    fn give_up(&mut self, member: MemberId) -> Result<(), Failed> {
        let node = usize::from(member.0);
        self.oracle.given_up.insert(member);
        self.nodes[node].lost = false;
        for write in 0..self.oracle.writes.len() {
            if self.has_now(node, write) {
                self.note_gone(write)?;
            }
        }
        Ok(())
    }

    /// All nodes of a member's partition die, and the operator says that they do not come back. The
    /// nodes come back all the same.
    fn give_partition_up(&mut self, member: MemberId, down_us: u64) -> Result<(), Failed> {
        let view = self.view();
        let replicas = view.partition_of(member).map(|p| view.replicas(p));
        let members: BTreeSet<MemberId> = replicas.unwrap_or_default().iter().copied().collect();
        for member in &members {
            self.crash(usize::from(member.0), down_us)?;
        }
        let down = |m: &MemberId| {
            let it = &self.nodes[usize::from(m.0)];
            it.process.is_none() && !it.comparing
        };
        if !members.iter().all(down) {
            return Ok(());
        }
        let said = ViewCommand::Dead {
            members: members.clone(),
        };
        if self.decide(said)? == ViewOutcome::Changed {
            self.oracle.given_up.extend(&members);
            // The data of the partition's slots is lost, unless a cohort that held them before is
            // still open. So is the knowledge which deletes have been forgotten there.
            let view = self.decisions.changes.views().view.clone();
            let dead = |key: &Key| {
                let holders = view.replicas(view.partition_of_key(key));
                holders.iter().all(|m| members.contains(m))
            };
            for write in 0..self.oracle.writes.len() {
                if dead(&self.oracle.writes[write].key) {
                    self.note_gone(write)?;
                }
            }
            let Oracle {
                collected, unknown, ..
            } = &mut self.oracle;
            let deletes = collected.iter().filter(|(key, _)| dead(key));
            unknown.extend(deletes.map(|(key, stamp)| (key.clone(), *stamp)));
            for member in members {
                self.give_up(member)?;
            }
        }
        Ok(())
    }

    /// A write that a node has which is given up: it is gone when nobody else keeps it.
    pub fn note_gone(&mut self, write: usize) -> Result<(), Failed> {
        let w = &self.oracle.writes[write];
        if !w.is_lost() && !w.dots.is_empty() && !self.is_kept_anywhere(write)? {
            self.oracle.lose(write);
        }
        Ok(())
    }

    /// Whether a write, or a newer one of its key, is on a node's disk.
    fn has_now(&self, node: usize, write: usize) -> bool {
        let w = &self.oracle.writes[write];
        let version = self.version_at(node, &w.key).ok().flatten();
        self.oracle.has(node, write) || version.is_some_and(|v| v.stamp >= w.stamp)
    }

    /// Lets the Raft group decide.
    pub fn decide(&mut self, command: ViewCommand) -> Result<ViewOutcome, Failed> {
        let said = format!("{command:?}");
        let outcome = self.decisions.changes.apply(command);
        let views = self.decisions.changes.views();
        if views.version != self.decisions.latest().version {
            self.note(|| format!("COUNCIL {said}: {outcome:?}"));
            let views = Arc::new(self.decisions.changes.views().clone());
            self.decisions.decided.push(views);
            self.spread();
        }
        Ok(outcome)
    }

    /// All who are concerned hear of the newest views, some sooner, some later.
    fn spread(&mut self) {
        for node in 0..self.nodes.len() {
            let member = self.nodes[node].member;
            let named = self.decisions.changes.members().contains_key(&member);
            if named || self.nodes[node].begun {
                let most = if self.rng.percent(20) {
                    1_500_000
                } else {
                    60_000
                };
                let delay = self.rng.below(most);
                self.after(delay, What::Learn(node));
            }
        }
    }

    /// A node hears of newer views, if it can.
    pub fn learn_views(&mut self, node: usize) -> Result<(), Failed> {
        if self.nodes[node].out {
            return Ok(());
        }
        let known = self.nodes[node].known.as_ref().map_or(0, |v| v.version);
        let newer: Vec<Arc<Views>> = self
            .decisions
            .decided
            .iter()
            .filter(|v| v.version > known)
            .cloned()
            .collect();
        let Some(latest) = newer.last() else {
            return Ok(());
        };
        if !self.hears_raft(node) {
            self.after(150_000, What::Learn(node));
            return Ok(());
        }
        // Mostly the last word; sometimes one after the other.
        let views = if known > 0 && self.rng.percent(40) {
            let first = Arc::clone(&newer[0]);
            if newer.len() > 1 {
                self.after(20_000, What::Learn(node));
            }
            first
        } else {
            Arc::clone(latest)
        };
        self.nodes[node].known = Some(Arc::clone(&views));
        let begins =
            !self.nodes[node].begun && views.members().contains_key(&self.nodes[node].member);
        if begins {
            self.nodes[node].begun = true;
            return self.start_node(node);
        }
        self.take_over(node, views)
    }

    /// A running process takes newer views over.
    fn take_over(&mut self, node: usize, views: Arc<Views>) -> Result<(), Failed> {
        let member = self.nodes[node].member;
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        if !views.members().contains_key(&member) {
            self.note(|| format!("m{node} is out"));
            self.stop_node(node, usize::MAX)?;
            self.nodes[node].out = true;
            return self.begin_offer(node);
        }
        process.driver.learn(views);
        match process.driver.is_closing() {
            true => self.go_over(node),
            false => Ok(()),
        }
    }

    /// Something for the Raft group, if it gets there.
    pub fn propose(&mut self, node: usize, command: ViewCommand) -> Result<(), Failed> {
        if self.rng.percent(80) && self.hears_raft(node) {
            self.decide(command)?;
        }
        Ok(())
    }

    /// Looks after the running change, as the Raft leader does and as an operator may.
    pub fn steer(&mut self) -> Result<(), Failed> {
        self.after(STEER_US, What::Steer);
        self.operate()?;
        let Some((leader, since)) = self.leader() else {
            return Ok(());
        };
        let (suspected, changes) = (self.suspected(), self.decisions.changes.clone());
        let mut situation = Situation {
            changes: &changes,
            away: self.away_from(leader),
            led_us: self.now - since,
            // Votes are given back in no time.
            voters: BTreeSet::new(),
            heard: BTreeSet::new(),
            only_holder: None,
            patience: PATIENCE,
        };
        situation.away.extend(suspected);
        let doubted = situation.doubted().into_iter();
        situation.heard = doubted.filter(|m| self.is_heard(leader, *m)).collect();
        for command in situation.due() {
            self.decide(command.clone())?;
            if let ViewCommand::GiveUp { member } = command {
                self.give_up(member)?;
            }
        }
        Ok(())
    }

    /// The operator's steps after asking for a change: takes it back when it does not end, and
    /// removes again whoever was given up.
    fn operate(&mut self) -> Result<(), Failed> {
        let changes = &self.decisions.changes;
        if let Some(number) = changes.running().map(|r| r.number) {
            if self.now > self.decisions.since_us + CANCEL_US && !self.healed {
                self.decide(ViewCommand::Cancel { number })?;
            }
            return Ok(());
        }
        let given_up = changes.views().given_up.first().copied();
        if let Some(member) = given_up.filter(|_| self.healed || self.rng.percent(10)) {
            self.decisions.since_us = self.now;
            self.decide(ViewCommand::Change {
                change: Change::Remove(member),
                give_up: false,
                lose_data: true,
            })?;
        }
        Ok(())
    }

    /// The Raft leader, and since when: one that can talk to a majority, and the same for as long
    /// as it can.
    fn leader(&mut self) -> Option<(usize, u64)> {
        let members = self.decisions.changes.members().into_keys();
        let members: Vec<usize> = members.map(|m| usize::from(m.0)).collect();
        let leads = |n: &usize| {
            let it = &self.nodes[*n];
            it.process.is_some() && it.paused_until <= self.now && self.hears_raft(*n)
        };
        let last = self.decisions.leader;
        let stays = last.filter(|(n, _)| members.contains(n) && leads(n));
        let next = || members.iter().copied().find(leads).map(|n| (n, self.now));
        self.decisions.leader = stays.or_else(next);
        self.decisions.leader
    }

    /// The members that a node does not hear, and for how long.
    fn away_from(&mut self, node: usize) -> BTreeMap<MemberId, u64> {
        let members = self.decisions.changes.members().into_keys();
        let away = |m: &MemberId| !self.hears(node, usize::from(m.0));
        let away: BTreeSet<MemberId> = members.filter(away).collect();
        let now = self.now;
        let since = &mut self.decisions.away_since;
        since.retain(|m, _| away.contains(m));
        let since = away
            .into_iter()
            .map(|m| (m, *since.entry(m).or_insert(now)));
        since.map(|(m, at)| (m, now - at)).collect()
    }

    /// Whether a node hears another one.
    fn hears(&self, node: usize, other: usize) -> bool {
        let it = &self.nodes[other];
        let cut = self.net.is_cut(node, other, self.now) || self.net.is_cut(other, node, self.now);
        node == other || (it.process.is_some() && it.paused_until <= self.now && !cut)
    }

    /// Whether another node than the leader hears a member. A node on an old copy of its disk that
    /// has not found out yet is not given up: nothing is promised of what such a node would do
    /// then.
    fn is_heard(&self, leader: usize, member: MemberId) -> bool {
        let node = usize::from(member.0);
        let others = (0..self.nodes.len()).filter(|n| *n != node && self.hears(leader, *n));
        let mut others = others.filter(|n| self.nodes[*n].process.is_some());
        self.nodes[node].comparing || others.any(|n| self.hears(n, node))
    }

    /// Members that the leader takes for dead for no reason: some that gain slots, now and then.
    fn suspected(&mut self) -> Vec<(MemberId, u64)> {
        if !self.rng.percent(5) || self.healed {
            return Vec::new();
        }
        let gaining: Vec<MemberId> = self.decisions.changes.gaining().into_keys().collect();
        if gaining.is_empty() {
            return Vec::new();
        }
        vec![(gaining[self.rng.index(gaining.len())], u64::MAX)]
    }

    /// I12: changes of the view come to an end, and everybody knows.
    pub fn check_views(&self) -> Result<(), Failed> {
        let changes = &self.decisions.changes;
        for node in self.members() {
            if let Some(p) = &self.nodes[node].process
                && p.driver.is_closing()
            {
                return Err(format!("I12: node {node} still goes over to newer views"));
            }
        }
        if let Some(running) = changes.running() {
            let awaited = changes.awaited(&BTreeSet::new());
            return Err(format!(
                "I12: {running:?} still runs and waits for {awaited:?}"
            ));
        }
        let views = changes.views();
        if !views.closing.is_empty() || !views.leaving.is_empty() {
            let open: Vec<_> = views.closing.iter().map(|c| (c.id, &c.replicas)).collect();
            return Err(format!(
                "I12: still open are {open:?}, leaving {:?}",
                views.leaving
            ));
        }
        for node in self.members() {
            let known = self.nodes[node].known.as_ref().map_or(0, |v| v.version);
            if known != views.version {
                return Err(format!("I12: node {node} knows only version {known}"));
            }
        }
        Ok(())
    }
}

/// A change that an operator may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Add,
    Remove {
        node: usize,
    },
    SetK {
        k: usize,
    },
    /// All nodes of this one's partition die, and are said to be dead for good at that moment.
    GiveUp {
        node: usize,
        down_us: u64,
    },
}

fn change_of(change: &Change) -> Asked {
    match change {
        Change::Add(_) => Asked::Add,
        Change::Remove(member) => Asked::Remove {
            node: usize::from(member.0),
        },
        Change::SetK(k) => Asked::SetK { k: *k },
    }
}

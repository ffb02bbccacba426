//! Marks of replicas: which writes are stable (I3), and which ones readers may see.

use super::super::oracle::WriteId;
use super::super::world::{Failed, World};
use super::kept::{is_filled, sharing};
use causeway::protocol::ids::{Dot, LogId, MemberId};
use causeway::protocol::marks::Marks;
use causeway::protocol::views::Home;
use std::collections::BTreeSet;

/// How long an unacknowledged write is hidden while a second replica lives, in microseconds.
const DEGRADE_US: u64 = 100_000;
/// No message is on its way for longer, in microseconds.
const IN_FLIGHT_US: u64 = 500_000;

impl World {
    /// Checks a replica's marks against what is on the disks.
    pub fn check_marks(
        &mut self,
        node: usize,
        before: &Marks,
        after: &Marks,
    ) -> Result<(), Failed> {
        for (id, mark) in &after.logs {
            if is_filled(after, *id) && mark.stable > mark.applied {
                return Err(format!("I3: node {node} has {id} {mark:?}"));
            }
            let known = before.logs.get(id).copied().unwrap_or_default();
            if mark.stable > known.stable {
                for other in sharing(after, *id) {
                    let there = self.oracle.applied(other, *id);
                    if there < mark.stable && self.counts(other, after, *id) {
                        return Err(format!(
                            "I3: node {node} calls {id} stable up to {}, node {other} has {there}",
                            mark.stable
                        ));
                    }
                }
            }
        }
        self.check_exposed(node, before, after)
    }

    /// Whether a node may answer clients by what it has of a log, now or later. No write that such
    /// a node lacks may be stable, since contexts do not name stable writes any more.
    ///
    /// A node that is out answers nobody, and one that knows that it is given up never will again.
    /// A node that fetched data for the sake of a view that was dropped fetches it anew before it
    /// answers anybody by it.
    fn counts(&self, node: usize, marks: &Marks, log: LogId) -> bool {
        let it = &self.nodes[node];
        !it.lost
            && !it.out
            && !self.knows_to_be_given_up(node)
            && self.is_filled_at(node, marks, log)
            && !self.was_turned_away(node, log)
    }

    /// Whether a node goes by views in which it is given up: it serves nobody, for ever.
    fn knows_to_be_given_up(&self, node: usize) -> bool {
        let views = self.views_at(node);
        views.is_some_and(|v| v.given_up.contains(&self.nodes[node].member))
    }

    /// Whether a node shares a log for the sake of a next view alone, and what it has fetched for
    /// that will never be served: the Raft group has dropped the view, or given the node up. The
    /// node may not have heard.
    fn was_turned_away(&self, node: usize, log: LogId) -> bool {
        let it = &self.nodes[node];
        let Some(views) = self.views_at(node) else {
            return false;
        };
        let (next, known) = match &it.process {
            Some(_) => (views.coming(it.member), u64::MAX),
            None => match self.identity_at(node) {
                Some(identity) => (identity.next, identity.view),
                None => return false,
            },
        };
        let Home::Cohort(id) = views.home(log) else {
            return false;
        };
        let held = views.cohort(id);
        let held = held.is_some_and(|c| views.has_shared(&c, it.member, known));
        let dropped = |number| self.decisions.is_dropped(number) || self.is_given_up(node);
        !held && next.is_some_and(dropped)
    }

    /// Whether a node's disk has everything of a log's cohort, as far as the node knows.
    fn is_filled_at(&self, node: usize, marks: &Marks, log: LogId) -> bool {
        if let Some(process) = &self.nodes[node].process {
            return is_filled(&process.marks, log);
        }
        match (marks.views.home(log), self.identity_at(node)) {
            (Home::Cohort(id), Some(identity)) => {
                let cohort = marks.views.cohort(id);
                let member = self.nodes[node].member;
                let kept = cohort.map(|c| marks.views.part(&c, member));
                let filled = identity.filled.get(&id);
                filled.zip(kept).is_some_and(|(f, kept)| kept.is_within(f))
            }
            _ => false,
        }
    }

    /// A node has everything of a cohort now, or serves again on a disk that it had lost: nobody
    /// may call stable what this node lacks.
    pub fn check_counted_on(&self, node: usize) -> Result<(), Failed> {
        for other in (0..self.nodes.len()).filter(|n| *n != node) {
            let Some(process) = &self.nodes[other].process else {
                continue;
            };
            // A write that only a given-up member has may be lost, even a stable one: the member
            // may have shared its log with nobody, or with disks that were lost since.
            if self.is_given_up(other) {
                continue;
            }
            for (log, mark) in &process.marks.logs {
                if !sharing(&process.marks, *log).contains(&node) {
                    continue;
                }
                let here = self.oracle.applied(node, *log);
                if mark.stable > here && self.counts(node, &process.marks, *log) {
                    return Err(format!(
                        "I3: node {node} serves with {here} of {log}, node {other} calls it stable up to {}",
                        mark.stable
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a node lost a write with its disk so lately that its word from before may still be
    /// under way. The node may serve again by then. No other loss is allowed for.
    pub(super) fn was_lost_lately(&self, node: usize, write: WriteId) -> bool {
        let lost = self.oracle.lost.get(&(node, write));
        lost.is_some_and(|at| self.now < at + IN_FLIGHT_US)
    }

    fn check_exposed(&mut self, node: usize, before: &Marks, after: &Marks) -> Result<(), Failed> {
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let log = process.driver.log_id();
        let downed = std::mem::take(&mut process.downed);
        let serve = |m: &Marks| -> BTreeSet<MemberId> {
            let serving = m.peers.iter().filter(|p| p.replica && p.alive && p.serving);
            serving.map(|p| p.member).collect()
        };
        let exposed = |m: &Marks| m.logs.get(&log).map_or(0, |l| l.exposed);
        // Between two marks one peer may have fallen silent before another one was heard.
        if downed || serve(before).is_disjoint(&serve(after)) {
            return Ok(());
        }
        for seq in exposed(before) + 1..=exposed(after) {
            let dot = Dot { log, seq };
            let Some(&write) = self.oracle.dots.get(&dot) else {
                continue;
            };
            let w = &self.oracle.writes[write];
            let at = w.dots.iter().position(|d| *d == dot);
            let taken = at.map_or(0, |at| w.taken_us[at]);
            let replicas = self.replicas_at(after);
            let has = |n: usize| {
                let lost = self.nodes[n].lost || self.was_lost_lately(n, write);
                n != node && (lost || self.oracle.applied(n, log) >= seq)
            };
            let second = replicas.into_iter().any(has);
            if !second && self.now < taken + DEGRADE_US {
                return Err(format!(
                    "two copies: node {node} shows {dot} while only it has it"
                ));
            }
        }
        Ok(())
    }
}

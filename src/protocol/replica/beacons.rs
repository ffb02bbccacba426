//! Beacons: what members that share no log with this replica tell it, and are told.
//!
//! They say what is stable elsewhere, so that contexts can be pruned anywhere.

use super::Replica;
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::limits::{Bound, met};
use crate::protocol::marks::Elsewhere;
use crate::protocol::message::{Beacon, Message};
use crate::protocol::store::Store;
use crate::protocol::teeth::{Rule, broken};
use crate::protocol::views::{CohortId, Views};
use std::sync::Arc;

/// The members that share no log with this replica, and what they told.
pub(super) struct Strangers {
    members: Vec<MemberId>,
    /// The place in `members` whose turn is next.
    turn: usize,
    /// What is known of other partitions' logs.
    elsewhere: Arc<Elsewhere>,
    /// Readers have to be told, since this was last asked for.
    moved: bool,
}

impl Strangers {
    /// These members, and what is known of them already.
    pub(super) fn new(
        members: Vec<MemberId>,
        mut elsewhere: Arc<Elsewhere>,
        views: &Views,
    ) -> Self {
        Arc::make_mut(&mut elsewhere).retain(views);
        Self {
            members,
            turn: 0,
            elsewhere,
            moved: false,
        }
    }

    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// What is known of other partitions' logs, for readers.
    pub(super) fn published(&self) -> Arc<Elsewhere> {
        Arc::clone(&self.elsewhere)
    }

    /// Whether everybody who shares the logs of a cohort has one's writes up to `seq`.
    pub(super) fn is_stable(&self, log: LogId, cohort: CohortId, seq: u64) -> bool {
        self.elsewhere.is_stable(log, cohort, seq)
    }

    /// Goes by newer views, under which these members are the strangers.
    pub(super) fn take_views(&mut self, members: Vec<MemberId>, views: &Views) {
        self.members = members;
        Arc::make_mut(&mut self.elsewhere).retain(views);
        self.moved = true;
    }

    /// Takes a beacon in.
    fn hear(&mut self, beacon: &Beacon, views: &Views) {
        // By newer views a write may be stable without a member that is given up, and that whoever
        // goes by these still asks.
        let ahead = beacon.version > views.version && !broken(Rule::StableAheadOfViews);
        if !ahead && self.elsewhere.lacks(beacon) {
            Arc::make_mut(&mut self.elsewhere).join(beacon, views);
            self.moved = true;
        }
    }

    /// The members whose turn it is to be told, at most so many.
    fn next(&mut self, most: usize) -> Vec<MemberId> {
        let all = self.members.len();
        let count = all.min(most);
        if count < all {
            met(Bound::Beacons);
        }
        if count == 0 {
            return Vec::new();
        }
        let turn = self.turn..self.turn + count;
        self.turn = turn.end % all;
        turn.map(|i| self.members[i % all]).collect()
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Takes a stranger's beacon in.
    pub(super) fn beacon(&mut self, from: MemberId, beacon: &Beacon) {
        self.heard_clock(from, beacon.wall_ms, beacon.clock);
        self.strangers.hear(beacon, &self.views);
    }

    /// Tells some strangers what is stable here.
    pub(super) fn send_beacons(&mut self) {
        let to = self.strangers.next(self.limits.beacons);
        if to.is_empty() {
            return;
        }
        let over = self.finished.iter();
        let beacon = Beacon {
            clock: self.clock.observe_wall(self.now),
            wall_ms: self.now.wall_ms,
            serving: self.recovery.serving,
            version: self.views.version,
            stable: self.logs.iter().map(|(id, l)| (id, l.stable)).collect(),
            over: over.map(|(cohort, m, f)| (m, cohort, f.newest())).collect(),
        };
        self.effects.send_to(to, Message::Beacon(beacon));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::clock::Timestamp;
    use crate::protocol::placement::tests::addresses;
    use crate::protocol::view::View;

    fn views() -> Views {
        Views::first(View::first(&addresses(4), 2).unwrap())
    }

    fn strangers(count: u16) -> Strangers {
        let members = (0..count).map(MemberId).collect();
        Strangers::new(members, Arc::default(), &views())
    }

    /// A beacon of the log that a member has opened under the first view.
    fn beacon(views: &Views, stable: u64) -> (LogId, Beacon) {
        let log = LogId {
            member: MemberId(3),
            incarnation: crate::protocol::ids::incarnation(views.view.number, 1),
        };
        let beacon = Beacon {
            clock: Timestamp::default(),
            wall_ms: 0,
            serving: true,
            version: views.version,
            stable: vec![(log, stable)],
            over: Vec::new(),
        };
        (log, beacon)
    }

    #[test]
    fn strangers_are_told_in_turns() {
        let members = |numbers: &[u16]| numbers.iter().copied().map(MemberId).collect::<Vec<_>>();
        let mut some = strangers(3);
        assert_eq!(some.next(2), members(&[0, 1]));
        assert_eq!(some.next(2), members(&[2, 0]));
        assert_eq!(some.next(9), members(&[1, 2, 0]));
        assert_eq!(strangers(0).next(2), []);
    }

    #[test]
    fn a_beacon_is_news_once() {
        let views = views();
        let mut strangers = strangers(1);
        let (log, heard) = beacon(&views, 5);
        strangers.hear(&heard, &views);
        assert!(strangers.take_moved());
        let cohort = views.current(log.member).unwrap();
        assert!(strangers.is_stable(log, cohort, 5) && !strangers.is_stable(log, cohort, 6));
        strangers.hear(&heard, &views);
        assert!(!strangers.take_moved());
    }

    #[test]
    fn what_is_stable_by_newer_views_counts_only_under_these() {
        let mut views = views();
        let mut strangers = strangers(1);
        let (log, mut heard) = beacon(&views, 5);
        heard.version += 1;
        strangers.hear(&heard, &views);
        let cohort = views.current(log.member).unwrap();
        assert!(!strangers.take_moved() && !strangers.is_stable(log, cohort, 1));
        views.version += 1;
        strangers.take_views(Vec::new(), &views);
        assert!(strangers.take_moved(), "readers go by the views too");
        strangers.hear(&heard, &views);
        assert!(strangers.is_stable(log, cohort, 5));
    }
}

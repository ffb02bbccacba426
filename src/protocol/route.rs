//! Where a request goes: the attempts that one client operation makes, as a pure state machine.
//!
//! The node that the client talked to asks [`Route::next`] for an attempt, makes it, reports
//! what came of it, and so on until there is an answer or the time is up. An attempt is short, the
//! next replica is tried after it, and what failed is remembered in [`Health`]. A write carries one
//! stamp through all its attempts, so trying again can do no harm.

use super::context::Context;
use super::health::Health;
use super::ids::MemberId;
use super::marks::Marks;
use super::op::{Answer, Refusal};
use super::view::PartitionId;

/// The time for one operation, in microseconds: the answer is there within a second.
pub const TOTAL_US: u64 = 900_000;
/// The time for one attempt at another node, in microseconds.
pub const ATTEMPT_US: u64 = 200_000;
/// How long a replica may wait for missing writes within an attempt, in microseconds.
pub const STALL_US: u64 = 150_000;
/// The pause before all replicas are tried once more, in microseconds.
const PAUSE_US: u64 = 20_000;

// A replica that waits answers within its attempt, and there is time for more than one of those.
const _: () = assert!(STALL_US + PAUSE_US < ATTEMPT_US && 3 * ATTEMPT_US < TOTAL_US);

/// The next step of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// Do it here, for at most `timeout_us`; a read may wait `stall_us` for missing writes.
    Here {
        /// The whole attempt, in microseconds.
        timeout_us: u64,
        /// The wait for missing writes, in microseconds.
        stall_us: u64,
    },
    /// Ask a member, for at most this long; it may wait `stall_us` for missing writes.
    There {
        /// The member to be asked.
        to: MemberId,
        /// The whole attempt, in microseconds.
        timeout_us: u64,
        /// The wait for missing writes, in microseconds.
        stall_us: u64,
    },
    /// Wait, then ask again for the next attempt.
    Pause {
        /// The pause in microseconds.
        us: u64,
    },
    /// Nothing is left to try.
    GiveUp(Refusal),
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The replica answered, be it with a refusal.
    Answered(Answer),
    /// The request never left, or the connection was closed before: certainly not done.
    NotSent,
    /// No answer came: it may have been done.
    NoAnswer,
}

/// The attempts of one operation.
#[derive(Debug)]
pub struct Route {
    me: MemberId,
    /// The number of the view that the plan goes by.
    view: u64,
    partition: PartitionId,
    order: Vec<MemberId>,
    next: usize,
    round: u32,
    started_us: u64,
    refusal: Option<Refusal>,
    tried: Vec<MemberId>,
    /// Some attempt may have been done without our hearing of it.
    unsure: bool,
}

impl Route {
    /// Plans an operation on a key of `partition` for a client with this past.
    ///
    /// The order: this node if it is a replica; then replicas that are known to have what the
    /// client has seen, or wrote it; then the rest, those that failed lately last. `spread` evens
    /// out the load.
    #[must_use]
    pub fn new(
        marks: &Marks,
        partition: PartitionId,
        context: &Context,
        health: &Health,
        now_us: u64,
        spread: usize,
    ) -> Self {
        let me = marks.own.member;
        let order = order(marks, partition, context, health, now_us, spread);
        Self {
            me,
            view: marks.view().number,
            partition,
            order,
            next: 0,
            round: 0,
            started_us: now_us,
            refusal: None,
            tried: Vec::new(),
            unsure: false,
        }
    }

    /// The partition that is asked.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Whether the view has changed since the plan was made.
    #[must_use]
    pub fn is_outdated(&self, marks: &Marks) -> bool {
        self.view != marks.view().number
    }

    /// Plans the attempts that are left by what is known now: the view may have changed since.
    pub fn plan_anew(
        &mut self,
        marks: &Marks,
        partition: PartitionId,
        context: &Context,
        health: &Health,
        now_us: u64,
    ) {
        self.view = marks.view().number;
        self.partition = partition;
        self.next = 0;
        self.order = order(
            marks,
            partition,
            context,
            health,
            now_us,
            self.round as usize,
        );
    }

    /// Whether a write should be stamped anew: its stamp was refused, and every attempt so far
    /// was certainly not done.
    #[must_use]
    pub fn wants_new_stamp(&self) -> bool {
        !self.unsure && matches!(self.refusal, Some(Refusal::StampTooOld(_)))
    }

    /// The next attempt.
    pub fn next(&mut self, now_us: u64) -> Attempt {
        let left = (self.started_us + TOTAL_US).saturating_sub(now_us);
        // No replica is left that could be asked, or no time.
        if self.order.is_empty() || left < PAUSE_US {
            return Attempt::GiveUp(self.give_up());
        }
        if self.next == self.order.len() {
            // These last longer than a pause.
            if let Some(Refusal::DiskFull(_) | Refusal::Storage(_)) = self.refusal {
                return Attempt::GiveUp(self.give_up());
            }
            self.next = 0;
            self.round += 1;
            return Attempt::Pause { us: PAUSE_US };
        }
        let to = self.order[self.next];
        self.next += 1;
        if to == self.me {
            // A read of missing writes waits here only once no other replica could answer.
            let alone = self.order.len() == 1;
            let stall_us = if alone || self.round > 0 {
                STALL_US.min(left)
            } else {
                0
            };
            return Attempt::Here {
                timeout_us: left,
                stall_us,
            };
        }
        let timeout_us = ATTEMPT_US.min(left);
        Attempt::There {
            to,
            timeout_us,
            stall_us: STALL_US.min(timeout_us.saturating_sub(PAUSE_US)),
        }
    }

    /// Takes note of what an attempt came to. `Some` ends the operation.
    pub fn came(
        &mut self,
        to: MemberId,
        outcome: AttemptOutcome,
        health: &mut Health,
        now_us: u64,
    ) -> Option<Answer> {
        if !self.tried.contains(&to) {
            self.tried.push(to);
        }
        let refusal = match outcome {
            AttemptOutcome::Answered(Answer::Refused(refusal)) => {
                health.answered(to);
                match refusal {
                    // Another replica may have room, be level, or have a clock further on.
                    Refusal::DiskFull(_)
                    | Refusal::Short(_)
                    | Refusal::OldView { .. }
                    | Refusal::Recovering(_)
                    | Refusal::StampTooOld(_)
                    | Refusal::NotMine
                    | Refusal::GoingOver
                    | Refusal::ClockOff { .. }
                    | Refusal::Overloaded
                    | Refusal::ShuttingDown
                    | Refusal::Storage(_)
                    | Refusal::Undecided
                    | Refusal::Unreachable { .. } => Some(refusal),
                    // The payload itself is wrong, or the request asks for too much: every replica
                    // would say so.
                    Refusal::ClockAhead { .. }
                    | Refusal::UnknownMember(_)
                    | Refusal::ReplyFull
                    | Refusal::Unsettled => {
                        return Some(Answer::Refused(refusal));
                    }
                }
            }
            AttemptOutcome::Answered(answer) => {
                health.answered(to);
                return Some(answer);
            }
            // Certainly not done: a later attempt cannot do it twice.
            AttemptOutcome::NotSent => {
                health.failed(to, now_us);
                None
            }
            // It may be done: from here on "not done" can no longer be said.
            AttemptOutcome::NoAnswer => {
                health.failed(to, now_us);
                self.unsure = true;
                None
            }
        };
        // A replica whose storage fails may have stored a write all the same.
        self.unsure |= matches!(refusal, Some(Refusal::Storage(_) | Refusal::Undecided));
        if refusal.is_some() {
            self.refusal = refusal;
        }
        None
    }

    /// The most telling refusal: what a replica said, or that none could be reached. Not that
    /// nothing was done, when another replica may have done it.
    fn give_up(&mut self) -> Refusal {
        let said = self.refusal.take();
        said.filter(|refusal| !(self.unsure && refusal.says_not_done()))
            .unwrap_or_else(|| Refusal::Unreachable {
                partition: self.partition,
                tried: std::mem::take(&mut self.tried),
            })
    }
}

/// The replicas of a partition in the order in which they are tried. Given-up members are left out.
fn order(
    marks: &Marks,
    partition: PartitionId,
    context: &Context,
    health: &Health,
    now_us: u64,
    spread: usize,
) -> Vec<MemberId> {
    let me = marks.own.member;
    let replicas = marks.view().replicas(partition);
    let mut order: Vec<MemberId> = Vec::with_capacity(replicas.len());
    for i in 0..replicas.len() {
        let replica = replicas[(i + spread) % replicas.len()];
        if !marks.views.given_up.contains(&replica) {
            order.push(replica);
        }
    }
    if order.len() > 1 {
        let mine = Some(partition) == marks.partition;
        let enough: Vec<MemberId> = if mine && !context.is_empty() {
            marks.far_enough(context).collect()
        } else {
            Vec::new()
        };
        let wrote = |m: MemberId| context.iter().filter(|(log, _)| log.member == m).count();
        order.sort_by_key(|m| {
            (
                *m != me,
                health.suspected(*m, now_us),
                !enough.contains(m),
                usize::MAX - wrote(*m),
            )
        });
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::clock::Timestamp;
    use super::super::ids::LogId;
    use super::super::marks::Gauges;
    use super::super::view::View;
    use super::super::views::Views;
    use super::*;
    use core::net::SocketAddr;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Node 0 of six, in two partitions of three.
    fn marks() -> Marks {
        let address = |i| SocketAddr::from(([10, 0, 0, i], 8080));
        let addresses: Vec<SocketAddr> = (1..=6).map(address).collect();
        Marks {
            views: Arc::new(Views::first(View::first(&addresses, 3).unwrap())),
            own: LogId {
                member: MemberId(0),
                incarnation: 1,
            },
            partition: Some(PartitionId(0)),
            cohorts: BTreeMap::new(),
            recovering: None,
            logs: BTreeMap::new(),
            finished: Arc::default(),
            elsewhere: Arc::default(),
            peers: Vec::new(),
            gauges: Gauges::default(),
        }
    }

    fn route(partition: u32, context: &Context, health: &Health) -> Route {
        Route::new(&marks(), PartitionId(partition), context, health, 0, 1)
    }

    fn first(route: &mut Route) -> MemberId {
        match route.next(0) {
            Attempt::There { to, .. } => to,
            Attempt::Here { .. } => MemberId(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_replica_asks_itself_first() {
        let mut route = route(0, &Context::default(), &Health::default());
        let here = Attempt::Here {
            timeout_us: TOTAL_US,
            stall_us: 0,
        };
        assert_eq!(route.next(0), here);
    }

    #[test]
    fn who_wrote_what_the_client_has_seen_is_asked_first_and_who_failed_lately_last() {
        let mut context = Context::default();
        let log = LogId {
            member: MemberId(5),
            incarnation: 1,
        };
        context.see(log, 1);
        let mut health = Health::default();
        assert_eq!(first(&mut route(1, &context, &health)), MemberId(5));
        health.failed(MemberId(5), 0);
        assert_ne!(first(&mut route(1, &context, &health)), MemberId(5));
    }

    #[test]
    fn a_write_is_stamped_anew_only_while_nobody_can_have_taken_it() {
        let old = || AttemptOutcome::Answered(Answer::Refused(Refusal::StampTooOld(Timestamp(9))));
        let mut health = Health::default();
        let mut sure = route(1, &Context::default(), &health);
        assert_eq!(sure.came(MemberId(3), old(), &mut health, 0), None);
        assert!(sure.wants_new_stamp());
        let mut unsure = route(1, &Context::default(), &health);
        unsure.came(MemberId(3), AttemptOutcome::NoAnswer, &mut health, 0);
        unsure.came(MemberId(4), old(), &mut health, 0);
        assert!(!unsure.wants_new_stamp());
    }

    #[test]
    fn nobody_is_told_that_nothing_was_done_when_a_replica_was_silent() {
        for silent_first in [false, true] {
            let (mut health, mut now) = (Health::default(), 0);
            let mut route = route(1, &Context::default(), &health);
            let full = Refusal::DiskFull("no room".into());
            let refusal = loop {
                now += 1;
                match route.next(now) {
                    Attempt::There { to, .. } => {
                        let outcome = match silent_first && now == 1 {
                            true => AttemptOutcome::NoAnswer,
                            false => AttemptOutcome::Answered(Answer::Refused(full.clone())),
                        };
                        assert_eq!(route.came(to, outcome, &mut health, now), None);
                    }
                    Attempt::GiveUp(refusal) => break refusal,
                    other => panic!("{other:?}"),
                }
            };
            let open = matches!(refusal, Refusal::Unreachable { .. });
            assert_eq!(open, silent_first, "{refusal:?}");
        }
    }

    #[test]
    fn full_disks_everywhere_are_said_at_once() {
        let (mut health, mut now) = (Health::default(), 0);
        let mut route = route(1, &Context::default(), &health);
        let full = Refusal::DiskFull("no room".into());
        loop {
            now += 1;
            match route.next(now) {
                Attempt::There { to, .. } => {
                    let answer = AttemptOutcome::Answered(Answer::Refused(full.clone()));
                    assert_eq!(route.came(to, answer, &mut health, now), None);
                }
                Attempt::GiveUp(refusal) => break assert_eq!(refusal, full),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(now, 4, "each of three replicas once");
    }

    proptest! {
        /// Whatever the replicas do, and however slowly, the operation ends within its time.
        #[test]
        fn every_operation_ends_in_time(
            outcomes in proptest::collection::vec((0u8..4, 0u64..=100), 1..40),
            partition in 0u32..2,
        ) {
            let (mut health, mut now) = (Health::default(), 0u64);
            let mut route = route(partition, &Context::default(), &health);
            let mut outcomes = outcomes.iter().cycle();
            loop {
                prop_assert!(now <= TOTAL_US);
                let (to, longest) = match route.next(now) {
                    Attempt::Here { timeout_us, stall_us } => {
                        prop_assert!(stall_us <= timeout_us && now + timeout_us <= TOTAL_US);
                        (MemberId(0), timeout_us)
                    }
                    Attempt::There { to, timeout_us, stall_us } => {
                        prop_assert!(stall_us < timeout_us && timeout_us <= ATTEMPT_US);
                        (to, timeout_us)
                    }
                    Attempt::Pause { us } => {
                        now += us;
                        continue;
                    }
                    Attempt::GiveUp(_) => break,
                };
                let Some((kind, percent)) = outcomes.next() else {
                    break;
                };
                let (outcome, took) = match kind {
                    0 => (AttemptOutcome::NotSent, 1),
                    1 => (AttemptOutcome::NoAnswer, longest),
                    2 => (AttemptOutcome::Answered(Answer::Refused(Refusal::Short(Vec::new()))), longest),
                    _ => {
                        let refusal = Refusal::Recovering(String::new());
                        (AttemptOutcome::Answered(Answer::Refused(refusal)), longest * percent / 100)
                    }
                };
                now += took.max(1);
                prop_assert_eq!(route.came(to, outcome, &mut health, now), None);
            }
        }
    }
}

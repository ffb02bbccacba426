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

/// What to do next for an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// Do it here; a read may wait this long for missing writes.
    Here { stall_us: u64 },
    /// Ask a member, for at most this long; it may wait `stall_us` for missing writes.
    There {
        to: MemberId,
        timeout_us: u64,
        stall_us: u64,
    },
    /// Wait, then ask again for the next attempt.
    Pause { us: u64 },
    /// Nothing is left to try.
    GiveUp(Refusal),
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
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
    /// The order: this node if it is a replica; then who is known to have what the client has
    /// seen, or wrote it; then the rest, who failed lately last. `spread` evens out the load.
    #[must_use]
    pub fn new(
        marks: &Marks,
        partition: PartitionId,
        context: &Context,
        health: &Health,
        now_us: u64,
        spread: usize,
    ) -> Self {
        let me = marks.me;
        let replicas = marks.view.replicas(partition);
        let mut order: Vec<MemberId> = Vec::with_capacity(replicas.len());
        for i in 0..replicas.len() {
            order.push(replicas[(i + spread) % replicas.len()]);
        }
        if replicas.len() > 1 {
            let mine = partition == marks.partition;
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
        Self {
            me,
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

    /// Whether a write should be stamped anew: its stamp was refused, and every attempt so far
    /// was certainly not done.
    #[must_use]
    pub fn wants_new_stamp(&self) -> bool {
        !self.unsure && matches!(self.refusal, Some(Refusal::StampTooOld(_)))
    }

    /// The next attempt.
    pub fn next(&mut self, now_us: u64) -> Attempt {
        let left = (self.started_us + TOTAL_US).saturating_sub(now_us);
        if self.order.is_empty() || left < PAUSE_US {
            return Attempt::GiveUp(self.give_up());
        }
        if self.next == self.order.len() {
            // What a short wait will not change.
            if let Some(Refusal::DiskFull(_) | Refusal::Storage(_) | Refusal::NotMine) =
                self.refusal
            {
                return Attempt::GiveUp(self.give_up());
            }
            self.next = 0;
            self.round += 1;
            return Attempt::Pause { us: PAUSE_US };
        }
        let to = self.order[self.next];
        self.next += 1;
        if to == self.me {
            // Others may be able to answer at once; only when they were not, wait here.
            let alone = self.order.len() == 1;
            let stall_us = if alone || self.round > 0 {
                STALL_US.min(left)
            } else {
                0
            };
            return Attempt::Here { stall_us };
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
        outcome: Outcome,
        health: &mut Health,
        now_us: u64,
    ) -> Option<Answer> {
        if !self.tried.contains(&to) {
            self.tried.push(to);
        }
        let refusal = match outcome {
            Outcome::Answered(Answer::Refused(refusal)) => {
                health.answered(to);
                match refusal {
                    // Another replica may have room, be level, or have a clock further on.
                    Refusal::DiskFull(_)
                    | Refusal::Short(_)
                    | Refusal::Recovering(_)
                    | Refusal::StampTooOld(_)
                    | Refusal::NotMine
                    | Refusal::Overloaded
                    | Refusal::ShuttingDown
                    | Refusal::Storage(_)
                    | Refusal::Undecided
                    | Refusal::Unreachable { .. } => Some(refusal),
                    Refusal::ClockAhead { .. } | Refusal::UnknownMember(_) => {
                        return Some(Answer::Refused(refusal));
                    }
                }
            }
            Outcome::Answered(answer) => {
                health.answered(to);
                return Some(answer);
            }
            Outcome::NotSent => {
                health.failed(to, now_us);
                None
            }
            Outcome::NoAnswer => {
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

    /// The most telling refusal: what a replica said, or that none could be reached.
    fn give_up(&mut self) -> Refusal {
        self.refusal.take().unwrap_or_else(|| Refusal::Unreachable {
            partition: self.partition,
            tried: std::mem::take(&mut self.tried),
        })
    }
}

//! Which requests of clients are let in: those whose context is possible; and the stamps that
//! writes get, from a clock that others' clocks bear out.

use crate::node::replica::shared::Shared;
use crate::protocol::clock::{Doubt, MAX_AHEAD_MS, Timestamp};
use crate::protocol::context::Context;
use crate::protocol::ids::MemberId;
use crate::protocol::op::Refusal;
use crate::protocol::version::Stamp;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A write waits this long for the node's clock to be compared with the others'.
const CLOCK_WITHIN: Duration = Duration::from_millis(500);
/// Time between looks at whether that has happened.
const CLOCK_LOOK: Duration = Duration::from_millis(10);

/// An operation that was not done, with what the client is to know all the same.
#[derive(Debug)]
pub struct Failed {
    /// Why not.
    pub refusal: Refusal,
    /// The request's own context, without what is stable everywhere.
    pub context: Context,
}

/// Lets requests in, on one node.
pub struct Admission {
    me: MemberId,
    shared: Arc<Shared>,
}

impl Admission {
    /// The admission of a member with this replica.
    pub fn new(me: MemberId, shared: Arc<Shared>) -> Self {
        Self { me, shared }
    }

    /// Takes note of a request of a client's.
    pub fn note_request(&self) {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks a client's context against what is possible.
    ///
    /// # Errors
    /// When its clock is far ahead, or it names a member that never was.
    pub fn admit(&self, context: Context) -> Result<Context, Failed> {
        self.note_request();
        let now = self.shared.clocks.now();
        if self.shared.clock.too_far_ahead(now, context.clock) {
            let wall_ms = self.shared.clock.wall_ms(now);
            let ahead_ms = context.clock.ms().saturating_sub(wall_ms).max(MAX_AHEAD_MS);
            return Err(Failed {
                refusal: Refusal::ClockAhead { ahead_ms },
                context,
            });
        }
        let marks = self.shared.marks.load();
        // A newer view may have members that are not known here yet.
        let unknown = |m: &MemberId| !marks.view().has_existed(*m) && !marks.is_behind(&context);
        let unknown = context.iter().map(|(log, _)| log.member).find(unknown);
        if let Some(member) = unknown {
            return Err(Failed {
                refusal: Refusal::UnknownMember(member),
                context,
            });
        }
        Ok(context)
    }

    /// A stamp of this node, later than `after`.
    pub fn stamp(&self, after: Timestamp) -> Stamp {
        Stamp {
            ts: self.shared.clock.tick(self.shared.clocks.now(), after),
            by: self.me,
        }
    }

    /// Whether this node may stamp writes. Just after a start that is not known before another
    /// member's clock has been heard, mostly within 100 ms. A write waits for that, for
    /// [`CLOCK_WITHIN`] at most, and is refused then.
    ///
    /// # Errors
    /// Why it may not.
    pub async fn checked_clock(&self) -> Result<(), Refusal> {
        let began = Instant::now();
        loop {
            match self.check_clock() {
                Err(Refusal::Recovering(_)) if began.elapsed() < CLOCK_WITHIN => {
                    tokio::time::sleep(CLOCK_LOOK).await;
                }
                checked => return checked,
            }
        }
    }

    /// Whether this node may stamp writes now.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check_clock(&self) -> Result<(), Refusal> {
        let checked = self.shared.clock.check(self.shared.clocks.now());
        checked.map_err(|doubt| match doubt {
            Doubt::Unchecked => {
                Refusal::Recovering("its clock has not been compared with the others' yet".into())
            }
            Doubt::Off(off_ms) => Refusal::ClockOff { off_ms },
        })
    }
}

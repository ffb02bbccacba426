//! A snapshot: several keys, each no older than what another one depends on.
//!
//! The keys are read round after round, each round with all that the one before it has seen. When a
//! round finds the versions of the round before it, they are a causal cut. This is the double
//! collect of Afek et al., "Atomic Snapshots of Shared Memory" (1993), with causal reads for atomic
//! ones.
//!
//! *Why.* Let `v` and `w` be versions of two keys that both rounds found. What `v` depends on, the
//! context after the first round names, or every replica has it. The second round read `w` with
//! that context, and a read is never older than its context. So `w` is not older than what `v`
//! depends on. It does not matter that contexts leave out what every replica has: such a write was
//! on all of them before the second round began.
//!
//! *When it ends.* Two rounds do while nobody writes to these keys. Each write to one of them
//! between two rounds costs another round. Keys that are written faster than they can be read have
//! no end: who asks sets a time.

use super::context::Context;
use super::op::Read;
use super::teeth::{Rule, broken};
use super::version::Stamp;

/// The reads of a snapshot, round after round.
#[derive(Debug)]
pub struct Collect {
    context: Context,
    /// The versions of the round before.
    last: Option<Vec<Option<Stamp>>>,
}

impl Collect {
    /// A snapshot for a client with this context.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self {
            context,
            last: None,
        }
    }

    /// The context to read the next round with, and the client's when the snapshot is done.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Takes in a round: reads of the same keys in the same order, all of them made with
    /// [`Collect::context`]. Whether they are the snapshot.
    pub fn take(&mut self, round: &[Read]) -> bool {
        let found: Vec<Option<Stamp>> = round.iter().map(|read| read.stamp).collect();
        for read in round {
            self.context.join(&read.context);
        }
        // A key alone depends on no other.
        let alone = round.len() < 2 || broken(Rule::OneRoundSnapshot);
        let done = alone || self.last.as_ref() == Some(&found);
        self.last = Some(found);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Timestamp;
    use super::super::ids::{LogId, MemberId};
    use super::*;

    fn read(ts: u64) -> Read {
        let stamp = (ts > 0).then_some(Stamp {
            ts: Timestamp(ts),
            by: MemberId(1),
        });
        let mut context = Context::at(Timestamp(ts), 1);
        let log = LogId {
            member: MemberId(1),
            incarnation: 1,
        };
        context.see(log, ts.max(1));
        Read {
            found: None,
            stamp,
            context,
            stale: false,
        }
    }

    #[test]
    fn two_equal_rounds_are_a_snapshot_and_each_change_costs_one_more() {
        let mut collect = Collect::new(Context::default());
        for (round, done) in [
            ([1, 0], false),
            ([2, 0], false),
            ([2, 3], false),
            ([2, 3], true),
        ] {
            assert_eq!(collect.take(&round.map(read)), done, "{round:?}");
            let newest = round.into_iter().max().unwrap_or_default();
            assert_eq!(collect.context().clock, Timestamp(newest));
        }
    }

    #[test]
    fn a_key_alone_is_a_snapshot_at_once() {
        assert!(Collect::new(Context::default()).take(&[read(1)]));
    }
}

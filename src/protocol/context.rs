//! The client's vector clock: what a session has seen. Clients carry its text form, the
//! [`payload`](super::payload).
//!
//! A context is sparse: it names a log only while some replica may still lack a write of it.

use super::clock::Timestamp;
use super::ids::{LogId, MAX_VIEW};
use super::sound::{Unsound, checked_when_read, ensure, ensure_seq};
use serde::{Deserialize, Serialize};

/// The causal past of a session: per log the highest seq seen, and the highest timestamp seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Context {
    /// The highest hybrid logical timestamp seen.
    pub clock: Timestamp,
    /// The number of the newest view in which an entry may have been dropped. A replica that knows
    /// only an older view may lack the dropped writes.
    pub view: u64,
    /// Ascending by log, each once.
    entries: Vec<(LogId, u64)>,
}

checked_when_read!(Context);

impl Context {
    fn check(&self) -> Result<(), Unsound> {
        ensure(self.view < MAX_VIEW, "a context of no view")?;
        let ascends = self.entries.is_sorted_by(|one, next| one.0 < next.0);
        ensure(ascends, "a context with logs out of order")?;
        self.entries
            .iter()
            .try_for_each(|(_, seq)| ensure_seq(*seq))
    }

    /// A context that names no log.
    #[must_use]
    pub const fn at(clock: Timestamp, view: u64) -> Self {
        Self {
            clock,
            view,
            entries: Vec::new(),
        }
    }

    /// The seq seen of a log, if any.
    #[must_use]
    pub fn get(&self, log: LogId) -> Option<u64> {
        self.entries
            .binary_search_by_key(&log, |e| e.0)
            .ok()
            .map(|at| self.entries[at].1)
    }

    /// All entries, ascending by log.
    pub fn iter(&self) -> impl Iterator<Item = (LogId, u64)> + '_ {
        self.entries.iter().copied()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a write to what was seen.
    pub fn see(&mut self, log: LogId, seq: u64) {
        match self.entries.binary_search_by_key(&log, |e| e.0) {
            Ok(at) => self.entries[at].1 = self.entries[at].1.max(seq),
            Err(at) => self.entries.insert(at, (log, seq)),
        }
    }

    /// Adds everything that `other` has seen.
    pub fn join(&mut self, other: &Context) {
        self.clock = self.clock.max(other.clock);
        self.view = self.view.max(other.view);
        for &(log, seq) in &other.entries {
            self.see(log, seq);
        }
    }

    /// Keeps the entries for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(LogId, u64) -> bool) {
        self.entries.retain(|&(log, seq)| keep(log, seq));
    }

    /// Whether this context has seen everything that `other` has.
    #[must_use]
    pub fn covers(&self, other: &Context) -> bool {
        self.clock >= other.clock
            && self.view >= other.view
            && other
                .iter()
                .all(|(log, seq)| self.get(log).is_some_and(|s| s >= seq))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::ids::{MAX_VIEW, MemberId};
    use super::super::payload::EPOCH_MS;
    use super::*;
    use proptest::prelude::*;

    pub fn log(member: u16, incarnation: u64) -> LogId {
        LogId {
            member: MemberId(member),
            incarnation,
        }
    }

    pub fn any_context() -> impl Strategy<Value = Context> {
        (
            EPOCH_MS..(1u64 << 48),
            any::<u16>(),
            0..MAX_VIEW,
            proptest::collection::btree_map((any::<u16>(), any::<u64>()), 1u64.., 0..20),
        )
            .prop_map(|(ms, counter, view, entries)| {
                let mut context = Context {
                    clock: Timestamp(Timestamp::from_ms(ms).0 | u64::from(counter)),
                    view,
                    ..Context::default()
                };
                for ((member, incarnation), seq) in entries {
                    context.see(log(member, incarnation), seq);
                }
                context
            })
    }

    proptest! {
        #[test]
        fn join_covers_both_and_is_the_least_that_does(a in any_context(), b in any_context()) {
            let mut joined = a.clone();
            joined.join(&b);
            prop_assert!(joined.covers(&a) && joined.covers(&b));
            let mut other = b.clone();
            other.join(&a);
            prop_assert_eq!(&joined, &other);
            for (log, seq) in joined.iter() {
                prop_assert!(a.get(log) == Some(seq) || b.get(log) == Some(seq));
            }
        }
    }
}

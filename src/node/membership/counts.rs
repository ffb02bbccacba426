//! How many keys other members last had, so that somebody knows when they are dead.

use crate::node::wire::messages::{Count, Progress};
use crate::protocol::ids::MemberId;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The newest count of each member that this one has heard of, itself left out.
#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<MemberId, Count>>);

impl Counts {
    /// Takes note of what members say of themselves, and of what they remember of others.
    pub fn note(&self, said: &BTreeMap<MemberId, Progress>) {
        let mut counts = self.counts();
        for progress in said.values() {
            for (member, count) in &progress.remembers {
                let known = counts.entry(*member).or_insert(*count);
                if known.live_keys < count.live_keys {
                    *known = *count;
                }
            }
        }
        counts.extend(said.iter().map(|(member, p)| (*member, p.count())));
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<MemberId, Count> {
        self.counts().clone()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<MemberId, Count>> {
        // Plain data: a thread that panicked cannot have left it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The versions that are known to have come ahead of their logs.
//!
//! [`EarlyVersions`] is the only one that knows them, and keeps the disk's list of them.

use super::super::ids::{Dot, LogId};
use super::super::record;
use super::super::version::Key;
use super::staging::Staging;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The keys of versions that came ahead of their logs, by their dots.
pub(super) struct EarlyVersions(BTreeMap<Dot, Key>);

impl EarlyVersions {
    /// As the disk has them.
    pub(super) fn new(stored: BTreeMap<Dot, Key>) -> Self {
        Self(stored)
    }

    /// Notes a version.
    pub(super) fn note(&mut self, dot: Dot, key: Key, staging: &mut Staging) {
        staging.put(record::early_key(dot, &key), Bytes::new());
        self.0.insert(dot, key);
    }

    /// Forgets a version, if it is known.
    pub(super) fn let_go(&mut self, dot: Dot, staging: &mut Staging) {
        if let Some(key) = self.0.remove(&dot) {
            staging.delete(record::early_key(dot, &key));
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this version of a key is among them.
    pub(super) fn contains(&self, dot: Dot, key: &Key) -> bool {
        self.0.get(&dot) == Some(key)
    }

    /// All of them, in the order of logs.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Dot, &Key)> {
        self.0.iter().map(|(dot, key)| (*dot, key))
    }

    /// The dots of those of a log, up to this seq.
    pub(super) fn upto(&self, log: LogId, seq: u64) -> impl Iterator<Item = Dot> {
        let dots = Dot { log, seq: 0 }..=Dot { log, seq };
        self.0.range(dots).map(|(dot, _)| *dot)
    }

    /// The dots of those of a log.
    pub(super) fn of(&self, log: LogId) -> impl Iterator<Item = Dot> {
        self.upto(log, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::Timestamp;
    use super::super::super::ids::MemberId;
    use super::super::super::record::KeyCounts;
    use super::*;

    const fn dot(member: u16, seq: u64) -> Dot {
        let log = LogId {
            member: MemberId(member),
            incarnation: 7,
        };
        Dot { log, seq }
    }

    /// The next batch's record of a version: it is written, taken away, or left alone.
    fn recorded(staging: &mut Staging, dot: Dot, key: &Key) -> Option<bool> {
        let handed = staging.hand_out(std::iter::empty(), None, Timestamp::default());
        let at = record::early_key(dot, key);
        let (_, batch) = handed?;
        let found = batch.ops.iter().find(|(place, _)| *place == at);
        found.map(|(_, value)| value.is_some())
    }

    #[test]
    fn a_version_is_on_the_disk_s_list_until_it_is_let_go() {
        let mut staging = Staging::new(0, KeyCounts::default());
        let mut early = EarlyVersions::new(BTreeMap::new());
        let (at, key) = (dot(1, 5), Key::from("k"));
        early.note(at, key.clone(), &mut staging);
        assert_eq!(recorded(&mut staging, at, &key), Some(true));
        assert!(early.contains(at, &key) && !early.contains(at, &Key::from("other")));
        early.let_go(dot(1, 6), &mut staging);
        assert_eq!(recorded(&mut staging, dot(1, 6), &key), None, "not known");
        early.let_go(at, &mut staging);
        assert_eq!(recorded(&mut staging, at, &key), Some(false));
        assert!(early.is_empty() && !early.contains(at, &key));
    }

    #[test]
    fn versions_are_found_by_their_log() {
        let stored = [dot(1, 5), dot(1, 9), dot(2, 1)].map(|dot| (dot, Key::from("k")));
        let early = EarlyVersions::new(stored.into());
        let log = dot(1, 0).log;
        assert_eq!(early.of(log).collect::<Vec<_>>(), [dot(1, 5), dot(1, 9)]);
        assert_eq!(early.upto(log, 8).collect::<Vec<_>>(), [dot(1, 5)]);
        assert_eq!(early.upto(log, 9).count(), 2);
        assert_eq!(early.of(dot(3, 0).log).count(), 0);
        assert_eq!(early.iter().count(), 3);
    }
}

//! Which logs are finished: closed, in full at every member that shares them, and tracked no more.
//!
//! [`FinishedLogs`] keeps what is in memory and what is on the disk the same. Readers hold on to
//! what was published, so a change copies the table first if one of them still has it.

use super::staging::Staging;
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::record::{self, Finished};
use crate::protocol::views::CohortId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The finished logs, by cohort and writer.
type Table = BTreeMap<(CohortId, MemberId), Finished>;

/// The logs that are finished.
pub(super) struct FinishedLogs {
    table: Arc<Table>,
    /// Writes that were lost with nodes that were given up, as far as those had told of them.
    lost: u64,
    /// Readers have to be told, since this was last asked for.
    moved: bool,
}

impl FinishedLogs {
    /// What the disk says, after so many lost writes.
    pub(super) fn new(table: Table, lost: u64) -> Self {
        Self {
            table: Arc::new(table),
            lost,
            moved: false,
        }
    }

    /// Whether readers have to be told, since the last call.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// The table, for readers.
    pub(super) fn published(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// Writes that were lost with nodes that were given up, as far as those had told of them.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// All of them, by cohort and writer.
    pub(super) fn iter(&self) -> impl Iterator<Item = (CohortId, MemberId, &Finished)> {
        let table = self.table.iter();
        table.map(|((cohort, member), finished)| (*cohort, *member, finished))
    }

    /// Whether a log of a cohort is finished, if it is not tracked.
    pub(super) fn contains(&self, cohort: CohortId, log: LogId) -> bool {
        let finished = self.table.get(&(cohort, log.member));
        finished.is_some_and(|f| f.contains(log.incarnation))
    }

    /// The latest incarnation of a member that is finished, 0 when none is.
    pub(super) fn newest(&self, member: MemberId) -> u64 {
        let of_member = self.iter().filter(|(_, of, _)| *of == member);
        of_member.map(|(_, _, f)| f.newest()).max().unwrap_or(0)
    }

    /// All logs of a member for a cohort below this incarnation are finished, but for those that
    /// are tracked.
    pub(super) fn below(&self, cohort: CohortId, member: MemberId) -> u64 {
        let finished = self.table.get(&(cohort, member));
        finished.map_or(0, |f| f.below)
    }

    /// Adds a log that ends after `end` writes. Only the latest `most` of a member are remembered
    /// one by one.
    pub(super) fn add(
        &mut self,
        cohort: CohortId,
        log: LogId,
        end: u64,
        most: usize,
        staging: &mut Staging,
    ) {
        self.change(cohort, log.member, staging, |finished| {
            finished.insert(log.incarnation, end, most);
        });
    }

    /// Adds all logs of a member for a cohort below an incarnation.
    pub(super) fn add_below(
        &mut self,
        cohort: CohortId,
        member: MemberId,
        below: u64,
        staging: &mut Staging,
    ) {
        self.change(cohort, member, staging, |finished| finished.below = below);
    }

    /// Adds what another replica knows.
    pub(super) fn join(
        &mut self,
        cohort: CohortId,
        member: MemberId,
        theirs: &Finished,
        most: usize,
        staging: &mut Staging,
    ) {
        self.change(cohort, member, staging, |finished| {
            finished.join(theirs, most)
        });
    }

    /// Forgets the cohorts of which nothing is known.
    pub(super) fn retain(&mut self, known: impl Fn(CohortId) -> bool, staging: &mut Staging) {
        Arc::make_mut(&mut self.table).retain(|(cohort, member), _| {
            let kept = known(*cohort);
            if !kept {
                staging.delete(record::finished_key(*cohort, *member));
            }
            kept
        });
        self.moved = true;
    }

    /// Takes note that writes were lost with a node that was given up.
    pub(super) fn lose(&mut self, writes: u64) {
        self.lost += writes;
        self.moved = true;
    }

    fn change(
        &mut self,
        cohort: CohortId,
        member: MemberId,
        staging: &mut Staging,
        change: impl FnOnce(&mut Finished),
    ) {
        let table = Arc::make_mut(&mut self.table);
        let finished = table.entry((cohort, member)).or_default();
        change(finished);
        let value = record::encode(finished);
        staging.put(record::finished_key(cohort, member), value);
        self.moved = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::clock::Timestamp;
    use crate::protocol::record::KeyCounts;
    use crate::protocol::view::PartitionId;

    const COHORT: CohortId = CohortId {
        partition: PartitionId(0),
        since: 1,
    };
    const OTHER: CohortId = CohortId { since: 2, ..COHORT };

    const fn log(incarnation: u64) -> LogId {
        LogId {
            member: MemberId(1),
            incarnation,
        }
    }

    fn nothing() -> (FinishedLogs, Staging) {
        let finished = FinishedLogs::new(Table::new(), 0);
        (finished, Staging::new(0, KeyCounts::default()))
    }

    /// What the next batch says of a member's finished logs for a cohort.
    fn stored(staging: &mut Staging, cohort: CohortId) -> Option<Finished> {
        let handed = staging.hand_out(std::iter::empty(), None, Timestamp::default());
        let key = record::finished_key(cohort, MemberId(1));
        let ops = handed?.1.ops.into_iter();
        let (_, value) = ops.filter(|(k, _)| *k == key).last()?;
        Some(record::decode("finished", &value?).unwrap())
    }

    #[test]
    fn a_finished_log_is_known_here_and_on_the_disk() {
        let (mut finished, mut staging) = nothing();
        finished.add(COHORT, log(7), 3, 8, &mut staging);
        assert!(finished.contains(COHORT, log(7)));
        assert!(!finished.contains(COHORT, log(6)) && !finished.contains(OTHER, log(7)));
        assert_eq!(
            (finished.newest(MemberId(1)), finished.newest(MemberId(2))),
            (7, 0)
        );
        let stored = stored(&mut staging, COHORT).unwrap();
        assert_eq!(stored.last_seq(7), Some(3));
        assert!(finished.take_moved() && !finished.take_moved());
    }

    #[test]
    fn what_readers_hold_does_not_change() {
        let (mut finished, mut staging) = nothing();
        finished.add(COHORT, log(7), 3, 8, &mut staging);
        let held = finished.published();
        finished.add_below(COHORT, MemberId(1), 6, &mut staging);
        assert_eq!(held[&(COHORT, MemberId(1))].below, 0);
        assert_eq!(finished.below(COHORT, MemberId(1)), 6);
        assert!(finished.contains(COHORT, log(5)) && !finished.contains(COHORT, log(6)));
    }

    #[test]
    fn what_another_replica_knows_is_added() {
        let (mut finished, mut staging) = nothing();
        finished.add(COHORT, log(7), 3, 8, &mut staging);
        let mut theirs = Finished::default();
        theirs.insert(9, 4, 8);
        finished.join(COHORT, MemberId(1), &theirs, 8, &mut staging);
        let stored = stored(&mut staging, COHORT).unwrap();
        assert_eq!((stored.last_seq(7), stored.last_seq(9)), (Some(3), Some(4)));
    }

    #[test]
    fn a_cohort_of_which_nothing_is_known_is_forgotten_on_the_disk_too() {
        let (mut finished, mut staging) = nothing();
        finished.add(COHORT, log(7), 3, 8, &mut staging);
        finished.add(OTHER, log(8), 3, 8, &mut staging);
        finished.retain(|cohort| cohort == COHORT, &mut staging);
        assert_eq!(finished.iter().count(), 1);
        assert!(stored(&mut staging, OTHER).is_none());
    }

    #[test]
    fn lost_writes_add_up() {
        let mut finished = FinishedLogs::new(Table::new(), 2);
        finished.lose(3);
        assert_eq!(finished.lost(), 5);
        assert!(finished.take_moved());
    }
}

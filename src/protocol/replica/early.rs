//! Versions that came ahead of their log.
//!
//! A range or a snapshot ships what its sender has of a key, and that may be a write which the receiver's copy of
//! the writer's log does not reach yet. Readers see it at once, and as a rule the log follows. But when the writer
//! loses its disk before anybody has that part of its log, the log ends below the version, which would then stay
//! here alone. So such versions are remembered, on disk, and their log does not end while they are. When nobody
//! can supply more of it, what is left is logged again by this replica, with its stamp as it was; when that is
//! stable, the old log may go.

use super::super::ids::{Dot, LogId};
use super::super::record;
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::version::{Key, Version};
use super::super::views::{CohortId, Home};
use super::Replica;

impl<S: Store, T> Replica<S, T> {
    /// Takes note of those versions, just taken in, that are ahead of their logs.
    pub(super) fn note_early(&mut self, came: Vec<(Dot, Key)>) {
        for (dot, key) in came {
            let received = self.logs.get(&dot.log).map_or(0, |l| l.received);
            if dot.seq <= received || self.is_finished(dot.log) || broken(Rule::ForgetEarly) {
                continue;
            }
            // Those of logs that are no business of this replica are not its to pass on.
            if !self.track(dot.log) {
                continue;
            }
            let records = &mut self.staged.records;
            records.put(record::early_key(dot, &key), Vec::new());
            self.early.insert(dot, key);
        }
    }

    /// Whether versions of a log are here ahead of it.
    pub(super) fn has_early(&self, log: LogId) -> bool {
        let dots = Dot { log, seq: 0 }..=Dot { log, seq: u64::MAX };
        self.early.range(dots).next().is_some()
    }

    /// Lets go of what the logs have caught up with, or what is stable by another name; logs again what
    /// nobody can supply.
    pub(super) fn settle_early(&mut self) -> Result<(), StoreError> {
        if self.early.is_empty() {
            return Ok(());
        }
        for (dot, key) in self.early.clone() {
            let caught_up = match self.logs.get(&dot.log) {
                Some(log) => log.received >= dot.seq,
                None => true,
            };
            let place = record::data_key(&key);
            // What is on its way to the disk is looked at when it is there.
            if self.inflight.contains_key(&place) {
                continue;
            }
            let current = self.current(&place)?;
            let current = current.filter(|_| !caught_up);
            match current {
                Some(version) if version.dot == dot => {
                    let mine = Some(self.views.view.partition_of_key(&key)) == self.partition;
                    if mine && self.is_cut_off(dot) {
                        self.log_again(version);
                    }
                }
                Some(version) if !self.is_everywhere(version.dot) => {}
                _ => {
                    let records = &mut self.staged.records;
                    records.delete(record::early_key(dot, &key));
                    self.early.remove(&dot);
                }
            }
        }
        Ok(())
    }

    /// Whether versions are here ahead of logs of a cohort.
    pub(super) fn has_early_of(&self, id: CohortId) -> bool {
        let home = Home::Cohort(id);
        self.early
            .keys()
            .any(|dot| self.views.home(dot.log) == home)
    }

    fn is_everywhere(&self, dot: Dot) -> bool {
        match self.logs.get(&dot.log) {
            Some(log) => log.stable >= dot.seq,
            None => self.is_finished(dot.log),
        }
    }

    /// Whether nobody can supply a write: its writer has started again, and every replica has said, since
    /// it knows that, that it has no more of the log than is here, or not this.
    fn is_cut_off(&self, dot: Dot) -> bool {
        let id = dot.log;
        let Some(tie) = self.tie_of(id) else {
            return false;
        };
        let (cohort, met) = (tie.cohort.id, self.met(tie.cohort.id));
        let have = self.logs.get(&id).map_or(0, |l| l.received);
        let told = |(_, p): (_, &super::gossip::Peer)| p.has_told(cohort, met);
        let cut = self.is_closed(id) && self.known_end(id) <= have;
        (cut && self.peers_of(cohort).all(told)) || self.is_lost(dot)
    }

    /// Gives a version the next dot of the own log; readers go on to see it.
    ///
    /// Its stamp may lie behind what this log has promised. That harms nobody: as long as the old log is not
    /// finished, no floor passes its stamp, so no tombstone that beats it has been collected.
    fn log_again(&mut self, version: Version) {
        let key = version.key.clone();
        let dot = Dot {
            log: self.log,
            seq: self.head() + 1,
        };
        let again = Version { dot, ..version };
        self.accept.hide(&again, Some(again.clone()));
        self.stage_dot(dot, key.clone());
        self.stage(record::data_key(&key), Some(again.clone()));
        self.tail.push(again, true);
    }
}

//! Versions that came ahead of their log.
//!
//! A range or a snapshot ships what its sender has of a key, and that may be a write which the
//! receiver's copy of the writer's log does not reach yet. Readers see the version at once, and as
//! a rule the log follows. But if the writer loses its disk before any other member has that part
//! of its log, the log ends below the version, which would then stay here alone. So the replica
//! remembers such versions, on disk, and their log does not end meanwhile. When no peer can supply
//! more of the log, the replica logs the version again, in its own log and with the old stamp; when
//! that write is stable, the old log may go. A helper does not hold the version's slot any more and
//! cannot log the version: it hands the version to a holder, and forgets it when the holder
//! confirms that the version is durable there.

use super::super::ids::{Dot, LogId, MemberId};
use super::super::limits::{Bound, met};
use super::super::message::{Early, Message};
use super::super::record;
use super::super::slots::Slot;
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::version::{Key, Version};
use super::super::views::{CohortId, Home};
use super::Replica;
use super::hidden::Before;
use std::collections::BTreeMap;

impl<S: Store, T> Replica<S, T> {
    /// Remembers those of some versions, just taken in, that are ahead of their logs.
    pub(super) fn note_early(&mut self, came: Vec<(Dot, Key)>) {
        for (dot, key) in came {
            let received = self.logs.received(dot.log);
            if dot.seq <= received || self.is_finished(dot.log) || broken(Rule::ForgetEarly) {
                continue;
            }
            // This replica does not share the log, so it has nobody to pass the version on to.
            if !self.track(dot.log) {
                continue;
            }
            self.early.note(dot, key, &mut self.staging);
        }
    }

    /// Whether versions of a log are here ahead of it.
    pub(super) fn has_early(&self, log: LogId) -> bool {
        self.early.of(log).next().is_some()
    }

    /// Whether this replica has versions ahead of a log that no other one is known to have. A
    /// version that was gathered from others is none of these: two replicas with such versions
    /// would wait for each other before they go on with the log.
    pub(super) fn has_early_alone(&self, log: LogId) -> bool {
        let mut early = self.early.of(log);
        early.any(|dot| !self.gathering.has(dot) || broken(Rule::WaitForGathered))
    }

    /// Forgets the versions that their logs have caught up with, and those that are stable under
    /// another dot; logs the versions again that no peer can supply.
    pub(super) fn settle_early(&mut self) -> Result<(), StoreError> {
        if self.early.is_empty() {
            return Ok(());
        }
        let mut handed: BTreeMap<MemberId, (usize, Vec<Early>)> = BTreeMap::new();
        let early = self.early.iter().map(|(dot, key)| (dot, key.clone()));
        for (dot, key) in early.collect::<Vec<_>>() {
            let caught_up = match self.logs.get(dot.log) {
                Some(log) => log.received >= dot.seq,
                None => true,
            };
            let slot = Slot::of(&key);
            let place = record::slot_key(slot, &key);
            // The key has a version on its way to the disk: the next round looks at that when it is
            // durable.
            if self.staging.contains(&place) {
                continue;
            }
            let current = self.current(&place)?.filter(|_| !caught_up);
            let current = current.filter(|c| c.dot == dot || !self.is_everywhere(c.dot));
            let Some(version) = current else {
                self.early.let_go(dot, &mut self.staging);
                continue;
            };
            if !self.is_cut_off(dot) {
                continue;
            }
            if Some(self.views.view.partition(slot)) == self.partition {
                if version.dot == dot && self.knows_ends(dot.log) {
                    self.log_again(version);
                }
            } else if let Some(holder) = self.holder_of(slot) {
                let (bytes, early) = handed.entry(holder).or_default();
                *bytes += version.size();
                if *bytes <= self.limits.handed_bytes || early.is_empty() {
                    early.push(Early { dot, version });
                } else {
                    met(Bound::Handed);
                }
            }
        }
        for (holder, (_, early)) in handed {
            self.effects.send(holder, Message::Early(early));
        }
        Ok(())
    }

    /// A holder of a slot in the view in force that can be reached.
    fn holder_of(&self, slot: Slot) -> Option<MemberId> {
        let view = &self.views.view;
        let mut holders = view.replicas(view.partition(slot)).iter().copied();
        let alive = |m: &MemberId| self.peers.is_alive(*m, self.now);
        holders.find(alive)
    }

    /// Takes versions that came to a peer ahead of their logs, and says which of them are on the
    /// disk here.
    pub(super) fn handed_early(
        &mut self,
        from: MemberId,
        handed: Vec<Early>,
    ) -> Result<(), StoreError> {
        if !self.recovery.serving {
            return Ok(());
        }
        let (mut kept, mut new) = (Vec::new(), Vec::new());
        for Early { dot, version } in handed {
            let slot = Slot::of(&version.key);
            let place = record::slot_key(slot, &version.key);
            let mine = Some(self.views.view.partition(slot)) == self.partition;
            // Not this replica's slot, or not durable here yet: the helper hands the version over
            // again.
            if !mine || self.staging.contains(&place) {
                continue;
            }
            match self.current(&place)? {
                Some(current) if current.stamp >= version.stamp => {
                    // The log of that dot may end as soon as the helper forgets the version, and a
                    // client that has seen the write may then read from any holder. So the helper
                    // hands the version over again until all holders have this or a later one.
                    // Where the log here reaches that far, that is not needed: the log does not end
                    // before all holders have it.
                    let log = self.logs.get(dot.log);
                    let reached = log.is_some_and(|l| l.applied >= dot.seq);
                    if reached || self.is_everywhere(current.dot) || broken(Rule::KeepForOne) {
                        kept.push((dot, version.key));
                    }
                }
                _ => new.push(version),
            }
        }
        let came = self.take_versions(new)?;
        self.note_early(came);
        if !kept.is_empty() {
            self.effects.send(from, Message::EarlyKept(kept));
        }
        Ok(())
    }

    /// Lets go of what a holder has on its disk.
    pub(super) fn early_kept(&mut self, from: MemberId, kept: &[(Dot, Key)]) {
        for (dot, key) in kept {
            let view = &self.views.view;
            let holds = view.partition_of(from) == Some(view.partition_of_key(key));
            if holds && self.early.contains(*dot, key) {
                self.early.let_go(*dot, &mut self.staging);
            }
        }
    }

    /// Whether versions are here ahead of logs of a cohort.
    pub(super) fn has_early_of(&self, id: CohortId) -> bool {
        let home = Home::Cohort(id);
        let mut early = self.early.iter();
        early.any(|(dot, _)| self.views.home(dot.log) == home)
    }

    fn is_everywhere(&self, dot: Dot) -> bool {
        match self.logs.get(dot.log) {
            Some(log) => log.stable >= dot.seq,
            None => self.is_finished(dot.log),
        }
    }

    /// Whether this replica knows which logs of a log's cohort are over. It does not before it has
    /// fetched the cohort: peers do not report a log that is over, so the log looks as if nobody
    /// had anything of it.
    fn knows_ends(&self, log: LogId) -> bool {
        let state = self.cohort_of(log);
        state.is_some_and(|t| self.is_filled(t.cohort.id)) || broken(Rule::LogAgainUnfilled)
    }

    /// Whether no peer can supply a write: its writer has started again, and every peer has said
    /// since it knows of that start that it has no more of the log than this replica, or not this
    /// write. A helper that has lost all it had says so, and is not waited for.
    fn is_cut_off(&self, dot: Dot) -> bool {
        let id = dot.log;
        let Some(state) = self.cohort_of(id) else {
            return false;
        };
        let sharing = self.sharing();
        let have = self.logs.received(id);
        let cut = sharing.is_closed(id) && self.known_end(id) <= have;
        (cut && sharing.all_have_told(state.cohort.id)) || self.gathering.lacks(dot)
    }

    /// Gives a version the next dot of the own log; readers go on to see it.
    ///
    /// The stamp may lie behind what this log has promised. That harms nobody: as long as the old
    /// log is not finished, no floor passes its stamp, so no tombstone that beats it has been
    /// collected.
    fn log_again(&mut self, version: Version) {
        let key = version.key.clone();
        let dot = Dot {
            log: self.log,
            seq: self.head() + 1,
        };
        let again = Version { dot, ..version };
        let before = Before {
            shown: Some(again.clone()),
            coming: None,
        };
        self.hidden.hide(&again, before, self.now);
        self.stage_dot(dot, key.clone());
        let place = record::data_key(&key);
        self.staging.replace(place, Some(again.clone()));
        self.tail.push(again, true);
    }
}

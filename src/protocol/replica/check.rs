//! Invariants of a replica: they hold after every step and every flush. Debug builds check them,
//! release builds do not.

use super::super::store::Store;
use super::super::teeth;
use super::super::views::Home;
use super::Replica;
use super::logs::Log;

/// The checks that go through all that is on its way to the disk are made at every such moment, in
/// microseconds.
const NOW_AND_THEN_US: u64 = 16;

impl<S: Store, T> Replica<S, T> {
    /// Asserts what must hold.
    ///
    /// With a rule of the protocol broken on purpose nothing is promised: a test wants to see who
    /// else notices.
    pub(super) fn check(&self) {
        if !cfg!(debug_assertions) || teeth::is_any_broken() {
            return;
        }
        self.check_logs();
        self.check_batches();
        if self.now.mono_us.is_multiple_of(NOW_AND_THEN_US) {
            self.staging.check_inflight();
            self.check_peers();
            self.hidden.check(self.head(), self.accept.seqs());
        }
    }

    fn check_logs(&self) {
        for (id, log) in self.logs.iter() {
            let Log {
                received,
                applied,
                exposed,
                pruned,
                ..
            } = log;
            assert!(applied <= received, "{id}: applied {applied} > {received}");
            assert!(exposed <= applied, "{id}: exposed {exposed} > {applied}");
            let useless = log.prunable();
            assert!(*pruned <= useless, "{id}: pruned {pruned} > {useless}");
            let state = self.cohorts.get(log.cohort);
            assert!(state.is_some(), "{id}: {} is not shared", log.cohort);
            assert_eq!(self.views.home(id), Home::Cohort(log.cohort), "{id}");
        }
        if self.cohorts.own_id().is_some() {
            let home = self.views.home(self.log);
            assert!(
                self.logs.contains(self.log),
                "{}, of {home:?}, is not tracked",
                self.log
            );
        }
    }

    fn check_batches(&self) {
        let received = |id| self.logs.get(id).map(|log| log.received);
        self.staging.check(received);
        let kept = self.promises.kept(self.staging.promises());
        assert!(self.promises.given() <= kept, "a promise will be kept");
        assert!(self.promises.told() <= self.promises.given());
    }

    fn check_peers(&self) {
        let shared = self.cohorts.peers();
        assert!(self.peers.ids().eq(shared), "peers as in the cohorts");
        for (member, peer) in self.peers.iter() {
            for (log, level) in &peer.level {
                let applied = peer.applied(*log);
                assert!(*level <= applied, "{member} is level beyond what it has");
            }
        }
    }
}

//! How far a member's earlier logs are wherever a later one has begun.
//!
//! Each start of a node opens a log. While a replica is away none of them becomes stable, and a
//! client that reads on would have to name each of them in its context. So with the first write of
//! a log its writer says how far it has its earlier ones, and nobody takes that write before having
//! those up to there. Then to name the later log says it of the earlier ones too, and contexts drop
//! them.

use super::super::context::Context;
use super::super::ids::LogId;
use super::super::record::Seal;
use super::super::store::Store;
use super::super::teeth::{Rule, broken};
use super::super::views::CohortId;
use super::Replica;

/// Drops the entries of a context that are said by those of later logs.
pub(in super::super) fn fold(context: &mut Context, seal: impl Fn(LogId) -> Option<Seal>) {
    let said = |log: LogId, seq: u64| {
        let (mut at, mut need) = (log, seq);
        while let Some(seal) = seal(at).filter(|s| s.upto >= need && s.by > at.incarnation) {
            at.incarnation = seal.by;
            // A log in between only has to have begun.
            need = 1;
            if context.get(at).is_some() {
                return true;
            }
        }
        false
    };
    let entries: Vec<(LogId, u64)> = context.iter().collect();
    let pairs = entries.windows(2);
    // Only where a later log of the member is named as well.
    let candidates = pairs.filter(|pair| pair[0].0.member == pair[1].0.member);
    let gone: Vec<LogId> = candidates
        .filter(|pair| said(pair[0].0, pair[0].1))
        .map(|pair| pair[0].0)
        .collect();
    if !gone.is_empty() {
        context.retain(|log, _| gone.binary_search(&log).is_err());
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Drops the entries of a context that are said by those of later logs.
    pub(super) fn fold(&self, context: &mut Context) {
        fold(context, |log| self.logs.get(log).and_then(|l| l.seal));
    }

    /// Notes, with the first write of the own log, how far the earlier ones are here.
    pub(super) fn seal_earlier_logs(&mut self) {
        self.logs.seal_earlier(self.cohorts.own_id());
    }

    /// The earlier logs that have to be there before a log begins.
    pub(super) fn seals_for(&self, id: LogId) -> Vec<(u64, Seal)> {
        let earlier = LogId {
            incarnation: 0,
            ..id
        };
        let Some(cohort) = self.logs.get(id).map(|l| l.cohort) else {
            return Vec::new();
        };
        let logs = self.logs.range(earlier..id);
        logs.filter(|(_, log)| log.cohort == cohort)
            .filter_map(|(log, l)| Some((log.incarnation, l.received, l.seal?)))
            // A seal that reaches beyond what is here was not heard before this log began here, so
            // it is no condition of that.
            .filter(|(_, received, seal)| seal.by <= id.incarnation && seal.upto <= *received)
            .map(|(incarnation, _, seal)| (incarnation, seal))
            .collect()
    }

    /// What is known of the ends of a cohort's logs.
    pub(super) fn seals_of(&self, id: CohortId) -> Vec<(LogId, Seal)> {
        let logs = self.logs.iter().filter(|(_, log)| log.cohort == id);
        logs.filter_map(|(log, l)| Some((log, l.seal?))).collect()
    }

    /// Whether what goes before a log's first write is here; if not it is asked for, and the log
    /// has to wait.
    pub(super) fn is_begun_right(&mut self, id: LogId, seals: &[(u64, Seal)]) -> bool {
        let mut right = true;
        for &(incarnation, seal) in seals {
            let earlier = LogId { incarnation, ..id };
            if self.is_finished(earlier) || !self.track(earlier) {
                continue;
            }
            self.logs.learn_seal(earlier, seal);
            let received = self.logs.received(earlier);
            if received < seal.upto {
                right = false;
                self.pull(earlier);
            }
        }
        right || broken(Rule::BeginBeforeEarlier)
    }
}

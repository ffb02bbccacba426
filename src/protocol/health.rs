//! Which members answer: remembered, so that one time-out is paid once and not by every request.

use super::ids::MemberId;
use std::collections::BTreeMap;

/// How long a failed attempt counts against a member that has not been heard since, in
/// microseconds.
const SUSPECT_US: u64 = 1_000_000;

/// Which members have answered lately, and which have not.
#[derive(Debug, Default, Clone)]
pub struct Health {
    members: BTreeMap<MemberId, Record>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Record {
    failed_us: Option<u64>,
    heard_us: Option<u64>,
}

impl Health {
    /// Notes that a message came from the member.
    pub fn heard(&mut self, member: MemberId, mono_us: u64) {
        let record = self.members.entry(member).or_default();
        record.heard_us = Some(mono_us);
    }

    /// Notes that the member did not answer, or could not be reached.
    pub fn failed(&mut self, member: MemberId, mono_us: u64) {
        let record = self.members.entry(member).or_default();
        record.failed_us = Some(mono_us);
    }

    /// Notes that the member answered a request.
    pub fn answered(&mut self, member: MemberId) {
        if let Some(record) = self.members.get_mut(&member) {
            record.failed_us = None;
        }
    }

    /// Whether an attempt at this member is likely to be in vain.
    #[must_use]
    pub fn suspected(&self, member: MemberId, mono_us: u64) -> bool {
        self.members
            .get(&member)
            .and_then(|r| r.failed_us)
            .is_some_and(|at| mono_us.saturating_sub(at) < SUSPECT_US)
    }

    /// Whether the member was heard of within `within_us`.
    #[must_use]
    pub fn alive(&self, member: MemberId, mono_us: u64, within_us: u64) -> bool {
        self.members
            .get(&member)
            .and_then(|r| r.heard_us)
            .is_some_and(|at| mono_us.saturating_sub(at) < within_us)
            && !self.suspected(member, mono_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_remembered_until_an_answer_or_for_a_second() {
        let (m, mut health) = (MemberId(1), Health::default());
        assert!(!health.suspected(m, 0));
        health.failed(m, 10);
        assert!(health.suspected(m, 20));
        // Being heard is not enough: what a frozen or half-cut node sent earlier may still arrive.
        health.heard(m, 30);
        assert!(health.suspected(m, 40));
        assert!(!health.alive(m, 40, 1_000));
        health.answered(m);
        assert!(!health.suspected(m, 50));
        health.failed(m, 60);
        assert!(!health.suspected(m, 60 + SUSPECT_US));
    }
}

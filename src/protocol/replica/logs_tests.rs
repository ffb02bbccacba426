//! How the marks of logs move.

use super::*;
use crate::protocol::view::PartitionId;

const COHORT: CohortId = CohortId {
    partition: PartitionId(0),
    since: 1,
};
const OWN: LogId = log(0, 7);
const OTHER: LogId = log(1, 3);

const fn log(member: u16, incarnation: u64) -> LogId {
    LogId {
        member: MemberId(member),
        incarnation,
    }
}

fn at(mono_us: u64) -> Now {
    Now {
        mono_us,
        wall_ms: 1_000,
    }
}

/// The own log and another member's, with so many writes taken in of each.
fn logs(received: u64) -> Logs {
    let mut logs = Logs::new(OWN);
    for id in [OWN, OTHER] {
        logs.track(id, COHORT, at(0));
        for seq in 1..=received {
            assert!(logs.take_in(Dot { log: id, seq }, true, at(seq)));
        }
    }
    assert!(!logs.take_moved(), "readers see what is durable");
    logs
}

#[test]
fn a_write_of_another_member_may_be_shown_as_soon_as_it_is_durable_here() {
    let mut logs = logs(5);
    assert_eq!(logs.stored(OTHER, 3), Some(0));
    assert_eq!(logs.stored(OWN, 4), Some(0));
    let marks = |id| logs.get(id).map(|l| (l.received, l.applied, l.exposed));
    assert_eq!(marks(OTHER), Some((5, 3, 3)));
    assert_eq!(marks(OWN), Some((5, 4, 0)), "it waits for a second copy");
    logs.expose(4);
    assert_eq!(logs.own().unwrap().exposed, 4);
    assert!(logs.take_moved());
}

#[test]
fn no_mark_goes_back_and_readers_are_told_only_of_what_moves() {
    let mut logs = logs(5);
    assert_eq!(logs.stored(OWN, 5), Some(0));
    logs.expose(5);
    logs.stabilize(|id, _| if id == OWN { 4 } else { 0 });
    assert!(logs.take_moved());
    assert_eq!(logs.stored(OWN, 3), None);
    logs.expose(2);
    logs.stabilize(|_, _| 0);
    logs.hear_stable(OWN, 2);
    let own = logs.own().unwrap();
    assert_eq!((own.applied, own.exposed, own.stable), (5, 5, 4));
    assert!(!logs.take_moved());
    assert_eq!(logs.stored(log(9, 9), 1), None, "it is not tracked");
    assert!(!logs.take_moved());
}

#[test]
fn a_log_is_written_down_once_for_each_change() {
    let mut logs = logs(2);
    let written = |logs: &mut Logs| -> Vec<_> {
        let dirty = logs.take_dirty();
        dirty.map(|(id, record)| (id, record.applied)).collect()
    };
    assert_eq!(written(&mut logs), [(OWN, 2), (OTHER, 2)]);
    assert_eq!(written(&mut logs), []);
    let seal = |upto| Seal { by: 9, upto };
    logs.learn_seal(OTHER, seal(2));
    assert_eq!(written(&mut logs), [(OTHER, 2)]);
    logs.learn_seal(OTHER, seal(1));
    assert_eq!(written(&mut logs), [], "the later seal is known");
}

#[test]
fn a_promise_counts_when_the_writes_before_it_are_durable() {
    let ms = Timestamp::from_ms;
    let mut logs = logs(3);
    logs.promised(OTHER, 2, ms(50));
    assert_eq!(logs.get(OTHER).unwrap().complete(), Timestamp::default());
    logs.stored(OTHER, 2);
    assert_eq!(logs.get(OTHER).unwrap().complete(), ms(50));
    // A later promise after a later write leaves what the earlier one said.
    logs.promised(OTHER, 3, ms(70));
    assert_eq!(logs.get(OTHER).unwrap().complete(), ms(50));
    logs.stored(OTHER, 3);
    assert_eq!(logs.get(OTHER).unwrap().complete(), ms(70));
    assert_eq!(
        logs.complete(),
        Timestamp::default(),
        "of the own log nothing was promised"
    );
}

#[test]
fn the_first_write_of_a_log_seals_those_before_it() {
    let mut logs = logs(3);
    let (earlier, empty, elsewhere) = (log(0, 4), log(0, 5), log(0, 6));
    logs.track(earlier, COHORT, at(0));
    logs.take_in(
        Dot {
            log: earlier,
            seq: 1,
        },
        true,
        at(0),
    );
    logs.track(empty, COHORT, at(0));
    let other = CohortId { since: 2, ..COHORT };
    logs.track(elsewhere, other, at(0));
    logs.take_in(
        Dot {
            log: elsewhere,
            seq: 1,
        },
        true,
        at(0),
    );
    logs.seal_earlier(Some(COHORT));
    let seal = |id| logs.get(id).and_then(|l| l.seal);
    assert_eq!(seal(earlier), Some(Seal { by: 7, upto: 1 }));
    assert_eq!([seal(empty), seal(elsewhere), seal(OTHER)], [None; 3]);
}

#[test]
fn a_snapshot_brings_a_log_further_and_leaves_no_index_below() {
    let mut logs = logs(3);
    let report = |applied, stable| LogReport {
        log: OTHER,
        applied,
        stable,
    };
    assert!(!logs.adopt(&report(2, 1), COHORT, at(9)));
    assert_eq!(logs.get(OTHER).unwrap().indexed_from, 0);
    assert!(logs.adopt(&report(8, 6), COHORT, at(9)));
    let log = logs.get(OTHER).unwrap();
    assert_eq!((log.received, log.applied), (8, 0), "it is not durable yet");
    assert_eq!((log.indexed_from, log.pruned), (8, 6));
}

#[test]
fn a_cut_leaves_each_log_the_newest_part_of_its_index() {
    let mut logs = logs(6);
    logs.stored(OWN, 6);
    logs.stored(OTHER, 2);
    logs.cut_index(3);
    let indexed = |id| logs.get(id).map(Log::indexed);
    assert_eq!([indexed(OWN), indexed(OTHER)], [Some(3), Some(2)]);
    assert_eq!(logs.own().unwrap().prunable(), 3);
    assert_eq!(logs.own().unwrap().pruned, 0, "it is still to be dropped");
}

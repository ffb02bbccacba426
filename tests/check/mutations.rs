//! Histories of a store that is right pass; when they are spoilt, each in a way that is wrong for
//! certain, they do not.

use crate::script::{Line, history};
use crate::store::{Recorded, Shape, run};
use causeway::check::history::{Completion, Kind};
use causeway::check::{Invalid, Pattern, Violation};

const SEEDS: u64 = 60;

fn shape(deletes: bool, faults: bool) -> Shape {
    Shape {
        operations: 300,
        sessions: 7,
        keys: 5,
        deletes,
        faults,
    }
}

fn verdict(lines: &[Line]) -> Result<(), Violation> {
    history(lines).check().map(|_| ())
}

/// Has more sessions than one block of vector clocks.
fn wide() -> Shape {
    Shape {
        operations: 1500,
        sessions: 300,
        ..shape(false, true)
    }
}

/// Spoils one history of each seed, where it can be spoilt that way, and expects it to be caught.
fn caught(name: &str, spoil: impl Fn(&Recorded) -> Option<Vec<Line>>, expected: &[Pattern]) {
    let mut spoilt = 0;
    for seed in 0..SEEDS {
        let recorded = match seed % 8 {
            0 => run(seed, &wide()),
            _ => run(seed, &shape(false, true)),
        };
        let Some(lines) = spoil(&recorded) else {
            continue;
        };
        spoilt += 1;
        let violation = verdict(&lines).expect_err(name);
        assert!(expected.contains(&violation.pattern), "{violation}");
        let text = violation.to_string();
        assert!(
            violation.lines.len() > 1 || expected == [Pattern::ThinAirRead],
            "{text}"
        );
    }
    assert!(spoilt > SEEDS / 2, "{name}: only {spoilt} could be spoilt");
}

fn reads(recorded: &Recorded) -> impl Iterator<Item = usize> {
    let lines = recorded.lines.iter().enumerate();
    lines.filter_map(|(i, l)| (l.kind == Kind::Get && l.status == Completion::Ok).then_some(i))
}

/// A late session of its own, so that what it reads is known to have been written.
fn stranger(recorded: &Recorded, name: &str, of: &[usize]) -> Vec<Line> {
    let end = recorded.lines.iter().map(|l| l.end).max().unwrap();
    let read = |(i, &write): (u64, &usize)| Line {
        session: name.into(),
        kind: Kind::Get,
        status: Completion::Ok,
        start: end + i,
        end: end + i,
        ..recorded.lines[write].clone()
    };
    (1..).zip(of).map(read).collect()
}

fn is_ok_write(recorded: &Recorded, line: usize) -> bool {
    let line = &recorded.lines[line];
    line.kind != Kind::Get && line.status == Completion::Ok
}

/// One of the writes of a key that another of them depends on.
fn older_of(recorded: &Recorded, write: usize) -> Option<usize> {
    let same = |&&w: &&usize| recorded.lines[w].key == recorded.lines[write].key;
    recorded.truth[write].past.iter().find(same).copied()
}

#[test]
fn right_histories_pass() {
    for seed in 0..SEEDS {
        for (deletes, faults) in [(false, false), (false, true), (true, false), (true, true)] {
            let lines = run(seed, &shape(deletes, faults)).lines;
            if let Err(violation) = verdict(&lines) {
                panic!("seed {seed}, {deletes}, {faults}: {violation}");
            }
        }
    }
}

#[test]
fn right_histories_of_many_sessions_pass() {
    for seed in 0..4 {
        for deletes in [false, true] {
            let lines = run(seed, &Shape { deletes, ..wide() });
            if let Err(violation) = verdict(&lines.lines) {
                panic!("seed {seed}, {deletes}: {violation}");
            }
        }
    }
}

#[test]
fn to_know_less_is_no_violation() {
    for seed in 0..SEEDS / 4 {
        let lines = run(seed, &shape(true, true)).lines;
        for part in 0..5 {
            let mut weaker = lines.clone();
            for line in weaker.iter_mut().skip(part).step_by(5) {
                line.status = match line.status {
                    Completion::Ok => Completion::Unknown,
                    other => other,
                };
            }
            assert_eq!(verdict(&weaker), Ok(()), "seed {seed}");
        }
        let mut fewer = lines;
        let mut at = 0;
        fewer.retain(|l| {
            at += 1;
            l.kind != Kind::Get || at % 3 > 0
        });
        assert_eq!(verdict(&fewer), Ok(()), "seed {seed}");
    }
}

#[test]
fn an_older_value_is_caught() {
    let spoil = |recorded: &Recorded| {
        let mut lines = recorded.lines.clone();
        let (read, older) = reads(recorded).find_map(|read| {
            let source = recorded.truth[read].source?;
            let knew = recorded.truth[read].past.contains(&source);
            Some((read, older_of(recorded, source).filter(|_| knew)?))
        })?;
        lines[read].value.clone_from(&recorded.lines[older].value);
        Some(lines)
    };
    // The present value may already have lost against a third one.
    let expected = [Pattern::WriteCoRead, Pattern::CyclicCf];
    caught("an older value", spoil, &expected);
}

#[test]
fn a_lost_write_is_caught() {
    let spoil = |recorded: &Recorded| {
        let mut lines = recorded.lines.clone();
        let read = reads(recorded).find(|&read| {
            let key = &lines[read].key;
            let mut past = recorded.truth[read].past.iter();
            past.any(|&w| &lines[w].key == key)
        })?;
        lines[read].value = None;
        Some(lines)
    };
    caught("a lost write", spoil, &[Pattern::WriteCoInitRead]);
}

#[test]
fn a_write_that_is_missing_is_caught() {
    let spoil = |recorded: &Recorded| {
        let source = reads(recorded).find_map(|r| recorded.truth[r].source)?;
        let mut lines = recorded.lines.clone();
        lines.remove(source);
        Some(lines)
    };
    caught("a missing write", spoil, &[Pattern::ThinAirRead]);
}

#[test]
fn a_failed_write_that_is_seen_is_caught() {
    let spoil = |recorded: &Recorded| {
        let source = reads(recorded).find_map(|r| recorded.truth[r].source)?;
        let mut lines = recorded.lines.clone();
        lines[source].status = Completion::Fail;
        Some(lines)
    };
    caught("a failed write", spoil, &[Pattern::ThinAirRead]);
}

#[test]
fn a_read_before_its_write_is_caught() {
    let spoil = |recorded: &Recorded| {
        // A session's own write and its read of it, in the wrong order.
        let (write, read) = reads(recorded).find_map(|read| {
            let write = recorded.truth[read].source?;
            let own = recorded.lines[write].session == recorded.lines[read].session;
            let apart = recorded.lines[write].end < recorded.lines[read].start;
            (own && apart && is_ok_write(recorded, write)).then_some((write, read))
        })?;
        let mut lines = recorded.lines.clone();
        let (w, r) = (&recorded.lines[write], &recorded.lines[read]);
        (lines[write].start, lines[write].end) = (r.start, r.end);
        (lines[read].start, lines[read].end) = (w.start, w.end);
        Some(lines)
    };
    caught("a read before its write", spoil, &[Pattern::ThinAirRead]);
}

#[test]
fn swapped_reads_are_caught() {
    let spoil = |recorded: &Recorded| {
        let all: Vec<usize> = reads(recorded).collect();
        let pairs = all.iter().flat_map(|&a| all.iter().map(move |&b| (a, b)));
        let (a, b) = pairs.into_iter().find(|&(a, b)| {
            let (one, other) = (&recorded.lines[a], &recorded.lines[b]);
            let same = one.session == other.session && one.key == other.key;
            let sources = (recorded.truth[a].source, recorded.truth[b].source);
            let (Some(first), Some(second)) = sources else {
                return false;
            };
            let started = recorded.lines[second].start <= one.end;
            a < b && same && started && recorded.truth[second].past.contains(&first)
        })?;
        let mut lines = recorded.lines.clone();
        lines[a].value.clone_from(&recorded.lines[b].value);
        lines[b].value.clone_from(&recorded.lines[a].value);
        Some(lines)
    };
    let expected = [Pattern::WriteCoRead, Pattern::CyclicCf, Pattern::CyclicCo];
    caught("swapped reads", spoil, &expected);
}

#[test]
fn an_effect_without_its_cause_is_caught() {
    let spoil = |recorded: &Recorded| {
        // Whoever has read the effect may not read what its cause has overwritten.
        let effects = (0..recorded.lines.len()).filter(|&w| is_ok_write(recorded, w));
        let (effect, older) = effects.into_iter().find_map(|effect| {
            let causes = recorded.truth[effect].past.iter();
            let mut other =
                causes.filter(|&&c| recorded.lines[c].key != recorded.lines[effect].key);
            other.find_map(|&cause| Some((effect, older_of(recorded, cause)?)))
        })?;
        let more = stranger(recorded, "stranger", &[effect, older]);
        Some([recorded.lines.clone(), more].concat())
    };
    let expected = [Pattern::WriteCoRead, Pattern::CyclicCf];
    caught("an effect without its cause", spoil, &expected);
}

#[test]
fn replicas_that_do_not_converge_are_caught() {
    let spoil = |recorded: &Recorded| {
        let all: Vec<usize> = (0..recorded.lines.len())
            .filter(|&w| is_ok_write(recorded, w))
            .collect();
        let pairs = all.iter().flat_map(|&a| all.iter().map(move |&b| (a, b)));
        let (a, b) = pairs.into_iter().find(|&(a, b)| {
            let apart =
                !recorded.truth[b].past.contains(&a) && !recorded.truth[a].past.contains(&b);
            a < b && recorded.lines[a].key == recorded.lines[b].key && apart
        })?;
        let one = stranger(recorded, "one", &[a, b]);
        let other = stranger(recorded, "other", &[b, a]);
        Some([recorded.lines.clone(), one, other].concat())
    };
    // One of the two may contradict what somebody else has seen already.
    let expected = [Pattern::WriteCoRead, Pattern::CyclicCf];
    caught("no convergence", spoil, &expected);
}

#[test]
fn a_line_twice_is_refused() {
    let recorded = run(1, &shape(false, false));
    let put = recorded.lines.iter().find(|l| l.kind == Kind::Put).unwrap();
    let mut history = history(&recorded.lines);
    let again = Line {
        session: "another".into(),
        ..put.clone()
    };
    let refused = again.push_to(&mut history).unwrap_err();
    assert!(matches!(refused, Invalid::SameValue { .. }), "{refused}");
}

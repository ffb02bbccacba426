//! Small random histories: the checker says what the definition says.

use crate::oracle;
use crate::script::{Line, history};
use causeway::check::history::{Completion, Kind};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Step {
    session: u64,
    key: u8,
    kind: Kind,
    /// The place of the value that a read returns among those of its key.
    pick: usize,
    status: Completion,
    wait: u64,
    length: u64,
}

fn step(keys: u8, deletes: u32, open: u32) -> impl Strategy<Value = Step> {
    let kind = prop_oneof![
        4 => Just(Kind::Put),
        6 => Just(Kind::Get),
        deletes => Just(Kind::Delete),
    ];
    let status = prop_oneof![
        12 => Just(Completion::Ok),
        open => Just(Completion::Unknown),
        1 => Just(Completion::Fail),
    ];
    let times = (0u64..3, 0u64..4);
    (0u64..4, 0..keys, kind, any::<usize>(), status, times).prop_map(
        |(session, key, kind, pick, status, (wait, length))| Step {
            session,
            key,
            kind,
            pick,
            status,
            wait,
            length,
        },
    )
}

/// A value is the number of its put's line. Reads return any value of their key.
fn lines(steps: &[Step]) -> Vec<Line> {
    let mut now = 0;
    let mut free = [0; 4];
    let mut lines = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        now += step.wait;
        let start = now.max(free[step.session as usize]);
        let end = start + step.length;
        free[step.session as usize] = end;
        let put = |(_, s): &(usize, &Step)| s.kind == Kind::Put && s.key == step.key;
        let values = steps.iter().enumerate().filter(put).map(|(i, _)| i);
        // Mostly what was put before, and not too long before.
        let (before, after): (Vec<usize>, Vec<usize>) = values.partition(|&put| put < i);
        let choices = if step.pick % 16 == 0 { after } else { before };
        let back = (step.pick / 16) % (choices.len() + 1);
        let value = match step.kind {
            Kind::Put => Some(i),
            Kind::Get => choices.iter().rev().nth(back).copied(),
            Kind::Delete => None,
        };
        lines.push(Line {
            session: format!("s{}", step.session),
            kind: step.kind,
            key: format!("k{}", step.key),
            value: value.map(|v| v.to_string()),
            status: step.status,
            start,
            end,
        });
    }
    lines
}

fn agree(steps: &[Step]) -> Result<(), TestCaseError> {
    let lines = lines(steps);
    let right = oracle::is_consistent(&lines);
    match history(&lines).check() {
        Err(violation) => prop_assert!(!right, "a false alarm: {violation}"),
        Ok(summary) if summary.undecided == 0 => prop_assert!(right, "missed: {lines:#?}"),
        Ok(_) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn without_deletes(steps in proptest::collection::vec(step(2, 0, 0), 1..11)) {
        agree(&steps)?;
    }

    #[test]
    fn with_unknown_outcomes(steps in proptest::collection::vec(step(2, 0, 5), 1..11)) {
        agree(&steps)?;
    }

    #[test]
    fn with_deletes(steps in proptest::collection::vec(step(2, 3, 2), 1..10)) {
        agree(&steps)?;
    }

    #[test]
    fn with_one_key_and_one_delete_more_or_less(steps in proptest::collection::vec(step(1, 1, 2), 1..10)) {
        agree(&steps)?;
    }
}

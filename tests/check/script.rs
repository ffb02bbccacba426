//! Histories as short texts, one operation a line: `session put|get|del key value`, a `-` for "not
//! found". A `?` at the end is an unknown outcome, a `!` a failure; `@a-b` are the times, without
//! which one operation follows the other.

use causeway::check::history::{Completion, Kind, Operation};
use causeway::check::{Guarantee, History, Invalid, Pattern, Summary, Violation};
use serde_json::value::RawValue;

/// An operation with texts of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub session: String,
    pub kind: Kind,
    pub key: String,
    pub value: Option<String>,
    pub status: Completion,
    pub start: u64,
    pub end: u64,
}

impl Line {
    pub fn push_to(&self, history: &mut History) -> Result<(), Invalid> {
        let value = self.value.clone().map(RawValue::from_string);
        let value = value.transpose().unwrap();
        history.push(&Operation {
            session: self.session.as_str().into(),
            op: self.kind,
            key: self.key.as_str().into(),
            value: value.as_deref(),
            status: self.status,
            node: "10.0.0.1:80".into(),
            start_us: self.start,
            end_us: self.end,
        })
    }
}

pub fn parse(script: &str) -> Vec<Line> {
    let lines = script.lines().map(str::trim).filter(|l| !l.is_empty());
    lines.zip(1..).map(|(l, number)| line(l, number)).collect()
}

fn line(text: &str, number: u64) -> Line {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let (mut start, mut end) = (number * 10, number * 10 + 5);
    let mut status = Completion::Ok;
    while let Some(&last) = words.last() {
        if let Some(times) = last.strip_prefix('@') {
            let (a, b) = times.split_once('-').unwrap();
            (start, end) = (a.parse().unwrap(), b.parse().unwrap());
        } else if last == "?" {
            status = Completion::Unknown;
        } else if last == "!" {
            status = Completion::Fail;
        } else {
            break;
        }
        words.pop();
    }
    Line {
        session: words[0].into(),
        kind: match words[1] {
            "put" => Kind::Put,
            "get" => Kind::Get,
            "del" => Kind::Delete,
            other => panic!("{other}"),
        },
        key: words[2].into(),
        value: words.get(3).filter(|v| **v != "-").map(|v| (*v).into()),
        status,
        start,
        end,
    }
}

pub fn history(lines: &[Line]) -> History {
    let mut history = History::new();
    for line in lines {
        line.push_to(&mut history).unwrap();
    }
    history
}

pub fn check(script: &str) -> Result<Summary, Violation> {
    history(&parse(script)).check()
}

#[track_caller]
pub fn consistent(script: &str) -> Summary {
    match check(script) {
        Ok(summary) => summary,
        Err(violation) => panic!("{violation}"),
    }
}

/// Checks what is found, where, and that the explanation names each of these lines.
#[track_caller]
pub fn violated(
    script: &str,
    pattern: Pattern,
    guarantee: Option<Guarantee>,
    lines: &[u64],
) -> String {
    let violation = check(script).expect_err("a violation");
    let text = violation.to_string();
    let found = (violation.pattern, violation.guarantee, &violation.lines[..]);
    assert_eq!(found, (pattern, guarantee, lines), "{text}");
    for line in lines {
        assert!(text.contains(&format!("line {line}")), "{text}");
    }
    text
}

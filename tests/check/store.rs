//! A small causal store and its clients, to make histories that are right.
//!
//! Each replica has a set of writes that is closed under causality. A client carries the set of
//! writes that it depends on, and is served by a replica that has these. The write of a key with
//! the largest stamp wins, and stamps grow along causality.

use crate::script::Line;
use causeway::check::history::{Completion, Kind};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;

pub struct Shape {
    pub operations: usize,
    pub sessions: usize,
    pub keys: u64,
    pub deletes: bool,
    /// Do requests fail, and answers get lost?
    pub faults: bool,
}

struct Write {
    key: u64,
    value: Option<usize>,
    stamp: (u64, usize),
    past: BTreeSet<usize>,
}

/// The truth about an operation, beside its line.
pub struct Truth {
    /// The writes (by line) in the session's past before it; of a write its own past.
    pub past: BTreeSet<usize>,
    /// The line that was read.
    pub source: Option<usize>,
}

pub struct Recorded {
    pub lines: Vec<Line>,
    pub truth: Vec<Truth>,
}

#[derive(Default, Clone)]
struct Session {
    past: BTreeSet<usize>,
    free_at: u64,
}

/// Runs the store. Writes are known by their lines.
pub fn run(seed: u64, shape: &Shape) -> Recorded {
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut writes: Vec<Option<Write>> = Vec::new();
    let mut replicas = vec![BTreeSet::<usize>::new(); 3];
    let mut sessions = vec![Session::default(); shape.sessions];
    let mut recorded = Recorded {
        lines: Vec::new(),
        truth: Vec::new(),
    };
    let mut now = 10;
    while recorded.lines.len() < shape.operations {
        now += rng.random_range(1..4);
        deliver(rng, &writes, &mut replicas);
        let who = rng.random_range(0..sessions.len());
        let session = &mut sessions[who];
        if session.free_at > now {
            continue;
        }
        let line = recorded.lines.len();
        let start = (now - rng.random_range(0..5)).max(session.free_at);
        let end = now + rng.random_range(0..20);
        session.free_at = end;
        let key = rng.random_range(0..shape.keys);
        let kind = match rng.random_range(0..10) {
            0..4 => Kind::Put,
            4 if shape.deletes => Kind::Delete,
            _ => Kind::Get,
        };
        let status = match rng.random_range(0..20) {
            0 if shape.faults => Completion::Fail,
            1 | 2 if shape.faults => Completion::Unknown,
            _ => Completion::Ok,
        };
        let past = session.past.clone();
        let replica = rng.random_range(0..replicas.len());
        replicas[replica].extend(&past);
        let mut value = (kind == Kind::Put).then_some(line);
        let (mut source, mut written) = (None, None);
        if kind == Kind::Get {
            let visible = replicas[replica].iter().copied();
            let of_key = visible.filter(|&w| writes[w].as_ref().unwrap().key == key);
            source = of_key.max_by_key(|&w| writes[w].as_ref().unwrap().stamp);
            let found = source.and_then(|w| writes[w].as_ref());
            value = found.and_then(|w| w.value);
            if let Some(w) = found.filter(|_| status == Completion::Ok) {
                session.past.extend(&w.past);
                session.past.extend(source);
            }
        } else {
            let done = match status {
                Completion::Ok => true,
                Completion::Fail => false,
                Completion::Unknown => rng.random(),
            };
            if done {
                let stamps = past.iter().map(|&w| writes[w].as_ref().unwrap().stamp.0);
                // Clocks differ.
                let clock = (now + replica as u64 * 7).max(stamps.max().unwrap_or_default() + 1);
                written = Some(Write {
                    key,
                    value,
                    stamp: (clock, line),
                    past: past.clone(),
                });
                replicas[replica].insert(line);
            }
            if status == Completion::Ok {
                session.past.insert(line);
            }
        }
        writes.push(written);
        recorded.truth.push(Truth { past, source });
        recorded.lines.push(Line {
            session: format!("s{who}"),
            kind,
            key: format!("k{key}"),
            value: value.map(|v| v.to_string()),
            status,
            start,
            end,
        });
    }
    recorded
}

/// Now and then a replica gets a write, and what that depends on.
fn deliver(rng: &mut StdRng, writes: &[Option<Write>], replicas: &mut [BTreeSet<usize>]) {
    if writes.is_empty() || rng.random_range(0..3) > 0 {
        return;
    }
    let number = rng.random_range(0..writes.len());
    if let Some(write) = &writes[number] {
        let replica = &mut replicas[rng.random_range(0..3)];
        replica.extend(&write.past);
        replica.insert(number);
    }
}

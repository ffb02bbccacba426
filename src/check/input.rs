//! A history in memory: read, checked for sense, and small enough for millions of operations.

use super::history::{Completion, Kind, Operation};
use super::intern::{Interner, canonical};
use std::collections::HashMap;
use std::fmt;
use std::io::BufRead;

/// An operation by its place in the file.
pub type OpId = u32;
/// No operation.
pub const NONE: OpId = OpId::MAX;
/// The number of the value `null`, "not found".
pub const NULL: u32 = 0;

/// A history, ready to be checked.
pub struct History {
    pub(super) ops: Vec<InternedOp>,
    pub(super) sessions: Interner,
    pub(super) keys: Interner,
    pub(super) values: Interner,
    pub(super) nodes: Interner,
    pub(super) order: Vec<SessionOrder>,
    /// The operation that put a value, by key and value; also those whose put failed.
    pub(super) puts: HashMap<(u32, u32), OpId>,
    pub(super) failed_puts: HashMap<(u32, u32), OpId>,
    line: u64,
}

/// An [`Operation`], with numbers for texts.
#[derive(Debug, Clone, Copy)]
pub struct InternedOp {
    pub start: u64,
    pub end: u64,
    pub line: u64,
    pub session: u32,
    pub key: u32,
    pub value: u32,
    pub node: u32,
    pub kind: Kind,
    pub status: Completion,
}

impl InternedOp {
    pub fn is_write(&self) -> bool {
        self.kind != Kind::Get
    }
}

/// The operations of a session that count, by start, then by line. Failed operations and reads
/// without an answer do not count.
#[derive(Default)]
pub struct SessionOrder {
    /// Operations that were done: each depends on the one before.
    pub done: Vec<OpId>,
    /// Writes that may have been done: each depends on what was done before, nothing follows from
    /// it.
    pub open: Vec<OpId>,
}

/// Why an operation cannot be part of a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The end is before the start.
    #[error("it ends before it starts")]
    Backwards,
    /// A put of `null`, which reads use for "not found".
    #[error("a put of null cannot be told from \"not found\"")]
    PutOfNull,
    /// A delete with a value.
    #[error("a delete has no value")]
    DeleteWithValue,
    /// Two puts of a key write the same value, so a read does not say which one it saw.
    #[error("line {line} puts the same value of the same key: values have to differ")]
    SameValue {
        /// The line of the other put.
        line: u64,
    },
    /// Two operations of a session overlap in time.
    #[error(
        "line {line} is of the same session and at the same time: a session asks one thing at a time"
    )]
    Overlap {
        /// The line of the other operation.
        line: u64,
    },
    /// More operations than can be numbered.
    #[error("a history has at most {} operations", NONE)]
    TooLong,
}

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Unreadable {
    /// The line, from 1.
    pub line: u64,
    /// The reason, for people.
    pub why: String,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// A history without operations.
    pub fn new() -> Self {
        let mut values = Interner::default();
        values.number("null");
        Self {
            ops: Vec::new(),
            sessions: Interner::default(),
            keys: Interner::default(),
            values,
            nodes: Interner::default(),
            order: Vec::new(),
            puts: HashMap::new(),
            failed_puts: HashMap::new(),
            line: 0,
        }
    }

    /// Reads a file of one JSON object a line. Empty lines are skipped.
    pub fn read(mut input: impl BufRead) -> Result<Self, Unreadable> {
        let mut history = Self::new();
        let mut text = Vec::new();
        loop {
            text.clear();
            let line = history.line + 1;
            let unreadable = |why: &dyn fmt::Display| Unreadable {
                line,
                why: why.to_string(),
            };
            let length = input
                .read_until(b'\n', &mut text)
                .map_err(|e| unreadable(&e))?;
            if length == 0 {
                return Ok(history);
            }
            if text.trim_ascii().is_empty() {
                history.line = line;
                continue;
            }
            let text = std::str::from_utf8(&text).map_err(|e| unreadable(&e))?;
            let op = serde_json::from_str(text).map_err(|e| unreadable(&without_line(&e)))?;
            history.push(&op).map_err(|e| unreadable(&e))?;
        }
    }

    /// Adds an operation as the next line. The lines of a file may be in any order.
    pub fn push(&mut self, op: &Operation) -> Result<(), Invalid> {
        let id = match u32::try_from(self.ops.len()) {
            Ok(id) if id != NONE => id,
            _ => return Err(Invalid::TooLong),
        };
        if op.end_us < op.start_us {
            return Err(Invalid::Backwards);
        }
        let value = match op.value.map(canonical) {
            None => NULL,
            Some(text) => self.values.number(&text),
        };
        match op.op {
            Kind::Put if value == NULL => return Err(Invalid::PutOfNull),
            Kind::Delete if value != NULL => return Err(Invalid::DeleteWithValue),
            _ => {}
        }
        let op = InternedOp {
            start: op.start_us,
            end: op.end_us,
            line: self.line + 1,
            session: self.sessions.number(&op.session),
            key: self.keys.number(&op.key),
            value,
            node: self.nodes.number(&op.node),
            kind: op.op,
            status: op.status,
        };
        if self.order.len() < self.sessions.len() {
            self.order.push(SessionOrder::default());
        }
        let counts =
            op.status == Completion::Ok || op.status == Completion::Unknown && op.is_write();
        let place = if counts { Some(self.place(&op)?) } else { None };
        if op.kind == Kind::Put {
            let failed = op.status == Completion::Fail;
            let puts = if failed {
                &mut self.failed_puts
            } else {
                &mut self.puts
            };
            let first = *puts.entry((op.key, op.value)).or_insert(id);
            if first != id && !failed {
                let line = self.ops[first as usize].line;
                return Err(Invalid::SameValue { line });
            }
        }
        if let Some(place) = place {
            let session = &mut self.order[op.session as usize];
            let list = match op.status {
                Completion::Ok => &mut session.done,
                _ => &mut session.open,
            };
            list.insert(place, id);
        }
        self.line = op.line;
        self.ops.push(op);
        Ok(())
    }

    /// Where the operation belongs in its session's list. It may not overlap with what was done,
    /// for then nobody could say what it depends on.
    fn place(&self, op: &InternedOp) -> Result<usize, Invalid> {
        let session = &self.order[op.session as usize];
        let get = |id: OpId| &self.ops[id as usize];
        // A later line with the same start comes later.
        let after = |list: &[OpId]| match list.last() {
            Some(&last) if get(last).start <= op.start => list.len(),
            _ => list.partition_point(|&id| get(id).start <= op.start),
        };
        let (done, open) = (after(&session.done), after(&session.open));
        let overlap = |other: &InternedOp| Err(Invalid::Overlap { line: other.line });
        if let Some(before) = done.checked_sub(1).map(|i| get(session.done[i]))
            && before.end > op.start
        {
            return overlap(before);
        }
        if op.status != Completion::Ok {
            return Ok(open);
        }
        let next = [session.done.get(done), session.open.get(open)];
        for next in next.into_iter().flatten().map(|&id| get(id)) {
            if next.start < op.end {
                return overlap(next);
            }
        }
        Ok(done)
    }
}

/// The parser counts the lines of its own text, which is one line.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} (column {})", error.column()),
        None => text,
    }
}

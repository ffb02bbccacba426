//! Why a history is not causally consistent, in words.

use super::graph::Graph;
use super::history::{Completion, Kind};
use super::input::{NULL, OpId};
use super::search::{Edge, shorten};
use std::fmt;

/// The bad patterns of causal convergence, by their names in the literature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// A read of a value that nobody can have written.
    ThinAirRead,
    /// An operation in its own past.
    CyclicCo,
    /// Nothing was found, with a write of the key in the read's past.
    WriteCoInitRead,
    /// A value was read that had been overwritten in the read's past.
    WriteCoRead,
    /// The reads fit no order of the writes.
    CyclicCf,
}

/// The session guarantees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// A session sees its own writes.
    ReadYourWrites,
    /// A session never sees less than it has seen.
    MonotonicReads,
    /// All see the writes of a session in their order.
    MonotonicWrites,
    /// All see a write after the writes that its session had read before it.
    WritesFollowReads,
}

/// The operations that contradict each other. It prints as an explanation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The forbidden pattern that was found.
    pub pattern: Pattern,
    /// The session guarantee that is broken, if one alone is.
    pub guarantee: Option<Guarantee>,
    /// The lines of the operations that contradict each other.
    pub lines: Vec<u64>,
    pub(super) text: String,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ThinAirRead => "ThinAirRead",
            Self::CyclicCo => "CyclicCO",
            Self::WriteCoInitRead => "WriteCOInitRead",
            Self::WriteCoRead => "WriteCORead",
            Self::CyclicCf => "CyclicCF",
        })
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadYourWrites => "read your writes",
            Self::MonotonicReads => "monotonic reads",
            Self::MonotonicWrites => "monotonic writes",
            Self::WritesFollowReads => "writes follow reads",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = match (self.guarantee, self.pattern) {
            (Some(guarantee), _) => guarantee.to_string(),
            (None, Pattern::CyclicCf) => "convergence".into(),
            (None, Pattern::ThinAirRead) => "reads return what was written".into(),
            (None, _) => "causal order".into(),
        };
        write!(f, "violated: {broken} ({})\n{}", self.pattern, self.text)
    }
}

impl std::error::Error for Violation {}

impl Guarantee {
    /// The guarantee that a read breaks which does not heed a write in its past, by the shortest
    /// chain from the write to the read.
    pub fn of(links: &[Edge]) -> Option<Self> {
        match links {
            [Edge::Session] => Some(Self::ReadYourWrites),
            [Edge::Read, Edge::Session] => Some(Self::MonotonicReads),
            [Edge::Session, Edge::Read, Edge::Session] => Some(Self::MonotonicWrites),
            [Edge::Read, Edge::Session, Edge::Read, Edge::Session] => Some(Self::WritesFollowReads),
            _ => None,
        }
    }
}

/// Puts an explanation together.
pub struct Words<'g> {
    graph: &'g Graph<'g>,
    lines: Vec<u64>,
    text: String,
}

impl<'g> Words<'g> {
    pub fn new(graph: &'g Graph<'g>) -> Self {
        Self {
            graph,
            lines: Vec::new(),
            text: String::new(),
        }
    }

    pub fn line(&self, op: OpId) -> u64 {
        self.graph.op(op).line
    }

    pub fn say(&mut self, text: impl fmt::Display) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&text.to_string());
    }

    /// Shows an operation that is part of the contradiction.
    pub fn show(&mut self, op: OpId) {
        self.involve(op);
        self.say(format_args!("  {}", self.operation(op)));
    }

    /// Counts an operation as part of the contradiction that is shown otherwise.
    pub fn involve(&mut self, op: OpId) {
        self.lines.push(self.line(op));
    }

    /// Shows how one operation comes to be in the past of another.
    pub fn chain(&mut self, chain: &[OpId]) {
        let (ops, links) = shorten(self.graph, chain);
        let (Some(&first), Some(&last)) = (ops.first(), ops.last()) else {
            return;
        };
        let (from, to) = (self.line(first), self.line(last));
        if links.is_empty() {
            return;
        }
        if let [link] = links[..] {
            return self.say(match link {
                Edge::Read => format!("line {to} read what line {from} wrote"),
                _ => format!("line {from} is before line {to} in the same session"),
            });
        }
        self.say(format_args!("line {from} is in the past of line {to}:"));
        self.steps(&ops, &links);
    }

    /// The operations of a chain, each with what links it to the one before.
    pub fn steps(&mut self, ops: &[OpId], links: &[Edge]) {
        for (i, &op) in ops.iter().enumerate() {
            let how = match i.checked_sub(1).map(|i| (links[i], ops[i])) {
                None => String::new(),
                Some((Edge::Session, _)) => " - later in that session".into(),
                Some((Edge::Conflict, before)) => format!(" - won over line {}", self.line(before)),
                Some((Edge::Read, before)) if self.graph.op(op).value == NULL => {
                    format!(
                        " - only the delete of line {} explains it",
                        self.line(before)
                    )
                }
                Some((Edge::Read, before)) => format!(" - what line {} wrote", self.line(before)),
            };
            self.say(format_args!("  {}{how}", self.operation(op)));
        }
    }

    pub fn done(self, pattern: Pattern, guarantee: Option<Guarantee>) -> Violation {
        Violation {
            pattern,
            guarantee,
            lines: self.lines,
            text: self.text,
        }
    }

    fn operation(&self, op: OpId) -> String {
        let history = self.graph.history;
        let op = self.graph.op(op);
        let key = history.keys.text(op.key);
        let value = history.values.text(op.value);
        let what = match op.kind {
            Kind::Put => format!("put {key:?} = {value}"),
            Kind::Get if op.value == NULL => format!("read {key:?}: not found"),
            Kind::Get => format!("read {key:?} = {value}"),
            Kind::Delete => format!("deleted {key:?}"),
        };
        let outcome = match op.status {
            Completion::Ok => "",
            Completion::Fail => ", failed",
            Completion::Unknown => ", outcome unknown",
        };
        let node = match history.nodes.text(op.node) {
            "" => String::new(),
            node => format!(" at {}", node.escape_debug()),
        };
        format!(
            "line {}: session {} {what}{outcome}{node}, {} to {} us",
            op.line,
            history.sessions.text(op.session).escape_debug(),
            op.start,
            op.end
        )
    }
}

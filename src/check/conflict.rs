//! The order that reads show between writes of one key: who has `a` in its past and reads `b` has
//! seen that `b` won over `a`. With the causal order this must not be a circle.
//!
//! Only the latest write of each session in the reader's past is looked at: the earlier ones come
//! before it, by the session's order or because the session itself has seen it win over them. What
//! is in the past of `b` anyway is left out.

use super::graph::Graph;
use super::input::{NONE, OpId};
use super::past::{Past, ReadView};

/// So many pairs are kept in memory (16 bytes each while they are sorted), unless they go against
/// the order that is tried.
const PAIRS: usize = 24 << 20;

/// Pairs of writes of one key: the first lost against the second.
pub struct Conflicts {
    pub pairs: Vec<(OpId, OpId)>,
    /// The place of each operation in an order of all.
    rank: Vec<u32>,
    most: usize,
    /// At how many pairs to look for doubles.
    tidy_at: usize,
    /// Were pairs left out that agree with the order?
    partial: bool,
}

pub fn ranks(order: &[OpId], ops: usize) -> Vec<u32> {
    let mut rank = vec![NONE; ops];
    for (place, &op) in (0..).zip(order) {
        rank[op as usize] = place;
    }
    rank
}

impl Conflicts {
    pub fn new(rank: Vec<u32>) -> Self {
        Self::with_room(rank, PAIRS)
    }

    fn with_room(rank: Vec<u32>, most: usize) -> Self {
        Self {
            pairs: Vec::new(),
            rank,
            most,
            tidy_at: most.min(1 << 20),
            partial: false,
        }
    }

    pub fn push(&mut self, lost: OpId, won: OpId) {
        if self.pairs.last() == Some(&(lost, won)) || self.partial && self.agrees((lost, won)) {
            return;
        }
        self.pairs.push((lost, won));
        if self.pairs.len() >= self.tidy_at {
            self.tidy();
            self.tidy_at = (self.pairs.len() * 2).max(self.tidy_at).min(self.most);
            if self.pairs.len() > self.most / 2 {
                self.drop_what_agrees();
                self.tidy_at = self.pairs.len() + self.most / 2;
            }
        }
    }

    fn agrees(&self, (lost, won): (OpId, OpId)) -> bool {
        self.rank[lost as usize] < self.rank[won as usize]
    }

    fn drop_what_agrees(&mut self) {
        let mut pairs = std::mem::take(&mut self.pairs);
        pairs.retain(|&pair| !self.agrees(pair));
        self.pairs = pairs;
        self.partial = true;
    }

    fn tidy(&mut self) {
        self.pairs.sort_unstable();
        self.pairs.dedup();
    }

    /// Is there an order of all operations that agrees with causality and all conflicts? If not,
    /// the operations on circles.
    ///
    /// When there were too many conflicts to keep, an order is tried, and those that go against it
    /// are added, until none does.
    pub fn check(&mut self, graph: &Graph, past: &mut Past) -> Result<(), Vec<OpId>> {
        loop {
            self.tidy();
            let order = graph.order(&self.pairs)?;
            if !self.partial {
                return Ok(());
            }
            self.rank = ranks(&order, self.rank.len());
            let before = self.pairs.len();
            let is_read = |op: OpId| graph.source[op as usize] != NONE;
            past.run(&graph.source, is_read, |view| {
                unseen(graph, view, |lost| self.push(lost, view.source));
            });
            if self.pairs.len() == before {
                return Ok(());
            }
        }
    }
}

/// The latest writes of a read's key that are in its past but not in the past of what it has read,
/// as far as the block knows.
pub fn unseen(graph: &Graph, view: &ReadView, mut found: impl FnMut(OpId)) {
    let key = graph.op(view.op).key;
    for column in view.writes.columns(key) {
        let (past, seen) = (view.past.count(column), view.source_past.count(column));
        if past > seen
            && let Some((place, write)) = view.writes.last(key, column, past)
            && place >= seen
            && write != view.source
        {
            found(write);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Completion, Kind, Operation};
    use super::super::input::History;
    use super::*;
    use serde_json::value::RawValue;

    const SESSIONS: usize = 6;

    /// Sessions that write and read one key, one after the other. There is no clock, and the lines
    /// are sorted by session: the order that is tried first is not the one in which things
    /// happened.
    fn history(wrong: bool) -> History {
        let mut sessions = vec![Vec::new(); SESSIONS + 2];
        let mut last = None;
        for i in 0..300usize {
            let session = &mut sessions[i * i % 7 % SESSIONS];
            if i % 3 == 0 {
                last = Some(i);
                session.push((Kind::Put, i));
            } else if let Some(value) = last {
                session.push((Kind::Get, value));
            }
        }
        let seen = if wrong { [6, 9, 9, 6] } else { [6, 9, 6, 9] };
        for (i, value) in seen.into_iter().enumerate() {
            sessions[SESSIONS + i / 2].push((Kind::Get, value));
        }
        let mut history = History::new();
        for (name, session) in sessions.into_iter().enumerate().rev() {
            for (op, value) in session {
                let value = RawValue::from_string(value.to_string()).unwrap();
                let op = Operation {
                    session: name.to_string().into(),
                    op,
                    key: "x".into(),
                    value: Some(&value),
                    status: Completion::Ok,
                    node: "".into(),
                    start_us: 0,
                    end_us: 0,
                };
                history.push(&op).unwrap();
            }
        }
        history
    }

    #[test]
    fn little_room_gives_the_same_answer() {
        for wrong in [false, true] {
            let history = history(wrong);
            for room in [4, 64, PAIRS] {
                let mut graph = Graph::new(&history);
                assert!(graph.add_reads().is_ok());
                let mut past = Past::new(&graph, graph.order(&[]).unwrap());
                let rank = ranks(past.order(), graph.source.len());
                let mut conflicts = Conflicts::with_room(rank, room);
                let is_read = |op: OpId| graph.source[op as usize] != NONE;
                past.run(&graph.source, is_read, |view| {
                    unseen(&graph, view, |lost| conflicts.push(lost, view.source));
                });
                assert!(room != PAIRS || conflicts.pairs.len() > 64);
                let answer = conflicts.check(&graph, &mut past);
                assert_eq!(answer.is_err(), wrong, "room for {room}");
                assert_eq!(conflicts.partial, room != PAIRS);
            }
        }
    }
}

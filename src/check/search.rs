//! Shortest chains of causes, for explanations.
//!
//! A chain that goes through fewer reads of what others wrote is shorter, whatever lies between in
//! one session. All searches go backwards, where an operation has two direct causes at most, and
//! share one budget, so that the explanation of a large history comes in time too.

use super::graph::{Adjacency, Graph};
use super::input::{NONE, OpId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::{Entry, HashMap};

/// How many operations are looked at in any case, if it takes that many: a few seconds.
const LEAST_BUDGET: u64 = 10_000_000;

/// Conflicts, reads of what others wrote, operations.
pub type Cost = (u32, u32, u32);

pub struct Search<'g> {
    graph: &'g Graph<'g>,
    /// How many operations may still be looked at.
    budget: u64,
}

impl<'g> Search<'g> {
    pub fn new(graph: &'g Graph<'g>) -> Self {
        Self {
            graph,
            budget: LEAST_BUDGET.max(graph.source.len() as u64 * 8),
        }
    }

    /// The shortest chain that leads from an operation which is `wanted` to one of `ends`.
    /// Operations that ended before `earliest` are not looked at: nothing that started then can be
    /// among their causes. The search is given up at `most`, and when the budget is spent.
    pub fn causes(
        &mut self,
        ends: &[OpId],
        earliest: u64,
        most: Cost,
        wanted: impl Fn(OpId) -> bool,
    ) -> Option<(Cost, Vec<OpId>)> {
        let graph = self.graph;
        let may = |op: OpId| graph.op(op).end >= earliest;
        self.back(ends, &Adjacency::default(), most, may, wanted)
    }

    /// As above, over conflicts too: `lost` has the losers of each write. Only among operations
    /// that `may` be on the way.
    pub fn back(
        &mut self,
        ends: &[OpId],
        lost: &Adjacency,
        most: Cost,
        may: impl Fn(OpId) -> bool,
        wanted: impl Fn(OpId) -> bool,
    ) -> Option<(Cost, Vec<OpId>)> {
        let graph = self.graph;
        let mut known: HashMap<OpId, (Cost, OpId)> = HashMap::new();
        let mut queue = BinaryHeap::new();
        for &end in ends {
            known.insert(end, ((0, 0, 0), NONE));
            queue.push(Reverse(((0, 0, 0), end)));
        }
        while let Some(Reverse((cost, op))) = queue.pop() {
            self.budget = self.budget.checked_sub(1)?;
            if known[&op].0 < cost {
                continue;
            }
            if wanted(op) && cost.2 > 0 {
                let mut chain = vec![op];
                let mut at = op;
                while known[&at].1 != NONE {
                    at = known[&at].1;
                    chain.push(at);
                }
                return Some((cost, chain));
            }
            let (conflicts, reads, steps) = cost;
            let before = (graph.before(op), (conflicts, reads, steps + 1));
            let source = graph.source[op as usize];
            let source = (source, (conflicts, reads + 1, steps + 1));
            let lost = lost.of(op).iter();
            let lost = lost.map(|&op| (op, (conflicts + 1, reads, steps + 1)));
            for (next, cost) in [before, source].into_iter().chain(lost) {
                if next == NONE || cost >= most || !may(next) {
                    continue;
                }
                match known.entry(next) {
                    Entry::Occupied(mut entry) if entry.get().0 > cost => {
                        entry.insert((cost, op));
                    }
                    Entry::Occupied(_) => continue,
                    Entry::Vacant(entry) => {
                        entry.insert((cost, op));
                    }
                }
                queue.push(Reverse((cost, next)));
            }
        }
        None
    }
}

/// How one operation of a chain leads to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// Later in the same session.
    Session,
    /// The next one read what this one wrote.
    Read,
    /// The next one won over this one.
    Conflict,
}

pub fn link(graph: &Graph, from: OpId, to: OpId) -> Edge {
    if graph.before(to) == from {
        Edge::Session
    } else if graph.source[to as usize] == from {
        Edge::Read
    } else {
        Edge::Conflict
    }
}

/// A chain with its links, where steps within a session are one.
pub fn shorten(graph: &Graph, chain: &[OpId]) -> (Vec<OpId>, Vec<Edge>) {
    let mut ops: Vec<OpId> = Vec::new();
    let mut links: Vec<Edge> = Vec::new();
    for &op in chain {
        if let Some(&last) = ops.last() {
            let link = link(graph, last, op);
            if link == Edge::Session && links.last() == Some(&Edge::Session) {
                ops.pop();
            } else {
                links.push(link);
            }
        }
        ops.push(op);
    }
    (ops, links)
}

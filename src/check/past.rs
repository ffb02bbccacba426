//! The past of each operation: vector clocks, 128 sessions at a time.
//!
//! A clock says how many operations of each session's chain are in the past. Whole clocks of all
//! operations would need operations × sessions of memory. So the operations are gone through once
//! for every block of sessions, in causal order; each session keeps its present row, and each write
//! its row until its last reader has passed. Rows are of 16-bit numbers where these suffice: to
//! take the larger of two rows is most of the work.
//!
//! A branch (see [`super::graph`]) has no place on a chain. It counts at its first reader in every
//! session: who has it in the past has one of these in the past.

use super::graph::Graph;
use super::history::Kind;
use super::input::{NONE, OpId};
use super::places::{BLOCK, Item, Places};

/// The clock of an operation, of one block's sessions.
type Row<T> = [T; BLOCK];

/// A number of operations. Signed, because that is what processors of any age compare fast.
trait Count: Copy + Ord + Default {
    fn new(n: u32) -> Self;
    fn clock<'r>(row: &'r Row<Self>) -> VectorClock<'r>;
}

impl Count for i16 {
    fn new(n: u32) -> Self {
        n as Self
    }

    fn clock<'r>(row: &'r Row<Self>) -> VectorClock<'r> {
        VectorClock::Short(row)
    }
}

impl Count for i32 {
    fn new(n: u32) -> Self {
        n as Self
    }

    fn clock<'r>(row: &'r Row<Self>) -> VectorClock<'r> {
        VectorClock::Long(row)
    }
}

/// The past of an operation, as far as the present block knows.
#[derive(Clone, Copy)]
pub enum VectorClock<'r> {
    Short(&'r Row<i16>),
    Long(&'r Row<i32>),
}

impl VectorClock<'_> {
    /// How many operations of a column's session are in it.
    pub fn count(self, column: usize) -> u32 {
        match self {
            Self::Short(row) => row[column] as u32,
            Self::Long(row) => row[column] as u32,
        }
    }
}

/// A read as a visitor sees it.
pub struct ReadView<'r> {
    pub op: OpId,
    /// The write that was read, and its past, with itself.
    pub source: OpId,
    pub source_past: VectorClock<'r>,
    /// Its own past, without itself.
    pub past: VectorClock<'r>,
    pub block: usize,
    pub writes: &'r Places,
    pub deletes: &'r Places,
}

/// The effect of one operation on the clocks.
struct Step {
    op: OpId,
    source: OpId,
    session: u32,
    column: u32,
    place: u32,
    source_slot: u32,
    slot: u32,
    visited: bool,
}

/// The vector clocks of a graph.
pub struct Past<'a> {
    graph: &'a Graph<'a>,
    order: Vec<OpId>,
    /// The column of each session; [`NONE`] for those of which nobody has to know anything.
    columns: Vec<u32>,
    count: usize,
    writes: Places,
    deletes: Places,
}

impl<'a> Past<'a> {
    /// `order` is the graph's order without conflicts.
    pub fn new(graph: &'a Graph<'a>, order: Vec<OpId>) -> Self {
        let history = graph.history;
        let mut columns = vec![NONE; history.order.len()];
        let mut count = 0;
        let mut writes = Vec::new();
        let mut deletes = Vec::new();
        for (session, column) in history.order.iter().zip(&mut columns) {
            let mut first_reads = std::collections::HashSet::new();
            for (place, &op) in (0..).zip(&session.done) {
                let source = graph.source[op as usize];
                let branch = source != NONE && !graph.on_chain(source);
                let write = if branch && first_reads.insert(source) {
                    source
                } else if graph.op(op).is_write() {
                    op
                } else {
                    continue;
                };
                if *column == NONE {
                    *column = count;
                    count += 1;
                }
                let item = Item {
                    column: *column,
                    key: graph.op(write).key,
                    place,
                    op: write,
                };
                writes.push(item);
                if write == op && graph.op(op).kind == Kind::Delete {
                    deletes.push(item);
                }
            }
        }
        Self {
            graph,
            order,
            columns,
            count: count as usize,
            writes: Places::new(writes, history.keys.len()),
            deletes: Places::new(deletes, history.keys.len()),
        }
    }

    pub fn order(&self) -> &[OpId] {
        &self.order
    }

    /// Goes through all operations once a block, with what reads have read by `sources`. `visit`
    /// gets those that are `wanted`, but for some of which the block knows nothing.
    pub fn run(
        &mut self,
        sources: &[OpId],
        wanted: impl Fn(OpId) -> bool,
        visit: impl FnMut(&ReadView<'_>),
    ) {
        let sessions = &self.graph.history.order;
        let longest = sessions.iter().map(|s| s.done.len()).max();
        if longest.unwrap_or_default() <= i16::MAX as usize {
            self.run_with::<i16>(sources, wanted, visit);
        } else {
            self.run_with::<i32>(sources, wanted, visit);
        }
    }

    fn run_with<T: Count>(
        &mut self,
        sources: &[OpId],
        wanted: impl Fn(OpId) -> bool,
        mut visit: impl FnMut(&ReadView<'_>),
    ) {
        let (slots, slot_count) = self.slots(sources);
        let steps = self.steps(sources, &slots, wanted);
        let empty = [T::default(); BLOCK];
        let mut kept = vec![empty; slot_count];
        let mut present = vec![empty; self.columns.len()];
        for number in 0..self.count.div_ceil(BLOCK) {
            self.writes.load(number);
            self.deletes.load(number);
            kept.fill(empty);
            present.fill(empty);
            let columns = (number * BLOCK) as u32..((number + 1) * BLOCK) as u32;
            let first = steps.iter().position(|step| columns.contains(&step.column));
            for step in &steps[first.unwrap_or_default()..] {
                let row = &mut present[step.session as usize];
                let source_row = match step.source_slot {
                    NONE => &empty,
                    slot => &kept[slot as usize],
                };
                if step.source_slot != NONE {
                    for (mine, theirs) in row.iter_mut().zip(source_row) {
                        *mine = (*mine).max(*theirs);
                    }
                }
                if step.visited {
                    visit(&ReadView {
                        op: step.op,
                        source: step.source,
                        source_past: T::clock(source_row),
                        past: T::clock(row),
                        block: number,
                        writes: &self.writes,
                        deletes: &self.deletes,
                    });
                }
                if columns.contains(&step.column) {
                    row[step.column as usize % BLOCK] = T::new(step.place + 1);
                }
                if step.slot != NONE {
                    kept[step.slot as usize] = *row;
                }
            }
        }
    }

    fn steps(&self, sources: &[OpId], slots: &[u32], wanted: impl Fn(OpId) -> bool) -> Vec<Step> {
        let graph = self.graph;
        let step = |&op: &OpId| {
            let session = graph.op(op).session;
            let source = sources[op as usize];
            Step {
                op,
                source,
                session,
                column: if graph.on_chain(op) {
                    self.columns[session as usize]
                } else {
                    NONE
                },
                place: graph.place[op as usize],
                source_slot: slots.get(source as usize).copied().unwrap_or(NONE),
                slot: slots[op as usize],
                visited: wanted(op),
            }
        };
        self.order.iter().map(step).collect()
    }

    /// A place for the row of each write that is read, free again after its last reader; and how
    /// many places there are.
    fn slots(&self, sources: &[OpId]) -> (Vec<u32>, usize) {
        let mut last_reader = vec![NONE; sources.len()];
        for &op in &self.order {
            let source = sources[op as usize];
            if source != NONE {
                last_reader[source as usize] = op;
            }
        }
        let mut slots = vec![NONE; sources.len()];
        let mut free = Vec::new();
        let mut count = 0;
        for &op in &self.order {
            if last_reader[op as usize] != NONE {
                slots[op as usize] = free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                });
            }
            let source = sources[op as usize];
            if source != NONE && last_reader[source as usize] == op {
                free.push(slots[source as usize]);
            }
        }
        (slots, count as usize)
    }

    /// For each pair: is the first, a write, in the past of the second?
    pub fn ask(&mut self, pairs: &[(OpId, OpId)]) -> Vec<bool> {
        let graph = self.graph;
        // By the second, what of a chain to look for, and for which pair.
        let mut asked = Vec::new();
        for (pair, &(first, second)) in (0u32..).zip(pairs) {
            if graph.on_chain(first) {
                asked.push((second, first, pair));
            } else {
                let readers = graph.readers(first).iter();
                asked.extend(readers.map(|&reader| (second, reader, pair)));
            }
        }
        asked.sort_unstable();
        let mut range = vec![(0u32, 0u32); graph.source.len()];
        for (i, &(second, _, _)) in (0..).zip(&asked) {
            let (start, end) = &mut range[second as usize];
            if *end == 0 {
                *start = i;
            }
            *end = i + 1;
        }
        let mut answers = vec![false; pairs.len()];
        let columns = self.columns.clone();
        let asked_of = |op: OpId| range[op as usize].0 < range[op as usize].1;
        self.run(&graph.source, asked_of, |view| {
            let (start, end) = range[view.op as usize];
            for &(_, earlier, pair) in &asked[start as usize..end as usize] {
                let column = columns[graph.op(earlier).session as usize] as usize;
                if column / BLOCK == view.block
                    && graph.place[earlier as usize] < view.past.count(column % BLOCK)
                {
                    answers[pair as usize] = true;
                }
            }
        });
        answers
    }
}

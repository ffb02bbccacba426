//! Which operation comes before which: the operations that count, what each read has read, and the
//! orders that follow from it.
//!
//! A session's operations that were done are a chain. A write whose outcome is not known takes part
//! once somebody has read it: it hangs on the chain like a branch on which nothing follows but its
//! readers.

use super::history::{Completion, Kind};
use super::input::{History, InternedOp, NONE, NULL, OpId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Lists of operations by operation, in one piece of memory.
#[derive(Default)]
pub struct Adjacency {
    starts: Vec<u32>,
    items: Vec<OpId>,
}

impl Adjacency {
    /// Each pair puts its second into the list of its first; `ops` is the number of operations.
    pub fn new(ops: usize, pairs: impl Iterator<Item = (OpId, OpId)> + Clone) -> Self {
        let mut starts = vec![0; ops + 2];
        for (of, _) in pairs.clone() {
            starts[of as usize + 2] += 1;
        }
        for i in 2..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut items = vec![NONE; starts.last().map_or(0, |&n| n as usize)];
        for (of, item) in pairs {
            let end = &mut starts[of as usize + 1];
            items[*end as usize] = item;
            *end += 1;
        }
        Self { starts, items }
    }

    pub fn of(&self, op: OpId) -> &[OpId] {
        match self.starts.get(op as usize..op as usize + 2) {
            Some(&[start, end]) => &self.items[start as usize..end as usize],
            _ => &[],
        }
    }
}

/// A read of a value that nobody can have written.
pub struct ThinAir {
    pub read: OpId,
    /// The operation that wrote the value, but failed or started too late.
    pub writer: Option<OpId>,
}

/// The operations that count, and their causal order.
pub struct Graph<'a> {
    pub history: &'a History,
    /// The place in its session's chain; [`NONE`] for what is not on it.
    pub place: Vec<u32>,
    /// The write that a read has read, as far as it is known.
    pub source: Vec<OpId>,
    readers: Adjacency,
    /// The branches, by what they hang on.
    branches: Adjacency,
    /// The branches that hang on nothing: their sessions did nothing before.
    roots: Vec<OpId>,
    /// How many operations take part.
    size: usize,
}

impl<'a> Graph<'a> {
    /// The sessions alone.
    pub fn new(history: &'a History) -> Self {
        let ops = history.ops.len();
        let mut graph = Self {
            history,
            place: vec![NONE; ops],
            source: vec![NONE; ops],
            readers: Adjacency::default(),
            branches: Adjacency::default(),
            roots: Vec::new(),
            size: 0,
        };
        for session in &history.order {
            for (place, &op) in session.done.iter().enumerate() {
                graph.place[op as usize] = place as u32;
            }
        }
        graph
    }

    /// Adds what the reads of values have read.
    pub fn add_reads(&mut self) -> Result<(), ThinAir> {
        for (read, op) in (0..).zip(&self.history.ops) {
            if op.kind == Kind::Get && op.status == Completion::Ok && op.value != NULL {
                self.source[read as usize] = self.writer(read)?;
            }
        }
        self.link();
        Ok(())
    }

    /// The operation that wrote the value of a read.
    fn writer(&self, read: OpId) -> Result<OpId, ThinAir> {
        let op = self.op(read);
        let writer = self.history.puts.get(&(op.key, op.value)).copied();
        match writer {
            Some(put) if self.op(put).start <= op.end => Ok(put),
            _ => {
                let failed = || self.history.failed_puts.get(&(op.key, op.value)).copied();
                let writer = writer.or_else(failed);
                Err(ThinAir { read, writer })
            }
        }
    }

    /// Follows a change of `source`.
    pub fn link(&mut self) {
        let ops = self.source.len();
        let read = self.source.iter().zip(0..);
        let read = read.filter_map(|(&write, read)| (write != NONE).then_some((write, read)));
        self.readers = Adjacency::new(ops, read);
        let sessions = &self.history.order;
        let open = sessions.iter().flat_map(|s| &s.open).copied();
        let seen: Vec<OpId> = open.filter(|&op| !self.readers(op).is_empty()).collect();
        let hangs: Vec<(OpId, OpId)> = seen.iter().map(|&op| (self.before(op), op)).collect();
        let on_chain = hangs.iter().copied().filter(|&(on, _)| on != NONE);
        self.branches = Adjacency::new(ops, on_chain);
        let roots = hangs.iter().filter(|&&(on, _)| on == NONE);
        self.roots = roots.map(|&(_, op)| op).collect();
        self.size = sessions.iter().map(|s| s.done.len()).sum::<usize>() + seen.len();
    }

    pub fn op(&self, op: OpId) -> &'a InternedOp {
        &self.history.ops[op as usize]
    }

    pub fn on_chain(&self, op: OpId) -> bool {
        self.place[op as usize] != NONE
    }

    /// The reads of this write.
    pub fn readers(&self, write: OpId) -> &[OpId] {
        self.readers.of(write)
    }

    /// The operation before, in the same session, or [`NONE`].
    pub fn before(&self, op: OpId) -> OpId {
        let done = &self.history.order[self.op(op).session as usize].done;
        let place = match self.place[op as usize] {
            NONE => {
                let when = (self.op(op).start, op);
                done.partition_point(|&other| (self.op(other).start, other) < when)
            }
            place => place as usize,
        };
        place.checked_sub(1).map_or(NONE, |before| done[before])
    }

    /// The next operation of the same session, or [`NONE`]. Nothing comes next on a branch.
    fn next(&self, op: OpId) -> OpId {
        let place = self.place[op as usize];
        if place == NONE {
            return NONE;
        }
        let done = &self.history.order[self.op(op).session as usize].done;
        done.get(place as usize + 1).copied().unwrap_or(NONE)
    }

    /// All operations in an order in which causes come before effects, and the first of a conflict
    /// before the second. Otherwise by time, so that what belongs together is close together. In
    /// the causal order alone a branch comes right after what it hangs on.
    ///
    /// When there is none, those operations that lie on a cycle or between two.
    pub fn order(&self, conflicts: &[(OpId, OpId)]) -> Result<Vec<OpId>, Vec<OpId>> {
        let ops = self.source.len();
        let later = Adjacency::new(ops, conflicts.iter().copied());
        let mut waits = vec![0u32; ops];
        for &(_, to) in conflicts {
            waits[to as usize] += 1;
        }
        let mut ready = BinaryHeap::new();
        let key = |op: OpId| {
            let times = self.op(op).start.saturating_add(self.op(op).end);
            Reverse((self.on_chain(op), times, op))
        };
        for session in &self.history.order {
            for (place, &op) in session.done.iter().enumerate() {
                let read = self.source[op as usize] != NONE;
                waits[op as usize] += u32::from(place > 0) + u32::from(read);
                if waits[op as usize] == 0 {
                    ready.push(key(op));
                }
            }
            for &op in &session.open {
                waits[op as usize] += u32::from(self.before(op) != NONE);
            }
        }
        let roots = self.roots.iter().copied();
        ready.extend(roots.filter(|&op| waits[op as usize] == 0).map(key));
        let mut order = Vec::with_capacity(self.size);
        while let Some(Reverse((_, _, op))) = ready.pop() {
            order.push(op);
            let next = self.next(op);
            let next = [next].into_iter().filter(|&op| op != NONE);
            let after = [self.branches.of(op), self.readers(op), later.of(op)];
            for to in next.chain(after.into_iter().flatten().copied()) {
                let waits = &mut waits[to as usize];
                *waits -= 1;
                if *waits == 0 {
                    ready.push(key(to));
                }
            }
        }
        if order.len() == self.size {
            return Ok(order);
        }
        Err(self.knot(&order, &later))
    }

    /// The operations on cycles: those that only follow from cycles are taken away as well.
    fn knot(&self, sorted: &[OpId], later: &Adjacency) -> Vec<OpId> {
        let sessions = &self.history.order;
        let mut left = vec![false; self.source.len()];
        for session in sessions {
            let seen = |op: &OpId| !self.readers(*op).is_empty();
            let open = session.open.iter().copied().filter(seen);
            for op in session.done.iter().copied().chain(open) {
                left[op as usize] = true;
            }
        }
        for &op in sorted {
            left[op as usize] = false;
        }
        let after = |op: OpId| {
            let lists = [self.branches.of(op), self.readers(op), later.of(op)];
            let next = [self.next(op)].into_iter().filter(|&op| op != NONE);
            next.chain(lists.into_iter().flatten().copied())
        };
        let mut earlier = Vec::new();
        let mut waits = vec![0u32; self.source.len()];
        for op in (0..).take(left.len()).filter(|&op| left[op as usize]) {
            for to in after(op).filter(|&to| left[to as usize]) {
                earlier.push((to, op));
                waits[op as usize] += 1;
            }
        }
        let earlier = Adjacency::new(left.len(), earlier.iter().copied());
        let all = (0..).take(left.len());
        let mut ends: Vec<OpId> = all
            .filter(|&op| left[op as usize] && waits[op as usize] == 0)
            .collect();
        while let Some(op) = ends.pop() {
            left[op as usize] = false;
            for &from in earlier.of(op) {
                waits[from as usize] -= 1;
                if waits[from as usize] == 0 {
                    ends.push(from);
                }
            }
        }
        (0..)
            .zip(left)
            .filter_map(|(op, is)| is.then_some(op))
            .collect()
    }
}

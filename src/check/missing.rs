//! Reads that found nothing, and what they have read: the time before any write of the key, or a
//! delete.
//!
//! Deletes look all the same, so each explanation is tried, and only a read that none fits is
//! wrong:
//!
//! - The beginning fits if no write of the key is in the read's past.
//! - A delete in the read's past fits if no other write in that past comes after it.
//! - Any other delete fits if it started before the read ended.
//!
//! When one delete is the only explanation, the read has read it. If it was not in the read's past
//! it is now, which may settle other reads; so this is repeated, a few times.

use super::conflict::{Conflicts, ranks, unseen};
use super::graph::Graph;
use super::history::{Completion, Kind};
use super::input::{NONE, NULL, OpId};
use super::past::Past;

/// A read with more writes than this to choose from is left undecided.
const WIDEST: usize = 64;

/// A read that found nothing.
struct Missing {
    read: OpId,
    /// The write of the key in the read's past that is latest in the order.
    newest: OpId,
    /// The deletes of the key that had started, without those in its past: how many, and the sum of
    /// their numbers. The sum of one is its number.
    others: u32,
    others_sum: u64,
    /// Writes in its past that are not in the past of `newest`.
    rivals: Vec<OpId>,
    too_wide: bool,
}

/// The explanations that are left for reads that found nothing.
pub struct Findings {
    /// Reads that nothing explains, and for each the writes in its past that no other there
    /// comes after; none when every write of the key speaks against it.
    pub unexplained: Vec<(OpId, Vec<OpId>)>,
    /// Reads and the deletes in their past that they have read.
    pub settled: Vec<(OpId, OpId)>,
    /// Reads and the deletes that they have read, so that these are in their past.
    pub inferred: Vec<(OpId, OpId)>,
    /// How many reads have more than one explanation.
    pub undecided: u64,
    /// The order of writes as the reads imply it: those whose source was known, and the settled.
    pub conflicts: Conflicts,
}

pub fn find(graph: &Graph, past: &mut Past) -> Findings {
    let rank = ranks(past.order(), graph.source.len());
    let started = Started::new(graph);
    let mut missing = look(graph, past, &started, &rank);
    let mut findings = Findings {
        unexplained: Vec::new(),
        settled: Vec::new(),
        inferred: Vec::new(),
        undecided: 0,
        conflicts: Conflicts::new(rank.clone()),
    };
    // Where nothing was ever deleted, any write in the past is one too many.
    for m in &missing {
        if m.newest != NONE && !started.any(graph.op(m.read).key) {
            findings.unexplained.push((m.read, Vec::new()));
        }
    }
    if !findings.unexplained.is_empty() {
        return findings;
    }
    missing.retain(|m| {
        let undecided = m.others > u32::from(m.newest != NONE);
        findings.undecided += u64::from(undecided);
        m.newest != NONE && !undecided
    });
    compete(graph, past, &mut missing, &mut findings.conflicts);
    judge(graph, past, &missing, &rank, &mut findings);
    findings
}

/// The deletes of each key that may have happened, by when they started.
struct Started {
    deletes: Vec<(u32, u64, OpId)>,
    /// `sums[i]` is the sum of the numbers of the deletes before `i`.
    sums: Vec<u64>,
}

impl Started {
    fn new(graph: &Graph) -> Self {
        let ops = (0..).zip(&graph.history.ops);
        let deletes =
            ops.filter(|(_, op)| op.kind == Kind::Delete && op.status != Completion::Fail);
        let mut deletes: Vec<_> = deletes.map(|(id, op)| (op.key, op.start, id)).collect();
        deletes.sort_unstable();
        let mut sums = vec![0];
        for (i, &(_, _, id)) in deletes.iter().enumerate() {
            sums.push(sums[i] + u64::from(id));
        }
        Self { deletes, sums }
    }

    fn any(&self, key: u32) -> bool {
        let first = self.deletes.partition_point(|d| d.0 < key);
        self.deletes.get(first).is_some_and(|d| d.0 == key)
    }

    /// Those of a key until a time: how many, and the sum of their numbers.
    fn until(&self, key: u32, time: u64) -> (u32, u64) {
        let start = self.deletes.partition_point(|d| d.0 < key);
        let end = self.deletes.partition_point(|d| (d.0, d.1) <= (key, time));
        ((end - start) as u32, self.sums[end] - self.sums[start])
    }
}

/// All reads that found nothing and are not settled, with what their pasts say.
fn look(graph: &Graph, past: &mut Past, started: &Started, rank: &[u32]) -> Vec<Missing> {
    let open = |op: OpId| {
        let is = graph.op(op);
        let found = is.kind != Kind::Get || is.value != NULL;
        graph.on_chain(op) && !found && graph.source[op as usize] == NONE
    };
    let mut number = vec![NONE; graph.source.len()];
    let mut missing = Vec::new();
    for read in (0..).take(number.len()).filter(|&op| open(op)) {
        number[read as usize] = missing.len() as u32;
        let op = graph.op(read);
        let (others, others_sum) = started.until(op.key, op.end);
        missing.push(Missing {
            read,
            newest: NONE,
            others,
            others_sum,
            rivals: Vec::new(),
            too_wide: false,
        });
    }
    if missing.is_empty() {
        return missing;
    }
    let wanted = |op: OpId| number[op as usize] != NONE;
    past.run(&graph.source, wanted, |view| {
        let Some(m) = missing.get_mut(number[view.op as usize] as usize) else {
            return;
        };
        let key = graph.op(view.op).key;
        for column in view.writes.columns(key) {
            let Some((_, write)) = view.writes.last(key, column, view.past.count(column)) else {
                continue;
            };
            if m.newest == NONE || rank[m.newest as usize] < rank[write as usize] {
                m.newest = write;
            }
        }
        for column in view.deletes.columns(key) {
            let (count, sum) = view.deletes.sum(key, column, view.past.count(column));
            m.others -= count;
            m.others_sum -= sum;
        }
    });
    missing
}

/// Finds the rivals of the newest writes and, on the way, what the other reads say.
fn compete(graph: &Graph, past: &mut Past, missing: &mut [Missing], conflicts: &mut Conflicts) {
    let mut number = vec![NONE; graph.source.len()];
    // The newest write is in the read's past already: as its source it changes no past.
    let mut sources = graph.source.clone();
    for (i, m) in (0..).zip(missing.iter()) {
        number[m.read as usize] = i;
        sources[m.read as usize] = m.newest;
    }
    let is_read = |op: OpId| sources[op as usize] != NONE;
    past.run(&sources, is_read, |view| {
        let mut m = missing.get_mut(number[view.op as usize] as usize);
        unseen(graph, view, |write| match &mut m {
            None => conflicts.push(write, view.source),
            Some(m) if m.rivals.len() < WIDEST => m.rivals.push(write),
            Some(m) => m.too_wide = true,
        });
    });
}

/// Says of each read what explains it.
fn judge(
    graph: &Graph,
    past: &mut Past,
    missing: &[Missing],
    rank: &[u32],
    findings: &mut Findings,
) {
    let is_delete = |&op: &OpId| graph.op(op).kind == Kind::Delete;
    // A rival that is a delete fits, unless another rival comes after it.
    let mut pairs = Vec::new();
    for m in missing.iter().filter(|m| !m.too_wide) {
        for &delete in m.rivals.iter().filter(|op| is_delete(op)) {
            let later = |&&op: &&OpId| rank[op as usize] > rank[delete as usize];
            pairs.extend(m.rivals.iter().filter(later).map(|&op| (delete, op)));
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    let answers = if pairs.is_empty() {
        Vec::new()
    } else {
        past.ask(&pairs)
    };
    let in_past = |pair: &(OpId, OpId)| pairs.binary_search(pair).is_ok_and(|i| answers[i]);
    for m in missing {
        if m.too_wide {
            findings.undecided += 1;
            continue;
        }
        let last = |op: &OpId| !m.rivals.iter().any(|&later| in_past(&(*op, later)));
        let latest = || [m.newest].into_iter().chain(m.rivals.iter().copied());
        let mut fitting = latest().filter(is_delete).filter(last);
        match (fitting.next(), fitting.next(), m.others) {
            (None, _, 0) => findings.unexplained.push((m.read, latest().collect())),
            (Some(delete), None, 0) => {
                findings.settled.push((m.read, delete));
                for write in latest().filter(|&op| op != delete) {
                    findings.conflicts.push(write, delete);
                }
            }
            (None, _, 1) => findings.inferred.push((m.read, m.others_sum as OpId)),
            _ => findings.undecided += 1,
        }
    }
}

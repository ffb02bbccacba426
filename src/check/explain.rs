//! Finds the shortest contradiction once it is known that there is one.

use super::conflict::Conflicts;
use super::graph::{Adjacency, Graph, ThinAir};
use super::history::{Completion, Kind};
use super::input::OpId;
use super::past::Past;
use super::search::{Cost, Edge, Search, link, shorten};
use super::violation::{Guarantee, Pattern, Violation, Words};
use std::collections::HashSet;

const ANY: Cost = (u32::MAX, 0, 0);

pub fn thin_air(graph: &Graph, found: &ThinAir) -> Violation {
    let mut words = Words::new(graph);
    words.show(found.read);
    match found.writer {
        None => words.say("and nobody put that value"),
        Some(writer) => {
            let failed = graph.op(writer).status == Completion::Fail;
            words.say(if failed {
                "but the put of that value failed:"
            } else {
                "but that value was put only after the read had ended:"
            });
            words.show(writer);
        }
    }
    words.done(Pattern::ThinAirRead, None)
}

/// Some operations depend on themselves. `knot` has all that do.
pub fn cyclic_order(graph: &Graph, knot: &[OpId]) -> Violation {
    let mut search = Search::new(graph);
    let inside: HashSet<OpId> = knot.iter().copied().collect();
    let mut best: Option<(Cost, Vec<OpId>)> = None;
    for &read in knot {
        let source = graph.source[read as usize];
        if !inside.contains(&source) {
            continue;
        }
        let most = best.as_ref().map_or(ANY, |b| b.0);
        let may = |op: OpId| inside.contains(&op);
        let found = search.back(&[source], &Adjacency::default(), most, may, |op| op == read);
        best = found.or(best);
    }
    let mut words = Words::new(graph);
    words.say("each of these depends on the one before, and the first on the last:");
    let chain = best.map(|b| b.1).unwrap_or_default();
    let (ops, links) = shorten(graph, &chain);
    words.steps(&ops, &links);
    if let (Some(&first), Some(&last)) = (ops.first(), ops.last()) {
        words.say(format_args!(
            "line {} read what line {} wrote",
            words.line(first),
            words.line(last)
        ));
    }
    for op in ops {
        words.involve(op);
    }
    words.done(Pattern::CyclicCo, None)
}

/// Reads that found nothing and cannot be explained. Each comes with the writes that speak against
/// it, or with none when all writes of the key do.
pub fn unexplained(graph: &Graph, reads: &[(OpId, Vec<OpId>)]) -> Violation {
    let mut search = Search::new(graph);
    let mut best: Option<(Cost, Vec<OpId>)> = None;
    for (read, writes) in reads {
        let key = graph.op(*read).key;
        let against = |op: OpId| {
            let is = graph.op(op);
            is.kind == Kind::Put && is.key == key && (writes.is_empty() || writes.contains(&op))
        };
        let most = best.as_ref().map_or(ANY, |b| b.0);
        best = search.causes(&[*read], 0, most, against).or(best);
    }
    let mut words = Words::new(graph);
    let chain = best.map(|b| b.1).unwrap_or_default();
    let (Some(&write), Some(&read)) = (chain.first(), chain.last()) else {
        return words.done(Pattern::WriteCoInitRead, None);
    };
    words.show(read);
    words.say("but this write is in its past:");
    words.show(write);
    words.chain(&chain);
    deletes(graph, &mut words, read);
    let guarantee = Guarantee::of(&shorten(graph, &chain).1);
    words.done(Pattern::WriteCoInitRead, guarantee)
}

/// Says why no delete explains a read.
fn deletes(graph: &Graph, words: &mut Words, read: OpId) {
    let is = graph.op(read);
    let ops = graph.history.ops.iter();
    let deletes = ops.filter(|op| op.kind == Kind::Delete && op.key == is.key);
    let (mut failed, mut late, mut undone) = (0, 0, 0);
    for delete in deletes {
        *if delete.status == Completion::Fail {
            &mut failed
        } else if delete.start > is.end {
            &mut late
        } else {
            &mut undone
        } += 1;
    }
    let reasons = [
        (failed, "failed"),
        (late, "started after the read had ended"),
        (undone, "came before another write in its past"),
    ];
    let reasons = reasons.iter().filter(|(n, _)| *n > 0);
    let reasons: Vec<String> = reasons.map(|(n, why)| format!("{n} {why}")).collect();
    if reasons.is_empty() {
        words.say("and nobody deleted the key");
    } else {
        words.say(format_args!(
            "and no delete of the key explains it: {}",
            reasons.join(", ")
        ));
    }
}

/// The conflicts cannot be brought into an order. `knot` has the operations on circles.
pub fn conflicts(
    graph: &Graph,
    past: &mut Past,
    conflicts: &Conflicts,
    knot: &[OpId],
) -> Violation {
    let inside: HashSet<OpId> = knot.iter().copied().collect();
    let mut pairs: Vec<(OpId, OpId)> = conflicts.pairs.clone();
    pairs.retain(|(lost, won)| inside.contains(lost) && inside.contains(won));
    // Operations close together in time are likely to have a short explanation.
    pairs.sort_by_key(|&(lost, won)| {
        let gap = graph.op(lost).start.abs_diff(graph.op(won).start);
        (gap, lost, won)
    });
    let swapped: Vec<(OpId, OpId)> = pairs.iter().map(|&(lost, won)| (won, lost)).collect();
    let stale = past.ask(&swapped);
    let stale = pairs
        .iter()
        .zip(stale)
        .filter_map(|(p, is)| is.then_some(*p));
    overwritten(graph, past, stale).unwrap_or_else(|| circle(graph, &pairs, &inside))
}

/// Reads of what had been overwritten: pairs of which the loser has the winner in its past.
fn overwritten(
    graph: &Graph,
    past: &mut Past,
    pairs: impl Iterator<Item = (OpId, OpId)>,
) -> Option<Violation> {
    let mut search = Search::new(graph);
    // Fewest reads in both chains, then in the one that leads to the read.
    let mut least = (u32::MAX, 0, 0);
    let mut best: Option<(Vec<OpId>, Vec<OpId>)> = None;
    for (newer, older) in pairs {
        let most = (0, least.0, u32::MAX);
        let earliest = graph.op(older).start;
        let Some((one, order)) = search.causes(&[newer], earliest, most, |op| op == older) else {
            continue;
        };
        let most = (0, least.0 - one.1, u32::MAX);
        let Some((other, seen)) = witness(graph, &mut search, newer, older, most) else {
            continue;
        };
        let cost = (one.1 + other.1, other.1, one.2 + other.2);
        if cost < least {
            least = cost;
            best = Some((order, seen));
        }
    }
    let (order, seen) = best?;
    let (older, read) = (*order.first()?, *seen.last()?);
    let (order, seen) = nearest(graph, past, older, read).unwrap_or((order, seen));
    let newer = *seen.first()?;
    let mut words = Words::new(graph);
    words.show(read);
    words.say("but what it read:");
    words.show(older);
    words.say("was overwritten in its past:");
    words.show(newer);
    words.chain(&order);
    words.chain(&seen);
    let guarantee = Guarantee::of(&shorten(graph, &seen).1);
    Some(words.done(Pattern::WriteCoRead, guarantee))
}

/// The overwriting write that is closest to the read: how it came after the older one, and how the
/// read came after it. Conflicts have only the latest of each session.
fn nearest(
    graph: &Graph,
    past: &mut Past,
    older: OpId,
    read: OpId,
) -> Option<(Vec<OpId>, Vec<OpId>)> {
    let key = graph.op(older).key;
    let ops = (0..).zip(&graph.history.ops);
    let writes = ops.filter(|(op, is)| {
        let counts = graph.on_chain(*op) || !graph.readers(*op).is_empty();
        is.key == key && is.is_write() && counts && *op != older
    });
    let pairs: Vec<(OpId, OpId)> = writes.map(|(op, _)| (older, op)).collect();
    let newer = pairs.iter().zip(past.ask(&pairs));
    let newer: HashSet<OpId> = newer.filter_map(|(p, is)| is.then_some(p.1)).collect();
    let mut search = Search::new(graph);
    let (_, seen) = search.causes(&[read], 0, ANY, |op| newer.contains(&op))?;
    let earliest = graph.op(older).start;
    let (_, order) = search.causes(&[*seen.first()?], earliest, ANY, |op| op == older)?;
    Some((order, seen))
}

/// The shortest chain from a write to a read that has read another.
fn witness(
    graph: &Graph,
    search: &mut Search,
    lost: OpId,
    won: OpId,
    most: Cost,
) -> Option<(Cost, Vec<OpId>)> {
    let earliest = graph.op(lost).start;
    search.causes(graph.readers(won), earliest, most, |op| op == lost)
}

/// A circle of causes and conflicts.
fn circle(graph: &Graph, pairs: &[(OpId, OpId)], inside: &HashSet<OpId>) -> Violation {
    let mut search = Search::new(graph);
    let ops = graph.source.len();
    let lost = Adjacency::new(ops, pairs.iter().map(|&(lost, won)| (won, lost)));
    let mut known = pairs.to_vec();
    known.sort_unstable();
    let both = |&&(a, b): &&(OpId, OpId)| known.binary_search(&(b, a)).is_ok();
    let certain = on_a_circle(graph, &lost, inside);
    let first = pairs.iter().find(both).copied().or(certain);
    let mut best: Option<(Cost, Vec<OpId>)> = None;
    for (loser, winner) in first.into_iter().chain(pairs.iter().copied()) {
        let most = best.as_ref().map_or(ANY, |b| b.0);
        let may = |op: OpId| inside.contains(&op);
        let found = search.back(&[loser], &lost, most, may, |op| op == winner);
        best = found.or(best);
    }
    let words = Words::new(graph);
    let mut chain = best.map(|b| b.1).unwrap_or_default();
    let Some(&first) = chain.first() else {
        return words.done(Pattern::CyclicCf, None);
    };
    chain.push(first);
    describe(graph, words, &chain)
}

/// Some conflict that is on a circle for certain: what one comes to by going back and back.
fn on_a_circle(graph: &Graph, lost: &Adjacency, inside: &HashSet<OpId>) -> Option<(OpId, OpId)> {
    let mut seen = HashSet::new();
    let mut conflict = None;
    let mut at = inside.iter().copied().min()?;
    let mut again = None;
    loop {
        if again.is_none() && !seen.insert(at) {
            again = Some(at);
            conflict = None;
        } else if again == Some(at) {
            return conflict;
        }
        let near = [graph.before(at), graph.source[at as usize]];
        let near = near.into_iter().find(|op| inside.contains(op));
        let far = || lost.of(at).iter().copied().find(|op| inside.contains(op));
        at = match near {
            Some(op) => op,
            None => {
                let op = far()?;
                conflict = Some((op, at));
                op
            }
        };
    }
}

/// Explains a circle that ends where it began.
fn describe(graph: &Graph, mut words: Words, circle: &[OpId]) -> Violation {
    // Begins after a conflict, so that no chain of causes is cut in two.
    let steps: Vec<(OpId, OpId)> = circle.windows(2).map(|w| (w[0], w[1])).collect();
    let is_conflict = |&(from, to): &(OpId, OpId)| link(graph, from, to) == Edge::Conflict;
    let begin = steps.iter().position(is_conflict).unwrap_or_default();
    let steps = steps[begin..].iter().chain(&steps[..begin]).copied();
    let mut conflicts = Vec::new();
    let mut causes: Vec<Vec<OpId>> = Vec::new();
    for step in steps {
        if is_conflict(&step) {
            conflicts.push(step);
            causes.push(vec![step.1]);
        } else if let Some(chain) = causes.last_mut() {
            chain.push(step.1);
        }
    }
    words.say("no order of these writes fits all reads:");
    let mut writes: Vec<OpId> = conflicts.iter().flat_map(|&(a, b)| [a, b]).collect();
    writes.sort_unstable();
    writes.dedup();
    for write in writes {
        words.show(write);
    }
    let mut reads = Vec::new();
    for ((lost, won), causes) in conflicts.into_iter().zip(&causes) {
        let mut search = Search::new(graph);
        let seen = witness(graph, &mut search, lost, won, ANY);
        let seen = seen.map(|s| s.1).unwrap_or_default();
        if let Some(&read) = seen.last() {
            let (lost, won) = (words.line(lost), words.line(won));
            words.say(format_args!(
                "line {won} won over line {lost}: this read returned the one with the other in its past"
            ));
            words.show(read);
            words.chain(&seen);
            let guarantee = Guarantee::of(&shorten(graph, &seen).1);
            reads.push((graph.op(read).session, guarantee));
        }
        words.chain(causes);
    }
    // A session that went from one write to the other and back has gone back.
    let guarantee = match reads[..] {
        [(one, Some(a)), (other, Some(b))] if one == other => {
            let own = [Guarantee::ReadYourWrites, Guarantee::MonotonicReads];
            (own.contains(&a) && own.contains(&b)).then_some(Guarantee::MonotonicReads)
        }
        _ => None,
    };
    words.done(Pattern::CyclicCf, guarantee)
}

//! The definition itself, tried out: is there a choice of what each read has read and an order of
//! all writes, so that causality is no circle, the order agrees with it, and each read returns the
//! last write of its key in its past? For a handful of operations only.

use crate::script::Line;
use causeway::check::history::{Completion, Kind};

pub fn is_consistent(lines: &[Line]) -> bool {
    let mut choice = vec![None; lines.len()];
    choose(lines, 0, &mut choice)
}

fn counts(line: &Line) -> bool {
    line.status == Completion::Ok || line.status == Completion::Unknown && line.kind != Kind::Get
}

/// Tries everything that read number `at` and the later ones may have read.
fn choose(lines: &[Line], at: usize, choice: &mut Vec<Option<usize>>) -> bool {
    let Some(line) = lines.get(at) else {
        return fits(lines, choice);
    };
    if line.kind != Kind::Get || line.status != Completion::Ok {
        return choose(lines, at + 1, choice);
    }
    let may_have_written = |write: &Line| {
        let same = write.kind != Kind::Get && write.key == line.key && write.value == line.value;
        same && counts(write) && write.start <= line.end
    };
    for (write, _) in lines
        .iter()
        .enumerate()
        .filter(|(_, w)| may_have_written(w))
    {
        choice[at] = Some(write);
        if choose(lines, at + 1, choice) {
            return true;
        }
    }
    choice[at] = None;
    line.value.is_none() && choose(lines, at + 1, choice)
}

fn fits(lines: &[Line], choice: &[Option<usize>]) -> bool {
    let n = lines.len();
    let mut before = vec![vec![false; n]; n];
    for (a, one) in lines.iter().enumerate() {
        for (b, other) in lines.iter().enumerate() {
            let session = one.session == other.session && (one.start, a) < (other.start, b);
            let follows = session && one.status == Completion::Ok && counts(other);
            before[a][b] = follows || choice[b] == Some(a);
        }
    }
    for via in 0..n {
        for a in 0..n {
            for b in 0..n {
                before[a][b] |= before[a][via] && before[via][b];
            }
        }
    }
    if (0..n).any(|a| before[a][a]) {
        return false;
    }
    let happened = |&w: &usize| {
        let line = &lines[w];
        let seen = line.status == Completion::Ok || choice.contains(&Some(w));
        line.kind != Kind::Get && counts(line) && seen
    };
    let writes: Vec<usize> = (0..n).filter(happened).collect();
    order(lines, choice, &before, &writes, &mut Vec::new())
}

/// Tries all orders of the writes that begin with `order`.
fn order(
    lines: &[Line],
    choice: &[Option<usize>],
    before: &[Vec<bool>],
    writes: &[usize],
    order_so_far: &mut Vec<usize>,
) -> bool {
    if order_so_far.len() == writes.len() {
        let reads = lines.iter().enumerate();
        let mut reads = reads.filter(|(_, l)| l.kind == Kind::Get && l.status == Completion::Ok);
        return reads.all(|(r, read)| {
            let mut past = order_so_far.iter().rev().copied();
            past.find(|&w| before[w][r] && lines[w].key == read.key) == choice[r]
        });
    }
    for &next in writes {
        let late = writes
            .iter()
            .any(|&w| before[w][next] && !order_so_far.contains(&w));
        if late || order_so_far.contains(&next) {
            continue;
        }
        order_so_far.push(next);
        if order(lines, choice, before, writes, order_so_far) {
            return true;
        }
        order_so_far.pop();
    }
    false
}

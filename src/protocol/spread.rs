//! Spreads the slots evenly over partitions, moving as few as possible and keeping runs of
//! neighbours long.

use super::view::PartitionId;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// The partition of each slot when `partitions` (one at least) are to hold all of them, evenly
/// within one.
///
/// Slots move only from partitions with too many to those with too few, and no more than evenness
/// asks for. Which of a partition's slots move is free: those that leave the fewest runs. Runs are
/// what placement is written down in.
pub(super) fn spread(
    slots: &[PartitionId],
    partitions: &BTreeSet<PartitionId>,
) -> Vec<PartitionId> {
    let named: BTreeSet<PartitionId> = slots.iter().chain(partitions).copied().collect();
    let names: Vec<PartitionId> = named.into_iter().collect();
    // Every name is in the sorted list, so the search finds it.
    let index = |partition: &PartitionId| names.partition_point(|name| name < partition);
    let stays: Vec<bool> = names.iter().map(|n| partitions.contains(n)).collect();
    let runs = slots.iter().map(|slot| Run {
        owner: index(slot),
        len: 1,
    });
    let mut ring = Ring::new(runs.collect(), &stays);
    while let Some(best) = ring.best() {
        ring.give(&best);
    }
    let runs = ring.runs.iter();
    runs.flat_map(|run| std::iter::repeat_n(names[run.owner], run.len))
        .collect()
}

/// Neighbouring slots of one owner.
struct Run {
    owner: usize,
    /// 1 or more.
    len: usize,
}

/// The slots from the first to the last, on their way to evenness.
struct Ring {
    runs: Vec<Run>,
    /// Per owner: slots that it still has to give.
    surplus: Vec<usize>,
    /// Per owner: slots that it still has to get. The sums of both are equal.
    wanted: Vec<usize>,
}

/// A piece of a run that could change its owner.
struct Piece {
    run: usize,
    /// From the start of the run, or from its end.
    start: bool,
    len: usize,
    to: usize,
}

/// The cost of a move; the least is best. In order: runs that it adds, whether its neighbour could
/// not give the same owner more at the same place, its length, its place to break ties.
type Cost = (i8, bool, Reverse<usize>, usize, bool);

impl Ring {
    /// Decides which owners give slots and which get some. `stays` says per owner whether it is to
    /// hold slots at all.
    fn new(runs: Vec<Run>, stays: &[bool]) -> Self {
        let mut held = vec![0; stays.len()];
        for run in &runs {
            held[run.owner] += run.len;
        }
        let total: usize = held.iter().sum();
        let mut order: Vec<usize> = (0..stays.len()).filter(|owner| stays[*owner]).collect();
        let (share, extra) = (total / order.len().max(1), total % order.len().max(1));
        // Shares cannot be equal: the owners that hold most keep one more, so that it need not
        // move.
        order.sort_by_key(|owner| Reverse(held[*owner]));
        let mut target = vec![0; stays.len()];
        for (place, owner) in order.into_iter().enumerate() {
            target[owner] = share + usize::from(place < extra);
        }
        let pairs = || held.iter().zip(&target);
        let mut ring = Self {
            surplus: pairs().map(|(h, t)| h.saturating_sub(*t)).collect(),
            wanted: pairs().map(|(h, t)| t.saturating_sub(*h)).collect(),
            runs,
        };
        ring.join_runs();
        ring
    }

    /// The best move, while there is something to move.
    fn best(&self) -> Option<Piece> {
        let needs = (0..self.wanted.len()).filter(|o| self.wanted[*o] > 0);
        let neediest = needs.max_by_key(|o| (self.wanted[*o], Reverse(*o)))?;
        let mut best: Option<(Cost, Piece)> = None;
        for run in 0..self.runs.len() {
            if self.surplus[self.runs[run].owner] == 0 {
                continue;
            }
            let beside = [self.before(run), self.after(run)].into_iter().flatten();
            let takers = beside.filter(|o| self.wanted[*o] > 0);
            for to in takers.chain([neediest]) {
                for start in [true, false] {
                    let piece = self.piece(run, start, to);
                    let cost = self.cost(&piece);
                    if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                        best = Some((cost, piece));
                    }
                }
            }
        }
        best.map(|(_, piece)| piece)
    }

    /// As much from one end of a run as one may give and the other is to get.
    fn piece(&self, run: usize, start: bool, to: usize) -> Piece {
        let Run { owner, len } = self.runs[run];
        let len = len.min(self.surplus[owner]).min(self.wanted[to]);
        Piece {
            run,
            start,
            len,
            to,
        }
    }

    fn cost(&self, piece: &Piece) -> Cost {
        let (before, after) = (self.before(piece.run), self.after(piece.run));
        let (added, alone) = if piece.len == self.runs[piece.run].len {
            let touches = |beside: Option<usize>| i8::from(beside == Some(piece.to));
            (-touches(before) - touches(after), false)
        } else {
            let beside = if piece.start { before } else { after };
            let touches = beside == Some(piece.to);
            // Cut beside another giver: its piece goes to the same run.
            let pairs = beside.is_some_and(|o| self.surplus[o] > 0);
            (i8::from(!touches), !touches && !pairs)
        };
        let len = Reverse(piece.len);
        (added, alone, len, piece.run, !piece.start)
    }

    fn give(&mut self, piece: &Piece) {
        let run = &mut self.runs[piece.run];
        run.len -= piece.len;
        self.surplus[run.owner] -= piece.len;
        self.wanted[piece.to] -= piece.len;
        let at = piece.run + usize::from(!piece.start);
        let given = Run {
            owner: piece.to,
            len: piece.len,
        };
        self.runs.insert(at, given);
        self.join_runs();
    }

    fn join_runs(&mut self) {
        self.runs.retain(|run| run.len > 0);
        self.runs.dedup_by(|later, earlier| {
            let same = later.owner == earlier.owner;
            earlier.len += if same { later.len } else { 0 };
            same
        });
    }

    fn before(&self, run: usize) -> Option<usize> {
        let run = run.checked_sub(1)?;
        self.runs.get(run).map(|r| r.owner)
    }

    fn after(&self, run: usize) -> Option<usize> {
        self.runs.get(run + 1).map(|r| r.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn partitions(ids: &[u32]) -> BTreeSet<PartitionId> {
        ids.iter().copied().map(PartitionId).collect()
    }

    fn spread_text(slots: &str, ids: &[u32]) -> String {
        let slots: Vec<_> = slots
            .bytes()
            .map(|b| PartitionId(u32::from(b - b'0')))
            .collect();
        let after = spread(&slots, &partitions(ids));
        after.iter().map(|p| p.0.to_string()).collect()
    }

    #[test]
    fn a_new_partition_gets_pieces_that_lie_together() {
        assert_eq!(spread_text("000000111111", &[0, 1, 2]), "000022221111");
        assert_eq!(spread_text("000011112222", &[0, 1, 2, 3]), "000331113222");
    }

    #[test]
    fn slots_of_a_partition_that_goes_join_their_neighbours() {
        assert_eq!(spread_text("000011112222", &[0, 2]), "000000222222");
        assert_eq!(spread_text("000011112222", &[1, 2]), "221111112222");
    }

    #[test]
    fn nothing_moves_without_need() {
        assert_eq!(spread_text("0102101220", &[0, 1, 2]), "0102101220");
        assert_eq!(spread_text("0001", &[0, 1]), "0011");
    }

    proptest! {
        #[test]
        fn evenness_costs_no_more_than_it_must(
            slots in proptest::collection::vec(0u32..9, 64),
            ids in proptest::collection::btree_set(0u32..12, 1..12),
        ) {
            let before: Vec<_> = slots.into_iter().map(PartitionId).collect();
            let ids: BTreeSet<_> = ids.into_iter().map(PartitionId).collect();
            let after = spread(&before, &ids);
            let count = |slots: &[PartitionId], p: &PartitionId| slots.iter().filter(|s| *s == p).count();
            let mut wanted = 0;
            for id in &ids {
                let (had, has) = (count(&before, id), count(&after, id));
                prop_assert!(has == 64 / ids.len() || has == 64usize.div_ceil(ids.len()));
                wanted += has.saturating_sub(had);
            }
            prop_assert!(after.iter().all(|p| ids.contains(p)));
            let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
            prop_assert_eq!(moved, wanted, "nobody gives and gets");
            // Nobody can hold more than an even share: what is above the share has to go.
            let mut held: Vec<usize> = ids.iter().map(|id| count(&before, id)).collect();
            held.sort_unstable_by_key(|h| Reverse(*h));
            let extra = 64 % ids.len();
            let keeps = held.iter().enumerate().map(|(i, h)| (*h).min(64 / ids.len() + usize::from(i < extra)));
            prop_assert_eq!(moved, 64 - keeps.sum::<usize>());
        }
    }
}

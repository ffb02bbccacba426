//! Where the writes of a key are: on which session's chain, at which place.

use super::input::OpId;

/// Sessions that are looked at together: as many as a `u128` has bits.
pub const BLOCK: usize = 128;

/// Writes by key and session, of one block at a time.
pub struct Places {
    /// Sorted by block, key, session, place.
    items: Vec<Item>,
    /// Sums of operation numbers: `sums[i]` is that of the items before `i`.
    sums: Vec<u64>,
    /// Where each (key, session) begins in `items`, and the end.
    groups: Vec<u32>,
    /// The present block's groups of each key: in which sessions, and the first one's number.
    of_key: Vec<(u128, u32)>,
    loaded: Vec<u32>,
}

/// A write, and at which place of its column's session it happened or was first read.
#[derive(Clone, Copy)]
pub struct Item {
    pub column: u32,
    pub key: u32,
    pub place: u32,
    pub op: OpId,
}

impl Places {
    pub fn new(mut items: Vec<Item>, keys: usize) -> Self {
        items.sort_unstable_by_key(|i| (i.column / BLOCK as u32, i.key, i.column, i.place));
        let mut sums = vec![0];
        let mut groups = Vec::new();
        for (i, item) in items.iter().enumerate() {
            sums.push(sums[i] + u64::from(item.op));
            let same = |before: &Item| (before.key, before.column) == (item.key, item.column);
            if i == 0 || !same(&items[i - 1]) {
                groups.push(i as u32);
            }
        }
        groups.push(items.len() as u32);
        Self {
            items,
            sums,
            groups,
            of_key: vec![(0, 0); keys],
            loaded: Vec::new(),
        }
    }

    /// Makes a block the present one.
    pub fn load(&mut self, block: usize) {
        for key in self.loaded.drain(..) {
            self.of_key[key as usize] = (0, 0);
        }
        let starts = &self.groups[..self.groups.len() - 1];
        let block_of = |&start: &u32| self.items[start as usize].column as usize / BLOCK;
        let first = starts.partition_point(|start| block_of(start) < block);
        for (group, start) in starts.iter().enumerate().skip(first) {
            if block_of(start) != block {
                break;
            }
            let item = self.items[*start as usize];
            let entry = &mut self.of_key[item.key as usize];
            if entry.0 == 0 {
                entry.1 = group as u32;
                self.loaded.push(item.key);
            }
            entry.0 |= 1 << (item.column as usize % BLOCK);
        }
    }

    /// The columns of the present block that have a write of this key.
    pub fn columns(&self, key: u32) -> impl Iterator<Item = usize> + use<> {
        let mut mask = self.of_key[key as usize].0;
        std::iter::from_fn(move || {
            let column = mask.trailing_zeros() as usize;
            mask &= mask.wrapping_sub(1);
            (column < BLOCK).then_some(column)
        })
    }

    /// In a column that has the key: where its items begin, and how many are among the session's
    /// first `bound` operations.
    fn first(&self, key: u32, column: usize, bound: u32) -> (usize, usize) {
        let (mask, base) = self.of_key[key as usize];
        let group = base + (mask & ((1 << column) - 1)).count_ones();
        let group = &self.groups[group as usize..group as usize + 2];
        let (start, end) = (group[0] as usize, group[1] as usize);
        let count = self.items[start..end].partition_point(|i| i.place < bound);
        (start, count)
    }

    /// The last write of the key among the first `bound` operations of the column's session.
    pub fn last(&self, key: u32, column: usize, bound: u32) -> Option<(u32, OpId)> {
        let (start, count) = self.first(key, column, bound);
        let item = &self.items[start + count.checked_sub(1)?];
        Some((item.place, item.op))
    }

    /// How many writes of the key are there, and the sum of their numbers.
    pub fn sum(&self, key: u32, column: usize, bound: u32) -> (u32, u64) {
        let (start, count) = self.first(key, column, bound);
        (count as u32, self.sums[start + count] - self.sums[start])
    }
}

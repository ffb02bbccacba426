//! Names: members, logs and dots.

use super::sound::{Unsound, checked_when_read, ensure_incarnation, ensure_seq};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A node's number: small, given once, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct MemberId(pub u16);

/// Bits of an incarnation that tell the starts under one view apart.
pub const START_BITS: u32 = 46;

/// The low bits of the number of a start that are chance, in case a clock that was set back meets a
/// disk that was lost.
const CHANCE_BITS: u32 = 6;

/// The zero of the numbers of starts, 2023-11-14, in milliseconds since 1970. They last until 2058.
const STARTS_EPOCH_MS: u64 = 1_700_000_000_000;

/// View numbers are smaller than this.
pub const MAX_VIEW: u64 = 1 << 17;

/// A writer log: the ordered writes that one node accepted in one incarnation.
///
/// Incarnations of a member grow with every start and are never reused. The upper bits are the
/// number of the view under which the log was opened: it says which slots the log's writes are in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(remote = "Self")]
pub struct LogId {
    /// The writer.
    pub member: MemberId,
    /// The number of the start in which the writer opened the log.
    pub incarnation: u64,
}

/// The number of a start at a time of the wall clock, in milliseconds since 1970: greater than
/// those of all earlier milliseconds, so that starts are in order also where a disk was lost in
/// between and nobody else remembers the earlier one. Of `chance` the low bits count.
#[must_use]
pub fn start_at(wall_ms: u64, chance: u64) -> u64 {
    let chance = chance & ((1 << CHANCE_BITS) - 1);
    start_of(wall_ms.saturating_sub(STARTS_EPOCH_MS) << CHANCE_BITS | chance)
}

/// The incarnation of a start under a view.
#[must_use]
pub fn incarnation(view: u64, start: u64) -> u64 {
    view << START_BITS | start_of(start)
}

/// The number of the view under which an incarnation began.
#[must_use]
pub fn view_of(incarnation: u64) -> u64 {
    incarnation >> START_BITS
}

/// The low 46 bits of an incarnation, which tell it from others under the same view.
#[must_use]
pub fn start_of(incarnation: u64) -> u64 {
    incarnation & ((1 << START_BITS) - 1)
}

checked_when_read!(LogId, Dot);

impl Dot {
    fn check(self) -> Result<(), Unsound> {
        ensure_seq(self.seq)
    }
}

impl LogId {
    fn check(self) -> Result<(), Unsound> {
        ensure_incarnation(self.incarnation)
    }

    /// The number of the view under which the log was opened.
    #[must_use]
    pub fn view(self) -> u64 {
        view_of(self.incarnation)
    }
}

/// Names one write for ever: the `seq`-th write (from 1) of a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(remote = "Self")]
pub struct Dot {
    /// The log of the write.
    pub log: LogId,
    /// Its position in the log, from 1.
    pub seq: u64,
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = start_of(self.incarnation);
        write!(f, "{}.{}.{start:x}", self.member, self.view())
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.log, self.seq)
    }
}

/// Names are short in traces and logs too.
macro_rules! debug_as_display {
    ($($name:ty),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

debug_as_display!(MemberId, LogId, Dot);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_in_the_order_of_their_milliseconds() {
        let at = |ms: u64, chance| start_at(1_790_000_000_000 + ms, chance);
        assert!(at(0, u64::MAX) < at(1, 0));
        assert_ne!(at(0, 1), at(0, 2));
        // Neither a clock before the zero nor one far ahead reaches the number of the view.
        for wall_ms in [0, u64::MAX] {
            assert_eq!(view_of(incarnation(7, start_at(wall_ms, u64::MAX))), 7);
        }
    }
}

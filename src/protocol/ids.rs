//! Names: members, logs and dots.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A node's number: small, given once, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct MemberId(pub u16);

/// Bits of an incarnation that tell the starts under one view apart.
pub const START_BITS: u32 = 46;

/// View numbers are smaller than this.
pub const MAX_VIEW: u64 = 1 << 17;

/// A writer log: the ordered writes that one node accepted in one incarnation.
///
/// Incarnations of a member grow with every start and are never reused. The upper bits are the
/// number of the view under which the log was opened: it says which slots the log's writes are in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct LogId {
    /// The writer.
    pub member: MemberId,
    /// The number of the start in which the writer opened the log.
    pub incarnation: u64,
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

impl LogId {
    /// The number of the view under which the log was opened.
    #[must_use]
    pub fn view(self) -> u64 {
        view_of(self.incarnation)
    }
}

/// Names one write for ever: the `seq`-th write (from 1) of a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
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

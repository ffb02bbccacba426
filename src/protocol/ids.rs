//! Names: members, logs and dots.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A node's number: small, given once, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct MemberId(pub u16);

/// A writer log: the ordered writes that one node accepted in one incarnation.
///
/// Incarnations of a member grow with every start and are never reused (DESIGN: identity).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct LogId {
    pub member: MemberId,
    pub incarnation: u64,
}

/// Names one write for ever: the `seq`-th write (from 1) of a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Dot {
    pub log: LogId,
    pub seq: u64,
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.member, self.incarnation)
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

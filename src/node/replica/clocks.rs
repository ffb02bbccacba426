//! The clocks of this process.

use crate::protocol::ids::start_at;
use crate::protocol::replica::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Both clocks of this process.
#[derive(Debug, Clone, Copy)]
pub struct Clocks(Instant);

impl Clocks {
    /// Clocks whose monotonic time starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn mono_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn wall_ms(self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    /// Both.
    #[must_use]
    pub fn now(self) -> Now {
        Now {
            mono_us: self.mono_us(),
            wall_ms: self.wall_ms(),
        }
    }
}

/// A number for a start at this time of the wall clock.
pub fn new_start(wall_ms: u64) -> u64 {
    start_at(wall_ms, rand::random())
}

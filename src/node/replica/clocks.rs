//! The clocks of this process.

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

/// A number for this start, larger than earlier ones as far as the wall clock is right: seconds,
/// then 16 random bits, should a clock that was set back meet a disk that was lost.
pub fn new_start(wall_ms: u64) -> u64 {
    const EPOCH_S: u64 = 1_700_000_000;
    let seconds = (wall_ms / 1_000).saturating_sub(EPOCH_S);
    seconds << 16 | u64::from(rand::random::<u16>())
}

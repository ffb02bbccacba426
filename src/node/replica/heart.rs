//! Whether a thread still goes its rounds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The rounds of one thread, as others see them.
#[derive(Debug)]
pub struct Heart {
    origin: Instant,
    /// Milliseconds from `origin` to the end of the last round, and one; 0 before the first.
    last: AtomicU64,
}

impl Default for Heart {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heart {
    /// A round has ended.
    pub fn beat(&self) {
        self.last.store(self.now() + 1, Ordering::Relaxed);
    }

    /// Time since the last round; `None` before the first.
    pub fn silent(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(self.now().saturating_sub(last)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_counts_from_the_last_round() {
        let heart = Heart::default();
        assert_eq!(heart.silent(), None);
        heart.beat();
        while heart.silent().unwrap() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        heart.beat();
        assert!(heart.silent().unwrap() < Duration::from_secs(10));
    }
}

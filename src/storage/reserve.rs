//! Room on a disk that is kept free: the engine needs some while it works, and deletes need some to
//! make more.

use std::path::Path;

use crate::protocol::room::DiskRoom;

/// The reserve where nothing else is said, in bytes.
const ORDINARY: u64 = 128 << 20;

/// Room that is kept free, in two parts: values leave the whole of it, and deletes half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve(u64);

impl Reserve {
    /// A reserve of so many bytes.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        Self(bytes)
    }

    /// What values leave free, in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// What deletes leave free, in bytes.
    fn last(self) -> u64 {
        self.0 / 2
    }

    /// How much room there is where `free` bytes are left in `dir`.
    #[must_use]
    pub fn level(self, free: u64, dir: &Path) -> DiskRoom {
        let less =
            |than: u64| format!("less than {} MiB are free in {}", than >> 20, dir.display());
        if free < self.last() {
            DiskRoom::None(less(self.last()))
        } else if free < self.0 {
            DiskRoom::Scarce(format!("{}, which is for deletes", less(self.0)))
        } else {
            DiskRoom::Ample
        }
    }
}

impl Default for Reserve {
    fn default() -> Self {
        Self(ORDINARY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_it_is_for_deletes() {
        let level = |free: u64| Reserve::of(100 << 20).level(free << 20, Path::new("d"));
        assert_eq!(level(100), DiskRoom::Ample);
        for (free, text) in [
            (99, "less than 100 MiB are free in d, which is for deletes"),
            (50, "less than 100 MiB are free in d, which is for deletes"),
        ] {
            assert_eq!(level(free), DiskRoom::Scarce(text.to_owned()));
        }
        let text = "less than 50 MiB are free in d".to_owned();
        assert_eq!(level(49), DiskRoom::None(text));
    }
}

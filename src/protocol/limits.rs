//! Bounds on what a replica holds, sends and does at a time.
//!
//! They are parameters: a node goes by the ordinary ones, a simulation by small ones, so that it
//! meets each of them. [`met`] counts that in builds for tests.

/// Bounds on what a replica holds, sends and does at a time. Bytes of versions are
/// [approximate](super::version::Version::size).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Staged bytes that do not wait for the batch before.
    pub batch_bytes: usize,
    /// Bytes that are staged or on their way to the disk, above which nothing more is taken in.
    pub behind_bytes: usize,
    /// Bytes of one message of a stream, but for a single larger write.
    pub append_bytes: usize,
    /// Bytes sent to a peer and not acknowledged, but for a single larger write.
    pub window_bytes: usize,
    /// Bytes of recent writes that are kept for streaming.
    pub tail_bytes: usize,
    /// Bytes of one part of a log that a peer pulls, but for a single larger version.
    pub range_bytes: usize,
    /// Dots from which on one such part takes no further run of the index.
    pub range_dots: usize,
    /// Bytes of one part of a snapshot, but for a single larger version.
    pub chunk_bytes: u32,
    /// Bytes of one part of a snapshot while clients are at work at either end: they are not to
    /// notice that data is being moved.
    pub busy_chunk_bytes: u32,
    /// Bytes of versions that came ahead of their log and are handed to one holder at a time, but
    /// for a single larger one.
    pub handed_bytes: usize,
    /// Dots in one run of the index.
    pub run_dots: usize,
    /// Dots that the indexes of all logs reach back, together. A replica that lacks more has to
    /// fetch a snapshot.
    pub index_dots: u64,
    /// Runs of the index that are dropped in one round of gossip, beside twice as many as were made
    /// since the last one.
    pub prune_runs: usize,
    /// Tombstones that are looked at in one round of gossip.
    pub tombstones: usize,
    /// Keys in slots that are not kept here any more that are dropped at a tick.
    pub dropped: usize,
    /// Keys dropped at a tick while clients are at work.
    pub busy_dropped: usize,
    /// Finished logs of a member for a cohort that are remembered one by one.
    pub finished: usize,
    /// Members of other partitions that get a beacon in one round; the next ones get the next.
    pub beacons: usize,
    /// Writes that wait for their copies.
    pub waiting_writes: usize,
    /// Writes that wait for the replica to be opened again.
    pub held_writes: usize,
    /// Reads that wait for missing writes; one with a long context counts as several.
    pub stalled_reads: usize,
}

impl Limits {
    /// The limits of a node.
    pub const ORDINARY: Self = Self {
        batch_bytes: 4 << 20,
        behind_bytes: 32 << 20,
        append_bytes: 512 << 10,
        window_bytes: 8 << 20,
        tail_bytes: 32 << 20,
        range_bytes: 1 << 20,
        range_dots: 8_192,
        chunk_bytes: 512 << 10,
        busy_chunk_bytes: 64 << 10,
        handed_bytes: 512 << 10,
        run_dots: 4_096,
        index_dots: 4 << 20,
        prune_runs: 256,
        tombstones: 1_000,
        dropped: 10_000,
        busy_dropped: 400,
        finished: 16,
        beacons: 64,
        waiting_writes: 65_536,
        held_writes: 16_384,
        stalled_reads: 10_000,
    };

    /// Whether they fit together.
    #[must_use]
    pub const fn are_sound(&self) -> bool {
        // One full batch is not too much by itself, and a stream never waits for room that only it
        // can make.
        self.batch_bytes <= self.behind_bytes
            && self.append_bytes <= self.window_bytes
            && self.window_bytes <= self.tail_bytes
            && self.busy_chunk_bytes <= self.chunk_bytes
            && self.busy_dropped <= self.dropped
            && self.busy_chunk_bytes > 0
            && self.busy_dropped > 0
            && self.run_dots > 0
            && self.range_dots > 0
            && self.tombstones > 0
            && self.beacons > 0
            && self.waiting_writes > 0
    }

    /// The most bytes of versions and keys that go into one message, but for a single larger
    /// version.
    #[must_use]
    pub const fn message_bytes(&self) -> usize {
        let chunk = self.chunk_bytes as usize;
        let mut most = self.append_bytes;
        if self.range_bytes > most {
            most = self.range_bytes;
        }
        if chunk > most {
            most = chunk;
        }
        if self.handed_bytes > most {
            most = self.handed_bytes;
        }
        most
    }
}

const _: () = assert!(Limits::ORDINARY.are_sound());

impl Default for Limits {
    fn default() -> Self {
        Self::ORDINARY
    }
}

macro_rules! bounds {
    ($($(#[$doc:meta])* $bound:ident,)*) => {
        /// A bound, by what happens where it is met.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Bound {
            $($(#[$doc])* $bound,)*
        }

        impl Bound {
            /// Every bound.
            pub const ALL: &[Self] = &[$(Self::$bound,)*];
        }
    };
}

bounds! {
    /// A batch goes to the disk before the last one is durable.
    Batch,
    /// Something is not taken in, because the disk is behind.
    Behind,
    /// A message of a stream ends before the stream does.
    Append,
    /// A stream waits for acknowledgements.
    Window,
    /// The oldest of the recent writes is forgotten though a peer lacks it.
    Tail,
    /// A part of a log ends by its bytes.
    RangeBytes,
    /// A part of a log ends by its dots.
    RangeDots,
    /// A part of a snapshot ends by its bytes.
    Chunk,
    /// The bound of `busy_chunk_bytes`.
    BusyChunk,
    /// A version that came ahead of its log is handed over later than another.
    Handed,
    /// A run of the index is full.
    Run,
    /// The index is cut, though somebody may lack what it told of.
    Index,
    /// Runs of the index are dropped later than they could be.
    Prune,
    /// Tombstones are looked at later.
    Tombstones,
    /// Keys that are not kept any more are dropped later.
    Dropped,
    /// A finished log is remembered by its order alone.
    Finished,
    /// A member of another partition gets no beacon in this round.
    Beacons,
    /// A wall clock is not gone by, because it is too far from most others'.
    ClockOff,
    /// A write is refused because too many wait.
    WaitingWrites,
    /// A write is refused because too many wait for the replica to be opened again.
    HeldWrites,
    /// A read does not wait because too many do.
    StalledReads,
}

#[cfg(not(feature = "teeth"))]
#[inline(always)]
pub(super) const fn met(_: Bound) {}

#[cfg(feature = "teeth")]
pub(super) use count::met;
#[cfg(feature = "teeth")]
pub use count::take_met;

#[cfg(feature = "teeth")]
mod count {
    use super::Bound;
    use core::cell::RefCell;
    use std::collections::BTreeMap;

    thread_local! {
        static MET: RefCell<BTreeMap<Bound, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Notes that a bound was met.
    pub(in super::super) fn met(bound: Bound) {
        MET.with_borrow_mut(|met| *met.entry(bound).or_default() += 1);
    }

    /// How often each bound was met on this thread since the last call.
    #[must_use]
    pub fn take_met() -> BTreeMap<Bound, u64> {
        MET.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_do_not_fit_together_are_told() {
        let window = Limits {
            window_bytes: 1,
            ..Limits::ORDINARY
        };
        assert!(!window.are_sound());
    }
}

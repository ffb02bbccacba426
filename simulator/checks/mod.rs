//! The invariants, checked as things happen. Names I1 to I14 are those of docs/testing.md; the ones
//! that hold after the faults are in `calm.rs`, I14 is in `snapshots.rs`.

mod answers;
mod disk;
mod kept;
mod marks;

//! What is read from another node, or from the disk, is looked through before anybody goes by it. A
//! value that no node can have made is refused as a whole where it is read: the code behind counts
//! on what every value that was made here has, such as an owner for every slot.
//!
//! A type with such conditions has a method `check`, derives its reading and writing with
//! `#[serde(remote = "Self")]`, and is named in [`checked_when_read`]. The check is no part of the
//! layout.

use super::ids::{MAX_VIEW, START_BITS};

/// Seqs, and all that counts writes, are no larger than this.
pub const MAX_SEQ: u64 = 1 << 62;

/// Incarnations are smaller than this.
pub const MAX_INCARNATION: u64 = MAX_VIEW << START_BITS;

/// Why a value cannot be. The text says what does not hold of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no node can have made this: {0}")]
pub struct Unsound(pub &'static str);

/// Fails with `otherwise` unless a condition holds.
///
/// # Errors
/// When it does not.
pub fn ensure(holds: bool, otherwise: &'static str) -> Result<(), Unsound> {
    match holds {
        true => Ok(()),
        false => Err(Unsound(otherwise)),
    }
}

/// A seq, or a number of writes, that can be counted on from.
///
/// # Errors
/// When it is too large.
pub fn ensure_seq(seq: u64) -> Result<(), Unsound> {
    ensure(seq <= MAX_SEQ, "a seq that no log reaches")
}

/// The number of an incarnation, or the one after the last.
///
/// # Errors
/// When it is too large.
pub fn ensure_incarnation(incarnation: u64) -> Result<(), Unsound> {
    ensure(
        incarnation <= MAX_INCARNATION,
        "an incarnation under no view",
    )
}

/// Reads values of these types only if they pass their `check`.
macro_rules! checked_when_read {
    ($($name:ident),+) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // The derived one, which is not the trait's.
                Self::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = Self::deserialize(deserializer)?;
                value.check().map_err(serde::de::Error::custom)?;
                Ok(value)
            }
        }
    )+};
}
pub(crate) use checked_when_read;

#[cfg(test)]
#[path = "sound_tests.rs"]
mod tests;

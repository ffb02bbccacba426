//! How much room a disk has for what is to be stored, in levels.

/// How much room there is, and why it is not enough when it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DiskRoom {
    /// There is room for everything.
    #[default]
    Ample,
    /// What is left is kept for deletes, which make room, and for what others send: their deletes
    /// come behind it, in the same logs.
    Scarce(String),
    /// There is no room for anything.
    None(String),
}

impl DiskRoom {
    /// Why a write of a client finds no room, if it does not.
    #[must_use]
    pub fn lacks(&self, deletes: bool) -> Option<&str> {
        match self {
            DiskRoom::Ample => None,
            DiskRoom::Scarce(_) if deletes => None,
            DiskRoom::Scarce(why) | DiskRoom::None(why) => Some(why),
        }
    }

    /// Why there is no room for anything, if there is none.
    #[must_use]
    pub fn none(&self) -> Option<&str> {
        match self {
            DiskRoom::None(why) => Some(why),
            DiskRoom::Ample | DiskRoom::Scarce(_) => None,
        }
    }

    /// Whether there is room for everything.
    #[must_use]
    pub fn is_ample(&self) -> bool {
        *self == DiskRoom::Ample
    }
}

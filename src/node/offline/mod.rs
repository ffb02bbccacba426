//! Work on the data directory of a node that is stopped.

pub mod force;
pub mod inspect;
pub mod scrub;

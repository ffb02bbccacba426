//! The replica's thread: events in, effects out.

pub mod core;
pub mod inbox;
pub mod reply;

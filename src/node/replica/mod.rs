//! The replica at work: the thread that runs it, and the ways in and out.
//!
//! ```text
//! clocks.rs  the clocks of this process
//! reply.rs   answers on their way to the tasks that wait for them
//! shared.rs  what the rest of the node may look at
//! core.rs    what runs the replica: events in, effects out
//! inbox.rs   the way into the core: at once, or through its queue
//! heart.rs   whether the core's thread still goes its rounds
//! room.rs    whether the disk has room
//! ```

pub mod clocks;
pub mod core;
mod heart;
pub mod inbox;
pub mod reply;
pub mod room;
pub mod shared;

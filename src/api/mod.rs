//! What the HTTP surface says, as data: replies as they are written and read, and nothing of how they come about.

pub mod explain;
pub mod raft;
pub mod status;
pub mod view;

//! The HTTP surface's requests and replies, as data: replies as they are written and read, and
//! nothing of how they come about.

pub mod batch;
pub mod cluster;
pub mod explain;
pub mod health;
pub mod kvs;
pub mod operator;
pub mod problem;
pub mod raft;
pub mod status;
pub mod view;

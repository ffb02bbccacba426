//! The causal protocol, free of I/O: plain data in, plain data out.
//!
//! Time and chance are arguments, and nothing depends on the order of a hash: one seed replays a
//! whole cluster. The lints below and tests/purity hold that up.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::iter_over_hash_type,
    clippy::unwrap_used,
    clippy::expect_used
)]

pub mod changes;
pub mod clock;
pub mod cluster;
pub mod collect;
pub mod context;
pub mod driver;
pub mod hashed;
pub mod health;
pub mod ids;
mod invariants;
pub mod keys;
pub mod limits;
pub mod marks;
pub mod message;
pub mod op;
pub mod payload;
pub mod placement;
pub mod policy;
pub mod reads;
pub mod record;
pub mod replica;
pub mod room;
pub mod route;
pub mod slots;
pub mod sound;
mod spread;
pub mod store;
pub mod teeth;
pub mod toll;
pub mod version;
pub mod view;
pub mod views;

//! The causal protocol, free of I/O: plain data in, plain data out.
pub mod clock;
pub mod context;
pub mod ids;
pub mod op;
pub mod store;
pub mod version;
pub mod view;

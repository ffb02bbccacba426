//! The causal protocol, free of I/O: plain data in, plain data out.
pub mod clock;
pub mod context;
pub mod health;
pub mod ids;
pub mod marks;
pub mod message;
pub mod op;
pub mod reads;
pub mod record;
pub mod replica;
pub mod route;
pub mod store;
pub mod version;
pub mod view;

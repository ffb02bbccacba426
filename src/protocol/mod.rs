//! The causal protocol, free of I/O: plain data in, plain data out.
pub mod store;

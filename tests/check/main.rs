//! The checker of histories: it finds what is wrong, and only that.

mod command;
mod guarantees;
mod input;
mod lists;
mod mutations;
mod not_found;
mod oracle;
mod patterns;
mod random;
mod script;
mod store;

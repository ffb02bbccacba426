//! The checker of histories: it finds what is wrong, and only that.

#[path = "check/command.rs"]
mod command;
#[path = "check/guarantees.rs"]
mod guarantees;
#[path = "check/input.rs"]
mod input;
#[path = "check/lists.rs"]
mod lists;
#[path = "check/mutations.rs"]
mod mutations;
#[path = "check/not_found.rs"]
mod not_found;
#[path = "check/oracle.rs"]
mod oracle;
#[path = "check/patterns.rs"]
mod patterns;
#[path = "check/random.rs"]
mod random;
#[path = "check/script.rs"]
mod script;
#[path = "check/store.rs"]
mod store;

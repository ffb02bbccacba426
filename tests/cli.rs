//! The command line as scripts meet it: exit codes, what goes to which stream, what is sent to a
//! node and what a session remembers.

#[path = "cli/fake.rs"]
mod fake;

#[path = "cli/ends.rs"]
mod ends;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/load.rs"]
mod load;
#[path = "cli/session.rs"]
mod session;
#[path = "cli/view.rs"]
mod view;

//! The command line as scripts meet it: exit codes, what goes to which stream, what is sent to a
//! node and what a session remembers.

mod fake;

mod ends;
mod keys;
mod letter;
mod load;
mod log;
mod many;
mod session;
mod view;

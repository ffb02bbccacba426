//! How a command ends: what it prints, and exit codes that a script can go by.

use super::terminal::shown;
use std::fmt;
use std::io::{ErrorKind, IsTerminal, Write};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    /// One line for a person.
    pub text: String,
}

/// The exit codes other than 0. The command line's help lists them ([`CODES_HELP`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    NotDone = 1,
    Usage = 2,
    Unreachable = 3,
    NotFound = 4,
}

pub const CODES_HELP: &str = "\
Exit codes:
  0  done
  1  not done: the node refused, or something failed on the way
  2  the command line or the environment makes no sense
  3  no node could be reached, or it did not answer
  4  there is no such key (or, for `view` and `node`, no such node, or no change to cancel)";

pub type CommandResult = Result<(), Failure>;

impl Failure {
    pub fn new(code: Code, text: impl fmt::Display) -> Self {
        Self {
            code,
            text: text.to_string(),
        }
    }

    pub fn not_done(text: impl fmt::Display) -> Self {
        Self::new(Code::NotDone, text)
    }

    pub fn usage(text: impl fmt::Display) -> Self {
        Self::new(Code::Usage, text)
    }
}

/// Prints a line to stdout: on a terminal with its control characters escaped, elsewhere as it is.
/// A reader that has seen enough (`| head`) is no failure.
pub fn print(line: impl fmt::Display) -> CommandResult {
    match std::io::stdout().is_terminal() {
        true => print_as_it_is(shown(&line.to_string())),
        false => print_as_it_is(line),
    }
}

/// Prints a line to stdout that may have colours in it: what it says of a node was escaped before.
pub fn print_as_it_is(line: impl fmt::Display) -> CommandResult {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::not_done(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints a line to stderr, where there is one, with its control characters escaped: what failed is
/// often said in a node's words.
pub fn note(line: impl fmt::Display) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(std::io::stderr(), "causeway: {}", shown(&line.to_string()));
}

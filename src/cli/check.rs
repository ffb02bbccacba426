//! `check`: is a recorded history causally consistent, or, of lists, linearizable?

use super::failure::{Code, CommandResult, Failure, print};
use crate::check::{History, ListHistory, Unreadable};
use clap::Args;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 20;

/// The exit codes of this command, which are not quite those of the others.
pub const CODES_HELP: &str = "\
Exit codes:
  0  the history is consistent
  1  it is not: the shortest contradiction is printed
  2  it cannot be read: the line is named";

#[derive(Args)]
pub struct Check {
    /// The history, one JSON object a line; - for stdin
    file: PathBuf,
    /// It is of lists (`bench --protocol keys --history`): check whether it is linearizable
    #[arg(long)]
    lists: bool,
}

pub fn check(args: &Check) -> CommandResult {
    let name = args.file.display();
    let file: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, stdin().lock()))
    } else {
        let file = File::open(&args.file);
        let file = file.map_err(|e| Failure::usage(format!("cannot open {name}: {e}")))?;
        Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
    };
    let unreadable = |e: Unreadable| Failure::usage(format!("{name}: {e}"));
    match args.lists {
        true => {
            let verdict = ListHistory::read(file).map_err(unreadable)?.check();
            tell(verdict, &format!("{name}: not linearizable"))
        }
        false => {
            let verdict = History::read(file).map_err(unreadable)?.check();
            tell(verdict, &format!("{name}: not causally consistent"))
        }
    }
}

fn tell(verdict: Result<impl Display, impl Display>, fault: &str) -> CommandResult {
    // 1 says something about the history, so it is not for a full disk behind stdout.
    let told = |outcome: CommandResult| outcome.map_err(|f| Failure::usage(f.text));
    match verdict {
        Ok(summary) => told(print(summary)),
        Err(violation) => {
            told(print(violation))?;
            Err(Failure::new(Code::NotDone, fault))
        }
    }
}

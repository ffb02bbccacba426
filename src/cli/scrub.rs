//! `causeway scrub`: whether all that a stopped node has on its disk is as it was written.

use super::failure::{CommandResult, Failure, print};
use crate::node;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Scrub {
    /// The data directory of a node that does not run
    data_dir: PathBuf,
}

pub fn scrub(args: &Scrub) -> CommandResult {
    let whole = node::scrub(&args.data_dir).map_err(Failure::not_done)?;
    for store in whole {
        print(format!(
            "{}: whole, {} bytes of tables",
            store.directory.display(),
            store.bytes
        ))?;
    }
    Ok(())
}

//! `view renew`: after the whole cluster was put back to an earlier state.

use crate::cli::failure::{CommandResult, Failure, print};
use crate::node::Survivor;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Renew {
    /// The data directory of the node, which must not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

pub fn renew(args: &Renew) -> CommandResult {
    let survivor = Survivor::find(&args.data_dir).map_err(Failure::not_done)?;
    let address = survivor.address;
    survivor.renew().map_err(Failure::not_done)?;
    print(format_args!(
        "done. Start {address} first, then the others: they go on as another cluster, which takes no causal_payload that was made before"
    ))
}

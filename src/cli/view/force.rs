//! `view force`: disaster recovery on a stopped node.

use crate::cli::failure::{CommandResult, Failure, note, print};
use crate::node::Survivor;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Force {
    /// The data directory of the node, which must not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Do it. Without this, only say what would be done
    #[arg(long)]
    yes: bool,
}

pub async fn force(args: Force) -> CommandResult {
    let survivor = Survivor::find(&args.data_dir).map_err(Failure::not_done)?;
    let (address, view) = (survivor.address, survivor.view);
    let others: Vec<String> = survivor.others.iter().map(ToString::to_string).collect();
    let others = match others.is_empty() {
        true => "none".to_owned(),
        false => others.join(", "),
    };
    print(format_args!(
        "{address} knows view {view}. The other nodes that it knows of: {others}.

Forced, it alone decides about views when it is started again, and the nodes that still run follow it.
What only the lost voters had decided is lost, and no causal_payload that was made before is taken any more. Do this only when

- more than half of the voters are gone for good (`causeway view status` at a running node shows them),
- the lost nodes never run again with the data they have (empty their data directories before they come back),
- it is done on one node only, of those that are left the one with the largest `last_log` in GET /view.
"
    ))?;
    if !args.yes {
        return Err(Failure::not_done("nothing was changed: add --yes to do it"));
    }
    survivor.force().await.map_err(Failure::not_done)?;
    note(format_args!("FORCED: {address} decides alone from now on"));
    print(format_args!(
        "done. Start the node, then remove those that are lost: causeway view remove IP:PORT --node {address}"
    ))
}

//! `view`: who is in the cluster, and how that changes: nodes come and go, K changes, and what a
//! change would do or does is shown.

mod change;
mod force;
mod renew;
pub(super) mod show;

use super::client::{NodeArg, Reply};
use super::failure::{CODES_HELP, Code, CommandResult, Failure, print};
use crate::api::view::{Plan, ViewState};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A node asks others before it answers.
const PATIENCE: Duration = Duration::from_secs(3);
/// The council may have to find a leader first.
const DECIDE_PATIENCE: Duration = Duration::from_secs(20);

#[derive(Args)]
pub struct ViewArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Add a node, which runs and stands by
    #[command(after_help = CODES_HELP)]
    Add(Made<OfNode>),
    /// Remove a node. One that is dead is not waited for
    #[command(after_help = CODES_HELP)]
    Remove(Removal),
    /// Change the number of replicas per partition
    #[command(after_help = CODES_HELP)]
    SetK(Made<OfK>),
    /// Say what a change would do. Nothing is changed
    #[command(subcommand)]
    Plan(Planned),
    /// Show the view, the change that runs and how the last one ended
    Status(Ask),
    /// Cancel the change that runs
    Cancel(Ask),
    /// Disaster recovery, on a stopped node: let it decide alone when most voters are gone for good
    Force(force::Force),
    /// After the whole cluster was put back to an earlier state: has it go on as another cluster,
    /// which takes no causal_payload that was made before. On one stopped node
    Renew(renew::Renew),
}

#[derive(Subcommand)]
enum Planned {
    /// Add a node
    Add(OfNode),
    /// Remove a node
    Remove(OfNode),
    /// Change the number of replicas per partition
    SetK(OfK),
}

#[derive(Args)]
struct OfNode {
    /// The node that comes or goes: its ip_port
    #[arg(value_name = "IP:PORT")]
    address: String,
    #[command(flatten)]
    ask: Ask,
}

#[derive(Args)]
struct OfK {
    /// Replicas per partition
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    k: u16,
    #[command(flatten)]
    ask: Ask,
}

/// A change that is to be made.
#[derive(Args)]
struct Made<T: Args> {
    #[command(flatten)]
    change: T,
    /// Do not wait until the data is where it belongs. The node answers within some 10 s
    #[arg(long)]
    no_wait: bool,
}

/// A removal that is to be made.
#[derive(Args)]
struct Removal {
    #[command(flatten)]
    made: Made<OfNode>,
    /// Remove it though that loses data which no live node holds. Without this the removal is
    /// refused, and on a terminal you are asked
    #[arg(long)]
    lose_data: bool,
}

/// Whom to ask, and how to show the answer.
#[derive(Args)]
struct Ask {
    #[command(flatten)]
    node: NodeArg,
    /// Print the node's reply as JSON
    #[arg(long)]
    json: bool,
}

/// A change, as it is asked for.
enum Wish {
    Add(String),
    Remove { address: String, lose_data: bool },
    SetK(u16),
}

impl Planned {
    fn wish(self) -> (Wish, Ask) {
        match self {
            Self::Add(OfNode { address, ask }) => (Wish::Add(address), ask),
            Self::Remove(OfNode { address, ask }) => {
                let lose_data = false;
                (Wish::Remove { address, lose_data }, ask)
            }
            Self::SetK(OfK { k, ask }) => (Wish::SetK(k), ask),
        }
    }
}

pub async fn view(args: ViewArgs) -> CommandResult {
    let (change, no_wait) = match args.command {
        Command::Add(args) => (Planned::Add(args.change).wish(), args.no_wait),
        Command::Remove(Removal { made, lose_data }) => {
            let OfNode { address, ask } = made.change;
            ((Wish::Remove { address, lose_data }, ask), made.no_wait)
        }
        Command::SetK(args) => (Planned::SetK(args.change).wish(), args.no_wait),
        Command::Plan(change) => return plan(change).await,
        Command::Status(ask) => return status(&ask).await,
        Command::Cancel(ask) => return cancel(&ask).await,
        Command::Force(args) => return force::force(args).await,
        Command::Renew(args) => return renew::renew(&args),
    };
    let (wish, ask) = change;
    change::change(wish, &ask, no_wait).await
}

async fn plan(change: Planned) -> CommandResult {
    let (wish, ask) = change.wish();
    let node = ask.node.connect(PATIENCE)?;
    let query = match wish {
        Wish::Add(address) => [("type", "add".to_owned()), ("ip_port", address)],
        Wish::Remove { address, .. } => [("type", "remove".to_owned()), ("ip_port", address)],
        Wish::SetK(k) => [("type", "set_k".to_owned()), ("k", k.to_string())],
    };
    let request = node.request(Method::GET, "/view/plan").query(&query);
    let reply = done(node.send(request).await?)?;
    if ask.json {
        return print(reply.body);
    }
    let plan: Plan = understood(reply)?;
    print(show::plan(&plan))
}

async fn status(ask: &Ask) -> CommandResult {
    let node = ask.node.connect(PATIENCE)?;
    let reply = done(node.send(node.request(Method::GET, "/view")).await?)?;
    if ask.json {
        return print(reply.body);
    }
    let state: ViewState = understood(reply)?;
    print(show::state(&state))
}

async fn cancel(ask: &Ask) -> CommandResult {
    let node = ask.node.connect(DECIDE_PATIENCE)?;
    let request = node.request(Method::DELETE, "/view/change");
    let reply = done(node.send(request).await?)?;
    if ask.json {
        return print(reply.body);
    }
    let view = reply.body.get("view").cloned().unwrap_or_default();
    print(format_args!("cancelled: view {view} stays in force"))
}

/// The reply of a node that did what it was asked.
fn done(reply: Reply) -> Result<Reply, Failure> {
    match reply.status {
        _ if reply.ok() => Ok(reply),
        404 => Err(Failure::new(Code::NotFound, reply.error())),
        _ => Err(Failure::not_done(reply.error())),
    }
}

fn understood<T: DeserializeOwned>(reply: Reply) -> Result<T, Failure> {
    serde_json::from_value(reply.body)
        .map_err(|e| Failure::not_done(format!("the node's reply is not understood: {e}")))
}

//! The operator's store from the command line: what its menu offers, each also as a command of its
//! own.
//!
//! ```text
//! mod.rs       the commands
//! action.rs    what each does: one or a few requests, and the answer in words
//! shell.rs     the menu
//! asker.rs     questions: on a terminal with arrow keys and history, else line by line
//! ```

mod action;
mod asker;
mod shell;

use super::client::NodeArg;
use super::failure::{CommandResult, print};
pub use action::{Action, Client};

use clap::{Args, Subcommand};

pub use shell::{Shell, shell};

#[derive(Args)]
pub struct Operator {
    #[command(subcommand)]
    command: Plain,
}

#[derive(Subcommand)]
enum Plain {
    /// Write a key that is not there yet
    Write {
        key: String,
        #[arg(allow_negative_numbers = true)]
        value: String,
        #[command(flatten)]
        node: NodeArg,
    },
    /// Read a key
    Read {
        key: String,
        #[command(flatten)]
        node: NodeArg,
    },
    /// Delete a key
    Delete {
        key: String,
        #[command(flatten)]
        node: NodeArg,
    },
    /// Show which nodes hold a key
    Where {
        key: String,
        #[command(flatten)]
        node: NodeArg,
    },
}

#[derive(Args)]
pub struct Nodes {
    #[command(subcommand)]
    command: OfNodes,
}

#[derive(Subcommand)]
enum OfNodes {
    /// Show the nodes: who is alive, who is dead
    List {
        #[command(flatten)]
        node: NodeArg,
    },
    /// Make a node act as a dead one, until it is recovered or started again
    Fail {
        /// Its number, or its ip:port
        id: String,
        #[command(flatten)]
        node: NodeArg,
    },
    /// Let a failed node come back
    Recover {
        /// Its number, or its ip:port
        id: String,
        #[command(flatten)]
        node: NodeArg,
    },
    /// Let all failed nodes come back
    RecoverAll {
        #[command(flatten)]
        node: NodeArg,
    },
}

#[derive(Args)]
pub struct StrategyArgs {
    #[command(subcommand)]
    command: Chosen,
}

#[derive(Subcommand)]
enum Chosen {
    /// Every node holds every key, those that are added later included
    Full {
        #[command(flatten)]
        node: NodeArg,
    },
    /// A number of nodes hold each key, found by consistent hashing
    Consistent {
        /// How many
        #[arg(value_parser = clap::value_parser!(u16).range(1..=65534))]
        replication_factor: u16,
        #[command(flatten)]
        node: NodeArg,
    },
}

pub async fn operator(args: Operator) -> CommandResult {
    let (action, node) = match args.command {
        Plain::Write { key, value, node } => (Action::Write { key, value }, node),
        Plain::Read { key, node } => (Action::Read { key }, node),
        Plain::Delete { key, node } => (Action::Delete { key }, node),
        Plain::Where { key, node } => (Action::Where { key }, node),
    };
    once(&action, &node).await
}

pub async fn nodes(args: Nodes) -> CommandResult {
    let (action, node) = match args.command {
        OfNodes::List { node } => (Action::List, node),
        OfNodes::Fail { id, node } => (Action::Fail { id }, node),
        OfNodes::Recover { id, node } => (Action::Recover { id }, node),
        OfNodes::RecoverAll { node } => (Action::RecoverAll, node),
    };
    once(&action, &node).await
}

pub async fn strategy(args: StrategyArgs) -> CommandResult {
    let (factor, node) = match args.command {
        Chosen::Full { node } => (None, node),
        Chosen::Consistent {
            replication_factor,
            node,
        } => (Some(replication_factor), node),
    };
    once(&Action::SetStrategy { factor }, &node).await
}

async fn once(action: &Action, node: &NodeArg) -> CommandResult {
    print(Client::new(node)?.perform(action).await?)
}

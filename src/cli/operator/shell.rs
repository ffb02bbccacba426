//! `shell`: a menu of what the operator's store offers: strategy, plain keys, faults on demand.

use super::action::{Action, Client};
use super::asker::{Asker, good, wrong};
use crate::cli::client::{NodeArg, in_path};
use crate::cli::failure::{Code, CommandResult, Failure, print};
use crate::cli::terminal::shown;
use clap::Args;

/// The longest key, in bytes.
const MAX_KEY: usize = 1024;

#[derive(Args)]
pub struct Shell {
    #[command(flatten)]
    node: NodeArg,
}

/// The lines of the menu. The first word of each is its name for scripts.
const MENU: [&str; 9] = [
    "Strategy: how many nodes hold each key",
    "Write a key",
    "Read a key",
    "Delete a key",
    "Fail a node",
    "Recover a node",
    "Node status",
    "All nodes: recover those that failed",
    "Exit",
];

/// Runs until the operator leaves, or a script's lines are over.
pub async fn shell(args: Shell) -> CommandResult {
    let client = Client::new(&args.node)?;
    let mut asker = Asker::new();
    print(format_args!("causeway shell at {}", args.node.node))?;
    let items: Vec<String> = match asker.is_script() {
        true => MENU.iter().map(|item| (*item).to_owned()).collect(),
        // A number that is typed narrows the choice to its own line.
        false => (1..)
            .zip(MENU)
            .map(|(n, item)| format!("{n}  {item}"))
            .collect(),
    };
    if asker.is_script() {
        for (n, item) in (1..).zip(&items) {
            print(format_args!("{n}  {item}"))?;
        }
    }
    let mut first_failure = None;
    while let Some(choice) = asker.choose("Choose", &items)? {
        let done = match action(choice, &mut asker, &client).await {
            Ok(Next::Perform(action)) => client.perform(&action).await,
            Ok(Next::Again) => continue,
            Ok(Next::Exit) => break,
            Err(failure) => Err(failure),
        };
        match done {
            Ok(said) => good(&said)?,
            Err(failure) => {
                wrong(&failure.text)?;
                first_failure.get_or_insert(failure.code);
            }
        }
    }
    match first_failure.filter(|_| asker.is_script()) {
        Some(code) => Err(Failure::new(code, "not every choice could be carried out")),
        // Nobody was there to see the question come again.
        None if asker.has_refused() => Err(Failure::usage("not every line was an answer")),
        None => Ok(()),
    }
}

enum Next {
    Perform(Action),
    /// The question that a choice brought was not answered.
    Again,
    Exit,
}

/// Asks for what a choice needs.
async fn action(choice: usize, asker: &mut Asker, client: &Client) -> Result<Next, Failure> {
    let action = match choice {
        0 => strategy(asker)?,
        1 => match asker.text("Key", key)? {
            Some(key) => asker
                .text("Value", |_| Ok(()))?
                .map(|value| Action::Write { key, value }),
            None => None,
        },
        2 => asker.text("Key", key)?.map(|key| Action::Read { key }),
        3 => asker.text("Key", key)?.map(|key| Action::Delete { key }),
        4 => node(asker, client, true)
            .await?
            .map(|id| Action::Fail { id }),
        5 => node(asker, client, false)
            .await?
            .map(|id| Action::Recover { id }),
        6 => Some(Action::List),
        7 => Some(Action::RecoverAll),
        _ => return Ok(Next::Exit),
    };
    Ok(action.map_or(Next::Again, Next::Perform))
}

fn strategy(asker: &mut Asker) -> Result<Option<Action>, Failure> {
    let kinds = [
        "Full: every node holds every key",
        "Consistent: a number of nodes hold each key",
    ];
    let factor = match asker.choose("Strategy", &kinds.map(str::to_owned))? {
        Some(0) => None,
        Some(_) => match asker.text("Nodes that hold each key", factor)? {
            Some(factor) => factor.trim().parse().ok(),
            None => return Ok(None),
        },
        None => return Ok(None),
    };
    Ok(Some(Action::SetStrategy { factor }))
}

/// The node to fail or recover: chosen from those for which that makes sense, or named by a script.
async fn node(asker: &mut Asker, client: &Client, alive: bool) -> Result<Option<String>, Failure> {
    if asker.is_script() {
        return asker.text("Node", |id| match id.trim() {
            "" => Err("name a node by its number or its ip:port".to_owned()),
            _ => Ok(()),
        });
    }
    let nodes = client.nodes().await?;
    let nodes: Vec<_> = nodes.iter().filter(|node| node.alive == alive).collect();
    if nodes.is_empty() {
        let what = if alive { "alive" } else { "dead" };
        return Err(Failure::new(Code::NotFound, format!("no node is {what}")));
    }
    let items: Vec<String> = nodes
        .iter()
        .map(|node| format!("{}  {} ({})", node.id, node.node, node.state))
        .map(|line| shown(&line).into_owned())
        .collect();
    let chosen = asker.choose("Node", &items)?;
    Ok(chosen
        .and_then(|index| nodes.get(index))
        .map(|node| node.id.to_string()))
}

fn key(text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err("the key is empty: give 1 to 1024 bytes".to_owned()),
        n if n > MAX_KEY => Err(format!(
            "the key has {n} bytes: at most {MAX_KEY} are possible"
        )),
        _ => in_path(text).map(drop).map_err(|failure| failure.text),
    }
}

fn factor(text: &str) -> Result<(), String> {
    match text.trim().parse::<u16>() {
        Ok(n) if (1..u16::MAX).contains(&n) => Ok(()),
        _ => Err(format!("{text:?} is no number from 1 to 65534")),
    }
}

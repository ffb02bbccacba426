//! Asking for a change of the view, and following it until it is done.

use super::{Ask, PATIENCE, Wish, done, understood};
use crate::api::view::{ChangeState, Ending, Phase, Unheld, ViewState, in_words};
use crate::cli::client::{NodeClient, Reply};
use crate::cli::failure::{CommandResult, Failure, note, print};
use crate::cli::terminal::shown;
use dialoguer::Input;
use dialoguer::theme::ColorfulTheme;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use std::io::IsTerminal;
use std::pin::pin;
use std::time::{Duration, Instant};

/// A node answers after 10 s, whether all is in place or not; before that it looks for the node
/// that is to come, and for the council.
const CHANGE_PATIENCE: Duration = Duration::from_secs(40);
/// Time between looks at the progress.
const LOOK: Duration = Duration::from_millis(250);
/// Time between two lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// The node may be away for this long before it is not waited for any more.
const AWAY: Duration = Duration::from_secs(30);

/// The word to be typed to lose data.
const LOSE: &str = "lose";

/// Has a change made, and waits until it is done, unless told not to.
pub async fn change(mut wish: Wish, ask: &Ask, no_wait: bool) -> CommandResult {
    let (node, watched) = (
        ask.node.connect(CHANGE_PATIENCE)?,
        ask.node.connect(PATIENCE)?,
    );
    let mut progress = Progress::new();
    let mut reply = send(&wish, &node, &watched, &mut progress).await?;
    if wish.may_lose(&reply)? {
        reply = send(&wish, &node, &watched, &mut progress).await?;
    }
    let mut reply = done(reply)?;
    if reply.status == 202 && !no_wait {
        let number = reply.body.get("view").and_then(Value::as_u64);
        follow(&watched, number, &wish, &mut progress).await?;
        if let Some(fields) = reply.body.as_object_mut() {
            fields.remove("done");
        }
    }
    progress.end();
    say(&wish, ask, &reply)
}

/// Asks for a change, and shows how far it is until the node answers.
async fn send(
    wish: &Wish,
    node: &NodeClient,
    watched: &NodeClient,
    progress: &mut Progress,
) -> Result<Reply, Failure> {
    let mut asked = pin!(node.send(wish.request(node)));
    loop {
        tokio::select! {
            reply = &mut asked => return reply,
            () = tokio::time::sleep(LOOK) => {}
        }
        tokio::select! {
            reply = &mut asked => return reply,
            state = look(watched) => progress.show(state.ok().as_ref().and_then(|s| s.change.as_ref())),
        }
    }
}

/// Waits until the change to a view is over.
async fn follow(
    node: &NodeClient,
    number: Option<u64>,
    wish: &Wish,
    progress: &mut Progress,
) -> CommandResult {
    let mut heard = Instant::now();
    loop {
        let state = match look(node).await {
            Ok(state) => state,
            // A node that was let go has handed over its data.
            Err(Unseen::Out) if matches!(wish, Wish::Remove { .. }) => return Ok(()),
            Err(Unseen::Out) => {
                return Err(Failure::not_done(
                    "the node that was asked has been removed: the change goes on, ask another node for it",
                ));
            }
            Err(Unseen::Silent(failure)) if heard.elapsed() > AWAY => return Err(failure),
            Err(Unseen::Silent(_)) => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        heard = Instant::now();
        match state.change.filter(|change| Some(change.view) == number) {
            Some(change) => progress.show(Some(&change)),
            None => {
                let last = state.last.filter(|last| Some(last.view) == number);
                return match last.filter(|last| last.end == Ending::Cancelled) {
                    Some(_) => Err(Failure::not_done(
                        "the change was cancelled: the view before is in force",
                    )),
                    None => Ok(()),
                };
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Why the state of things could not be seen.
enum Unseen {
    /// The node is in the view no more.
    Out,
    Silent(Failure),
}

async fn look(node: &NodeClient) -> Result<ViewState, Unseen> {
    let sent = node.send(node.request(Method::GET, "/view")).await;
    let reply = sent.map_err(Unseen::Silent)?;
    if reply.status == 421 {
        return Err(Unseen::Out);
    }
    done(reply).and_then(understood).map_err(Unseen::Silent)
}

impl Wish {
    fn request(&self, node: &NodeClient) -> RequestBuilder {
        let update = |how: &str, address: &str, more: &[(&str, &str)]| {
            let request = node.request(Method::PUT, "/kvs/view_update");
            request.form(&[&[("ip_port", address), ("type", how)], more].concat())
        };
        match self {
            Self::Add(address) => update("add", address, &[]),
            Self::Remove { address, lose_data } => match lose_data {
                true => update("remove", address, &[("allow_data_loss", "true")]),
                false => update("remove", address, &[]),
            },
            Self::SetK(k) => node.request(Method::PUT, "/view").form(&[("k", k)]),
        }
    }

    /// Asks whoever sits at the terminal, if the node refused a removal because it would lose data.
    /// Whether it may.
    fn may_lose(&mut self, reply: &Reply) -> Result<bool, Failure> {
        let code = reply.body.get("code").and_then(Value::as_str);
        let Self::Remove { lose_data, .. } = self else {
            return Ok(false);
        };
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if code != Some("data_loss") || *lose_data || !terminal {
            return Ok(false);
        }
        note(reply.error());
        let typed = Input::<String>::with_theme(&ColorfulTheme::default())
            .with_prompt(format!("type {LOSE:?} to remove it all the same"))
            .allow_empty(true)
            .interact_text()
            .map_err(|e| Failure::not_done(format!("the terminal cannot be used: {e}")))?;
        *lose_data = typed.trim() == LOSE;
        Ok(*lose_data)
    }
}

/// Says what came of a change.
fn say(wish: &Wish, ask: &Ask, reply: &Reply) -> CommandResult {
    if ask.json {
        return print(&reply.body);
    }
    let number = |field| reply.body.get(field).and_then(Value::as_u64);
    let said = match wish {
        Wish::Add(address) => match number("partition_id") {
            Some(partition) => format!("added {address} to partition {partition}"),
            None => format!("added {address}"),
        },
        Wish::Remove { address, .. } => format!("removed {address}"),
        Wish::SetK(k) => format!("K is {k}"),
    };
    let gone = reply.body.get("data_loss").cloned().unwrap_or_default();
    let gone: Vec<Unheld> = serde_json::from_value(gone).unwrap_or_default();
    if !gone.is_empty() {
        note(format_args!(
            "LOST unless they come back: {}",
            in_words(&gone)
        ));
    }
    let (view, partitions) = (number("view"), number("number_of_partitions"));
    let goes_on = match reply.body.get("done") {
        Some(Value::Bool(false)) => "; it goes on, see `causeway view status`",
        _ => "",
    };
    print(format_args!(
        "{said}: view {}, partitions {}{goes_on}",
        view.unwrap_or_default(),
        partitions.unwrap_or_default()
    ))
}

/// Shows how far a change is: a bar on a terminal, else a line now and then.
enum Progress {
    Bar(ProgressBar),
    Lines { last: String, at: Option<Instant> },
}

impl Progress {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            let last = String::new();
            return Self::Lines { last, at: None };
        }
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} slots, {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::Bar(bar)
    }

    fn show(&mut self, change: Option<&ChangeState>) {
        let Some(change) = change else {
            return;
        };
        match self {
            Self::Bar(bar) => {
                match change.phase {
                    Phase::MovingData => {
                        bar.set_length(change.slots as u64);
                        bar.set_position(change.slots_here as u64);
                    }
                    // All slots are where they belong.
                    Phase::Closing => bar.set_position(bar.length().unwrap_or_default()),
                }
                bar.set_prefix(shown(&change.text).into_owned());
                bar.set_message(shown(&moved(change)).into_owned());
            }
            Self::Lines { last, at } => {
                let line = line(change);
                if *last != line && at.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
                    note(&line);
                    (*last, *at) = (line, Some(Instant::now()));
                }
            }
        }
    }

    fn end(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// A change in one line.
fn line(change: &ChangeState) -> String {
    let slots = match change.phase {
        Phase::MovingData => format!("{} of {} slots, ", change.slots_here, change.slots),
        Phase::Closing => String::new(),
    };
    format!("{}: {slots}{}", change.text, moved(change))
}

/// The slots that have come, and those that are waited for.
pub fn moved(change: &ChangeState) -> String {
    let waits = change.waits_for.join("; ");
    match change.phase {
        Phase::MovingData => {
            let (keys, bytes) = (HumanCount(change.keys), HumanBytes(change.bytes));
            format!("{keys} keys, {bytes}; {waits}")
        }
        Phase::Closing => format!("view {} is in force; {waits}", change.view),
    }
}

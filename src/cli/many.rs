//! `batch` and `snapshot`: many keys in one call; `session join`: what was seen elsewhere.

use super::client::Reply;
use super::failure::{Code, CommandResult, Failure, note, print};
use super::kv::{Common, exchange, exchange_or};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

/// What one call takes.
const MOST: usize = 1000;

#[derive(Args)]
pub struct BatchArgs {
    /// A file with an operation on each line, in JSON: {"op":"put","key":"k","value":1},
    /// {"op":"get","key":"k"} or {"op":"delete","key":"k"}. `-` is the standard input
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct SnapshotArgs {
    #[arg(required = true)]
    keys: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct SessionCommand {
    #[command(subcommand)]
    what: SessionWhat,
}

#[derive(Subcommand)]
enum SessionWhat {
    /// Add what payloads from elsewhere have seen: those of another terminal, or of a link that
    /// somebody sent
    Join {
        #[arg(required = true, value_name = "CAUSAL_PAYLOAD")]
        payloads: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Serialize)]
struct BatchBody<'a> {
    operations: &'a [&'a RawValue],
    causal_payload: &'a str,
}

#[derive(Serialize)]
struct SnapshotBody<'a> {
    keys: &'a [String],
    causal_payload: &'a str,
}

/// The part of a result that says whether it was done.
#[derive(Deserialize)]
struct Judged {
    status: u16,
}

#[derive(Deserialize)]
struct Results<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Values<'a> {
    #[serde(borrow)]
    values: BTreeMap<String, Option<&'a RawValue>>,
}

/// One key of a snapshot, as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    found: Option<&'a RawValue>,
}

pub async fn batch(args: BatchArgs) -> CommandResult {
    let text = read(&args.file)?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let operations: Vec<&RawValue> = lines
        .map(|(at, line)| {
            serde_json::from_str(line)
                .map_err(|e| Failure::usage(format!("line {} is no JSON: {e}", at + 1)))
        })
        .collect::<Result<_, _>>()?;
    let (mut failed, mut missing) = (0, 0);
    // One session: what a later call reads is never older than what an earlier one wrote.
    for operations in operations.chunks(MOST) {
        let reply = exchange(&args.common, |node, payload| {
            node.request(Method::POST, "/kvs/batch").json(&BatchBody {
                operations,
                causal_payload: payload,
            })
        })
        .await?;
        done(&args.common, &reply)?;
        let Results { results } = parsed(&reply)?;
        for result in &results {
            match serde_json::from_str::<Judged>(result.get()).map(|r| r.status) {
                Ok(200 | 201) => {}
                Ok(404) => missing += 1,
                Ok(_) | Err(_) => failed += 1,
            }
        }
        if args.common.json() {
            print(reply.raw.trim_end())?;
        } else {
            results.iter().try_for_each(|result| print(result.get()))?;
        }
    }
    if failed > 0 {
        return Err(Failure::not_done(format!(
            "{failed} of {} operations were not done: each has its `error`",
            operations.len()
        )));
    }
    if missing > 0 {
        note(format_args!("{missing} keys were not there"));
    }
    Ok(())
}

pub async fn snapshot(args: SnapshotArgs) -> CommandResult {
    let reply = exchange(&args.common, |node, payload| {
        node.request(Method::POST, "/kvs/snapshot")
            .json(&SnapshotBody {
                keys: &args.keys,
                causal_payload: payload,
            })
    })
    .await?;
    done(&args.common, &reply)?;
    if args.common.json() {
        return print(reply.raw.trim_end());
    }
    let Values { values } = parsed(&reply)?;
    for key in &args.keys {
        let found = values.get(key).copied().flatten();
        let line = serde_json::to_string(&Line { key, found });
        print(line.map_err(Failure::not_done)?)?;
    }
    args.common.print_payload(&reply)
}

pub async fn session(args: SessionCommand) -> CommandResult {
    let SessionWhat::Join { payloads, common } = args.what;
    let header = payloads.join(",");
    // A snapshot of nothing: the node joins what it is asked with, and checks whose it is. One that
    // is refused may be the given one: the session's own is no reason to begin anew.
    let reply = exchange_or(&common, false, |node, payload| {
        node.request(Method::POST, "/kvs/snapshot")
            .header("Causal-Payload", &header)
            .json(&SnapshotBody {
                keys: &[],
                causal_payload: payload,
            })
    })
    .await?;
    done(&common, &reply)?;
    if common.json() {
        return print(reply.raw.trim_end());
    }
    common.print_payload(&reply)
}

fn read(path: &std::path::Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path == std::path::Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
    Ok(text)
}

/// Whether the call as a whole was done.
fn done(common: &Common, reply: &Reply) -> CommandResult {
    if reply.ok() {
        return Ok(());
    }
    if common.json() {
        print(reply.raw.trim_end())?;
    }
    Err(Failure::new(Code::NotDone, reply.error()))
}

fn parsed<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, Failure> {
    serde_json::from_str(&reply.raw)
        .map_err(|e| Failure::not_done(format!("the node's reply is not understood: {e}")))
}

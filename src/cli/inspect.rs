//! `inspect`: what a node has on disk: its place in the cluster, its logs, its keys.

use super::failure::{CommandResult, Failure, print};
use crate::node::Inspection;
use crate::protocol::version::Version;
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::path::PathBuf;

/// Characters of a value that are shown in a table.
const PREVIEW: usize = 40;

#[derive(Args)]
pub struct Inspect {
    /// The data directory of a node that does not run. Nothing in it is changed
    data_dir: PathBuf,
    /// Show only keys that begin with this
    #[arg(long, default_value = "")]
    prefix: String,
    /// Show at most so many keys; 0: all
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Where a copy is made to look into: it takes as much room as the data [default: the system's
    /// temporary directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Print JSON, with whole values
    #[arg(long)]
    json: bool,
}

pub fn inspect(args: &Inspect) -> CommandResult {
    let scratch = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let found = Inspection::of(&args.data_dir, &scratch).map_err(Failure::not_done)?;
    let mut keys = Vec::new();
    let mut more = false;
    found
        .keys(args.prefix.as_bytes(), |version| {
            more = args.limit > 0 && keys.len() == args.limit;
            if !more {
                keys.push(version);
            }
            !more
        })
        .map_err(Failure::not_done)?;
    if args.json {
        let text = serde_json::to_string(&whole(&found, &keys));
        return print(text.map_err(Failure::not_done)?);
    }
    print(facts(&found))?;
    print(logs(&found).trim_fmt())?;
    print("")?;
    print(table(&keys).trim_fmt())?;
    match more {
        true => print("there are more keys: --limit and --prefix say which are shown"),
        false => Ok(()),
    }
}

fn address(found: &Inspection) -> String {
    let members = found.views.members();
    let address = members.get(&found.member);
    address.map_or_else(|| "out of the view".to_owned(), ToString::to_string)
}

fn facts(found: &Inspection) -> String {
    let view = &found.views.view;
    let partition = match view.partition_of(found.member) {
        Some(partition) => format!("partition {}", partition.0),
        None => "no partition".to_owned(),
    };
    let incarnation = match &found.identity {
        Some(identity) => format!("last incarnation {:x}", identity.incarnation),
        None => "it has never served".to_owned(),
    };
    format!(
        "member {} ({}), {partition} of view {}, {incarnation}\nkeys {}, tombstones {}, versions ahead of their log {}\n",
        found.member,
        address(found),
        view.number,
        found.counts.live,
        found.counts.tombstones,
        found.early,
    )
}

fn logs(found: &Inspection) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["LOG", "APPLIED", "STABLE"]);
    for (log, record) in &found.logs {
        table.add_row([
            log.to_string(),
            record.applied.to_string(),
            record.stable.to_string(),
        ]);
    }
    table
}

fn table(keys: &[Version]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header([
        "KEY",
        "TIMESTAMP",
        "BY",
        "DOT",
        "PAST",
        "BYTES",
        "VALUE",
    ]);
    for version in keys {
        let (bytes, value) = match &version.value {
            Some(value) => (value.len().to_string(), preview(value)),
            None => ("-".to_owned(), "(deleted)".to_owned()),
        };
        table.add_row([
            preview(&version.key),
            version.stamp.ts.ms().to_string(),
            version.stamp.by.to_string(),
            version.dot.to_string(),
            version.deps.len().to_string(),
            bytes,
            value,
        ]);
    }
    table
}

/// The beginning of a text, on one line.
fn preview(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown: String = text.chars().take(PREVIEW).collect();
    let rest = if shown.len() < text.len() { "..." } else { "" };
    format!(
        "{}{rest}",
        shown.escape_debug().to_string().replace("\\\"", "\"")
    )
}

/// What is there, as JSON.
#[derive(Serialize)]
struct WholeInspection {
    member: u16,
    node: String,
    view: u64,
    partition_id: Option<u32>,
    incarnation: Option<u64>,
    live_keys: u64,
    tombstones: u64,
    ahead_of_log: usize,
    logs: Vec<WholeLog>,
    keys: Vec<WholeKey>,
}

#[derive(Serialize)]
struct WholeLog {
    log: String,
    member: u16,
    incarnation: u64,
    applied: u64,
    stable: u64,
}

#[derive(Serialize)]
struct WholeKey {
    key: String,
    deleted: bool,
    /// To the letter; a string where it is no JSON.
    value: Option<Box<RawValue>>,
    timestamp_ms: u64,
    stamped_by: u16,
    dot: String,
    wall_ms: u64,
    past: Vec<String>,
}

fn whole(found: &Inspection, keys: &[Version]) -> WholeInspection {
    let view = &found.views.view;
    let logs = found.logs.iter().map(|(log, record)| WholeLog {
        log: log.to_string(),
        member: log.member.0,
        incarnation: log.incarnation,
        applied: record.applied,
        stable: record.stable,
    });
    let keys = keys.iter().map(|version| WholeKey {
        key: String::from_utf8_lossy(&version.key).into_owned(),
        deleted: version.value.is_none(),
        value: version.value.as_ref().and_then(|value| {
            let text = String::from_utf8_lossy(value);
            let json = RawValue::from_string(text.to_string());
            json.or_else(|_| to_raw_value(&text)).ok()
        }),
        timestamp_ms: version.stamp.ts.ms(),
        stamped_by: version.stamp.by.0,
        dot: version.dot.to_string(),
        wall_ms: version.wall_ms,
        past: version
            .deps
            .iter()
            .map(|(log, seq)| format!("{log}#{seq}"))
            .collect(),
    });
    WholeInspection {
        member: found.member.0,
        node: address(found),
        view: view.number,
        partition_id: view.partition_of(found.member).map(|p| p.0),
        incarnation: found.identity.as_ref().map(|identity| identity.incarnation),
        live_keys: found.counts.live,
        tombstones: found.counts.tombstones,
        ahead_of_log: found.early,
        logs: logs.collect(),
        keys: keys.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::preview;

    #[test]
    fn a_preview_is_one_short_line() {
        assert_eq!(preview(b"\"a\nb\""), "\"a\\nb\"");
        let long = preview("x".repeat(50).as_bytes());
        assert_eq!(long, format!("{}...", "x".repeat(40)));
    }
}

//! `explain`: what a `causal_payload` depends on, in plain words.
//!
//! The payload itself says which writes; where these are now only a node can say. So the command
//! works without one, and says more with one.

use super::client::NodeArg;
use super::failure::{CommandResult, Failure, note, print};
use crate::api::explain::Explained;
use crate::protocol::context::Context;
use crate::protocol::payload::decode_unverified;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// The node only adds to what is known already.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct Explain {
    /// The causal_payload of a reply
    payload: String,
    #[command(flatten)]
    node: NodeArg,
    /// Print JSON: the node's reply or, without a node, what the payload itself says
    #[arg(long)]
    json: bool,
}

pub async fn explain(args: Explain) -> CommandResult {
    let payload = args.payload.trim();
    let (context, signed) = decode_unverified(payload)
        .map_err(|e| Failure::usage(format!("this is no causal_payload: {e}")))?;
    let asked = ask(&args.node, payload).await;
    if args.json {
        if let Err(failure) = &asked {
            note(&failure.text);
        }
        return print(asked.unwrap_or_else(|_| as_json(&context, signed)));
    }
    for line in own_words(&context, signed) {
        print(line)?;
    }
    if context.is_empty() {
        return Ok(());
    }
    let entries = asked.and_then(|reply| entries(&reply));
    match entries {
        Ok(entries) => {
            print(format_args!("\n{} says where they are:", args.node.node))?;
            entries.iter().try_for_each(|e| print(node_words(e)))
        }
        Err(failure) => {
            note(format_args!(
                "where these writes are now is not known: {}",
                failure.text
            ));
            Ok(())
        }
    }
}

/// The reply of `GET /kvs/explain`.
async fn ask(node: &NodeArg, payload: &str) -> Result<Value, Failure> {
    let node = node.connect(PATIENCE)?;
    let request = node
        .request(Method::GET, "/kvs/explain")
        .query(&[("causal_payload", payload)]);
    let reply = node.send(request).await?;
    if reply.ok() {
        Ok(reply.body)
    } else {
        Err(Failure::not_done(reply.error()))
    }
}

fn entries(reply: &Value) -> Result<Vec<Explained>, Failure> {
    let entries = reply.get("entries").cloned().unwrap_or_default();
    serde_json::from_value(entries)
        .map_err(|e| Failure::not_done(format!("the node's reply is not understood: {e}")))
}

fn as_json(context: &Context, signed: bool) -> Value {
    let entries: Vec<Value> = context
        .iter()
        .map(|(log, seq)| {
            json!({"member": log.member.0, "incarnation": log.incarnation, "seq": seq})
        })
        .collect();
    json!({"clock_ms": context.clock.ms(), "signed": signed, "entries": entries})
}

fn own_words(context: &Context, signed: bool) -> Vec<String> {
    if *context == Context::default() {
        return vec!["It depends on nothing: any replica may answer with what it has.".into()];
    }
    let mut lines = vec![
        format!(
            "The latest thing this session saw was written at {}.",
            utc(context.clock.ms())
        ),
        if signed {
            "It is signed with the cluster's secret (only a node can check that).".into()
        } else {
            "It is not signed: its cluster has no secret. Its check sum is right.".into()
        },
    ];
    lines.push(match context.len() {
        0 => "It names no write: all that was seen had reached every replica of its partition."
            .into(),
        1 => "It names one log with a write that some replica may still have lacked:".into(),
        n => format!("It names {n} logs with writes that some replica may still have lacked:"),
    });
    lines.extend(context.iter().map(|(log, seq)| {
        format!(
            "  everything that node number {} wrote up to its write {seq} (incarnation {})",
            log.member.0, log.incarnation
        )
    }));
    if !context.is_empty() {
        lines.push(
            "A read is answered only by a replica that has those of its partition; others never delay it."
                .into(),
        );
    }
    lines
}

fn node_words(entry: &Explained) -> String {
    let holders = if entry.holders.is_empty() {
        String::new()
    } else {
        format!(" (held by {})", entry.holders.join(", "))
    };
    match entry.partition_id {
        Some(partition) => format!("  partition {partition}: {}{holders}", entry.text),
        None => format!("  {}{holders}", entry.text),
    }
}

/// Milliseconds since 1970 as a date in UTC.
fn utc(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{ms} ms since 1970"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::clock::Timestamp;
    use crate::protocol::ids::{LogId, MemberId};

    #[test]
    fn words_name_the_time_and_every_log() {
        let mut context = Context::default();
        context.clock = Timestamp::from_ms(1_800_000_000_000);
        assert!(own_words(&context, false)[2].contains("every replica"));
        for member in [2, 5] {
            let log = LogId {
                member: MemberId(member),
                incarnation: 7,
            };
            context.see(log, 40 + u64::from(member));
        }
        let words = own_words(&context, true).join("\n");
        for part in [
            "2027-01-15T08:00:00Z",
            "2 logs",
            "number 2",
            "write 45",
            "is signed",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
        assert_eq!(own_words(&Context::default(), false).len(), 1);
    }

    #[test]
    fn a_time_that_is_none_does_no_harm() {
        assert!(utc(u64::MAX).contains("ms since 1970"));
    }
}

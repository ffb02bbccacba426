//! `put`, `get` and `delete`: one key, in a session.

use super::client::{NodeArg, NodeClient, PATIENCE, Reply};
use super::failure::{Code, CommandResult, Failure, note, print};
use super::session::SessionArgs;
use clap::{Args, ValueEnum};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

#[derive(Args)]
pub struct Common {
    #[command(flatten)]
    node: NodeArg,
    #[command(flatten)]
    session: SessionArgs,
    /// Print the new context: alone, or with get on a line after the value
    #[arg(long)]
    print_payload: bool,
    /// Print the node's reply as it is
    #[arg(long, conflicts_with = "print_payload")]
    json: bool,
}

#[derive(Args)]
pub struct Put {
    key: String,
    #[arg(allow_negative_numbers = true)]
    value: String,
    /// The value is JSON, not a string
    #[arg(long)]
    json_value: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct Get {
    key: String,
    /// Causal: never older than what the session has seen. Eventual: what is there, at once
    #[arg(long, value_enum, default_value_t = ConsistencyArg::Causal)]
    consistency: ConsistencyArg,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub struct Delete {
    key: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConsistencyArg {
    Causal,
    Eventual,
}

/// The body of a write.
#[derive(Serialize)]
struct PutBody<'a> {
    key: &'a str,
    value: &'a RawValue,
    causal_payload: &'a str,
}

pub async fn put(args: Put) -> CommandResult {
    // To the letter: the node keeps its digits, too.
    let value = if args.json_value {
        RawValue::from_string(args.value)
            .map_err(|e| Failure::usage(format!("the value is no JSON: {e}")))?
    } else {
        to_raw_value(&args.value).map_err(Failure::not_done)?
    };
    let common = &args.common;
    let reply = in_session(common, &args.key, |node, payload| {
        let body = PutBody {
            key: &args.key,
            value: &value,
            causal_payload: payload,
        };
        node.request(Method::PUT, "/kvs").json(&body)
    })
    .await?;
    let done = if reply.status == 201 {
        "created"
    } else {
        "updated"
    };
    tell_write(common, &reply, done)
}

pub async fn delete(args: Delete) -> CommandResult {
    let reply = in_session(&args.common, &args.key, |node, payload| {
        node.request(Method::DELETE, "/kvs")
            .query(&[("key", args.key.as_str()), ("causal_payload", payload)])
    })
    .await?;
    tell_write(&args.common, &reply, "deleted")
}

pub async fn get(args: Get) -> CommandResult {
    let reply = in_session(&args.common, &args.key, |node, payload| {
        let request = node
            .request(Method::GET, "/kvs")
            .query(&[("key", args.key.as_str()), ("causal_payload", payload)]);
        match args.consistency {
            ConsistencyArg::Causal => request,
            ConsistencyArg::Eventual => request.query(&[("consistency", "eventual")]),
        }
    })
    .await?;
    if args.common.json {
        return print(reply.raw.trim_end());
    }
    print(reply.value()?)?;
    if reply.body.get("stale") == Some(&Value::Bool(true)) {
        note("this may be older than what the session has seen");
    }
    args.common.print_payload(&reply)
}

impl Common {
    /// Whether replies are printed as they are.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Prints the new context, if that was asked for.
    pub fn print_payload(&self, reply: &Reply) -> CommandResult {
        match self.print_payload {
            true => print(reply.text("causal_payload").unwrap_or_default()),
            false => Ok(()),
        }
    }
}

/// Sends the request that `make` builds from the session's context, and keeps the context that
/// comes back, also with an error.
pub async fn exchange(
    common: &Common,
    make: impl Fn(&NodeClient, &str) -> reqwest::RequestBuilder,
) -> Result<Reply, Failure> {
    exchange_or(common, true, make).await
}

/// As [`exchange`]. Where the node has not made the context, the command goes on with another one
/// of the session only if it may `turn`.
pub async fn exchange_or(
    common: &Common,
    turn: bool,
    make: impl Fn(&NodeClient, &str) -> reqwest::RequestBuilder,
) -> Result<Reply, Failure> {
    let node = common.node.connect(PATIENCE)?;
    let mut seen = common.session.open()?;
    let reply = loop {
        let reply = node.send(make(&node, seen.payload())).await?;
        if !turn || !reply.is_foreign() || !seen.turn() {
            break reply;
        }
    };
    if let Some(new) = reply.text("causal_payload") {
        seen.keep(new)?;
    }
    Ok(reply)
}

/// As [`exchange`], for one key; an error reply is a failure.
async fn in_session(
    common: &Common,
    key: &str,
    make: impl Fn(&NodeClient, &str) -> reqwest::RequestBuilder,
) -> Result<Reply, Failure> {
    let reply = exchange(common, make).await?;
    if reply.ok() {
        return Ok(reply);
    }
    if common.json {
        print(reply.raw.trim_end())?;
    }
    if reply.status == 404 {
        return Err(Failure::new(Code::NotFound, format!("no such key: {key}")));
    }
    Err(Failure::not_done(reply.error()))
}

fn tell_write(common: &Common, reply: &Reply, done: &str) -> CommandResult {
    if common.json {
        return print(reply.raw.trim_end());
    }
    if common.print_payload {
        return print(reply.text("causal_payload").unwrap_or_default());
    }
    match reply.body.get("copies").and_then(Value::as_u64) {
        Some(1) => print(format_args!(
            "{done} (one copy so far: its partition has no other node that answers)"
        )),
        _ => print(done),
    }
}

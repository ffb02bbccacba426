//! `keys`: the linearizable lists. A change carries an idempotency key of its own, so that it can
//! be sent again when no answer came, and counts once.

use super::client::{HttpAnswer, NodeArg, NodeClient, PATIENCE, Reply, in_path};
use super::failure::{CODES_HELP, Code, CommandResult, Failure, print};
use super::session::SessionArgs;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::Duration;

/// How often a request is sent while the council has no leader.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const CAUSAL_PAYLOAD: &str = "causal-payload";

#[derive(Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Set a list: the items that follow the key
    #[command(after_help = CODES_HELP)]
    Put(Put),
    /// Add an item to the end of a list
    #[command(after_help = CODES_HELP)]
    Append(Append),
    /// Read a list, as JSON
    #[command(after_help = CODES_HELP)]
    Get(Get),
    /// Delete a list
    #[command(after_help = CODES_HELP)]
    Delete(Delete),
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    node: NodeArg,
    #[command(flatten)]
    session: SessionArgs,
    /// Print the list's ETag: alone, or with get on a line after the list
    #[arg(long)]
    print_etag: bool,
}

/// When a change is to be made, and how it is known when it is sent again.
#[derive(Args)]
struct Conditions {
    /// Only if the list has this ETag (with *: only if it is there)
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    /// With *: only if the list is not there
    #[arg(long, value_name = "*", conflicts_with = "if_match")]
    if_none_match: Option<String>,
    /// Counts once with this key, in whatever command [default: a new one for each command]
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Args)]
struct Put {
    key: String,
    #[arg(allow_negative_numbers = true)]
    items: Vec<String>,
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Append {
    key: String,
    #[arg(allow_negative_numbers = true)]
    item: String,
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Get {
    key: String,
    /// Linearizable: everything that was acknowledged before. Local: what the node has, also
    /// without a quorum
    #[arg(long, value_enum, default_value_t = Consistency::Linearizable)]
    consistency: Consistency,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Delete {
    key: String,
    #[command(flatten)]
    conditions: Conditions,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Consistency {
    Linearizable,
    Local,
}

pub async fn keys(args: KeysArgs) -> CommandResult {
    match args.command {
        Command::Put(Put {
            key,
            items,
            conditions,
            common,
        }) => {
            let body = json!({"type": "PUT", "value": items});
            change(&common, &key, Some(body), &conditions, "stored").await
        }
        Command::Append(Append {
            key,
            item,
            conditions,
            common,
        }) => {
            let body = json!({"type": "APPEND", "value": item});
            change(&common, &key, Some(body), &conditions, "appended").await
        }
        Command::Delete(Delete {
            key,
            conditions,
            common,
        }) => change(&common, &key, None, &conditions, "deleted").await,
        Command::Get(get) => read(&get).await,
    }
}

async fn read(get: &Get) -> CommandResult {
    let answer = in_session(&get.common, &get.key, |node, path| {
        let request = node.request(Method::GET, path);
        match get.consistency {
            Consistency::Linearizable => request,
            Consistency::Local => request.query(&[("consistency", "local")]),
        }
    })
    .await?;
    print(answer.text.trim_end())?;
    if get.common.print_etag {
        print(etag(&answer))?;
    }
    Ok(())
}

/// Changes a list: with a body by POST, without one by DELETE.
async fn change(
    common: &Common,
    key: &str,
    body: Option<Value>,
    conditions: &Conditions,
    done: &str,
) -> CommandResult {
    let once = match &conditions.idempotency_key {
        Some(given) => given.clone(),
        None => format!("cli-{:032x}", rand::random::<u128>()),
    };
    let mut headers = HeaderMap::new();
    let conditions = [
        (IF_MATCH, &conditions.if_match),
        (IF_NONE_MATCH, &conditions.if_none_match),
    ];
    for (name, value) in conditions {
        if let Some(value) = value {
            headers.insert(name, header_value(value)?);
        }
    }
    headers.insert(IDEMPOTENCY_KEY, header_value(&once)?);
    let answer = in_session(common, key, |node, path| {
        let request = match &body {
            Some(body) => node.request(Method::POST, path).json(body),
            None => node.request(Method::DELETE, path),
        };
        request.headers(headers.clone())
    })
    .await?;
    match common.print_etag {
        true => print(etag(&answer)),
        false => print(done),
    }
}

/// Sends the request that `make` builds, again while nobody can answer it, with the session's
/// context. Keeps the context that comes back.
async fn in_session(
    common: &Common,
    key: &str,
    make: impl Fn(&NodeClient, &str) -> RequestBuilder,
) -> Result<HttpAnswer, Failure> {
    let node = common.node.connect(PATIENCE)?;
    let path = format!("/keys/{}", in_path(key)?);
    let mut seen = common.session.open()?;
    let mut attempt = 1;
    let answer = loop {
        let mut request = make(&node, &path);
        let payload = header_value(seen.payload())?;
        if !payload.is_empty() {
            request = request.header(CAUSAL_PAYLOAD, &payload);
        }
        let result = node.exchange(request).await;
        if result.as_ref().is_ok_and(is_foreign) && seen.turn() {
            continue;
        }
        let again = match &result {
            Ok(answer) => answer.status == 503,
            Err(failure) => failure.code == Code::Unreachable,
        };
        if !again || attempt == ATTEMPTS {
            break result?;
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    };
    if let Some(new) = header(&answer, CAUSAL_PAYLOAD) {
        seen.keep(new)?;
    }
    match answer.status {
        200..300 => Ok(answer),
        404 => Err(Failure::new(Code::NotFound, format!("no such key: {key}"))),
        _ => Err(Failure::not_done(said(&answer))),
    }
}

/// Whether nothing was done because the cluster has not made the payload.
fn is_foreign(answer: &HttpAnswer) -> bool {
    let reply = Reply::of(answer.status, answer.text.clone());
    reply.is_some_and(|reply| reply.is_foreign())
}

/// The problem in the node's words: plain text, or JSON from a node that is no member or refuses
/// the token.
fn said(answer: &HttpAnswer) -> String {
    match Reply::of(answer.status, answer.text.clone()) {
        Some(reply) if reply.body.is_object() => reply.error(),
        _ => format!("{} (HTTP {})", answer.text.trim_end(), answer.status),
    }
}

fn header_value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text)
        .map_err(|_| Failure::usage(format!("{text:?} cannot be sent in a header")))
}

fn etag(answer: &HttpAnswer) -> &str {
    header(answer, ETAG.as_str()).unwrap_or_default()
}

fn header<'a>(answer: &'a HttpAnswer, name: &str) -> Option<&'a str> {
    answer.headers.get(name)?.to_str().ok()
}

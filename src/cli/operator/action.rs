//! The operator's actions: requests to a node, and its answers in words.

use crate::cli::client::{NodeArg, NodeClient, Reply, in_path};
use crate::cli::failure::{Code, Failure};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// A change of the strategy is answered after 10 s, a fault after 8 s, whether they are done or
/// not.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between looks at a change that goes on.
const LOOK: Duration = Duration::from_millis(300);

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `None`: full replication.
    SetStrategy {
        factor: Option<u16>,
    },
    Write {
        key: String,
        value: String,
    },
    Read {
        key: String,
    },
    Delete {
        key: String,
    },
    Where {
        key: String,
    },
    Fail {
        id: String,
    },
    Recover {
        id: String,
    },
    List,
    RecoverAll,
}

/// A node as `/nodes` shows it.
#[derive(Debug, Clone)]
pub struct ListedNode {
    pub id: u64,
    pub node: String,
    pub alive: bool,
    pub state: String,
    pub partition: Option<u64>,
}

/// The node that is asked.
pub struct Client(NodeClient);

impl Client {
    pub fn new(node: &NodeArg) -> Result<Self, Failure> {
        Ok(Self(node.connect(PATIENCE)?))
    }

    /// Has something done, and says what came of it.
    pub async fn perform(&self, action: &Action) -> Result<String, Failure> {
        match action {
            Action::SetStrategy { factor } => self.set_strategy(*factor).await,
            Action::Write { key, value } => {
                let body = json!({"key": key, "value": value});
                let request = self.0.request(Method::POST, "/write").json(&body);
                message(&self.ask(request).await?)
            }
            Action::Read { key } => self
                .ask(self.of_key(Method::GET, "read", key)?)
                .await?
                .value(),
            Action::Delete { key } => message(
                &self
                    .ask(self.of_key(Method::DELETE, "delete", key)?)
                    .await?,
            ),
            Action::Where { key } => {
                let request = self.of_key(Method::GET, "nodes_for_key", key)?;
                let nodes = items(&self.ask(request).await?)?;
                let lines = nodes.iter().map(|node| {
                    let text = |field: &str| node.get(field).cloned().unwrap_or_default();
                    let at = text("node");
                    format!("node {} ({})", text("node_id"), at.as_str().unwrap_or("?"))
                });
                Ok(lines.collect::<Vec<_>>().join("\n"))
            }
            Action::Fail { id } => self.order("fail", id).await,
            Action::Recover { id } => self.order("recover", id).await,
            Action::List => Ok(table(&self.nodes().await?)),
            Action::RecoverAll => self.recover_all().await,
        }
    }

    /// The nodes of the view.
    pub async fn nodes(&self) -> Result<Vec<ListedNode>, Failure> {
        let reply = self.ask(self.0.request(Method::GET, "/nodes")).await?;
        let nodes = items(&reply)?;
        let seen = nodes.iter().map(|node| {
            let text = |field: &str| node.get(field).and_then(Value::as_str).map(str::to_owned);
            Some(ListedNode {
                id: node.get("node_id")?.as_u64()?,
                node: text("node")?,
                alive: text("status")? == "alive",
                state: text("state")?,
                partition: node.get("partition_id").and_then(Value::as_u64),
            })
        });
        let seen: Option<Vec<ListedNode>> = seen.collect();
        seen.ok_or_else(not_understood)
    }

    async fn order(&self, what: &str, id: &str) -> Result<String, Failure> {
        message(&self.ask(self.of_key(Method::POST, what, id)?).await?)
    }

    /// Lets all nodes come back that can.
    async fn recover_all(&self) -> Result<String, Failure> {
        let nodes = self.nodes().await?;
        let dead: Vec<&ListedNode> = nodes.iter().filter(|node| !node.alive).collect();
        if dead.is_empty() {
            return Ok("all nodes are alive".to_owned());
        }
        let (mut said, mut failed) = (Vec::new(), Vec::new());
        for node in dead {
            match self.order("recover", &node.id.to_string()).await {
                Ok(text) => said.push(text),
                Err(failure) => failed.push(failure),
            }
        }
        if failed.is_empty() {
            return Ok(said.join("\n"));
        }
        said.extend(failed.iter().map(|failure| failure.text.clone()));
        let code = failed.first().map_or(Code::NotDone, |failure| failure.code);
        Err(Failure::new(code, said.join("\n")))
    }

    /// Sets the strategy, and waits until the data is where it belongs.
    async fn set_strategy(&self, factor: Option<u16>) -> Result<String, Failure> {
        let body = match factor {
            None => json!({"strategy": "full"}),
            Some(factor) => json!({"strategy": "consistent", "replication_factor": factor}),
        };
        let request = self.0.request(Method::POST, "/set_replication_strategy");
        let reply = self.ask(request.json(&body)).await?;
        let number = reply.body.get("view").cloned().unwrap_or_default();
        if reply.status == 202 {
            self.follow(&number).await?;
        }
        let of = |field| reply.body.get(field).cloned().unwrap_or_default();
        let partitions = of("number_of_partitions");
        let said = message(&reply)?;
        // The rest speaks of data that is over by now.
        let said = said.split(';').next().unwrap_or_default();
        Ok(format!("{said}: view {number}, partitions {partitions}"))
    }

    /// Waits until the change to a view is over.
    async fn follow(&self, number: &Value) -> Result<(), Failure> {
        loop {
            let state = self.ask(self.0.request(Method::GET, "/view")).await?.body;
            let at = |path: &str| state.pointer(path).cloned().unwrap_or_default();
            if at("/change/view") != *number {
                let cancelled = at("/last/view") == *number && at("/last/end") == "cancelled";
                return match cancelled {
                    true => Err(Failure::not_done(
                        "the change was cancelled: the view before is in force",
                    )),
                    false => Ok(()),
                };
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn of_key(&self, method: Method, what: &str, key: &str) -> Result<RequestBuilder, Failure> {
        let path = format!("/{what}/{}", in_path(key)?);
        Ok(self.0.request(method, &path))
    }

    /// A reply that says that something was done.
    async fn ask(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        let reply = self.0.send(request).await?;
        match reply.status {
            _ if reply.ok() => Ok(reply),
            404 => Err(Failure::new(Code::NotFound, reply.error())),
            _ => Err(Failure::not_done(reply.error())),
        }
    }
}

fn message(reply: &Reply) -> Result<String, Failure> {
    let said = reply.text("message").map(str::to_owned);
    said.ok_or_else(not_understood)
}

fn items(reply: &Reply) -> Result<Vec<Value>, Failure> {
    let nodes = reply.body.get("nodes").and_then(Value::as_array);
    nodes.cloned().ok_or_else(not_understood)
}

fn not_understood() -> Failure {
    Failure::not_done("the node's reply is not understood: is it of another release?")
}

fn table(nodes: &[ListedNode]) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["ID", "NODE", "PARTITION", "STATUS", "STATE"]);
    for node in nodes {
        table.add_row([
            node.id.to_string(),
            node.node.clone(),
            node.partition
                .map_or_else(|| "-".to_owned(), |p| p.to_string()),
            if node.alive { "alive" } else { "dead" }.to_owned(),
            node.state.clone(),
        ]);
    }
    let mut text = table.trim_fmt();
    let dead = nodes.iter().filter(|node| !node.alive).count();
    // Writing to a String does not fail.
    let _ = write!(text, "\n{} nodes, {dead} dead", nodes.len());
    text
}

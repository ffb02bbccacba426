//! A cluster of processes whose data is on the disk for as long as it runs.

use super::Kind;
use crate::cli::client::{NodeClient, Reply};
use crate::cli::failure::{Failure, note};
use crate::cli::local;
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A change of the strategy, or the council's beginning, takes at most this long.
const CHANGED_WITHIN: Duration = Duration::from_secs(60);
/// A change of the strategy is answered after 10 s, whether it is done or not.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Where clusters may be: a directory and a range of ports.
pub struct Workspace {
    /// The directory that is removed at the end.
    dir: PathBuf,
    /// Above it, when it was not there before.
    made: Option<PathBuf>,
    port: u16,
}

impl Workspace {
    /// Makes a directory of its own below `data`.
    pub fn make(data: &Path, port: u16) -> Result<Self, Failure> {
        let dir = data.join(format!("report-{}", std::process::id()));
        let made = (!data.exists()).then(|| data.to_owned());
        std::fs::create_dir_all(&dir)
            .map_err(|e| Failure::not_done(format!("cannot make {}: {e}", dir.display())))?;
        Ok(Self { dir, made, port })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            note(format_args!("{} is left: {error}", self.dir.display()));
        }
        if let Some(made) = &self.made {
            // Kept when somebody has put something there meanwhile.
            let _ = std::fs::remove_dir(made);
        }
    }
}

/// Nodes that serve.
pub struct LocalCluster {
    pub addresses: Vec<SocketAddr>,
    running: Vec<Process>,
    dir: PathBuf,
}

/// A node, which is killed when nobody needs it any more.
struct Process(Child);

impl Process {
    fn start(environment: [(&str, String); 4]) -> std::io::Result<Self> {
        // Nodes that fail on demand are missed by the others, and say what they do.
        let log = std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned());
        let child = Command::new(std::env::current_exe()?)
            .env_clear()
            .env("RUST_LOG", log)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    /// Has it end in order.
    async fn end(mut self) -> Result<(), Failure> {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).map_err(Failure::not_done)?;
        }
        let began = Instant::now();
        loop {
            match self.0.try_wait().map_err(Failure::not_done)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(Failure::not_done(format!("a node ended with {status}")));
                }
                None if began.elapsed() > PATIENCE => {
                    return Err(Failure::not_done("a node does not end"));
                }
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl LocalCluster {
    /// Starts nodes with empty disks, and waits until all serve and views can be changed.
    pub async fn start(workspace: &Workspace, nodes: u16, k: u16) -> Result<Self, Failure> {
        let ports = workspace.port..workspace.port + nodes;
        let addresses: Vec<SocketAddr> = ports
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .collect();
        let dir = workspace.dir.join(format!("{nodes}-{k}"));
        for address in &addresses {
            local::free(&local::config(*address, &addresses, k, &dir, |_| None)?)?;
        }
        let mut running = Vec::new();
        for address in &addresses {
            let environment = local::environment(*address, &addresses, k, &dir);
            let node = Process::start(environment);
            running.push(node.map_err(|e| Failure::not_done(format!("cannot start a node: {e}")))?);
        }
        local::all_ready(&addresses).await?;
        let cluster = Self {
            addresses,
            running,
            dir,
        };
        cluster
            .until(|view| view["council"]["has_quorum"] == true)
            .await?;
        Ok(cluster)
    }

    /// One of the nodes, on a connection of its own.
    pub fn at(&self, node: usize) -> Result<NodeClient, Failure> {
        let address = self.addresses[node % self.addresses.len()];
        NodeClient::new(&address.to_string(), PATIENCE)
    }

    /// Waits until `GET /view` is as `is` says.
    async fn until(&self, is: impl Fn(&Value) -> bool) -> Result<(), Failure> {
        let (node, began) = (self.at(0)?, Instant::now());
        while !is(&node.send(node.request(Method::GET, "/view")).await?.body) {
            if began.elapsed() > CHANGED_WITHIN {
                return Err(Failure::not_done("the cluster does not come to rest"));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Sets the strategy, and waits until all data is in place.
    pub async fn set(&self, kind: Kind) -> Result<(), Failure> {
        let node = self.at(0)?;
        let body = match kind {
            Kind::Full => json!({"strategy": "full"}),
            Kind::Consistent(factor) => {
                json!({"strategy": "consistent", "replication_factor": factor})
            }
        };
        let request = node.request(Method::POST, "/set_replication_strategy");
        done(node.send(request.json(&body)).await?)?;
        self.until(|view| view["change"].is_null() && view["closing"] == json!([]))
            .await
    }

    /// Has a node fail or recover, asked for through another one: how long that took.
    pub async fn order(&self, what: &str, node: usize) -> Result<Duration, Failure> {
        let via = self.at(node + 1)?;
        let began = Instant::now();
        let request = via.request(Method::POST, &format!("/{what}/{node}"));
        done(via.send(request).await?)?;
        Ok(began.elapsed())
    }

    /// Waits until every node is served and nobody lacks anything.
    pub async fn level(&self) -> Result<(), Failure> {
        let began = Instant::now();
        for node in 0..self.addresses.len() {
            let at = self.at(node)?;
            while !is_level(&at.send(at.request(Method::GET, "/status")).await?.body) {
                if began.elapsed() > CHANGED_WITHIN {
                    return Err(Failure::not_done("the replicas do not become equal"));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Ends all nodes, and removes what they had.
    pub async fn end(self) -> Result<(), Failure> {
        for running in self.running {
            running.end().await?;
        }
        std::fs::remove_dir_all(&self.dir)
            .map_err(|e| Failure::not_done(format!("cannot remove {}: {e}", self.dir.display())))
    }
}

fn is_level(status: &Value) -> bool {
    let level = |peer: &Value| peer["alive"] == true && peer["lag"] == 0 && peer["behind"] == 0;
    let mut peers = status["peers"].as_array().into_iter().flatten();
    status["state"] == "serving" && status["unstable"] == 0 && peers.all(level)
}

/// A reply that says that something was done.
pub fn done(reply: Reply) -> Result<Reply, Failure> {
    match reply.ok() {
        true => Ok(reply),
        false => Err(Failure::not_done(reply.error())),
    }
}

/// Asks until it is done, or refused for good: a machine that stands still for a second is no
/// reason to end. `ask` gives the status of the reply and what it says.
pub async fn until_done(
    mut ask: impl AsyncFnMut() -> Result<(u16, String), Failure>,
) -> Result<(), Failure> {
    let (began, mut again) = (Instant::now(), false);
    loop {
        match ask().await? {
            (200..300, _) => return Ok(()),
            // An earlier attempt that got no clear answer may have written it.
            (409, _) if again => return Ok(()),
            (503, _) if began.elapsed() < PATIENCE => again = true,
            (_, said) => return Err(Failure::not_done(said)),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes a key that is new.
pub async fn write(node: &NodeClient, key: &str, value: &str) -> Result<(), Failure> {
    let body = json!({"key": key, "value": value});
    until_done(async || {
        let request = node.request(Method::POST, "/write").json(&body);
        let reply = node.send(request).await?;
        Ok((reply.status, reply.error()))
    })
    .await
}

/// Reads a key.
pub async fn read(node: &NodeClient, key: &str) -> Result<Reply, Failure> {
    node.send(node.request(Method::GET, &format!("/read/{key}")))
        .await
}

//! Clients at work in a process of their own, and what is to be said of what they saw.

use crate::harness::{Cluster, PATIENCE, Process, eventually};
use causeway::check::History;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Few, so that every key is fought over.
pub const KEYS: u32 = 12;
pub const SESSIONS: u32 = 12;

/// A load generator in a process of its own, whose sessions roam over all nodes.
pub struct Load {
    pub process: Process,
    dir: TempDir,
}

impl Load {
    /// All nodes that run are asked, those that are in no view as well.
    pub async fn start(cluster: &Cluster, seconds: u32, delete_share: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let targets: Vec<String> = cluster.running().iter().map(ToString::to_string).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command
            .env_clear()
            .args(["bench", "--routing", "roam", "--prefill", "--warmup", "0"])
            .args(["--read-share", "0.5"])
            .args(["--delete-share", &delete_share.to_string()])
            .args(["--timeout", "2", "--value-size", "30", "--json"])
            .args(["--keys", &KEYS.to_string()])
            .args(["--connections", &SESSIONS.to_string()])
            .args(["--seconds", &seconds.to_string()])
            .args(["--target", &targets.join(",")])
            .arg("--history")
            .arg(dir.path().join("history"));
        let load = Self {
            process: Process::spawn(command),
            dir,
        };
        // The load makes its file once it has found all nodes: none may go away before.
        eventually("the load begins", PATIENCE, async || {
            let begun = load.file().exists().then_some(());
            begun.ok_or_else(|| "there is no file".to_owned())
        })
        .await;
        load
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("history")
    }

    /// Waits for the end of the run: what it recorded.
    pub async fn end(mut self, within: Duration) -> Vec<Value> {
        let (code, log) = self.process.ended(within).await;
        assert_eq!(code, Some(0), "{log}");
        let text = std::fs::read_to_string(self.file()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The checker's verdict on these operations.
pub fn check(operations: &[Value]) -> Result<String, String> {
    let lines: Vec<String> = operations.iter().map(Value::to_string).collect();
    let history = History::read(lines.join("\n").as_bytes()).expect("it can be read");
    let verdict = history.check();
    verdict.map(|s| s.to_string()).map_err(|v| v.to_string())
}

/// How many of a kind came to that.
pub fn count(operations: &[Value], op: &str, status: &str) -> usize {
    let same = |o: &&Value| o["op"] == op && o["status"] == status;
    operations.iter().filter(same).count()
}

/// Keeps a history that was found wrong where it can be looked at, and says where.
pub fn assert_causal(operations: &[Value]) {
    let violation = match check(operations) {
        Ok(summary) => return println!("{summary}"),
        Err(violation) => violation,
    };
    let file = tempfile::Builder::new()
        .prefix("violation-")
        .suffix(".jsonl")
        .tempfile();
    let (_, path) = file.unwrap().keep().unwrap();
    let lines: String = operations.iter().map(|o| format!("{o}\n")).collect();
    std::fs::write(&path, lines).unwrap();
    panic!("{violation}\nthe history is in {}", path.display());
}

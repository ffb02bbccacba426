//! A node's log, and what slow requests leave in it.

use super::fake::{causeway, stderr};
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Only a node that hangs takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);
/// Time that a slow request takes at least.
const SLOW: Duration = Duration::from_millis(60);

/// A node alone, in a process of its own, whose log goes to a file.
struct LoggedNode {
    child: Child,
    at: SocketAddr,
    log: PathBuf,
}

impl LoggedNode {
    fn start(dir: &Path, vars: &[(&str, &str)]) -> Self {
        // Ports that were free a moment ago.
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, peer) = (free(), free());
        let at = own.local_addr().unwrap();
        let peer_port = peer.local_addr().unwrap().port();
        drop((own, peer));
        let log = dir.join("log");
        let child = causeway(&[])
            .env("ip_port", at.to_string())
            .env("VIEW", at.to_string())
            .env("PEER_PORT", peer_port.to_string())
            .env("DATA_DIR", dir.join("data"))
            .envs(vars.iter().copied())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let this = Self { child, at, log };
        this.until("it is ready", || {
            this.ask(
                b"GET /ready HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n",
                b"",
            )
            .is_some_and(|reply| reply.starts_with("HTTP/1.1 200"))
        });
        this
    }

    /// Sends the two parts of a request with a pause between them.
    fn ask(&self, first: &[u8], second: &[u8]) -> Option<String> {
        let mut stream = TcpStream::connect(self.at).ok()?;
        stream.write_all(first).ok()?;
        if !second.is_empty() {
            std::thread::sleep(SLOW);
            stream.write_all(second).ok()?;
        }
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        Some(reply)
    }

    /// A write whose body comes slowly.
    fn put_slowly(&self, key: &str) {
        let body = format!("key={key}&value=hidden&causal_payload=");
        let head = format!(
            "PUT /kvs HTTP/1.1\r\nHost: n\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let reply = self.ask(head.as_bytes(), body.as_bytes()).unwrap();
        assert!(reply.starts_with("HTTP/1.1 20"), "{reply}");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "{what}: {}", self.log());
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for LoggedNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_slow_request_leaves_a_line_in_a_log_that_machines_read() {
    let dir = tempfile::tempdir().unwrap();
    let vars = [("LOG_FORMAT", "json"), ("SLOW_REQUEST_MS", "50")];
    let node = LoggedNode::start(dir.path(), &vars);
    node.put_slowly("wanted%0Akey");
    node.until("it is written", || node.log().contains("wanted"));
    let log = node.log();
    assert!(!log.contains("hidden"), "{log}");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    assert!(lines.len() > 1, "{log}");
    for line in &lines {
        assert_eq!(line["node"], node.at.to_string());
        let is_text = |field: &str| line[field].is_string();
        assert!(
            ["time", "level", "target", "message"]
                .into_iter()
                .all(is_text),
            "{line}"
        );
    }
    let said = |line: &&Value| line["message"].as_str().unwrap().contains("wanted");
    let slow = lines.iter().find(said).unwrap();
    assert_eq!(slow["level"], "WARN");
    let message = slow["message"].as_str().unwrap();
    assert!(
        message.starts_with("slow request: PUT /kvs 201 in "),
        "{message}"
    );
    assert!(message.contains(r#"key "wanted\nkey""#), "{message}");
}

#[test]
fn as_text_and_without_the_setting_there_is_no_such_line() {
    let dir = tempfile::tempdir().unwrap();
    let node = LoggedNode::start(dir.path(), &[("SLOW_REQUEST_MS", "0")]);
    node.put_slowly("wanted");
    node.put_slowly("other");
    let log = node.log();
    assert!(
        log.contains(" WARN ") && !log.contains("slow request"),
        "{log}"
    );
}

#[test]
fn a_format_that_is_none_ends_the_node_with_one_line() {
    let output = causeway(&[])
        .env("ip_port", "127.0.0.1:8080")
        .env("LOG_FORMAT", "xml")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.lines().count() == 1 && said.contains("LOG_FORMAT"),
        "{said}"
    );
    // Why a node ends is a line like the others.
    let output = causeway(&[])
        .env("ip_port", "here")
        .env("LOG_FORMAT", "json")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    let line: Value = serde_json::from_str(said.trim_end()).unwrap();
    assert!(
        line["message"].as_str().unwrap().contains("ip_port"),
        "{said}"
    );
}

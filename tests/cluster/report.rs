//! `causeway report`, with few operations: its tests pass, and its page and plot are there.

use crate::harness::claim;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

/// The largest cluster of the report.
const NODES: usize = 5;

/// The first of so many ports in a row, and what claims them.
fn ports() -> (u16, Vec<(SocketAddr, TcpListener)>) {
    let mut held: Vec<(SocketAddr, TcpListener)> = Vec::new();
    loop {
        let next = claim();
        let follows = |last: &(SocketAddr, TcpListener)| last.0.port() + 1 == next.0.port();
        if !held.last().is_some_and(follows) {
            held.clear();
        }
        held.push(next);
        if held.len() == NODES {
            return (held[0].0.port(), held);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_runs_its_tests_and_writes_a_page_and_a_plot() {
    let dir = tempfile::tempdir().unwrap();
    let (port, _held) = ports();
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.env_clear().current_dir(dir.path()).args([
        "report",
        "--operations",
        "40",
        "--port",
        &port.to_string(),
    ]);
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = run.await.unwrap().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let page = std::fs::read_to_string(dir.path().join("report.md")).unwrap();
    // Three single nodes and ten pairs, under two strategies; two that came back.
    assert_eq!(page.matches("| passed |").count(), 28, "{page}");
    assert!(!page.contains("FAILED"), "{page}");
    assert!(
        page.contains("| 3 | full | 2 | 10 | 10 | 0 | 0 | passed |"),
        "{page}"
    );
    assert_eq!(page.matches("| write | 32 | 40 |").count(), 2, "{page}");
    assert!(page.contains("(report.svg)"));
    let plot = std::fs::read_to_string(dir.path().join("report.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"));
    assert!(plot.contains("write, 32 clients, full") && plot.matches("<circle").count() == 14);
    let left = dir.path().join("data").exists();
    assert!(!left, "what the nodes had is gone, and its place");
}

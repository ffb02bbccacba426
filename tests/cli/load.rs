//! The load generator: bounded, and honest about what came back.

use super::fake::{causeway, fake_node, stderr, stdout};
use serde_json::Value;

#[test]
fn a_load_is_bounded_and_counts_what_came_back() {
    // Every request is refused: all of them are errors, and the first is shown.
    let refused = (503, r#"{"msg":"error","error":"nobody home"}"#.to_owned());
    let (node, _served) = fake_node(vec![refused; 100_000]);
    let output = causeway(&[
        "bench",
        "--target",
        &node,
        "--seconds",
        "1",
        "--warmup",
        "0",
    ])
    .args(["--connections", "2", "--read-share", "1", "--json"])
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["requests"], 0);
    assert!(report["errors"].as_u64() > Some(0));
    // All were reads: nothing was done.
    assert_eq!(report["refused"], report["errors"]);
    assert_eq!(report["unknown"], 0);
    assert!(report.get("history").is_none());
    assert!(
        stderr(&output).contains("nobody home"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_history_tells_what_is_open_from_what_is_not_done() {
    // At first every request is refused in a way that leaves a write open; then nobody is there any
    // more.
    let refused = (503, r#"{"msg":"error","error":"ask later"}"#.to_owned());
    let (node, served) = fake_node(vec![refused; 40]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history");
    let output = causeway(&["bench", "--target", &node, "--seconds", "1"])
        .args(["--warmup", "0", "--connections", "2", "--routing", "roam"])
        .args(["--json", "--history"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    served.join().unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let puts: Vec<&Value> = lines.iter().filter(|o| o["op"] == "put").collect();
    for status in ["unknown", "fail"] {
        assert!(puts.iter().any(|o| o["status"] == status), "{status}");
    }
    let gets = lines.iter().filter(|o| o["op"] == "get");
    assert!(gets.clone().count() > 0 && gets.clone().all(|o| o["status"] == "fail"));
    let mut values: Vec<&str> = puts.iter().filter_map(|o| o["value"].as_str()).collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), puts.len(), "each put has a value of its own");
    // The load counts as the check does.
    let count = |status: &str| lines.iter().filter(|o| o["status"] == status).count();
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(report["unknown"].as_u64() > Some(0) && report["refused"].as_u64() > Some(0));
    let history = &report["history"];
    assert_eq!(history["operations"], lines.len());
    assert_eq!(history["unknown"], count("unknown"));
    assert_eq!(history["failed"], count("fail"));
}

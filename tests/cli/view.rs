//! The view: changes that are followed, and what is said of it.

use super::fake::{causeway, fake_node, stderr, stdout};
use serde_json::{Value, json};
use std::path::Path;

/// What a node says while it moves data, or when it is done with it.
fn view_state(change: Value, end: &str) -> String {
    let node = json!({"node": "10.0.0.1:80", "member": 0, "alive": true});
    let state = json!({
        "node": "10.0.0.1:80",
        "view": {"number": 4, "k": 1, "strategy": "consistent", "partitions": [
            {"partition_id": 0, "slots": 16384, "members": [node]}]},
        "change": change,
        "closing": [], "behind": [], "leaving": [],
        "without_live_holder": [{"partition_id": 0, "slots": 9, "nodes": ["10.0.0.3:80"], "keys": null}],
        "offers": [{"node": "10.0.0.4:80", "directory": "/data/former.1", "writes": 3000,
            "taken": 1200, "there": 300, "declined": 0, "left": 1500, "failed": null}],
        "last": {"change": {"type": "add", "node": "10.0.0.2:80"}, "text": "add 10.0.0.2:80",
            "view": 5, "end": end, "given_up": false, "without": []},
        "council": {"role": "leader", "leader": "10.0.0.1:80", "term": 1, "has_quorum": true,
            "voters": ["10.0.0.1:80"], "may_vote": true, "last_log": 3},
    });
    state.to_string()
}

fn moving() -> Value {
    json!({
        "change": {"type": "add", "node": "10.0.0.2:80"}, "text": "add 10.0.0.2:80", "view": 5,
        "phase": "moving data", "given_up": false, "slots": 8192, "slots_here": 4000,
        "keys": 12000, "bytes": 3145728,
        "gaining": [{"node": "10.0.0.2:80", "member": 1, "partition_id": 1, "slots": 8192,
            "slots_here": 4000, "keys": 12000, "bytes": 3145728, "ready": false, "state": "copies slots"}],
        "waits_for": ["10.0.0.2:80 copies slots"],
    })
}

#[test]
fn a_change_that_goes_on_is_followed_to_its_end() {
    let accepted =
        r#"{"msg":"success","partition_id":1,"number_of_partitions":2,"view":5,"done":false}"#;
    let change = |answers: Vec<(u16, String)>, more: &[&str]| {
        let (node, served) = fake_node(answers);
        let args = ["view", "add", "10.0.0.2:80", "--node", &node];
        let output = causeway(&[&args, more].concat()).output().unwrap();
        (output, served.join().unwrap())
    };
    let (output, seen) = change(
        vec![
            (202, accepted.into()),
            (200, view_state(moving(), "done")),
            (200, view_state(Value::Null, "done")),
        ],
        &[],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = "added 10.0.0.2:80 to partition 1: view 5, partitions 2\n";
    assert_eq!(stdout(&output), said);
    let progress =
        "add 10.0.0.2:80: 4000 of 8192 slots, 12,000 keys, 3.00 MiB; 10.0.0.2:80 copies slots";
    assert!(stderr(&output).contains(progress), "{}", stderr(&output));
    assert_eq!(seen[0].0, "PUT /kvs/view_update HTTP/1.1");
    assert_eq!(seen[0].1, "ip_port=10.0.0.2%3A80&type=add");
    assert_eq!(seen[1].0, "GET /view HTTP/1.1");

    let cancelled = vec![
        (202, accepted.into()),
        (200, view_state(Value::Null, "cancelled")),
    ];
    let (output, _) = change(cancelled, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cancelled"), "{}", stderr(&output));

    let (output, _) = change(vec![(202, accepted.into())], &["--no-wait"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("goes on"), "{}", stdout(&output));

    let busy = r#"{"msg":"error","error":"another change is running: wait"}"#;
    let (output, _) = change(vec![(409, busy.into())], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("another change"),
        "{}",
        stderr(&output)
    );
    let missing = r#"{"msg":"error","error":"it is not in the view: look"}"#;
    let (output, _) = change(vec![(404, missing.into())], &["--json"]);
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn a_removal_loses_data_only_with_a_flag_that_says_so() {
    let remove = |answer: (u16, String), more: &[&str]| {
        let (node, served) = fake_node(vec![answer]);
        let args = ["view", "remove", "10.0.0.2:80", "--node", &node];
        let output = causeway(&[&args, more].concat()).output().unwrap();
        (output, served.join().unwrap())
    };
    let unheld = json!([{"partition_id": 1, "slots": 8192, "nodes": ["10.0.0.2:80"], "keys": 77}]);
    let error = "no live node holds about 77 keys: send allow_data_loss=true";
    let refused = json!({"msg": "error", "error": error, "code": "data_loss"});
    // Nobody sits at a terminal, so nobody is asked.
    let (output, seen) = remove((409, refused.to_string()), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("77 keys"), "{}", stderr(&output));
    assert_eq!(seen[0].1, "ip_port=10.0.0.2%3A80&type=remove");

    let done = json!({"msg": "success", "number_of_partitions": 1, "view": 3, "data_loss": unheld});
    let (output, seen) = remove((200, done.to_string()), &["--lose-data"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        seen[0].1,
        "ip_port=10.0.0.2%3A80&type=remove&allow_data_loss=true"
    );
    let said = "LOST unless they come back: about 77 keys in 8192 slots of partition 1, which only 10.0.0.2:80 may have";
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
}

#[test]
fn the_view_is_shown_in_words() {
    let (node, served) = fake_node(vec![(200, view_state(moving(), "done")); 2]);
    let output = causeway(&["view", "status", "--node", &node])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "view 4: nodes 1, partitions 1, K 1",
        "change: add 10.0.0.2:80 (view 5): moving data, 4000 of 8192 slots",
        "last change: add 10.0.0.2:80 (view 5): done",
        "council: has a quorum; leader 10.0.0.1:80",
        "NO LIVE NODE HOLDS: an unknown number of keys in 9 slots of partition 0, which only 10.0.0.3:80 may have",
        "in /data/former.1: 1,500 of 3,000 writes, 1,200 taken; do not touch",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let output = causeway(&["view", "status", "--json", "--node", &node])
        .output()
        .unwrap();
    let state: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(state["change"]["slots_here"], 4000);
    served.join().unwrap();
}

#[test]
fn only_a_stopped_member_can_be_forced() {
    let dir = tempfile::tempdir().unwrap();
    let force = |dir: &Path| {
        let mut command = causeway(&["view", "force", "--yes", "--data-dir"]);
        command.arg(dir).output().unwrap()
    };
    for dir in [dir.path().to_owned(), dir.path().join("missing")] {
        let output = force(&dir);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let text = stderr(&output);
        assert!(text.contains("not the data directory"), "{text}");
        assert!(!dir.join("LOCK").exists(), "nothing is left behind");
    }
}

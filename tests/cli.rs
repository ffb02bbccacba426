//! The command line as scripts meet it: exit codes, what goes to which stream, what is sent to a
//! node and what a session remembers.

use causeway::protocol::clock::Timestamp;
use causeway::protocol::context::{Codec, Context};
use causeway::protocol::ids::{LogId, MemberId};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

/// The program in an environment of its own, so that nothing of this machine's leaks in.
fn causeway(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(args).env_clear();
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn payload(seq: u64) -> String {
    let mut context = Context::default();
    context.clock = Timestamp::from_ms(1_800_000_000_000);
    let log = LogId {
        member: MemberId(3),
        incarnation: 9,
    };
    context.see(log, seq);
    Codec::new(None).encode(&context)
}

/// An address where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A node that gives the answers one after the other, a connection each, and returns the requests
/// it got: request line, then body.
fn fake_node(answers: Vec<(u16, String)>) -> (String, JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move || {
        let mut seen = Vec::new();
        for (status, answer) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            reader.read_line(&mut first).unwrap();
            if first.is_empty() {
                // A look whether anyone is there.
                continue;
            }
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some(n) = line.to_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
            seen.push((first.trim().to_owned(), String::from_utf8(body).unwrap()));
        }
        seen
    };
    (address, std::thread::spawn(serve))
}

fn in_session(args: &[&str], node: &str, session: &Path) -> Output {
    causeway(args)
        .env("CAUSEWAY_NODE", node)
        .env("CAUSEWAY_SESSION", session)
        .output()
        .unwrap()
}

#[test]
fn a_bad_environment_ends_the_node_with_one_line_and_code_2() {
    let good = ("ip_port", "127.0.0.1:8080");
    for vars in [
        vec![],
        vec![("ip_port", "here")],
        vec![good, ("K", "0")],
        vec![good, ("K", "abc")],
        vec![good, ("VIEW", "127.0.0.1:8080,127.0.0.1:8080")],
        vec![good, ("VIEW", "127.0.0.1:8080,garbage")],
        vec![good, ("CLUSTER_SECRET", "")],
        vec![("ip_port", "127.0.0.1:60000")],
    ] {
        let output = causeway(&[]).envs(vars.clone()).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{vars:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{vars:?}: {text}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn a_bad_command_line_ends_with_code_2() {
    for args in [
        &["nonsense"][..],
        &["put", "k"],
        &["bench", "--read-share", "1.5"],
        &["bench", "--read-share", "0.6", "--delete-share", "0.6"],
        &["bench", "--history", "h", "--consistency", "eventual"],
        &["bench", "--history", "h", "--protocol", "etcd"],
        &["local", "--nodes", "0"],
        &["local", "--port", "60000"],
        &["get", "k", "--node", "https://127.0.0.1:1"],
        &["explain", "no payload"],
        &["view"],
        &["view", "set-k", "0"],
        &["view", "plan"],
        &["view", "force"],
        &["view", "status", "--node", "https://127.0.0.1:1"],
    ] {
        let output = causeway(args).output().unwrap();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    }
    let help = stdout(&causeway(&["--help"]).output().unwrap());
    assert!(help.contains("Exit codes"), "{help}");
}

#[test]
fn a_session_carries_its_context_from_command_to_command() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let (one, two, three) = (payload(1), payload(2), payload(3));
    let (node, served) = fake_node(vec![
        (201, format!(r#"{{"causal_payload":"{one}","copies":2}}"#)),
        (
            200,
            format!(r#"{{"value":"a \"b\"","causal_payload":"{two}"}}"#),
        ),
        (
            503,
            format!(r#"{{"error":"no one has it","causal_payload":"{three}"}}"#),
        ),
        (
            404,
            format!(r#"{{"error":"no such key","causal_payload":"{three}"}}"#),
        ),
        (200, format!(r#"{{"causal_payload":"{three}","copies":1}}"#)),
    ]);
    let run = |args: &[&str]| in_session(args, &node, &session);

    let put = run(&["put", "k&", "v=1"]);
    assert_eq!(stdout(&put), "created\n", "{}", stderr(&put));
    assert_eq!(put.status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&session).unwrap().trim(), one);
    let get = run(&["get", "k&"]);
    assert_eq!(stdout(&get), "a \"b\"\n", "{}", stderr(&get));
    let refused = run(&["get", "k", "--consistency", "eventual"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no one has it"));
    let missing = run(&["get", "gone"]);
    assert_eq!(missing.status.code(), Some(4));
    assert_eq!(stdout(&missing), "");
    assert!(stderr(&missing).contains("no such key: gone"));
    let delete = run(&["delete", "k"]);
    assert!(stdout(&delete).contains("one copy"), "{}", stdout(&delete));

    let seen = served.join().unwrap();
    assert_eq!(seen[0].0, "PUT /kvs HTTP/1.1");
    let body: Value = serde_json::from_str(&seen[0].1).unwrap();
    assert_eq!(
        body,
        json!({"key": "k&", "value": "v=1", "causal_payload": ""})
    );
    let lines: Vec<&str> = seen[1..].iter().map(|s| s.0.as_str()).collect();
    assert_eq!(
        lines,
        [
            format!("GET /kvs?key=k%26&causal_payload={one} HTTP/1.1"),
            format!("GET /kvs?key=k&causal_payload={two}&consistency=eventual HTTP/1.1"),
            // The refusal's context was kept, too.
            format!("GET /kvs?key=gone&causal_payload={three} HTTP/1.1"),
            format!("DELETE /kvs?key=k&causal_payload={three} HTTP/1.1"),
        ]
    );
}

#[test]
fn a_given_payload_leaves_the_session_alone() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let (given, new) = (payload(5), payload(6));
    let answer = format!(r#"{{"msg":"success","value":[1,2],"causal_payload":"{new}"}}"#);
    let (node, served) = fake_node(vec![(200, answer); 3]);
    let run = |args: &[&str]| in_session(args, &node, &session);
    let with = ["--payload", given.as_str(), "--print-payload"];

    let put = run(&[&["put", "k", "[1,2]", "--json-value"], &with[..]].concat());
    assert_eq!(stdout(&put), format!("{new}\n"));
    let get = run(&[&["get", "k"], &with[..]].concat());
    assert_eq!(stdout(&get), format!("[1,2]\n{new}\n"));
    let reply = run(&["get", "k", "--payload", &given, "--json"]);
    let reply: Value = serde_json::from_str(&stdout(&reply)).unwrap();
    assert_eq!(reply["value"], json!([1, 2]));
    assert!(!session.exists());

    let seen = served.join().unwrap();
    let body: Value = serde_json::from_str(&seen[0].1).unwrap();
    assert_eq!(body["value"], json!([1, 2]));
    assert_eq!(body["causal_payload"], given.as_str());
    assert!(seen[1].0.contains(&given));
    let bad = run(&["put", "k", "[1,", "--json-value"]);
    assert_eq!(bad.status.code(), Some(2));
}

#[test]
fn a_refused_payload_of_the_session_names_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    std::fs::write(&session, payload(1)).unwrap();
    let error = r#"{"msg":"error","error":"causal_payload: its signature does not match"}"#;
    let (node, served) = fake_node(vec![(400, error.into())]);
    let output = in_session(&["get", "k"], &node, &session);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains(session.to_str().unwrap()), "{text}");
    served.join().unwrap();
    // Kept: it is the user who knows whether it is worth something.
    assert_eq!(std::fs::read_to_string(&session).unwrap(), payload(1));
}

#[test]
fn no_node_is_code_3_and_says_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let node = nobody();
    for args in [
        &["put", "k", "v"][..],
        &["get", "k"],
        &["delete", "k"],
        &["status"],
        &["view", "status"],
        &["view", "add", "10.0.0.9:8080"],
        &["view", "plan", "set-k", "2"],
        &["view", "cancel"],
    ] {
        let output = in_session(args, &node, &session);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {text}");
        assert!(text.contains("connection refused"), "{text}");
        assert!(text.contains("causeway local"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let bench = causeway(&["bench", "--target", &node]).output().unwrap();
    assert_eq!(bench.status.code(), Some(3));
}

#[test]
fn explain_works_without_a_node_and_says_more_with_one() {
    let text = payload(42);
    let explain = |node: &str, more: &[&str]| {
        let args = [&["explain", text.as_str(), "--node", node], more].concat();
        causeway(&args).output().unwrap()
    };
    let alone = explain(&nobody(), &[]);
    assert_eq!(alone.status.code(), Some(0));
    for part in ["node number 3", "write 42", "2027-01-15T08:00:00Z"] {
        assert!(stdout(&alone).contains(part), "{part}: {}", stdout(&alone));
    }
    assert!(stderr(&alone).contains("not known"));
    let reply = explain(&nobody(), &["--json"]);
    let reply: Value = serde_json::from_str(&stdout(&reply)).unwrap();
    assert_eq!(reply["entries"][0]["seq"], 42);

    let entry = json!({
        "node": "10.0.0.4:80", "member": 3, "incarnation": 9, "seq": 42, "partition_id": 1,
        "state": "missing", "holders": ["10.0.0.4:80"], "text": "not here yet",
    });
    let reply = json!({"msg": "success", "clock_ms": 1, "signed": false, "entries": [entry]});
    let (node, served) = fake_node(vec![(200, reply.to_string())]);
    let asked = stdout(&explain(&node, &[]));
    assert!(
        asked.contains("partition 1: not here yet (held by 10.0.0.4:80)"),
        "{asked}"
    );
    let line = format!("GET /kvs/explain?causal_payload={text} HTTP/1.1");
    assert_eq!(served.join().unwrap()[0].0, line);
}

#[test]
fn a_status_shows_every_member_also_the_dead() {
    let dead = nobody();
    // A node is known by its ip_port, which need not be the address it was reached at.
    let name = "10.9.9.9:80";
    let status = json!({
        "node": name, "member": 0, "incarnation": 1, "version": "0", "state": "serving",
        "reason": null, "partition_id": 0, "keys": 17, "tombstones": 0, "unstable": 0,
        "stalled_reads": 0, "storage_bytes": 0, "free_bytes": 0, "uptime_seconds": 5,
        "clock_ms": 1,
        "view": {"number": 1, "k": 2, "partitions": [{"partition_id": 0, "members": [
            {"node": name, "member": 0, "alive": true},
            {"node": dead, "member": 1, "alive": false}]}]},
        "peers": [{"node": dead, "member": 1, "alive": false, "lag": 3, "behind": 0}],
    });
    let (node, served) = fake_node(vec![(200, status.to_string()); 2]);
    let output = causeway(&["status", "--node", &node]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let headline = "view 1: nodes 2, partitions 1, K 2; 1 did not answer";
    assert!(text.contains(headline), "{text}");
    let line = |part: &str| text.lines().find(|l| l.contains(part)).unwrap_or_default();
    assert!(
        line(name).contains("serving") && line(name).contains("17"),
        "{text}"
    );
    assert!(line(&dead).contains("no answer"), "{text}");
    let output = causeway(&["status", "--json", "--node", &node])
        .output()
        .unwrap();
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["asked"]["keys"], 17);
    assert_eq!(report["nodes"][1]["status"], Value::Null);
    served.join().unwrap();
}

/// What a node says while it moves data, or when it is done with it.
fn view_state(change: Value, end: &str) -> String {
    let node = json!({"node": "10.0.0.1:80", "member": 0, "alive": true});
    let state = json!({
        "node": "10.0.0.1:80",
        "view": {"number": 4, "k": 1, "partitions": [
            {"partition_id": 0, "slots": 16384, "members": [node]}]},
        "change": change,
        "closing": [], "behind": [], "leaving": [],
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

#[test]
fn health_is_0_or_1() {
    let health = |at: &str| {
        let mut command = causeway(&["health"]);
        command.env("ip_port", at).env("PEER_PORT", "1");
        command.output().unwrap()
    };
    let (node, served) = fake_node(vec![(200, "ok".into())]);
    let healthy = health(&node);
    assert_eq!(healthy.status.code(), Some(0), "{}", stderr(&healthy));
    assert_eq!(served.join().unwrap()[0].0, "GET /health HTTP/1.1");
    assert_eq!(health(&nobody()).status.code(), Some(1));
}

#[test]
fn a_port_in_use_is_named() {
    // Below the range that the system gives out, so that its peer port is one.
    let taken = (20_000u16..30_000)
        .step_by(97)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let args = ["local", "--nodes", "1", "--port", port.as_str(), "--data"];
    let output = causeway(&args).arg(dir.path()).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

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
    assert!(
        stderr(&output).contains("nobody home"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_history_tells_what_is_open_from_what_is_not_done() {
    // At first every request is refused in a way that leaves a write open; then nobody is there any more.
    let refused = (503, r#"{"msg":"error","error":"ask later"}"#.to_owned());
    let (node, served) = fake_node(vec![refused; 40]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history");
    let output = causeway(&["bench", "--target", &node, "--seconds", "1"])
        .args(["--warmup", "0", "--connections", "2", "--routing", "roam"])
        .arg("--history")
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
}

//! What a session remembers and sends, and what a cluster says of itself.

use super::fake::{causeway, fake_node, in_session, nobody, payload, stderr, stdout};
use serde_json::{Value, json};

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
fn a_session_of_one_cluster_is_not_used_for_another_and_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let (one, other) = (payload(1), payload(2));
    std::fs::write(&session, format!("{one}\n")).unwrap();
    let foreign = r#"{"msg":"error","error":"the causal_payload ...","code":"foreign_payload"}"#;
    let found = |payload: &str| {
        (
            200,
            format!(r#"{{"value":"v","causal_payload":"{payload}"}}"#),
        )
    };
    let (node, served) = fake_node(vec![
        (400, foreign.into()),
        found(&other),
        found(&other),
        (400, foreign.into()),
        found(&one),
    ]);
    let first = in_session(&["get", "k"], &node, &session);
    assert_eq!(stdout(&first), "v\n");
    assert!(
        stderr(&first).contains("a new session begins"),
        "{}",
        stderr(&first)
    );
    let text = || std::fs::read_to_string(&session).unwrap();
    assert_eq!(text(), format!("{other}\n{one}\n"));
    // The same cluster again, and then the one from before.
    let second = in_session(&["get", "k"], &node, &session);
    assert_eq!(
        (stdout(&second), stderr(&second)),
        ("v\n".into(), String::new())
    );
    let third = in_session(&["get", "k"], &node, &session);
    assert_eq!(
        (stdout(&third), stderr(&third)),
        ("v\n".into(), String::new())
    );
    assert_eq!(text(), format!("{one}\n{other}\n"));
    let sent: Vec<_> = served
        .join()
        .unwrap()
        .into_iter()
        .map(|got| got.0)
        .collect();
    let sent: Vec<&str> = sent
        .iter()
        .map(|line| line.split(['=', ' ']).nth(3).unwrap_or_default())
        .collect();
    assert_eq!(sent, [&one[..], "", &other, &other, &one]);
}

#[test]
fn a_refusal_for_another_reason_says_nothing_about_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    std::fs::write(&session, payload(1)).unwrap();
    let error = r#"{"msg":"error","error":"the causal_payload names writes that are not here"}"#;
    let (node, served) = fake_node(vec![(503, error.into())]);
    let text = stderr(&in_session(&["get", "k"], &node, &session));
    assert!(
        text.contains("not here") && !text.contains("delete"),
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(&session).unwrap(), payload(1));
    served.join().unwrap();
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
        &["keys", "get", "k"],
        &["keys", "append", "k", "v"],
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
fn who_gives_nothing_is_told_what_there_is() {
    let output = causeway(&[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("ip_port is not set") && text.contains("causeway local"));
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}

#[test]
fn a_status_shows_every_member_also_the_dead() {
    let dead = nobody();
    // A node is known by its ip_port, which need not be the address it was reached at.
    let name = "10.9.9.9:80";
    let status = json!({
        "node": name, "member": 0, "incarnation": 1, "version": "0", "state": "serving",
        "reason": null, "partition_id": 0, "keys": 17, "tombstones": 0, "lost_writes": 0, "unstable": 0,
        "stalled_reads": 0, "storage_bytes": 0, "free_bytes": 0, "uptime_seconds": 5,
        "clock_ms": 1,
        "clients": {"connections": 3, "most_connections": 128, "body_bytes": 1048576,
            "unread_bytes": 524288, "most_bytes": 67108864, "refused_bodies": 0,
            "refused_replies": 0, "cut_off": 2, "late_heads": 1},
        "view": {"number": 1, "k": 2, "partitions": [{"partition_id": 0, "members": [
            {"node": name, "member": 0, "alive": true},
            {"node": dead, "member": 1, "alive": false}]}]},
        "peers": [{"node": dead, "member": 1, "alive": false, "lag": 3, "behind": 0}],
    });
    let council = json!({
        "self": name, "state": "leader", "leader": name, "term": 7, "has_quorum": true, "log_len": 3,
        "last_applied": 2, "commit_idx": 2, "peers": [], "keys": 1, "uptime_seconds": 5, "version": "0",
    });
    let answers = [status, council].map(|answer| (200, answer.to_string()));
    let (node, served) = fake_node([answers.clone(), answers.clone(), answers].concat());
    let output = causeway(&["status", "--check", "--node", &node])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let trouble = format!("{dead} does not answer");
    assert!(stderr(&output).contains(&trouble), "{}", stderr(&output));
    let output = causeway(&["status", "--node", &node]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let headline = "view 1: nodes 2, partitions 1, K 2; 1 did not answer";
    assert!(text.contains(headline), "{text}");
    let council = format!("council: leader {name}, term 7, quorum yes");
    assert!(text.contains(&council), "{text}");
    let rows = || text.lines().filter(|line| !line.starts_with("council"));
    let line = |part: &str| rows().find(|l| l.contains(part)).unwrap_or_default();
    assert!(
        line(name).contains("serving") && line(name).contains("17"),
        "{text}"
    );
    assert!(line(&dead).contains("no answer"), "{text}");
    assert!(
        line(name).contains("3/128") && line(name).contains("1.5 MiB"),
        "{text}"
    );
    let refused = "connections that did not read replies: 2, connections whose request did not come in time: 1";
    assert!(text.contains(refused), "{text}");
    let output = causeway(&["status", "--json", "--node", &node])
        .output()
        .unwrap();
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["asked"]["keys"], 17);
    assert_eq!(report["nodes"][0]["council"]["term"], 7);
    assert_eq!(report["nodes"][1]["status"], Value::Null);
    served.join().unwrap();
}

//! Many keys in one call, and sessions that are joined.

use super::fake::{fake_node, in_session, payload, stderr, stdout};
use serde_json::{Value, json};

#[test]
fn a_batch_is_sent_and_shown_to_the_letter_and_says_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let file = dir.path().join("operations");
    let operations = [
        r#"{"op":"put","key":"a","value":1.10}"#,
        "",
        r#"{"op":"get","key":"b"}"#,
    ];
    std::fs::write(&file, operations.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let reply = |second: &str| {
        let first = r#"{"status":201,"copies":2}"#;
        let payload = payload(1);
        format!(r#"{{"msg":"success","results":[{first},{second}],"causal_payload":"{payload}"}}"#)
    };
    let found = r#"{"status":200,"value":12345678901234567890.10}"#;
    let missing = r#"{"status":404,"error":"no such key"}"#;
    let failed = r#"{"status":503,"error":"try again"}"#;
    let answers = [found, missing, failed].map(|second| (200, reply(second)));
    let (node, served) = fake_node(answers.into());
    let run = |args: &[&str]| in_session(args, &node, &session);

    let done = run(&["batch", file]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(
        stdout(&done),
        format!("{{\"status\":201,\"copies\":2}}\n{found}\n")
    );
    let done = run(&["batch", file]);
    assert_eq!(done.status.code(), Some(0));
    assert!(
        stderr(&done).contains("1 keys were not there"),
        "{}",
        stderr(&done)
    );
    let some = run(&["batch", file]);
    assert_eq!(some.status.code(), Some(1));
    assert!(stdout(&some).contains("try again"));
    assert!(
        stderr(&some).contains("1 of 2 operations"),
        "{}",
        stderr(&some)
    );

    let seen = served.join().unwrap();
    assert_eq!(seen[0].0, "POST /kvs/batch HTTP/1.1");
    let sent = format!(
        r#"{{"operations":[{},{}],"causal_payload":""}}"#,
        operations[0], operations[2]
    );
    assert_eq!(seen[0].1, sent);
    let second: Value = serde_json::from_str(&seen[1].1).unwrap();
    assert_eq!(second["causal_payload"], json!(payload(1)));
    std::fs::write(file, "{").unwrap();
    let wrong = run(&["batch", file]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("line 1"), "{}", stderr(&wrong));
}

#[test]
fn a_snapshot_has_a_line_for_each_key_and_a_session_is_joined() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let (one, two) = (payload(1), payload(2));
    let cut = format!(
        r#"{{"msg":"success","values":{{"a":{{"value":null,"timestamp":5}},"b":null}},"causal_payload":"{one}"}}"#
    );
    let joined = format!(r#"{{"msg":"success","values":{{}},"causal_payload":"{two}"}}"#);
    let foreign = r#"{"msg":"error","error":"not ours","code":"foreign_payload"}"#;
    let (node, served) = fake_node(vec![(200, cut), (200, joined), (400, foreign.to_owned())]);
    let run = |args: &[&str]| in_session(args, &node, &session);
    let read = run(&["snapshot", "b", "a"]);
    assert_eq!(
        stdout(&read),
        "{\"key\":\"b\",\"found\":null}\n{\"key\":\"a\",\"found\":{\"value\":null,\"timestamp\":5}}\n",
        "{}",
        stderr(&read)
    );
    let join = run(&["session", "join", "EAAA", "EAAB", "--print-payload"]);
    assert_eq!(stdout(&join), format!("{two}\n"), "{}", stderr(&join));
    assert_eq!(std::fs::read_to_string(&session).unwrap().trim(), two);
    let refused = run(&["session", "join", "EAAC"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(
        !stderr(&refused).contains("new session"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(std::fs::read_to_string(&session).unwrap().trim(), two);
    let seen = served.join().unwrap();
    let body: Value = serde_json::from_str(&seen[0].1).unwrap();
    assert_eq!(body, json!({"keys": ["b", "a"], "causal_payload": ""}));
    let body: Value = serde_json::from_str(&seen[1].1).unwrap();
    assert_eq!(body, json!({"keys": [], "causal_payload": one}));
}

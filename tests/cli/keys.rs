//! The linearizable lists: what is sent, what is sent again, and how it ends.

use super::fake::{Got, causeway, fake_node, in_session, payload, stderr, stdout};
use serde_json::{Value, json};

fn header<'a>(got: &'a Got, name: &str) -> Option<&'a str> {
    let lines = got.2.iter();
    lines
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| *found == name)
        .map(|(_, value)| value)
}

#[test]
fn lists_are_put_appended_to_read_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let (one, two) = (payload(1), payload(2));
    std::fs::write(&session, &one).unwrap();
    let (node, served) = fake_node(vec![
        (204, "etag: \"3\"\r\n".to_owned()),
        (204, "etag: \"4\"\r\n".to_owned()),
        (
            200,
            format!("etag: \"4\"\r\ncausal-payload: {two}\r\n[\"a\",\"-1\"]"),
        ),
        (204, String::new()),
    ]);
    let run = |args: &[&str]| in_session(&[&["keys"], args].concat(), &node, &session);
    let put = run(&["put", "a/b c", "a", "-1", "--if-none-match", "*"]);
    assert_eq!(
        (stdout(&put).as_str(), put.status.code()),
        ("stored\n", Some(0)),
        "{}",
        stderr(&put)
    );
    let appended = run(&[
        "append",
        "k",
        "x",
        "--if-match",
        "\"3\"",
        "--print-etag",
        "--idempotency-key",
        "mine",
    ]);
    assert_eq!(stdout(&appended), "\"4\"\n", "{}", stderr(&appended));
    let read = run(&["get", "k", "--print-etag"]);
    assert_eq!(
        stdout(&read),
        "[\"a\",\"-1\"]\n\"4\"\n",
        "{}",
        stderr(&read)
    );
    // What the list's writers had seen, this session has seen now.
    assert_eq!(std::fs::read_to_string(&session).unwrap().trim(), two);
    let deleted = run(&["delete", "k"]);
    assert_eq!(stdout(&deleted), "deleted\n", "{}", stderr(&deleted));

    let seen = served.join().unwrap();
    let lines: Vec<&str> = seen.iter().map(|got| got.0.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /keys/a%2Fb%20c HTTP/1.1",
            "POST /keys/k HTTP/1.1",
            "GET /keys/k HTTP/1.1",
            "DELETE /keys/k HTTP/1.1",
        ]
    );
    let body = |at: usize| serde_json::from_str::<Value>(&seen[at].1).unwrap();
    assert_eq!(body(0), json!({"type": "PUT", "value": ["a", "-1"]}));
    assert_eq!(body(1), json!({"type": "APPEND", "value": "x"}));
    assert_eq!(header(&seen[0], "if-none-match"), Some("*"));
    assert_eq!(header(&seen[1], "if-match"), Some("\"3\""));
    assert_eq!(header(&seen[1], "idempotency-key"), Some("mine"));
    assert_eq!(header(&seen[2], "idempotency-key"), None);
    let payloads: Vec<Option<String>> = seen
        .iter()
        .map(|got| header(got, "causal-payload").map(str::to_owned))
        .collect();
    let [one, two] = [&one, &two].map(|p| Some(p.to_lowercase()));
    assert_eq!(payloads, [one.clone(), one.clone(), one, two]);
}

#[test]
fn a_change_without_an_answer_is_sent_again_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let session = dir.path().join("session");
    let run = |answers: Vec<(u16, String)>, args: &[&str]| {
        let (node, served) = fake_node(answers);
        let output = in_session(&[&["keys"], args].concat(), &node, &session);
        (output, served.join().unwrap())
    };
    let busy = (503, "no answer from the council: it may be done".to_owned());
    let done = (204, String::new());
    let (output, seen) = run(
        vec![busy.clone(), busy.clone(), done.clone()],
        &["append", "k", "x"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let once: Vec<&str> = seen
        .iter()
        .filter_map(|got| header(got, "idempotency-key"))
        .collect();
    assert_eq!((once.len(), once[0], once[1]), (3, once[1], once[2]));
    assert!(once[0].len() >= 32, "{once:?}");
    let (_, other) = run(vec![done], &["append", "k", "x"]);
    assert_ne!(
        header(&other[0], "idempotency-key"),
        Some(once[0]),
        "another command is another request"
    );
    // Not for ever.
    let (output, _) = run(vec![busy; 3], &["append", "k", "x"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("it may be done (HTTP 503)"),
        "{}",
        stderr(&output)
    );

    for (status, text, code) in [
        (404, "no such key", 4),
        (412, "nothing was done: the list has changed", 1),
        (400, "the body is not understood", 1),
        (421, r#"{"msg":"error","error":"this node was removed"}"#, 1),
    ] {
        let (output, _) = run(vec![(status, text.to_owned())], &["get", "gone"]);
        assert_eq!(
            (output.status.code(), stdout(&output).as_str()),
            (Some(code), "")
        );
        let said = stderr(&output);
        assert!(!said.contains('{') && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn the_token_goes_with_every_attempt_and_a_refusal_says_how_to_give_it() {
    let dir = tempfile::tempdir().unwrap();
    let run = |answers: Vec<(u16, String)>, args: &[&str], env: Option<&str>| {
        let (node, served) = fake_node(answers);
        let mut command = causeway(&[&["keys"], args].concat());
        command
            .env("CAUSEWAY_NODE", node)
            .env("CAUSEWAY_SESSION", dir.path().join("session"));
        if let Some(token) = env {
            command.env("API_TOKEN", token);
        }
        (command.output().unwrap(), served.join().unwrap())
    };
    let (busy, done) = ((503, "no leader".to_owned()), (204, String::new()));
    for change in [
        &["put", "k", "a"] as &[&str],
        &["append", "k", "b"],
        &["delete", "k"],
    ] {
        let answers = vec![busy.clone(), done.clone()];
        let (output, seen) = run(answers, change, Some("s3cret"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let shown: Vec<_> = seen
            .iter()
            .map(|got| header(got, "authorization"))
            .collect();
        assert_eq!(shown, [Some("bearer s3cret"); 2], "{change:?}");
        // What the command line has counts more than the environment.
        let given = [change, &["--token", "other"]].concat();
        let (_, seen) = run(vec![done.clone()], &given, Some("s3cret"));
        assert_eq!(header(&seen[0], "authorization"), Some("bearer other"));
        // An empty variable is none.
        let (_, seen) = run(vec![done.clone()], change, Some(""));
        assert_eq!(header(&seen[0], "authorization"), None);
    }
    let refused = r#"{"error":"Unauthorized","message":"this call needs the API token"}"#;
    let (output, _) = run(vec![(403, refused.to_owned())], &["put", "k", "a"], None);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("--token") && !said.contains('{'), "{said}");
}

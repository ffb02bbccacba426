//! What is stored is sent and shown to the letter, and a terminal obeys none of it.

use super::fake::{Got, causeway, fake_node, in_session, nobody, stderr, stdout};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Output;

/// JSON that a parser of numbers, of maps or of text would change, or not take.
fn exact() -> Vec<String> {
    let nested = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let mut exact: Vec<String> = [
        "12345678901234567890123",
        "1.10",
        "-0",
        "-0.0",
        "1E5",
        "1e400",
        "0.1000000000000000055511151231257827",
        r#"{"a":1,"a":2,"0":[1.0]}"#,
        r#"{"b":1,  "a":[ 1.10 ]}"#,
        r#""\ud83d""#,
        r#"{"value":1e400}"#,
        "null",
        "[]",
    ]
    .map(str::to_owned)
    .into();
    exact.push(nested);
    exact
}

/// Runs a command at a node that gives this answer.
fn run(args: &[&str], status: u16, answer: &str) -> (Output, Vec<Got>) {
    let dir = tempfile::tempdir().unwrap();
    let (node, served) = fake_node(vec![(status, answer.to_owned())]);
    let output = in_session(args, &node, &dir.path().join("session"));
    (output, served.join().unwrap())
}

#[test]
fn json_is_sent_to_the_letter_or_not_at_all() {
    for value in exact() {
        let args = ["put", "n", &value, "--json-value"];
        let (output, seen) = run(&args, 201, r#"{"causal_payload":"","copies":2}"#);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let sent = format!(r#"{{"key":"n","value":{value},"causal_payload":""}}"#);
        assert_eq!(seen[0].1, sent);
    }
    // Without the option it is a string, whatever it looks like.
    let (_, seen) = run(&["put", "n", "1.10"], 201, r#"{"copies":2}"#);
    assert!(seen[0].1.contains(r#""value":"1.10""#), "{}", seen[0].1);
    let dir = tempfile::tempdir().unwrap();
    for wrong in [
        "01", "1.", "+1", "NaN", "", "1 2", "[1", "{a:1}", "'a'", r#""\x""#,
    ] {
        let args = ["put", "n", wrong, "--json-value"];
        let output = in_session(&args, &nobody(), &dir.path().join("session"));
        assert_eq!(
            output.status.code(),
            Some(2),
            "{wrong}: {}",
            stderr(&output)
        );
        assert!(stderr(&output).contains("the value is no JSON"), "{wrong}");
    }
}

#[test]
fn what_is_stored_is_shown_to_the_letter() {
    for value in exact() {
        let reply = format!(r#"{{"msg":"success","value":{value},"partition_id":0}}"#);
        let (output, _) = run(&["get", "n"], 200, &reply);
        assert_eq!(stdout(&output), format!("{value}\n"), "{}", stderr(&output));
        let (output, _) = run(&["get", "n", "--json"], 200, &reply);
        assert_eq!(stdout(&output), format!("{reply}\n"), "{}", stderr(&output));
        let (output, _) = run(&["operator", "read", "n"], 200, &reply);
        assert_eq!(stdout(&output), format!("{value}\n"), "{}", stderr(&output));
    }
    let list = r#"["\u001b[31m","é","\ud83d\udc1f"]"#;
    let (output, _) = run(&["keys", "get", "n"], 200, list);
    assert_eq!(stdout(&output), format!("{list}\n"), "{}", stderr(&output));
}

/// Runs a command whose output is a terminal; what it shows, line ends as they were written.
fn at_a_terminal(args: &[&str], status: u16, answer: &str) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
    let theirs = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (node, served) = fake_node(vec![(status, answer.to_owned())]);
    let mut command = causeway(args);
    command
        .env("CAUSEWAY_NODE", node)
        .env("CAUSEWAY_SESSION", dir.path().join("session"))
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let mut child = command.spawn().unwrap();
    // It has the terminal to itself: its end ends what can be read.
    drop(command);
    child.wait().unwrap();
    served.join().unwrap();
    let (mut shown, mut part) = (Vec::new(), [0; 4096]);
    let mut ours = File::from(ours);
    while let Ok(bytes @ 1..) = ours.read(&mut part) {
        shown.extend_from_slice(&part[..bytes]);
    }
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_terminal_gets_no_orders_from_a_value_or_an_error() {
    let stored =
        r#"{"value":"red \u001b[31m\u009b2J\r two\nlines\tand a tab","causal_payload":""}"#;
    let safe = "red \\u001b[31m\\u009b2J\\u000d two\nlines\tand a tab\n";
    assert_eq!(at_a_terminal(&["get", "n"], 200, stored), safe);
    assert_eq!(at_a_terminal(&["operator", "read", "n"], 200, stored), safe);
    // As it is, for a pipe.
    let raw = "red \u{1b}[31m\u{9b}2J\r two\nlines\tand a tab\n";
    let (output, _) = run(&["get", "n"], 200, stored);
    assert_eq!(stdout(&output), raw);
    // Control characters that JSON may have as they are.
    let list = "[\"\u{7f}\u{9b}2J\u{202e}\"]";
    let shown = at_a_terminal(&["keys", "get", "n"], 200, list);
    assert_eq!(shown, "[\"\\u007f\\u009b2J\\u202e\"]\n");
    let json = "{\"value\":\"\u{9b}2J\"}";
    let shown = at_a_terminal(&["get", "n", "--json"], 200, json);
    assert_eq!(shown, "{\"value\":\"\\u009b2J\"}\n");
    // Errors go to logs as well.
    let refused = r#"{"error":"no \u001b]0;title\u0007"}"#;
    for shown in [
        at_a_terminal(&["get", "n"], 503, refused),
        stderr(&run(&["get", "n"], 503, refused).0),
        stderr(&run(&["operator", "delete", "n"], 503, refused).0),
    ] {
        let said = "causeway: no \\u001b]0;title\\u0007 (HTTP 503)\n";
        assert_eq!(shown, said);
    }
}

#[test]
fn a_name_that_no_path_can_have_is_refused_before_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", ".", ".."] {
        for args in [
            &["keys", "get", name] as &[_],
            &["keys", "put", name, "a"],
            &["keys", "delete", name],
            &["operator", "read", name],
            &["operator", "delete", name],
            &["operator", "where", name],
            &["node", "fail", name],
            &["node", "recover", name],
        ] {
            let output = in_session(args, &nobody(), &dir.path().join("session"));
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
        }
    }
}

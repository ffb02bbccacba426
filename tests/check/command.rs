//! The command `causeway check`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const GOOD: &str = r#"{"session":"a","op":"put","key":"x","value":{"n":1},"status":"ok","node":"10.0.0.1:80","start_us":1,"end_us":2}
{"session":"a","op":"get","key":"x","value":{ "n": 1 },"status":"ok","node":"10.0.0.2:80","start_us":3,"end_us":4}
"#;

fn causeway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.env_clear();
    command
}

fn check(history: &str) -> Output {
    let mut command = causeway();
    command.args(["check", "-"]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(history.as_bytes()).unwrap();
    drop(input);
    child.wait_with_output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_consistent_history_is_code_0() {
    let output = check(GOOD);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(
        out.starts_with("consistent: 2 operations, 1 sessions, 1 keys"),
        "{out}"
    );
    assert_eq!(err, "");
}

#[test]
fn a_violation_is_code_1_and_explained() {
    let output = check(&GOOD.replace(r#"{ "n": 1 }"#, "null"));
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let expected = r#"violated: read your writes (WriteCOInitRead)
  line 2: session a read "x": not found at 10.0.0.2:80, 3 to 4 us
but this write is in its past:
  line 1: session a put "x" = {"n":1} at 10.0.0.1:80, 1 to 2 us
line 1 is before line 2 in the same session
and nobody deleted the key
"#;
    assert_eq!(out, expected);
    assert_eq!(err, "causeway: -: not causally consistent\n");
}

#[test]
fn what_is_no_history_is_code_2_with_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history");
    std::fs::write(&file, format!("{GOOD}nonsense\n")).unwrap();
    let output = causeway().arg("check").arg(&file).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("line 3: "), "{err}");
    assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{err}");

    let nowhere = causeway()
        .arg("check")
        .arg(dir.path().join("none"))
        .output();
    assert_eq!(nowhere.unwrap().status.code(), Some(2));
    let help = causeway().args(["check", "--help"]).output().unwrap();
    assert!(texts(&help).0.contains("1  it is not"), "{help:?}");
}

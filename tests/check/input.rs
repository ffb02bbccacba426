//! Input: lines that are a history, and lines that are not.

use crate::script::parse;
use causeway::check::{History, Invalid};

/// The first line that is refused, and why.
fn refused(script: &str) -> Option<(usize, Invalid)> {
    let mut history = History::new();
    let lines = parse(script);
    let results = lines.iter().map(|line| line.push_to(&mut history));
    (1..).zip(results).find_map(|(n, r)| Some((n, r.err()?)))
}

/// The line of the error, and its text.
fn unreadable(text: &str) -> (u64, String) {
    let error = History::read(text.as_bytes()).err().expect("an error");
    (error.line, error.to_string())
}

const PUT: &str =
    r#"{"session":"a","op":"put","key":"x","value":1,"status":"ok","start_us":1,"end_us":2}"#;

#[test]
fn a_file_is_read() {
    let get = PUT.replace("put", "get").replace(r#""a""#, r#""b""#);
    let more = get.replace("{", r#"{"more":{"deep":[]},"#);
    let summary = History::read(format!("{PUT}\n\n{more}\r\n").as_bytes())
        .unwrap()
        .check()
        .unwrap();
    assert_eq!((summary.operations, summary.sessions), (2, 2));
    assert_eq!((summary.puts, summary.reads, summary.keys), (1, 1, 1));
}

#[test]
fn a_line_that_is_none_is_named() {
    for (bad, why) in [
        ("{", "EOF"),
        ("[]", "expected struct"),
        (&PUT.replace("put", "cas"), "unknown variant `cas`"),
        (&PUT.replace(r#""key":"x","#, ""), "missing field `key`"),
        (&PUT.replace(":1,\"end", ":-1,\"end"), "invalid value"),
        (
            &PUT.replace(":1,\"end", ":3,\"end"),
            "ends before it starts",
        ),
        (&PUT.replace("\"value\":1", "\"value\":null"), "put of null"),
        (&PUT.replace("put", "delete"), "a delete has no value"),
        (&PUT.replace(":\"a", ":\"b"), "line 1 puts the same value"),
        (
            &PUT.replace("value\":1", "value\":2"),
            "line 1 is of the same session",
        ),
    ] {
        let (line, text) = unreadable(&format!("{PUT}\n\n{bad}\n{PUT}"));
        assert_eq!(line, 3, "{text}");
        assert!(text.starts_with("line 3: "), "{text}");
        assert!(text.contains(why), "{text}");
        assert!(!text.contains("at line"), "{text}");
    }
    let error = History::read(&b"\n\xff\n"[..]).err().expect("an error");
    assert_eq!(error.line, 2);
}

#[test]
fn a_value_is_put_once() {
    let same = |line| Invalid::SameValue { line };
    assert_eq!(refused("a put x 1\nb put x 1"), Some((2, same(1))));
    assert_eq!(refused("a put x [1]\nb put x [1] ?"), Some((2, same(1))));
    assert_eq!(refused("a put x 1\nb put y 1\nb put x 1 !"), None);
}

#[test]
fn a_session_does_one_thing_at_a_time() {
    let overlap = |line| Invalid::Overlap { line };
    for (script, expected) in [
        ("a get x - @0-9\na get x - @5-12", Some((2, overlap(1)))),
        ("a get x - @5-12\na get x - @0-9", Some((2, overlap(1)))),
        ("a get x - @0-9\na put x 1 ? @5-12", Some((2, overlap(1)))),
        ("a put x 1 ? @5-12\na get x - @0-9", Some((2, overlap(1)))),
        ("a get x - @0-9\na get x - @9-12", None),
        // The answer of the first never came, so nothing waits for it.
        ("a put x 1 ? @0-9\na get x - @5-12", None),
        ("a put x 1 ! @0-9\na get x - @5-12", None),
        ("a get x - @0-9\nb get x - @5-12", None),
    ] {
        assert_eq!(refused(script), expected, "{script}");
    }
}

#[test]
fn lines_may_come_in_any_order() {
    let script = "a get x 2 @20-21\na put x 1 @0-1\na put x 2 @10-11\na get x 1 @5-6";
    crate::script::consistent(script);
    crate::script::check(&script.replace("get x 2", "get x 1")).unwrap_err();
}

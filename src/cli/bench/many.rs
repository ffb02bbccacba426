//! Requests about many keys: batches and snapshots, and what their replies mean.

use super::protocol::BenchAnswer;
use crate::check::history::Kind;
use memchr::memmem::find_iter;
use std::fmt::Write;

/// The body of a request for these keys. `value` is written to those that are put; neither it nor a
/// key has a character that JSON escapes.
pub fn body(operations: &[(Kind, String)], value: &str, snapshot: bool, payload: &str) -> String {
    let mut text = String::with_capacity(operations.len() * (value.len() + 48) + 128);
    text.push_str(if snapshot {
        r#"{"keys":["#
    } else {
        r#"{"operations":["#
    });
    for (at, (kind, key)) in operations.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        // A `String` takes whatever is written to it.
        let _ = match (kind, snapshot) {
            (_, true) => write!(text, r#""{key}""#),
            (Kind::Get, false) => write!(text, r#"{{"op":"get","key":"{key}"}}"#),
            (Kind::Delete, false) => write!(text, r#"{{"op":"delete","key":"{key}"}}"#),
            (Kind::Put, false) => {
                write!(text, r#"{{"op":"put","key":"{key}","value":"{value}"}}"#)
            }
        };
    }
    let _ = write!(text, r#"],"causal_payload":"{payload}"}}"#);
    text
}

/// Whether every operation of a batch was answered as asked. The results are counted, not parsed:
/// values of this load hold none of these words.
pub fn answer(count: usize, snapshot: bool, body: &[u8]) -> BenchAnswer {
    if snapshot {
        return BenchAnswer::Done;
    }
    let of = |status: &str| find_iter(body, &format!(r#""status":{status}"#)).count();
    let done = of("20") + of("404");
    if done == count {
        return BenchAnswer::Done;
    }
    let first = find_iter(body, r#""error":""#).next().unwrap_or(0);
    let said = String::from_utf8_lossy(body.get(first..).unwrap_or_default());
    let said: String = said.chars().take(200).collect();
    BenchAnswer::Error(format!(
        "{} of {count} operations failed: {{{said}",
        count - done.min(count)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations() -> Vec<(Kind, String)> {
        let kinds = [Kind::Get, Kind::Put, Kind::Delete];
        let keys = kinds.into_iter().zip(["a", "b", "c"]);
        keys.map(|(kind, key)| (kind, key.to_owned())).collect()
    }

    #[test]
    fn a_batch_and_a_snapshot_are_asked_for_as_the_node_takes_them() {
        let batch: serde_json::Value =
            serde_json::from_str(&body(&operations(), "v", false, "EA")).unwrap();
        let wanted = serde_json::json!({"operations": [
            {"op": "get", "key": "a"},
            {"op": "put", "key": "b", "value": "v"},
            {"op": "delete", "key": "c"},
        ], "causal_payload": "EA"});
        assert_eq!(batch, wanted);
        let cut: serde_json::Value =
            serde_json::from_str(&body(&operations(), "v", true, "")).unwrap();
        assert_eq!(
            cut,
            serde_json::json!({"keys": ["a", "b", "c"], "causal_payload": ""})
        );
    }

    #[test]
    fn a_batch_is_done_when_all_of_it_is() {
        let all = br#"{"results":[{"status":200},{"status":201},{"status":404,"error":"x"}]}"#;
        assert_eq!(answer(3, false, all), BenchAnswer::Done);
        let some = br#"{"results":[{"status":200},{"status":503,"error":"later"}]}"#;
        let BenchAnswer::Error(said) = answer(2, false, some) else {
            panic!("one has failed");
        };
        assert!(said.contains("1 of 2") && said.contains("later"), "{said}");
    }
}

//! Texts as small numbers, and JSON values as texts that are equal when the values are.

use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// A longer value is known by its beginning, its length and a hash of 128 bits: a history of large
/// values need not fit into memory.
const LONGEST_VALUE: usize = 96;
const SHOWN_OF_LONGER: usize = 32;

/// Texts by number, each once, in one piece of memory.
#[derive(Default)]
pub struct Interner {
    text: String,
    ends: Vec<usize>,
    /// By hash the latest text that has it; `older` leads to the others.
    latest: HashMap<u64, u32>,
    older: Vec<Option<u32>>,
}

impl Interner {
    pub fn number(&mut self, text: &str) -> u32 {
        let hash = xxh3_64(text.as_bytes());
        let latest = self.latest.get(&hash).copied();
        let mut known = latest;
        while let Some(number) = known {
            if self.text(number) == text {
                return number;
            }
            known = self.older[number as usize];
        }
        let number = self.ends.len() as u32;
        self.text.push_str(text);
        self.ends.push(self.text.len());
        self.older.push(latest);
        self.latest.insert(hash, number);
        number
    }

    pub fn text(&self, number: u32) -> &str {
        let number = number as usize;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[number]]
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }
}

/// One text for all ways to write a JSON value: without optional spaces and escapes, objects
/// sorted. Numbers are compared as integers of 64 bits, others as floating point.
pub fn canonical(value: &RawValue) -> Cow<'_, str> {
    let raw = value.get();
    let text = if is_plain(raw) {
        Cow::Borrowed(raw)
    } else {
        // A number out of range, which no value can hold, stands for itself.
        let parsed = serde_json::from_str::<Value>(raw);
        parsed.map_or(Cow::Borrowed(raw), |value| Cow::Owned(value.to_string()))
    };
    if text.len() <= LONGEST_VALUE {
        return text;
    }
    let shown = text.floor_char_boundary(SHOWN_OF_LONGER);
    Cow::Owned(format!(
        "{}... ({} bytes, hash {:032x})",
        &text[..shown],
        text.len(),
        xxh3_128(text.as_bytes())
    ))
}

/// Can it be written in only this way?
fn is_plain(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    match bytes {
        // An escape is the only choice that a string has.
        [b'"', ..] => !bytes.contains(&b'\\'),
        [b'1'..=b'9', rest @ ..] => rest.len() < 18 && rest.iter().all(u8::is_ascii_digit),
        _ => matches!(raw, "null" | "true" | "false" | "0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_of(raw: &str) -> String {
        canonical(&serde_json::from_str::<Box<RawValue>>(raw).unwrap()).into_owned()
    }

    #[test]
    fn a_text_has_one_number() {
        let mut interner = Interner::default();
        let numbers: Vec<u32> = ["a", "", "b", "a", ""].map(|t| interner.number(t)).into();
        assert_eq!(numbers, [0, 1, 2, 0, 1]);
        assert_eq!([0, 1, 2].map(|n| interner.text(n)), ["a", "", "b"]);
        assert_eq!(interner.len(), 3);
    }

    #[test]
    fn equal_values_have_one_text() {
        for (one, other) in [
            (r#"{"b": [1, 2], "a": null}"#, r#"{"a":null,"b":[1,2]}"#),
            (r#""\u0061""#, r#""a""#),
            ("1e1", "10.0"),
            ("-0", "-0.0"),
        ] {
            assert_eq!(canonical_of(one), canonical_of(other), "{one} and {other}");
        }
        for (one, other) in [("1", "\"1\""), ("1", "10"), ("[]", "{}"), ("1", "1.0")] {
            assert_ne!(canonical_of(one), canonical_of(other), "{one} and {other}");
        }
    }

    #[test]
    fn long_values_are_short_and_still_differ() {
        let long = |end: &str| canonical_of(&format!("\"{}{end}\"", "ä".repeat(1000)));
        assert_ne!(long("x"), long("y"));
        assert_eq!(long("x"), long("x"));
        assert!(long("x").len() < 120, "{}", long("x"));
    }
}

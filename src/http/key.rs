//! Which keys there are: one rule for all surfaces, whether a key comes in a path, a query, a form
//! or JSON. A text that is no key is none anywhere, so that what is written here is found there.
//!
//! `.` and `..` are none: in a path they are steps, which clients take before they send anything.

use crate::protocol::keys::MAX_KEY_BYTES;
use crate::protocol::version::{Key, LONGEST_KEY};
use actix_web::HttpRequest;
use std::borrow::Cow;

/// The longest key, in bytes.
pub const MAX_KEY: usize = LONGEST_KEY;
// Lists have keys of the same kind.
const _: () = assert!(MAX_KEY == MAX_KEY_BYTES);

/// The key, or why it is none, and what to do.
pub fn key(text: &[u8]) -> Result<Key, String> {
    match text {
        b"" => Err(format!(
            "the key is empty: send a key of 1 to {MAX_KEY} bytes"
        )),
        b"." | b".." => Err(format!(
            "{} is no key, since no URL can name it: send another one",
            text.escape_ascii()
        )),
        _ if text.len() > MAX_KEY => Err(format!(
            "the key has {} bytes, at most {MAX_KEY} are possible: send a shorter one",
            text.len()
        )),
        _ if std::str::from_utf8(text).is_err() => Err(format!("the key {NOT_UTF8}")),
        _ => Ok(Key::copy_from_slice(text)),
    }
}

/// The key that a path ends with, behind its first part.
pub fn in_path(req: &HttpRequest) -> Result<Key, String> {
    // As it came: what the framework has decoded of it has lost which bytes were not UTF-8.
    let path = req.uri().path().trim_start_matches('/');
    let last = path.split_once('/').map_or("", |(_, last)| last);
    if last.contains('/') {
        return Err("the key has a slash in the path: send it as %2F".to_owned());
    }
    let bytes = unescaped(last.as_bytes()).map_err(|why| format!("the key {why}"))?;
    key(&bytes)
}

/// Undoes the encoding of a form. An error continues the sentence "the parameter ...".
pub fn form_text(part: &[u8]) -> Result<Cow<'_, str>, &'static str> {
    if !part.iter().any(|b| matches!(b, b'%' | b'+')) {
        return std::str::from_utf8(part)
            .map(Cow::Borrowed)
            .map_err(|_| NOT_UTF8);
    }
    let spaced: Vec<u8> = part
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    String::from_utf8(unescaped(&spaced)?)
        .map(Cow::Owned)
        .map_err(|_| NOT_UTF8)
}

const NOT_UTF8: &str = "is not UTF-8: percent-encode its UTF-8 bytes";

/// Undoes percent-encoding. An error continues the sentence "the key ...".
fn unescaped(part: &[u8]) -> Result<Vec<u8>, &'static str> {
    // The decoder lets a wrong escape pass as it is; a client that made one means something else.
    let mut escapes = part.iter().enumerate().filter(|(_, b)| **b == b'%');
    let whole = |at: usize| {
        part.get(at + 1..at + 3)
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.all(|(at, _)| whole(at)) {
        return Err(
            "has a % that two hexadecimal digits do not follow: send %25 for a percent sign",
        );
    }
    Ok(percent_encoding::percent_decode(part).collect())
}

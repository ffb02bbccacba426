//! Headers of conditions under bytes that no honest client sends.

use super::etags::EntityTags;
use crate::fuzz::{bounded, changed};
use actix_web::http::header::{HeaderMap, HeaderValue, IF_MATCH};
use proptest::collection::vec;
use proptest::prelude::*;

/// A line of a header, as clients send it and as they do not.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let odd = vec![
        "*",
        "W/\"1\"",
        "\"\"",
        "\"-1\"",
        "\"18446744073709551616\"",
        "\"a,b\"",
        "",
        " ",
        ",",
    ];
    let tag = prop_oneof![
        any::<u64>().prop_map(|revision| format!("\"{revision}\"")),
        prop::sample::select(odd).prop_map(str::to_owned),
    ];
    let tags = vec(tag, 0..6).prop_map(|tags| tags.join(", ").into_bytes());
    prop_oneof![tags.clone(), changed(tags), vec(any::<u8>(), 0..60)]
}

/// A header that asks for the same revisions.
fn asking_for(revisions: Option<&[u64]>) -> HeaderMap {
    let text = match revisions {
        None => "*".to_owned(),
        Some(revisions) => {
            let ours = revisions.iter().map(|revision| format!("\"{revision}\","));
            // Of another make, since there has to be one.
            ours.chain(["\"x\"".to_owned()]).collect()
        }
    };
    let mut headers = HeaderMap::new();
    headers.insert(IF_MATCH, HeaderValue::from_str(&text).unwrap());
    headers
}

proptest! {
    #[test]
    fn conditions_are_taken_or_refused(lines in vec(line(), 0..3)) {
        let mut headers = HeaderMap::new();
        let mut len = 0;
        for line in lines {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                len += value.len();
                headers.append(IF_MATCH, value);
            }
        }
        match bounded(len, || EntityTags::of(&headers, &IF_MATCH)) {
            Err(why) => prop_assert!(why.contains("if-match"), "{why}"),
            Ok(None) => prop_assert!(headers.is_empty()),
            Ok(Some(tags)) => {
                let strong = tags.strong();
                let again = EntityTags::of(&asking_for(strong.as_deref()), &IF_MATCH);
                let again = again.unwrap().unwrap();
                prop_assert_eq!(again.strong(), strong.clone());
                for revision in strong.into_iter().flatten() {
                    prop_assert!(tags.has_strong(revision) && tags.has_weak(revision));
                }
            }
        }
    }
}

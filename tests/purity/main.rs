//! Rules for the sources as text: the protocol names no operating system, the name of a public type
//! means one thing, comments fit into 100 columns.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Words that no line of src/protocol may have. Addresses are data: `core::net` has them without
/// sockets.
const FORBIDDEN: &[&str] = &[
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "std::process",
    "std::env",
    "Instant::now",
    "SystemTime",
    "tokio",
    "actix",
    "dashmap",
    "fjall",
    "openraft",
    "reqwest",
    "hyper",
    "rand::",
    "HashMap",
    "HashSet",
    "unsafe",
];

/// Columns of a line with a comment, at most.
const COMMENT_COLUMNS: usize = 100;

/// Calls `visit` with the name and text of each source file below `dir`, which is in the root of
/// the repository.
fn sources(dir: &str, mut visit: impl FnMut(&str, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut dirs = vec![root.join(dir)];
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                seen += 1;
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                visit(name, &fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(seen > 0, "the sources in {dir} were not found");
}

#[test]
fn the_protocol_names_no_operating_system() {
    let mut found = Vec::new();
    sources("src/protocol", |name, text| {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in FORBIDDEN.iter().filter(|w| code.contains(**w)) {
                found.push(format!("{name}:{}: {word}", number + 1));
            }
        }
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_comment_is_no_wider_than_100_columns() {
    let mut found = Vec::new();
    for dir in ["src", "simulator", "tests", "benches", "examples"] {
        sources(dir, |name, text| {
            for (number, line) in text.lines().enumerate() {
                let comment = line.trim_start().starts_with("//");
                if comment && line.chars().count() > COMMENT_COLUMNS {
                    found.push(format!("{name}:{}", number + 1));
                }
            }
        });
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_name_of_a_public_type_is_defined_once() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    sources("src", |name, text| {
        // Types of tests are nobody else's.
        if name.ends_with("tests.rs") {
            return;
        }
        for line in text.lines() {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let public = words.next() == Some("pub");
            let kind = words.next().unwrap_or_default();
            if public && ["struct", "enum", "trait", "type"].contains(&kind) {
                let types = defined.entry(words.next().unwrap_or_default().to_owned());
                types.or_default().push(name.to_owned());
            }
        }
    });
    defined.retain(|_, files| files.len() > 1);
    assert!(defined.is_empty(), "{defined:#?}");
}

//! The protocol knows no operating system: its sources name none of it.

use std::fs;
use std::path::Path;

/// What no line of src/protocol may name. Addresses are data: `core::net` has them without sockets.
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

fn sources(dir: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, visit);
        } else if path.extension().is_some_and(|e| e == "rs") {
            visit(&path);
        }
    }
}

#[test]
fn the_protocol_names_no_operating_system() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/protocol");
    let mut found = Vec::new();
    let mut seen = 0;
    sources(&root, &mut |path| {
        seen += 1;
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in FORBIDDEN.iter().filter(|w| code.contains(**w)) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    });
    assert!(seen > 10, "the sources were not found");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

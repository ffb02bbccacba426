//! The older text format of Prometheus, made of the OpenMetrics text, for whoever asks for it.
//!
//! The two differ in the names that types and explanations are given under, in the type of what
//! only tells something, and in the lines for units and for the end.

use std::collections::HashMap;
use std::fmt::Write;

/// Whether an `Accept` header asks for plain text and not for OpenMetrics.
pub fn wants_plain(accept: &str) -> bool {
    let asks = |media: &str| {
        accept.split(',').any(|range| {
            let name = range.split(';').next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case(media)
        })
    };
    asks("text/plain") && !asks("application/openmetrics-text")
}

/// The same metrics in the text format 0.0.4.
pub fn plain(openmetrics: &str) -> String {
    let types: HashMap<&str, &str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    // Samples of these have the ending in both formats.
    let ending = |name: &str| match types.get(name) {
        Some(&"counter") => "_total",
        Some(&"info") => "_info",
        _ => "",
    };
    let mut out = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|c| c.split_once(' '));
        let written = match comment.and_then(|(word, rest)| Some((word, rest.split_once(' ')?))) {
            Some(("TYPE", (name, kind))) => {
                let kind = if kind == "info" { "gauge" } else { kind };
                writeln!(out, "# TYPE {name}{} {kind}", ending(name))
            }
            Some(("HELP", (name, help))) => writeln!(out, "# HELP {name}{} {help}", ending(name)),
            Some(_) => continue,
            None if line.starts_with('#') => continue,
            None => writeln!(out, "{line}"),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_for_those_who_ask_for_nothing_else() {
        assert!(wants_plain("text/plain"));
        assert!(wants_plain("text/html, Text/Plain;version=0.0.4;q=0.5"));
        for other in [
            "*/*",
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "text/plainer",
            "",
        ] {
            assert!(!wants_plain(other), "{other}");
        }
    }

    #[test]
    fn names_of_types_end_as_their_samples_do() {
        let text = "# HELP c_commits Commits, one fsync each.\n\
                    # TYPE c_commits counter\n\
                    c_commits_total 3\n\
                    # HELP c_build Release.\n\
                    # TYPE c_build info\n\
                    c_build_info{version=\"1\"} 1\n\
                    # HELP c_free_bytes Room.\n\
                    # TYPE c_free_bytes gauge\n\
                    # UNIT c_free_bytes bytes\n\
                    c_free_bytes 5\n\
                    # EOF\n";
        let expected = "# HELP c_commits_total Commits, one fsync each.\n\
                        # TYPE c_commits_total counter\n\
                        c_commits_total 3\n\
                        # HELP c_build_info Release.\n\
                        # TYPE c_build_info gauge\n\
                        c_build_info{version=\"1\"} 1\n\
                        # HELP c_free_bytes Room.\n\
                        # TYPE c_free_bytes gauge\n\
                        c_free_bytes 5\n";
        assert_eq!(plain(text), expected);
    }
}

//! The log on stderr: as text for people, or as one JSON object a line for machines.

use super::failure::{Failure, note};
use jiff::Timestamp;
use log::{Level, Record};
use serde::Serialize;
use std::io::Write as _;

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A line for machines.
#[derive(Serialize)]
struct LogLine<'a> {
    /// RFC 3339, to the millisecond.
    time: String,
    level: &'static str,
    /// The part of the program that speaks.
    target: &'a str,
    message: String,
    /// The address of the node that speaks, where the process is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
}

impl LogFormat {
    /// What `LOG_FORMAT` says.
    ///
    /// # Errors
    /// When it is no format.
    pub fn read(text: Option<&str>) -> Result<Self, Failure> {
        match text.map(str::trim) {
            // A compose file hands on an empty variable where there is none.
            None | Some("" | "text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some(other) => Err(Failure::usage(format!(
                "LOG_FORMAT={other:?}: it is text or json"
            ))),
        }
    }

    /// Begins the log: what `filter` lets pass, of this node if it is one.
    pub fn begin(self, filter: &str, node: Option<String>) {
        let mut builder = env_logger::Builder::new();
        builder.parse_filters(filter).parse_default_env();
        if self == Self::Json {
            builder.format(move |out, record| writeln!(out, "{}", line(record, node.as_deref())));
            std::panic::set_hook(Box::new(|panic| log::error!(target: "panic", "{panic}")));
        }
        builder.init();
    }

    /// Says why the process ends.
    pub fn end(self, why: &str) {
        match self {
            Self::Json if log::log_enabled!(Level::Error) => log::error!("{why}"),
            Self::Json | Self::Text => note(why),
        }
    }
}

fn line(record: &Record<'_>, node: Option<&str>) -> String {
    let line = LogLine {
        time: Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string(),
        level: record.level().as_str(),
        target: record.target(),
        message: record.args().to_string(),
        node,
    };
    // Strings always serialize.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_line_is_one_object_whatever_the_message_holds() {
        for message in [
            "plain",
            "two\nlines\r\n",
            "\"quoted\" \\ {\"json\":1}",
            "\u{1b}[31m\u{0}\u{7f}\u{2028}",
        ] {
            let text = line(
                &Record::builder()
                    .args(format_args!("{message}"))
                    .level(Level::Warn)
                    .target("causeway::net")
                    .build(),
                Some("127.0.0.1:8080"),
            );
            assert!(!text.contains(['\n', '\r']), "{text}");
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["message"], message);
            assert_eq!(
                (&read["level"], &read["target"]),
                (&"WARN".into(), &"causeway::net".into())
            );
            assert_eq!(read["node"], "127.0.0.1:8080");
            let time = read["time"].as_str().unwrap();
            assert!(
                time.parse::<Timestamp>().is_ok() && time.len() == 24,
                "{time}"
            );
        }
    }

    #[test]
    fn only_two_formats_are_known() {
        for (text, format) in [
            (None, LogFormat::Text),
            (Some(""), LogFormat::Text),
            (Some("text"), LogFormat::Text),
            (Some("json"), LogFormat::Json),
        ] {
            assert_eq!(LogFormat::read(text).unwrap(), format);
        }
        assert!(LogFormat::read(Some("xml")).is_err_and(|f| f.text.contains("LOG_FORMAT")));
    }
}

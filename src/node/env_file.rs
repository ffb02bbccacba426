//! Settings from the file that `CONFIG` names, for those that the environment does not have.
//!
//! ```text
//! # Comments and empty lines do not count.
//! ip_port = 10.0.0.21:8080
//! CLUSTER_SECRET=a#b "c"
//! ```
//!
//! A line is a name, `=` and a value: all that follows, to the end of the line, but for blanks at
//! either end. Nothing in a value means anything else than itself: no quotes, no `#`, no `$`, no
//! backslash. A value in quotes is refused, since it is not meant like that.

use super::config::NAMES;
use super::error::ConfigError;
use super::secrets::not_empty;
use std::collections::BTreeMap;
use std::fs;

/// The variable that names the file.
const CONFIG: &str = "CONFIG";
/// What the log shows, and how, is no setting of the node's alone; it may stand in the file
/// all the same.
const OF_THE_LOG: [&str; 2] = ["RUST_LOG", "LOG_FORMAT"];
/// What the name of a variable ends with that names the file of a secret.
const IN_A_FILE: &str = "_FILE";

/// What `environment` has, and beside that what the file has that `CONFIG` names in it. A secret
/// that the environment has in either form is not taken from the file in the other one.
///
/// # Errors
/// When the file cannot be read, or a line of it makes no sense.
pub fn with_file(
    environment: impl Fn(&str) -> Option<String>,
) -> Result<impl Fn(&str) -> Option<String>, ConfigError> {
    let settings = match not_empty(CONFIG, environment(CONFIG))? {
        Some(path) => read(&path)?,
        None => BTreeMap::new(),
    };
    Ok(move |name: &str| {
        let other_form = match name.strip_suffix(IN_A_FILE) {
            Some(secret) => environment(secret),
            None => environment(&format!("{name}{IN_A_FILE}")),
        };
        let from_file = || settings.get(name).filter(|_| other_form.is_none());
        environment(name).or_else(|| from_file().cloned())
    })
}

fn read(path: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let nonsense = |problem: String| ConfigError::Nonsense {
        name: CONFIG,
        value: path.to_owned(),
        problem,
    };
    let text = fs::read_to_string(path).map_err(|error| nonsense(error.to_string()))?;
    parse(&text).map_err(nonsense)
}

/// The settings in a text, or the first line that makes no sense. Values are not repeated, and of
/// what is no name nothing is: it may be a secret.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut settings = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let setting = line.split_once('=');
        let setting = setting.map(|(name, value)| (name.trim(), value.trim()));
        let Some((name, value)) = setting.filter(|(name, _)| is_name(name)) else {
            return Err(format!("line {number} is not of the form NAME=value"));
        };
        if !NAMES.contains(&name) && !OF_THE_LOG.contains(&name) {
            let nearest = nearest(name);
            return Err(format!(
                "line {number}: {name} is no setting, the nearest one is {nearest}"
            ));
        }
        if is_quoted(value) {
            return Err(format!(
                "line {number}: quotes would be a part of the value of {name}; leave them out"
            ));
        }
        if settings.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("line {number}: {name} is there twice"));
        }
    }
    Ok(settings)
}

fn is_name(text: &str) -> bool {
    let of_a_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !text.is_empty() && text.bytes().all(of_a_name)
}

fn is_quoted(value: &str) -> bool {
    let within =
        |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    within('"') || within('\'')
}

/// The setting whose name is most like this one.
fn nearest(name: &str) -> &'static str {
    let name = name.to_ascii_uppercase();
    let like = |known: &str| strsim::normalized_levenshtein(&known.to_ascii_uppercase(), &name);
    let most = NAMES
        .into_iter()
        .max_by(|one, other| like(one).total_cmp(&like(other)));
    most.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of a name, when the environment has some variables and the file this text.
    fn found(
        text: &str,
        environment: &[(&str, &str)],
        name: &str,
    ) -> Result<Option<String>, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings");
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let lookup = with_file(|asked: &str| {
            let given = environment.iter().find(|(name, _)| *name == asked);
            let given = given.map(|(_, value)| (*value).to_owned());
            given.or_else(|| (asked == CONFIG).then(|| path.clone()))
        })?;
        Ok(lookup(name))
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        let error = found(text, &[], "K").unwrap_err().to_string();
        assert!(
            error.starts_with("CONFIG=") && error.lines().count() == 1,
            "{error}"
        );
        error
    }

    #[test]
    fn a_value_is_all_that_follows_but_for_blanks_at_its_ends() {
        let text = "\n# K=7\n  # K=8\nip_port=10.0.0.21:8080\r\n K = 3 \nCLUSTER_SECRET=a#b \"c\" $d=\\e\nRUST_LOG=debug\nLOG_FORMAT=json\nHOSTS=";
        for (name, value) in [
            ("ip_port", Some("10.0.0.21:8080")),
            ("K", Some("3")),
            ("CLUSTER_SECRET", Some("a#b \"c\" $d=\\e")),
            ("RUST_LOG", Some("debug")),
            ("LOG_FORMAT", Some("json")),
            ("HOSTS", Some("")),
            ("VIEW", None),
        ] {
            assert_eq!(found(text, &[], name).unwrap().as_deref(), value, "{name}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "K=3\nCLUSTER_SECRET=file\nAPI_TOKEN_FILE=/file";
        let environment = [
            ("K", "2"),
            ("CLUSTER_SECRET_FILE", "/env"),
            ("API_TOKEN", "env"),
        ];
        for (name, value) in [
            ("K", Some("2")),
            ("CLUSTER_SECRET", None),
            ("CLUSTER_SECRET_FILE", Some("/env")),
            ("API_TOKEN", Some("env")),
            ("API_TOKEN_FILE", None),
        ] {
            assert_eq!(
                found(text, &environment, name).unwrap().as_deref(),
                value,
                "{name}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_line() {
        let error = refused("K=1\n\nMAX_VALUE_BYTE=7");
        let nearest = "line 3: MAX_VALUE_BYTE is no setting, the nearest one is MAX_VALUE_BYTES";
        assert!(error.ends_with(nearest), "{error}");
        for (name, nearest) in [
            ("IP_PORT", "ip_port"),
            ("Peer_Port", "PEER_PORT"),
            ("TOKEN", "API_TOKEN"),
        ] {
            assert!(refused(&format!("{name}=1")).ends_with(nearest), "{name}");
        }
        assert!(refused("K=1\nVIEW=\nK=2").contains("line 3: K is there twice"));
        for quoted in ["K=\"1\"", "K='1'"] {
            assert!(refused(quoted).contains("line 1: quotes"), "{quoted}");
        }
        for line in ["s3cret", "export K=1", "=s3cret", "s3+cret=="] {
            let error = refused(&format!("# x\n{line}"));
            assert!(error.contains("line 2 is not of the form"), "{error}");
            assert!(!error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_named_has_to_be_there() {
        let lookup = |name: &str| (name == CONFIG).then(|| "/nowhere/settings".to_owned());
        let error = with_file(lookup).err().unwrap().to_string();
        assert!(error.contains("/nowhere/settings"), "{error}");
        let empty = with_file(|name: &str| (name == CONFIG).then(String::new)).err();
        assert_eq!(empty, Some(ConfigError::Empty(CONFIG)));
        assert_eq!(with_file(|_: &str| None).unwrap()("K"), None);
    }
}

//! What a node is told that nobody else may know, from a variable or from a file that one names.

use super::error::ConfigError;
use std::fs;

/// A variable's text, or that of the file which the variable of the same name with `_FILE` after it
/// names, as secrets of Docker and Kubernetes come. Line ends after it do not count.
///
/// # Errors
/// When both are set, when the file cannot be read, or when there is nothing but blanks.
pub fn secret(
    name: &'static str,
    file: &'static str,
    lookup: &impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, ConfigError> {
    let text = match (lookup(name), lookup(file)) {
        (Some(_), Some(_)) => return Err(ConfigError::Twice(name, file)),
        (text, None) => text,
        (None, Some(path)) => Some(read(file, &path)?),
    };
    not_empty(name, text)
}

fn read(name: &'static str, path: &str) -> Result<String, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| ConfigError::Nonsense {
        name,
        value: path.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A variable's text, which has to be more than blanks where it is set.
///
/// # Errors
/// When there is nothing but blanks.
pub fn not_empty(name: &'static str, text: Option<String>) -> Result<Option<String>, ConfigError> {
    match text {
        Some(text) if text.trim().is_empty() => Err(ConfigError::Empty(name)),
        text => Ok(text),
    }
}

/// A secret that travels in a header.
///
/// # Errors
/// When a header cannot carry it.
pub fn for_a_header(
    name: &'static str,
    text: Option<String>,
) -> Result<Option<String>, ConfigError> {
    match text {
        Some(text) if !text.bytes().all(|b| b.is_ascii_graphic()) => {
            Err(ConfigError::NotForAHeader(name))
        }
        token => Ok(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Result<Option<String>, ConfigError> {
        let lookup = |name: &str| {
            let var = vars.iter().find(|(n, _)| *n == name);
            var.map(|(_, v)| (*v).to_owned())
        };
        secret("SECRET", "SECRET_FILE", &lookup)
    }

    #[test]
    fn a_secret_comes_from_a_variable_or_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let file = path.to_str().unwrap();
        fs::write(&path, "from a file \r\n").unwrap();
        assert_eq!(from(&[]), Ok(None));
        assert_eq!(from(&[("SECRET", "s")]), Ok(Some("s".to_owned())));
        let read = from(&[("SECRET_FILE", file)]);
        assert_eq!(read, Ok(Some("from a file ".to_owned())));
        let both = from(&[("SECRET", "s"), ("SECRET_FILE", file)]);
        assert_eq!(both, Err(ConfigError::Twice("SECRET", "SECRET_FILE")));
        fs::write(&path, "\n").unwrap();
        let empty = from(&[("SECRET_FILE", file)]);
        assert_eq!(empty, Err(ConfigError::Empty("SECRET")));
        fs::remove_file(&path).unwrap();
        let missing = from(&[("SECRET_FILE", file)]).unwrap_err().to_string();
        assert!(
            missing.contains("SECRET_FILE") && missing.contains(file),
            "{missing}"
        );
    }
}

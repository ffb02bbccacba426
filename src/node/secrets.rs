//! What a node is told that nobody else may know, from a variable or from a file that one names.

use super::error::ConfigError;
use crate::net;
use argon2::{Algorithm, Argon2, Params, Version};
use std::fmt;
use std::fs;
use std::sync::OnceLock;

/// A secret of so many bytes is taken as it is; a shorter one is stretched.
const LONG: usize = 32;
/// A secret of fewer characters is too short whatever is done to it.
const WEAK: usize = 8;
/// What stretching costs: 19 MiB of memory, gone over so many times, by one thread. About 60 ms.
/// All nodes need the same: other numbers would be another version of the wire.
const COST: Params = match Params::new(19 * 1024, 5, 1, Some(LONG)) {
    Ok(params) => params,
    Err(_) => panic!("Argon2 takes no such parameters"),
};
/// Nodes that have nothing but the secret in common have to come to the same key.
const SALT: &[u8] = b"causeway cluster secret";

/// A secret of the cluster, as its operator gave it. The nodes' key is made of it when it is first
/// asked for.
#[derive(Clone)]
pub struct ClusterSecret {
    text: String,
    key: OnceLock<net::Secret>,
}

impl ClusterSecret {
    /// The secret with this text.
    #[must_use]
    pub fn new(text: String) -> Self {
        let key = OnceLock::new();
        Self { text, key }
    }

    /// The text, as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// What nodes prove to each other that they have. A short secret is stretched by Argon2id, so
    /// that each guess costs whoever has seen a proof as much as it costs here.
    pub fn key(&self) -> &net::Secret {
        self.key.get_or_init(|| match self.text.len() {
            LONG.. => net::Secret::new(self.bytes()),
            _ => stretched(self.bytes()),
        })
    }

    /// Whether it can be guessed all the same.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.text.chars().count() < WEAK
    }
}

fn stretched(secret: &[u8]) -> net::Secret {
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, COST);
    let mut key = [0; LONG];
    match argon.hash_password_into(secret, SALT, &mut key) {
        Ok(()) => net::Secret::new(&key),
        // All lengths are right, so it cannot fail; if it did it would on every node.
        Err(error) => {
            log::error!("CLUSTER_SECRET is taken as it is, since it cannot be stretched: {error}");
            net::Secret::new(secret)
        }
    }
}

/// Leaves the secret out.
impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

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
    use crate::net::NodeIdentity;

    /// Whether nodes with these keys let each other in.
    async fn meet(one: &net::Secret, other: &net::Secret) -> bool {
        let identity =
            |secret: &net::Secret| NodeIdentity::stranger(1, (1, 1), Some(secret.clone()));
        let (mut a, mut b) = tokio::io::duplex(4096);
        let (one, other) = (identity(one), identity(other));
        let limit = std::time::Duration::from_secs(60);
        let (dialled, answered) = tokio::join!(
            net::dial(&mut a, &one, None, limit),
            net::answer(&mut b, &other, |_| true, limit, limit),
        );
        dialled.is_ok() && answered.is_ok()
    }

    #[tokio::test]
    async fn a_short_secret_is_stretched_and_a_long_one_is_taken_as_it_is() {
        let secret = |text: &str| ClusterSecret::new(text.to_owned());
        let (short, long) = ("x".repeat(LONG - 1), "x".repeat(LONG));
        for (text, plain) in [("s3cret", false), (&short, false), (&long, true)] {
            // Two nodes that were given the same come to the same key.
            assert!(meet(secret(text).key(), secret(text).key()).await);
            let as_it_is = net::Secret::new(text.as_bytes());
            assert_eq!(meet(secret(text).key(), &as_it_is).await, plain, "{text}");
        }
        assert!(!meet(secret("s3cret").key(), secret("s3crets").key()).await);
    }

    #[test]
    fn the_stretching_is_frozen() {
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, COST);
        let mut key = [0; LONG];
        argon.hash_password_into(b"s3cret", SALT, &mut key).unwrap();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "695181f844e60abd3166bf3b4ff9304ac64711a51eedaea62c8314d56e1df5a6"
        );
    }

    #[test]
    fn secrets_of_fewer_than_eight_characters_are_weak_and_none_is_shown() {
        for (text, weak) in [("s3cret", true), ("äöüäöüä", true), ("eight ch", false)] {
            let secret = ClusterSecret::new(text.to_owned());
            assert_eq!(secret.is_weak(), weak, "{text}");
            assert!(!format!("{secret:?}").contains(text));
        }
    }

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

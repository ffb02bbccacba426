//! The tokens that clients show, and what each entitles them to.

use super::error::ConfigError;
use super::secrets::{for_a_header, secret};
use subtle::ConstantTimeEq;

/// What a token entitles its bearer to; each includes those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// To read keys, lists and how the cluster stands.
    Read,
    /// To write keys and lists.
    Write,
    /// To change the cluster: its view, its strategy, its faults.
    Administer,
}

/// The tokens that a node takes. Without any, everybody may do everything.
#[derive(Clone, Default)]
pub struct Tokens {
    administer: Option<String>,
    write: Option<String>,
    read: Option<String>,
}

impl Tokens {
    /// The tokens that the environment has, in variables or in files.
    ///
    /// # Errors
    /// When one makes no sense, or the least one is set without the one for everything.
    pub fn from_env(lookup: &impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let token = |name, file| for_a_header(name, secret(name, file, lookup)?);
        let tokens = Self {
            administer: token("API_TOKEN", "API_TOKEN_FILE")?,
            write: token("WRITE_TOKEN", "WRITE_TOKEN_FILE")?,
            read: token("READ_TOKEN", "READ_TOKEN_FILE")?,
        };
        let lesser = [("WRITE_TOKEN", &tokens.write), ("READ_TOKEN", &tokens.read)];
        let lesser = lesser.into_iter().find(|(_, token)| token.is_some());
        match lesser.filter(|_| tokens.administer.is_none()) {
            Some((name, _)) => Err(ConfigError::LesserToken(name)),
            None => Ok(tokens),
        }
    }

    /// Whether there is any.
    #[must_use]
    pub fn are_there(&self) -> bool {
        self.administer.is_some()
    }

    /// Whether a call that takes a right needs a token: one for a lesser right guards the greater
    /// ones too.
    #[must_use]
    pub fn guard(&self, right: Right) -> bool {
        match right {
            Right::Administer => self.administer.is_some(),
            Right::Write => self.write.is_some() || self.read.is_some(),
            Right::Read => self.read.is_some(),
        }
    }

    /// The right that a token gives; none if it is not one of these. Takes the same time however
    /// much of it is right.
    #[must_use]
    pub fn right_of(&self, token: &[u8]) -> Option<Right> {
        let known = [
            (&self.read, Right::Read),
            (&self.write, Right::Write),
            (&self.administer, Right::Administer),
        ];
        let mut right = None;
        for (known, gives) in known {
            let same = |known: &String| bool::from(known.as_bytes().ct_eq(token));
            if known.as_ref().is_some_and(same) {
                right = Some(gives);
            }
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(vars: &[(&str, &str)]) -> Result<Tokens, ConfigError> {
        Tokens::from_env(&|name: &str| {
            let var = vars.iter().find(|(n, _)| *n == name);
            var.map(|(_, value)| (*value).to_owned())
        })
    }

    fn guarded(vars: &[(&str, &str)]) -> Vec<Right> {
        let tokens = tokens(vars).unwrap();
        let all = [Right::Read, Right::Write, Right::Administer];
        all.into_iter().filter(|r| tokens.guard(*r)).collect()
    }

    #[test]
    fn a_token_guards_its_right_and_the_greater_ones() {
        let (admin, write, read) = (
            ("API_TOKEN", "a"),
            ("WRITE_TOKEN", "w"),
            ("READ_TOKEN", "r"),
        );
        assert_eq!(guarded(&[]), []);
        assert_eq!(guarded(&[admin]), [Right::Administer]);
        assert_eq!(guarded(&[admin, write]), [Right::Write, Right::Administer]);
        let all = [Right::Read, Right::Write, Right::Administer];
        assert_eq!(guarded(&[admin, read]), all);
        assert_eq!(guarded(&[admin, write, read]), all);
    }

    #[test]
    fn a_token_gives_its_right_and_no_other_does() {
        let vars = [
            ("API_TOKEN", "a"),
            ("WRITE_TOKEN", "w"),
            ("READ_TOKEN", "r"),
        ];
        let three = tokens(&vars).unwrap();
        assert_eq!(three.right_of(b"r"), Some(Right::Read));
        assert_eq!(three.right_of(b"w"), Some(Right::Write));
        assert_eq!(three.right_of(b"a"), Some(Right::Administer));
        for wrong in [&b""[..], b"aa", b"x"] {
            assert_eq!(three.right_of(wrong), None);
        }
        let same = tokens(&[("API_TOKEN", "a"), ("READ_TOKEN", "a")]).unwrap();
        assert_eq!(same.right_of(b"a"), Some(Right::Administer));
    }

    #[test]
    fn a_lesser_token_alone_is_refused() {
        for name in ["WRITE_TOKEN", "READ_TOKEN"] {
            let refused = tokens(&[(name, "t")]).err();
            assert_eq!(refused, Some(ConfigError::LesserToken(name)));
        }
    }
}

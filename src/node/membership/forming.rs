//! How far a cluster's birth is, as one node sees it, in words.

use std::fmt;
use std::net::SocketAddr;

/// Nodes that are missing and named, at most.
const NAMED: usize = 5;

/// How far the birth is, as one node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forming {
    /// Nodes of `VIEW` that are up and started with the same `VIEW`, this one included.
    pub up: usize,
    /// Nodes of `VIEW`.
    pub of: usize,
    /// Where the others are to be, and no such node answers.
    pub missing: Vec<SocketAddr>,
    /// Why another one does not talk to this one.
    pub refused: Option<String>,
}

impl fmt::Display for Forming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { up, of, .. } = self;
        write!(
            f,
            "the cluster is being formed: {up} of {of} nodes of VIEW are up"
        )?;
        let named = self.missing.iter().take(NAMED).map(SocketAddr::to_string);
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            let rest = match self.missing.len() - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named = named.join(", ");
            write!(
                f,
                "; no answer, as started with this VIEW and K, from {named}{rest}"
            )?;
        }
        match &self.refused {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

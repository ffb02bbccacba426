//! How many files and connections this process may have open, and how many of those clients get.
//!
//! A node that runs out of descriptors cannot write its tables any more, and ends. So its soft
//! limit is raised to the hard one at the start, it does not start with too few, and clients get no
//! more connections than storage, peers and the Raft group leave.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a node keeps for itself: 256 tables that the engine keeps open and as many
/// while it compacts, 128 connections in their hello, 64 of strangers, 128 with members, and 64 for
/// journals, the Raft group's store and the runtime.
const OWN: u64 = 896;
/// Connections of clients without which a node is of no use.
const LEAST_CLIENTS: u64 = 64;
/// Connections of clients that a node takes, be there more descriptors: each costs memory.
const MOST_CLIENTS: u64 = 100_000;

/// The process may have too few files open at a time for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} files open, and a node needs {} at least: raise the hard limit \
     (`ulimit -n`, LimitNOFILE= of systemd, `--ulimit nofile=` of docker)",
    OWN + LEAST_CLIENTS
)]
pub struct TooFew {
    limit: u64,
}

/// Raises the process's limit of open files as far as that goes.
///
/// # Errors
/// When that is too little for a node.
pub fn raise() -> Result<(), TooFew> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("cannot raise the limit of open files: {error}");
    }
    let limit = open_files();
    match limit >= OWN + LEAST_CLIENTS {
        true => Ok(()),
        false => Err(TooFew { limit }),
    }
}

/// Connections of clients that a node in this process may have open at a time.
pub fn for_clients() -> usize {
    let left = clients(open_files());
    usize::try_from(left).unwrap_or(usize::MAX)
}

fn open_files() -> u64 {
    // No limit is said as none.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn clients(limit: u64) -> u64 {
    limit.saturating_sub(OWN).clamp(LEAST_CLIENTS, MOST_CLIENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_node_does_not_need_itself() {
        assert_eq!(clients(0), LEAST_CLIENTS);
        assert_eq!(clients(1_024), 128);
        assert_eq!(clients(u64::MAX), MOST_CLIENTS);
        assert!(TooFew { limit: 400 }.to_string().contains("960"));
    }
}

//! How many files and connections this process may have open, and how many of those clients get.
//!
//! A node that runs out of descriptors cannot write its tables any more, and ends. So its soft
//! limit is raised to the hard one at the start, it does not start with too few, and clients get no
//! more connections than storage, peers and the Raft group leave.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that a node keeps for itself: 256 tables that the engine keeps open and as many
/// while it compacts, 128 connections in their hello, 64 of strangers, 128 with members and in
/// hellos from their addresses, and 64 for journals, the Raft group's store and the runtime.
const OWN: u64 = 896;
/// Connections of clients without which a node is of no use.
const LEAST_CLIENTS: u64 = 64;
/// Connections of clients that a node takes, be there more descriptors: each costs memory.
const MOST_CLIENTS: u64 = 100_000;

/// Descriptors of each node where several are tried out in one process, beside connections with
/// each other: a few tables, journals and what their runtimes wait with.
const TRIED_OUT: u64 = 24;

/// The process may have too few files open at a time for its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} files open, and for {nodes} of Causeway it needs {need} at \
     least: raise the hard limit (`ulimit -n`, LimitNOFILE= of systemd, `--ulimit nofile=` of docker)",
    nodes = if *nodes == 1 { "a node".to_owned() } else { format!("{nodes} nodes") }
)]
pub struct TooFew {
    limit: u64,
    need: u64,
    nodes: u64,
}

/// Raises the process's limit of open files as far as that goes.
///
/// # Errors
/// When that is too little for a node.
pub fn raise() -> Result<(), TooFew> {
    raise_to(OWN + LEAST_CLIENTS, 1)
}

/// The same in a process in which so many nodes are tried out together.
///
/// # Errors
/// When that is too little for them.
pub fn raise_for(nodes: u64) -> Result<(), TooFew> {
    raise_to(tried_out(nodes), nodes)
}

/// What so many nodes need in one process: a connection of each to each other, with both its ends.
fn tried_out(nodes: u64) -> u64 {
    2 * nodes * nodes.saturating_sub(1) + TRIED_OUT * nodes + LEAST_CLIENTS
}

fn raise_to(need: u64, nodes: u64) -> Result<(), TooFew> {
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
    match limit >= need {
        true => Ok(()),
        false => Err(TooFew { limit, need, nodes }),
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
    }

    #[test]
    fn nodes_in_one_process_need_connections_with_each_other() {
        assert!(tried_out(16) <= 1_024);
        assert_eq!(tried_out(32), 2_816);
        let (limit, need) = (1_024, 2_816);
        let text = |nodes| TooFew { limit, need, nodes }.to_string();
        assert!(text(32).contains("for 32 nodes of Causeway it needs 2816"));
        assert!(text(1).contains("for a node of Causeway"));
    }
}

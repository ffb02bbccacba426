//! The machine that the Raft nodes run: the real one, with a digest of all commands that were
//! applied. No two nodes may have applied as many commands, and not the same ones.

use causeway::node::state_machine::{Agreed, Command, Decided, Outcome};
use causeway::protocol::ids::MemberId;
use causeway::raft::Machine;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// The decided commands in their order.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    pub decided: Decided,
    /// Commands that were applied.
    pub count: u64,
    digest: u64,
}

thread_local! {
    /// By how many were applied: their digest.
    static ORDER: RefCell<BTreeMap<u64, u64>> = const { RefCell::new(BTreeMap::new()) };
    static CONTRADICTION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Nothing was applied yet.
pub fn begin() {
    ORDER.take();
    CONTRADICTION.take();
}

/// The contradiction found since, if there is one.
pub fn contradiction() -> Option<String> {
    CONTRADICTION.with_borrow(Clone::clone)
}

impl Machine for Watched {
    type Command = Command;
    type Outcome = Outcome;
    type Followed = Agreed;

    fn apply(&mut self, command: Command) -> Outcome {
        let bytes = postcard::to_stdvec(&(self.digest, &command)).unwrap();
        let digest = Sha256::digest(&bytes);
        self.digest = u64::from_le_bytes(*digest.first_chunk().unwrap());
        self.count += 1;
        let (count, mine) = (self.count, self.digest);
        let known = ORDER.with_borrow_mut(|order| *order.entry(count).or_insert(mine));
        if known != mine {
            let what =
                format!("command {count} is {command:?} on one node, and another one elsewhere");
            CONTRADICTION.with_borrow_mut(|found| *found = Some(what));
        }
        self.decided.apply(command)
    }

    fn followed(&self) -> Agreed {
        self.decided.followed()
    }

    fn members(&self) -> BTreeSet<MemberId> {
        self.decided.members()
    }

    fn electable(&self) -> BTreeSet<MemberId> {
        self.decided.electable()
    }
}

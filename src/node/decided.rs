//! What the nodes of a cluster decide by consensus: the machine that their council runs.

use crate::council::Machine;
use crate::protocol::council;
use crate::protocol::ids::MemberId;
use crate::protocol::view::View;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something to be decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// The first view, which every node knows without a decision. Counts once.
    Begin(View),
    View(council::Command),
}

/// What a decision came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Begun,
    View(council::Outcome),
    /// The first view is not there yet.
    TooEarly,
}

/// Everything that was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// `None` until the first view is in.
    pub views: Option<council::Council>,
}

impl Machine for Decided {
    type Command = Command;
    type Outcome = Outcome;

    fn apply(&mut self, command: Command) -> Outcome {
        match (command, &mut self.views) {
            (Command::Begin(first), views @ None) => {
                *views = Some(council::Council::first(first));
                Outcome::Begun
            }
            (Command::Begin(_), Some(_)) => Outcome::Begun,
            (Command::View(command), Some(views)) => Outcome::View(views.apply(command)),
            (Command::View(_), None) => Outcome::TooEarly,
        }
    }

    fn members(&self) -> BTreeSet<MemberId> {
        let members = self.views.iter().flat_map(council::Council::members);
        members.map(|(member, _)| member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::placement::Change;
    use std::net::SocketAddr;

    #[test]
    fn the_first_view_counts_once_and_nothing_is_decided_before_it() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let first = View::first(&[at(1), at(2)], 1).unwrap();
        let add = || {
            Command::View(council::Command::Change {
                change: Change::Add(at(3)),
                give_up: false,
            })
        };
        let mut decided = Decided::default();
        assert_eq!(decided.apply(add()), Outcome::TooEarly);
        assert!(decided.members().is_empty());
        assert_eq!(decided.apply(Command::Begin(first.clone())), Outcome::Begun);
        assert!(matches!(decided.apply(add()), Outcome::View(_)));
        let changed = decided.clone();
        assert_eq!(decided.apply(Command::Begin(first)), Outcome::Begun);
        assert_eq!(decided, changed);
        assert_eq!(decided.members().len(), 3, "who is to come takes part");
    }
}

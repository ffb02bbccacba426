//! The state machine of the Raft group: the machine that their Raft group runs.
//!
//! The views and the linearizable lists are in one machine, and so in one Raft group: there is one
//! quorum to ask about, and a change of the view changes who decides about both.

use crate::protocol::changes;
use crate::protocol::cluster::Cluster;
use crate::protocol::ids::MemberId;
use crate::protocol::keys::{self, Keys, What};
use crate::protocol::policy::leaving_with;
use crate::protocol::view::View;
use crate::protocol::views::Views;
use crate::raft::Machine;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A command for the Raft group to decide.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// The birth of the cluster: its first view, which every node knows without a decision, and
    /// what the proposer drew for it. Counts once.
    Begin {
        /// The first view, as every node has it from its settings.
        view: View,
        /// The id and keys that the proposer drew.
        cluster: Cluster,
    },
    /// The cluster becomes another one, which goes on from this one: writes that only lost nodes
    /// had are not in its past.
    Renew(Cluster),
    /// A change of the views.
    View(changes::ViewCommand),
    /// A change of the linearizable lists.
    Keys(keys::ListChange),
}

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The cluster is born, now or before.
    Begun,
    /// The cluster is another one from now on.
    Renewed,
    /// The outcome of a command about views.
    View(changes::ViewOutcome),
    /// The outcome of a change of lists.
    Keys(keys::ListOutcome),
    /// The first view is not there yet.
    TooEarly,
}

/// Everything that was decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// `None` until the first view is in. Shared between states: most changes are of lists.
    #[serde(serialize_with = "to_plain", deserialize_with = "from_plain")]
    pub views: Agreed,
    /// The linearizable lists.
    pub keys: Keys,
}

/// The views and their changes; `None` until the first view is in.
pub type Agreed = Option<Arc<changes::ViewChanges>>;

impl Machine for Decided {
    type Command = Command;
    type Outcome = Outcome;
    type Followed = Agreed;

    fn apply(&mut self, command: Command) -> Outcome {
        match (command, &mut self.views) {
            (Command::Begin { view, cluster }, views @ None) => {
                let born = Views::born(view, cluster);
                *views = Some(Arc::new(changes::ViewChanges::of(born)));
                Outcome::Begun
            }
            (Command::Begin { .. }, Some(_)) => Outcome::Begun,
            (Command::Renew(cluster), Some(views)) => {
                Arc::make_mut(views).renew(cluster);
                Outcome::Renewed
            }
            (Command::Renew(_), None) => Outcome::TooEarly,
            (Command::View(command), Some(views)) => {
                Outcome::View(Arc::make_mut(views).apply(command))
            }
            (Command::View(_), None) => Outcome::TooEarly,
            (Command::Keys(change), _) => Outcome::Keys(self.keys.apply(change)),
        }
    }

    fn fills(command: &Command) -> bool {
        match command {
            Command::Keys(change) => matches!(change.what, What::Put(_) | What::Append(_)),
            Command::Begin { .. } | Command::Renew(_) | Command::View(_) => false,
        }
    }

    fn followed(&self) -> Agreed {
        self.views.clone()
    }

    fn members(&self) -> BTreeSet<MemberId> {
        let members = self.views.iter().flat_map(|views| views.members());
        members.map(|(member, _)| member).collect()
    }

    fn electable(&self) -> BTreeSet<MemberId> {
        let mut members = self.members();
        if let Some(changes) = &self.views {
            let leaving = changes.views().leaving.keys().copied();
            let given_up = changes.views().given_up.iter().copied();
            let leaving = leaving.chain(given_up);
            for member in leaving.chain(changes.running().and_then(leaving_with)) {
                members.remove(&member);
            }
        }
        members
    }
}

fn to_plain<S: Serializer>(views: &Agreed, to: S) -> Result<S::Ok, S::Error> {
    views.as_deref().serialize(to)
}

fn from_plain<'de, D: Deserializer<'de>>(from: D) -> Result<Agreed, D::Error> {
    let views = Option::<changes::ViewChanges>::deserialize(from)?;
    Ok(views.map(Arc::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cluster::{ClusterId, PayloadKey};
    use crate::protocol::placement::Change;
    use std::net::SocketAddr;

    fn cluster(n: u8) -> Cluster {
        Cluster {
            id: ClusterId([n; 16]),
            key: PayloadKey([n; 32]),
            former: None,
        }
    }

    fn begin(view: &View, n: u8) -> Command {
        Command::Begin {
            view: view.clone(),
            cluster: cluster(n),
        }
    }

    #[test]
    fn the_first_view_counts_once_and_nothing_is_decided_before_it() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let first = View::first(&[at(1), at(2)], 1).unwrap();
        let add = || {
            Command::View(changes::ViewCommand::Change {
                change: Change::Add(at(3)),
                give_up: false,
                lose_data: false,
            })
        };
        let mut decided = Decided::default();
        assert_eq!(decided.apply(add()), Outcome::TooEarly);
        assert!(decided.members().is_empty());
        assert_eq!(decided.apply(begin(&first, 1)), Outcome::Begun);
        let born = decided.views.as_ref().and_then(|c| c.views().cluster);
        assert_eq!(born, Some(cluster(1)));
        assert!(matches!(decided.apply(add()), Outcome::View(_)));
        let changed = decided.clone();
        assert_eq!(decided.apply(begin(&first, 2)), Outcome::Begun);
        assert_eq!(decided, changed);
        assert_eq!(decided.members().len(), 3, "who is to come takes part");
        let text = postcard::to_stdvec(&decided).unwrap();
        assert_eq!(postcard::from_bytes::<Decided>(&text).unwrap(), decided);
        assert_eq!(decided.electable(), decided.members());
    }

    #[test]
    fn who_is_being_removed_takes_part_without_a_vote() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let view = |command| Command::View(command);
        let mut decided = Decided::default();
        decided.apply(begin(&View::first(&[at(1), at(2)], 1).unwrap(), 1));
        let [first, second] = [0, 1].map(MemberId);
        decided.apply(view(changes::ViewCommand::Change {
            change: Change::Remove(first),
            give_up: false,
            lose_data: false,
        }));
        let states = |decided: &Decided| (decided.members(), decided.electable());
        let both = BTreeSet::from([first, second]);
        let one = BTreeSet::from([second]);
        assert_eq!(states(&decided), (both.clone(), one.clone()));
        decided.apply(view(changes::ViewCommand::Ready {
            member: second,
            number: 3,
        }));
        decided.apply(view(changes::ViewCommand::Enact {
            number: 3,
            without: BTreeSet::new(),
        }));
        assert_eq!(states(&decided), (both, one.clone()), "it is leaving");
        decided.apply(view(changes::ViewCommand::GiveUp { member: first }));
        assert_eq!(states(&decided), (one.clone(), one));
    }
}

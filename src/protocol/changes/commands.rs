//! Commands about views, the outcome of each, and the running change, as data.

use crate::protocol::ids::MemberId;
use crate::protocol::placement::{Change, ChangeError};
use crate::protocol::view::PartitionId;
use crate::protocol::views::CohortId;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A command for the Raft group to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewCommand {
    /// Starts a change of the view. To remove a node that is just being added cancels that. To ask
    /// again for the removal that runs, with `lose_data`, is to agree to it.
    Change {
        /// The change itself.
        change: Change,
        /// The node to be removed is dead: nobody waits for what only it has. Other changes ignore
        /// this.
        give_up: bool,
        /// The operator agrees to lose data that only dead nodes have. Only a removal looks at
        /// this.
        lose_data: bool,
    },
    /// The member has all that it is to hold in the view with this number.
    Ready {
        /// The member that is ready.
        member: MemberId,
        /// The number of the next view.
        number: u64,
    },
    /// Puts the next view in force. Members in `without` are not waited for.
    Enact {
        /// The number of the next view.
        number: u64,
        /// Members that are away.
        without: BTreeSet<MemberId>,
    },
    /// Every member that is to have the writes of this closing cohort has them.
    Over {
        /// The closing cohort.
        cohort: CohortId,
    },
    /// A member that is leaving or about to be removed is dead: it is not waited for. That is for
    /// good.
    GiveUp {
        /// The dead member.
        member: MemberId,
    },
    /// Drops the running change.
    Cancel {
        /// The number of the view that the change leads to.
        number: u64,
    },
    /// An operator says that members of the view are dead for good, and that what only they have
    /// may be lost: they are given up, and are to be removed next.
    Dead {
        /// The members that are dead.
        members: BTreeSet<MemberId>,
    },
}

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewOutcome {
    /// The change runs; its view has this number.
    Started {
        /// The number of the next view.
        number: u64,
    },
    /// The view with this number is in force.
    InForce {
        /// The number of the view.
        number: u64,
    },
    /// The change to the view with this number is dropped.
    Cancelled {
        /// The number of the dropped view. It is not used again.
        number: u64,
    },
    /// Taken in.
    Changed,
    /// Known already, or of the past.
    Unchanged,
    /// Nothing was done, for this reason.
    Refused(ViewRefusal),
    /// The change to the view with this number runs, and may lose data.
    Agreed {
        /// The number of the next view.
        number: u64,
    },
}

/// Why a command did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ViewRefusal {
    /// Another change is running.
    #[error(
        "another change of the view is running ({change}, view {number}); try again when it is done"
    )]
    Busy {
        /// The change that runs.
        change: Change,
        /// The number of the view that it leads to.
        number: u64,
    },
    /// The change makes no sense in the view in force.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The node at the address, or the member to be removed, is still leaving.
    #[error(
        "{address} was removed as {member} and is still handing over what it has; \
         try again when it is done, or give it up if it is dead"
    )]
    Leaving {
        /// The address of the node.
        address: SocketAddr,
        /// Its member number.
        member: MemberId,
    },
    /// A member of the view is not given up by itself.
    #[error("{0} is in the view: remove it first")]
    InView(MemberId),
    /// A member that is given up has to be removed first.
    #[error(
        "{address} ({member}) was given up, and is in the view all the same, because its removal was cancelled or it was \
         given up together with others: remove it before anything else is changed"
    )]
    GivenUp {
        /// The address of the member.
        address: SocketAddr,
        /// Its member number.
        member: MemberId,
    },
    /// No change to the view with this number is running.
    #[error("no change to view {0} is running")]
    NotRunning(u64),
    /// Members that the next view needs are not ready.
    #[error("view {number} has to wait for {}", names(members))]
    Waiting {
        /// The number of the next view.
        number: u64,
        /// The members that are not ready.
        members: BTreeSet<MemberId>,
    },
    /// The cohort cannot be over before one whose slots it took over.
    #[error("{cohort} cannot be over before {earlier}, whose slots it took over")]
    TooEarly {
        /// The cohort that was said to be over.
        cohort: CohortId,
        /// The cohort before it.
        earlier: CohortId,
    },
    /// The cohort may be the only one with the data of a partition without live owners.
    #[error(
        "{cohort} cannot be over: it has all that is left of slots of partition {}, whose nodes are all given up",
        partition.0
    )]
    LastHolder {
        /// The cohort that was said to be over.
        cohort: CohortId,
        /// The partition.
        partition: PartitionId,
    },
}

/// The change that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningChange {
    /// The change as it was asked for.
    pub change: Change,
    /// The address of the node that comes or goes. Kept here, since no view names a node that is
    /// gone.
    pub node: Option<SocketAddr>,
    /// The number of the view that it leads to.
    pub number: u64,
    /// The node to be removed is not waited for.
    pub given_up: bool,
    /// The operator agrees to lose data that only dead nodes have. Without that the change waits
    /// for a removed node that may be the only holder of some slots.
    pub lose_data: bool,
    /// Members that have all that they are to hold.
    pub ready: BTreeSet<MemberId>,
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The change was dropped.
    Cancelled,
    /// Its view is in force; cohorts of earlier views are still closing.
    InForce,
    /// Its view is in force, and everything written under earlier ones is where it belongs.
    Done,
}

/// The last change that does not run any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedChange {
    /// The change as it was asked for.
    pub change: Change,
    /// The address of the node that came or went.
    pub node: Option<SocketAddr>,
    /// The number of the view that it led to, or would have.
    pub number: u64,
    /// How it ended.
    pub end: End,
    /// The removed node was not waited for: what only it had may be lost.
    pub given_up: bool,
    /// The members that the view did not wait for.
    pub without: BTreeSet<MemberId>,
}

impl RunningChange {
    /// The change as one that has ended.
    pub(super) fn finished(self, end: End, without: BTreeSet<MemberId>) -> FinishedChange {
        FinishedChange {
            change: self.change,
            node: self.node,
            number: self.number,
            end,
            given_up: self.given_up,
            without,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::InForce => "in force",
            Self::Done => "done",
        })
    }
}

fn names(members: &BTreeSet<MemberId>) -> String {
    let names: Vec<String> = members.iter().map(MemberId::to_string).collect();
    names.join(", ")
}

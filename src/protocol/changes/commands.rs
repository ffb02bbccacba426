//! What is agreed on about views, as data: commands, what each did, and the change that runs.

use crate::protocol::ids::MemberId;
use crate::protocol::placement::{Change, ChangeError};
use crate::protocol::view::PartitionId;
use crate::protocol::views::CohortId;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Something to be agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewCommand {
    /// Starts a change of the view. To remove a node that is just being added cancels that. To ask
    /// again for the removal that runs, with `lose_data`, is to agree to it.
    Change {
        change: Change,
        /// The node to be removed is dead: nobody waits for what only it has. Of no meaning for
        /// other changes.
        give_up: bool,
        /// The operator agrees that data may be lost which nobody has but dead nodes. Of no meaning
        /// but for a removal.
        lose_data: bool,
    },
    /// The member has all that it is to hold in the view with this number.
    Ready { member: MemberId, number: u64 },
    /// Puts the next view in force. Members in `without` are not waited for.
    Enact {
        number: u64,
        without: BTreeSet<MemberId>,
    },
    /// All who are to have what is in this closing cohort's logs have it.
    Over { cohort: CohortId },
    /// A member that is leaving or about to be removed is dead: it is not waited for. That is for
    /// good.
    GiveUp { member: MemberId },
    /// Drops the running change.
    Cancel { number: u64 },
    /// An operator says that members of the view are dead for good, and that what only they have
    /// may be lost: they are given up, and are to be removed next.
    Dead { members: BTreeSet<MemberId> },
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ViewOutcome {
    /// The change runs; its view has this number.
    Started {
        number: u64,
    },
    /// The view with this number is in force.
    InForce {
        number: u64,
    },
    /// The change to the view with this number is dropped.
    Cancelled {
        number: u64,
    },
    /// Taken in.
    Changed,
    /// Known already, or of the past.
    Unchanged,
    Refused(ViewRefusal),
    /// The change to the view with this number runs, and may lose data.
    Agreed {
        number: u64,
    },
}

/// Why a command did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ViewRefusal {
    #[error(
        "another change of the view is running ({change}, view {number}); try again when it is done"
    )]
    Busy { change: Change, number: u64 },
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(
        "{address} was removed as {member} and is still handing over what it has; \
         try again when it is done, or give it up if it is dead"
    )]
    Leaving {
        address: SocketAddr,
        member: MemberId,
    },
    #[error("{0} is in the view: remove it first")]
    InView(MemberId),
    #[error(
        "{address} ({member}) was given up, and is in the view all the same, because its removal was cancelled or it was \
         given up together with others: remove it before anything else is changed"
    )]
    GivenUp {
        address: SocketAddr,
        member: MemberId,
    },
    #[error("no change to view {0} is running")]
    NotRunning(u64),
    #[error("view {number} has to wait for {}", names(members))]
    Waiting {
        number: u64,
        members: BTreeSet<MemberId>,
    },
    #[error("{cohort} cannot be over before {earlier}, whose slots it took over")]
    TooEarly { cohort: CohortId, earlier: CohortId },
    #[error(
        "{cohort} cannot be over: it has all that is left of slots of partition {}, whose nodes are all given up",
        partition.0
    )]
    LastHolder {
        cohort: CohortId,
        partition: PartitionId,
    },
}

/// The change that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningChange {
    pub change: Change,
    /// The address of the node that comes or goes. Of one that is gone no view tells it any more.
    pub node: Option<SocketAddr>,
    /// Of the view that it leads to.
    pub number: u64,
    /// The node to be removed is not waited for.
    pub given_up: bool,
    /// The operator agrees that data may be lost which nobody has but dead nodes. Until then a node
    /// to be removed that may be the only one to have some of its slots is waited for.
    pub lose_data: bool,
    /// Members that have all that they are to hold.
    pub ready: BTreeSet<MemberId>,
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    Cancelled,
    /// Its view is in force; cohorts of earlier views are still closing.
    InForce,
    /// Its view is in force, and everything written under earlier ones is where it belongs.
    Done,
}

/// The last change that does not run any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedChange {
    pub change: Change,
    /// The address of the node that came or went.
    pub node: Option<SocketAddr>,
    pub number: u64,
    pub end: End,
    /// The removed node was not waited for: what only it had may be lost.
    pub given_up: bool,
    /// Those who were not waited for before the view came into force.
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

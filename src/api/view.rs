//! `/view`: how the views stand, and what a change would do.

use super::status::{MemberStatus, OfferState};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use utoipa::ToSchema;

/// The views of a cluster at one moment, as one node knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewState {
    /// The node that says so, `ip:port`.
    pub node: String,
    /// The view in force.
    pub view: Placement,
    /// The change that is under way.
    pub change: Option<ChangeState>,
    /// Cohorts of earlier views whose writes have not reached everybody yet.
    pub closing: Vec<ClosingCohort>,
    /// Nodes of the view that do not have yet what they are to hold, `ip:port`.
    pub behind: Vec<String>,
    /// Nodes that were removed and still hand over what they have, `ip:port`.
    pub leaving: Vec<String>,
    /// The last change whose view came into force, or that was cancelled.
    pub last: Option<LastChange>,
    /// Slots that no live node holds the data of: only nodes that do not answer, or do not have it
    /// back yet, may have it.
    #[serde(default)]
    pub without_live_holder: Vec<Unheld>,
    /// Offers of writes that given-up nodes had, as long as they are not over. Until then the
    /// directories must not be touched.
    #[serde(default)]
    pub offers: Vec<OfferState>,
    /// The Raft group, which decides about views.
    pub council: CouncilState,
}

/// A view: who is in which partition, with how many slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    /// The number of the view, from 1.
    pub number: u64,
    /// Replicas per partition; with full replication the number of nodes.
    pub k: usize,
    /// How partitions are made from nodes.
    pub strategy: Strategy,
    /// Its partitions, by number.
    pub partitions: Vec<PlacedPartition>,
}

/// How many nodes hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All of them, those that come later included.
    Full,
    /// As many as K says, found by consistent hashing.
    Consistent,
}

/// A partition of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacedPartition {
    /// The number of the partition.
    pub partition_id: u32,
    /// Slots that it holds, of 16,384.
    pub slots: usize,
    /// Its replicas, by member number.
    pub members: Vec<MemberStatus>,
}

/// The K of full replication.
pub const FULL: usize = 65_535;

/// A change of the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChangeData {
    /// The node comes in.
    Add {
        /// `ip:port`.
        node: String,
    },
    /// The node goes.
    Remove {
        /// `ip:port`.
        node: String,
    },
    /// Another number of replicas per partition; 65535: full replication.
    SetK {
        /// Replicas per partition.
        k: usize,
    },
}

impl fmt::Display for ChangeData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { node } => write!(f, "add {node}"),
            Self::Remove { node } => write!(f, "remove {node}"),
            Self::SetK { k: FULL.. } => f.write_str("hold everything on every node"),
            Self::SetK { k } => write!(f, "set K to {k}"),
        }
    }
}

/// Where a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Phase {
    /// The view before is in force; nodes copy what they are to hold.
    #[serde(rename = "moving data")]
    MovingData,
    /// The new view is in force; late writes of the one before still spread.
    #[serde(rename = "closing")]
    Closing,
}

/// A change that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeState {
    /// The change as it was asked for.
    pub change: ChangeData,
    /// The change in words.
    pub text: String,
    /// The number of the view that it leads to.
    pub view: u64,
    /// The step that it is at.
    pub phase: Phase,
    /// The node to be removed is dead and not waited for.
    pub given_up: bool,
    /// Slots that nodes have to get, each counted once for every node that gets it.
    pub slots: usize,
    /// How many of these have come.
    pub slots_here: usize,
    /// Keys that have come, as far as is known.
    pub keys: u64,
    /// Bytes of these keys and their values.
    pub bytes: u64,
    /// The nodes that get slots.
    pub gaining: Vec<Gaining>,
    /// The nodes that it waits for, and why: a sentence each.
    pub waits_for: Vec<String>,
}

/// A node that gets slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gaining {
    /// `ip:port`.
    pub node: String,
    /// The member number.
    pub member: u16,
    /// The partition that it is to be in.
    pub partition_id: Option<u32>,
    /// Slots that it gets.
    pub slots: usize,
    /// How many of these are there; unknown when the node does not say.
    pub slots_here: Option<usize>,
    /// Keys that it has copied so far.
    pub keys: Option<u64>,
    /// Bytes of these keys and their values.
    pub bytes: Option<u64>,
    /// The member has all the data that it is to hold.
    pub ready: bool,
    /// How it is doing, in words.
    pub state: String,
}

/// A cohort of an earlier view that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClosingCohort {
    /// The number of the partition.
    pub partition_id: u32,
    /// The first view with this cohort.
    pub since: u64,
    /// The view that closed it.
    pub until: Option<u64>,
    /// Slots that it held, of 16,384.
    pub slots: usize,
    /// The nodes that wrote its logs, `ip:port`.
    pub replicas: Vec<String>,
    /// The nodes that it waits for, and why.
    pub waits_for: String,
}

/// How the last change ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastChange {
    /// The change as it was asked for.
    pub change: ChangeData,
    /// The change in words.
    pub text: String,
    /// The number of the view that it led to, or would have.
    pub view: u64,
    /// How it ended.
    pub end: Ending,
    /// The removed node was not waited for: what only it had may be lost.
    pub given_up: bool,
    /// Nodes that were not waited for before the view came into force.
    pub without: Vec<String>,
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Ending {
    /// The change was dropped, and the view before stays in force.
    #[serde(rename = "cancelled")]
    Cancelled,
    /// Its view is in force; late writes still spread.
    #[serde(rename = "in force")]
    InForce,
    /// Its view is in force, and everything is in its place.
    #[serde(rename = "done")]
    Done,
}

/// The council, which decides about views, as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CouncilState {
    /// The answering node's: `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub role: String,
    /// `ip:port`, where there is one.
    pub leader: Option<String>,
    /// Raft's term, as the node knows it.
    pub term: u64,
    /// Whether changes can be decided.
    pub has_quorum: bool,
    /// The nodes that have a vote, `ip:port`.
    pub voters: Vec<String>,
    /// Whether the answering node would use its vote. Not in its first seconds, and not before it
    /// has caught up.
    pub may_vote: bool,
    /// The number of the last entry in the answering node's log.
    pub last_log: Option<u64>,
}

/// The effect of a change before it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// The change as it was asked for.
    pub change: ChangeData,
    /// The change in words.
    pub text: String,
    /// The view that it begins from.
    pub from_view: u64,
    /// The number of the view that it would lead to.
    pub view: u64,
    /// Replicas per partition.
    pub k: usize,
    /// The partitions of the new view, by number.
    pub partitions: Vec<PlannedPartition>,
    /// Slots that go from one partition to another.
    pub moves: Vec<Move>,
    /// Nodes that would have to copy slots.
    pub gaining: Vec<PlannedGain>,
    /// The node that would go, `ip:port`.
    pub leaving: Option<String>,
    /// Slots whose data a removal would lose, because no live node holds it: it is refused unless
    /// it allows that.
    #[serde(default)]
    pub data_loss: Vec<Unheld>,
    /// The change that has to end first, in words.
    pub busy: Option<String>,
}

/// A partition of the view that a change would lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedPartition {
    /// The number of the partition.
    pub partition_id: u32,
    /// Slots that it would hold, of 16,384.
    pub slots: usize,
    /// `ip:port` of each.
    pub members: Vec<String>,
}

/// Slots that would go from one partition to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Move {
    /// The partition that has them.
    pub from: u32,
    /// The partition that gets them.
    pub to: u32,
    /// Slots that would go, of 16,384.
    pub slots: usize,
    /// Keys that this is likely to be.
    pub keys: u64,
}

/// A node that would have to copy slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedGain {
    /// `ip:port`.
    pub node: String,
    /// The partition that it would be in.
    pub partition_id: u32,
    /// Slots that it would get, of 16,384.
    pub slots: usize,
    /// Keys that this is likely to be.
    pub keys: u64,
}

/// Slots of a partition that no live node holds the data of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unheld {
    /// The partition that held the slots.
    pub partition_id: u32,
    /// How many slots, of 16,384.
    pub slots: usize,
    /// The nodes that may have the data, `ip:port`.
    pub nodes: Vec<String>,
    /// Keys in these slots, as far as the nodes last said; unknown when no node remembers that.
    pub keys: Option<u64>,
}

impl fmt::Display for Unheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keys {
            Some(keys) => write!(f, "about {keys} keys")?,
            None => f.write_str("an unknown number of keys")?,
        }
        let (slots, partition) = (self.slots, self.partition_id);
        let nodes = self.nodes.join(", ");
        write!(
            f,
            " in {slots} slots of partition {partition}, which only {nodes} may have"
        )
    }
}

/// All of them in a sentence.
pub fn in_words(unheld: &[Unheld]) -> String {
    let each: Vec<String> = unheld.iter().map(Unheld::to_string).collect();
    each.join("; ")
}

/// The reply to a change of the view.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewReply {
    /// `success`.
    pub msg: Cow<'static, str>,
    /// The partition of the node that was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_id: Option<u32>,
    /// Partitions of the view in force.
    pub number_of_partitions: usize,
    /// The number of the view.
    pub view: u64,
    /// `false`, and only there, when the data is still on its way to where it belongs.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub done: bool,
    /// There only where the request allowed it: what no live node held, and is lost unless the
    /// nodes that had it come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_loss: Vec<Unheld>,
}

fn yes() -> bool {
    true
}

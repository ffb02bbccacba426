//! Which nodes belong to the Raft group, and which of them vote.
//!
//! - [`voters`]: the rule. Pure: a picture of the group in, the next step out.
//! - [`reconcile`]: the task that draws the picture on the leader and takes the step.
//! - [`outgoing`]: the election of a node that is about to lose its vote.

pub mod outgoing;
pub mod reconcile;
pub mod voters;

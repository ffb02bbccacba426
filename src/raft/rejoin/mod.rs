//! How a node without its former disk becomes a voter again, without harm to what was decided.
//!
//! - [`eligibility`]: the rules, and this node's right to vote on disk.
//! - [`ask_voters`]: what the node asks the other voters before it follows or elects anybody.

pub mod ask_voters;
pub mod eligibility;

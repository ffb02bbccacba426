//! A node's part in its cluster: which cluster it is in, by which views, who else is there, and how
//! all of that changes.
//!
//! ```text
//! state_machine.rs  what the Raft group decides about
//! knowledge.rs      the newest views that the node knows
//! forming.rs        how far the cluster's birth is, in words
//! counts.rs         how many keys other members last had
//! offers.rs         offers of what nodes had when they were given up
//! fault.rs          the switch by which a node acts as a dead one
//! part.rs           a member's part, of all of these
//! liveness.rs       whether somebody else hears a member that this one does not
//! progress.rs       how far members are
//! holders.rs        who holds what, and what would be lost
//! asked.rs          what an operator may ask of the view, and what comes of it
//! dead.rs           whether a change would need nodes that are dead
//! overview.rs       how the views stand, for operators
//! plan.rs           what a change would do
//! change.rs         changes of the view that an operator asks for
//! follow.rs         newer views: heard of, stored, gone over to
//! driver.rs         what a member does for the Raft group
//! birth.rs          how the cluster comes about, at its first start
//! standby.rs        a node that is no member: it can be invited, and asks others what it is
//! ```

pub mod asked;
pub mod birth;
pub mod change;
pub mod counts;
pub mod dead;
pub mod driver;
pub mod fault;
pub mod follow;
pub mod forming;
pub mod holders;
pub mod knowledge;
pub mod liveness;
pub mod offers;
pub mod overview;
pub mod part;
pub mod plan;
pub mod progress;
pub mod standby;
pub mod state_machine;

//! The running node: waiting to be a member of a cluster, at work as one, or removed.
//!
//! ```text
//! orders.rs     faults on demand, asked for at any node
//! life.rs       what the node is in turn, and how it goes from one to the other
//! begin.rs      it finds out what it is, and begins as that
//! role.rs       the roles, and the work in each
//! damage.rs     data that cannot be read any more is put aside
//! start.rs      puts a member together
//! suspect.rs    what counts as lost at the start, since storing failed
//! serve.rs      what other nodes ask, and who answers it
//! readiness.rs  whether a member serves, and why not
//! member.rs     a member at work, of all that it has
//!
//! offline       work on the data of a node that is stopped
//! requests      what clients ask for, and how it gets to whoever does it
//! membership    which cluster the node is in, by which views, and how these change
//! replica       the thread that runs the replica: events in, effects out
//! wire          what nodes say to each other, and the connections
//!
//! seal.rs       what writes and reads payloads
//! env_file.rs   what a file says beside the environment
//! config.rs     what the environment says
//! tokens.rs     the tokens among it, and what each entitles to
//! secrets.rs    what it says that nobody else may know
//! error.rs      why a node cannot start
//! identity.rs   who the node is, on its disk
//! ```
//!
//! Each line imports from lines below it only.

mod begin;
pub mod config;
mod damage;
mod env_file;
mod error;
mod identity;
mod life;
mod member;
mod membership;
mod offline;
mod orders;
mod readiness;
mod replica;
mod requests;
mod role;
mod seal;
mod secrets;
mod serve;
mod start;
mod suspect;
pub mod tokens;
mod wire;

pub use env_file::with_file;
pub use error::StartError;
pub use life::Node;
pub use member::Member;
pub use membership::asked::{Asked, ChangeFailed, Changed};
pub use membership::holders::UnheldSlots;
pub use membership::overview::ViewGauges;
pub use membership::plan::{Gain, Moved, Planned};
pub use membership::state_machine;
pub use offline::force::{ForceError, Survivor};
pub use offline::inspect::{InspectError, Inspection};
pub use offline::scrub::{ScrubError, Scrubbed, scrub};
pub use orders::{FoundNode, NotObeyed};
pub use readiness::Absence;
pub use requests::admission::Failed;
pub use requests::batch::{BatchOp, BatchOutcome};
pub use requests::lists::Freshness;
pub use requests::operations::Wrote;
pub use role::Role;
pub use wire::messages::{Condition, MOST_TOGETHER, OfferProgress, Order, Progress};

//! A node's role, as others see it, and its work in that role.

use super::member::Member;
use super::membership::standby::Standby;
use super::wire::links::Links;
use crate::protocol::views::Views;
use crate::storage::Disk;
use std::sync::{Arc, Weak};

/// A node's role at the moment.
#[derive(Clone)]
pub enum Role {
    /// In no view yet.
    Standby,
    /// A member at work.
    Member(Arc<Member>),
    /// In the view no more, since this one or an earlier one.
    Removed {
        /// The number of the newest view that it knows.
        view: u64,
    },
    /// A store of the member failed: it looks through its data, and begins anew if a part of that
    /// is damaged.
    Broken {
        /// The newest that it knew.
        views: Arc<Views>,
    },
    /// The node acts as a dead member, until an operator has it recover.
    Failed {
        /// The newest that it knew.
        views: Arc<Views>,
        /// The member has ended.
        silent: bool,
    },
}

/// The work of a node between two changes of its role.
pub enum RoleWork {
    /// Requests under way may still hold on to the disk that the node had as an earlier member.
    Waiting(Standby, Weak<Disk>),
    Working(Arc<Member>),
    /// The disk of a member that failed, which may still be in use.
    Failed(Links, Weak<Disk>),
}

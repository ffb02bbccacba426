//! Which members answer: by the connections to them, which notice within a second or so when one
//! does not.

use crate::protocol::ids::MemberId;
use dashmap::DashMap;
use std::time::{Duration, Instant};

/// Since when members are away; `None` for those that are there.
#[derive(Debug, Default)]
pub struct Presence(DashMap<MemberId, Option<Instant>>);

impl Presence {
    /// The member is connected.
    pub fn up(&self, member: MemberId) {
        self.0.insert(member, None);
    }

    /// The connection to the member is gone.
    pub fn down(&self, member: MemberId) {
        self.0.insert(member, Some(Instant::now()));
    }

    /// How long a member has been away; of one that never was there, since the first question.
    pub fn away(&self, member: MemberId) -> Option<Duration> {
        let since = *self.0.entry(member).or_insert_with(|| Some(Instant::now()));
        since.map(|since| since.elapsed())
    }
}

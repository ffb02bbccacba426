//! Which proposals have been applied: a retried one gets the outcome of its first copy.
//!
//! A session numbers its proposals, and each proposal says below which number nobody waits any
//! more. So the outcomes that are kept are bounded by what a session has in flight ([`WINDOW`]) and
//! by the number of sessions ([`MAX_SESSIONS`]). They are part of the replicated state: every node
//! keeps and forgets the same ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::propose::batch::{Header, SessionId};
use super::types::EncodedOutcome;

/// Span of the numbers that a session may have in flight.
pub const WINDOW: u64 = 1 << 16;
/// Sessions that are remembered. Beyond that the one that has proposed nothing for the longest time
/// is forgotten.
const MAX_SESSIONS: usize = 1024;

/// The sessions that have proposed something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    known: BTreeMap<SessionId, Session>,
    /// Proposals looked up so far: the clock by which sessions grow old.
    now: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    used: u64,
    below: u64,
    outcomes: BTreeMap<u64, EncodedOutcome>,
}

/// Whether a proposal was applied before.
#[derive(Debug, PartialEq, Eq)]
pub enum KnownProposal {
    New,
    Applied(EncodedOutcome),
    Past,
}

impl Sessions {
    /// Looks a proposal up, and forgets what its session no longer waits for.
    pub fn look(&mut self, proposal: &Header) -> KnownProposal {
        self.now += 1;
        let session = self.known.entry(proposal.session).or_default();
        session.used = self.now;
        if proposal.below > session.below {
            session.below = proposal.below;
            // One by one: mostly there is one outcome, and a split would make a new map each time.
            while let Some(oldest) = session.outcomes.first_entry()
                && *oldest.key() < proposal.below
            {
                oldest.remove();
            }
        }
        if proposal.number < session.below {
            return KnownProposal::Past;
        }
        let known = session.outcomes.get(&proposal.number).cloned();
        if self.known.len() > MAX_SESSIONS {
            self.forget_oldest();
        }
        known.map_or(KnownProposal::New, KnownProposal::Applied)
    }

    /// Remembers the outcome of a proposal that was new.
    pub fn applied(&mut self, proposal: &Header, outcome: EncodedOutcome) {
        if let Some(session) = self.known.get_mut(&proposal.session) {
            session.outcomes.insert(proposal.number, outcome);
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.known.iter().min_by_key(|(_, session)| session.used);
        if let Some(id) = oldest.map(|(id, _)| *id) {
            self.known.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::MemberId;

    fn proposal(run: u64, number: u64, below: u64) -> Header {
        let session = SessionId {
            member: MemberId(1),
            run,
        };
        Header {
            session,
            number,
            below,
        }
    }

    #[test]
    fn a_proposal_is_new_once_and_is_forgotten_when_nobody_waits() {
        let mut sessions = Sessions::default();
        let first = proposal(7, 0, 0);
        assert_eq!(sessions.look(&first), KnownProposal::New);
        sessions.applied(&first, EncodedOutcome::from_slice(b"a"));
        let known = KnownProposal::Applied(EncodedOutcome::from_slice(b"a"));
        assert_eq!(sessions.look(&first), known);
        assert_eq!(sessions.look(&proposal(8, 0, 0)), KnownProposal::New);
        assert_eq!(sessions.look(&proposal(7, 3, 1)), KnownProposal::New);
        assert_eq!(sessions.look(&first), KnownProposal::Past);
        assert!(sessions.known.values().all(|s| s.outcomes.is_empty()));
    }

    #[test]
    fn the_number_of_sessions_is_bounded() {
        let mut sessions = Sessions::default();
        for run in 0..2 * MAX_SESSIONS as u64 {
            let one = proposal(run, 0, 0);
            assert_eq!(sessions.look(&one), KnownProposal::New);
            sessions.applied(&one, EncodedOutcome::from_slice(b"x"));
            // In use, so it stays.
            assert_ne!(sessions.look(&proposal(0, 0, 0)), KnownProposal::New);
        }
        assert_eq!(sessions.known.len(), MAX_SESSIONS);
    }
}

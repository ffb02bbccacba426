//! Read buffers, signs of life and shared state of a connection, at either end.

use super::{
    PeerId,
    config::{NetConfig, NetLimits, PeerState},
    stats::Stats,
};
use crate::protocol::ids::MemberId;
use bytes::BytesMut;
use std::sync::Arc;

/// Bytes asked of the operating system at a time.
const READ: usize = 64 * 1024;
/// A read buffer with less room than this many bytes grows: a system call for less is not worth it.
const LEAST: usize = READ / 8;
/// A read buffer of more than this many bytes, left by a long frame, is given back when it is
/// empty.
const KEEP: usize = 1024 * 1024;

/// State that all tasks of the network share.
#[derive(Debug)]
pub struct NetShared {
    pub config: NetConfig,
    pub stats: Arc<Stats>,
}

impl NetShared {
    /// Whether an accepted connection has a stranger at either end: it is then open for a short
    /// time, for requests only.
    pub fn strange(&self, from: PeerId) -> bool {
        self.config.identity.is_stranger() || from.is_stranger()
    }

    /// Calls [`OnState`], if there is one.
    pub fn tell(&self, member: MemberId, state: PeerState) {
        if let Some(on_state) = &self.config.on_state {
            on_state(member, state);
        }
    }
}

/// Makes room for the next read.
pub fn make_room(input: &mut BytesMut) {
    if input.is_empty() && input.capacity() > KEEP {
        *input = BytesMut::new();
    }
    if input.capacity() - input.len() < LEAST {
        input.reserve(READ);
    }
}

/// Whether a connection is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vital {
    Good,
    /// Nothing has come for too long.
    Silent,
    /// Nothing has left for too long, although something is waiting to.
    Stalled,
}

/// Watches a connection for signs of life. It counts heartbeats and not time, so that a node that
/// was itself halted for a while does not take its peers for dead.
#[derive(Debug)]
pub struct Watch {
    /// Something came since the last heartbeat.
    pub heard: bool,
    /// Something left since the last heartbeat.
    pub wrote: bool,
    quiet: u32,
    stuck: u32,
    max_quiet: u32,
    max_stuck: u32,
}

impl Watch {
    pub fn new(limits: &NetLimits, silence: std::time::Duration) -> Self {
        Self {
            heard: true,
            wrote: true,
            quiet: 0,
            stuck: 0,
            max_quiet: limits.beats(silence),
            max_stuck: limits.beats(limits.stall),
        }
    }

    /// Takes note of a heartbeat. `listening` is whether the connection is being read, `waiting`
    /// whether bytes wait to be written.
    pub fn beat(&mut self, listening: bool, waiting: bool) -> Vital {
        let heard = std::mem::take(&mut self.heard);
        let wrote = std::mem::take(&mut self.wrote);
        self.quiet = if heard || !listening {
            0
        } else {
            self.quiet + 1
        };
        self.stuck = if wrote || !waiting { 0 } else { self.stuck + 1 };
        if self.quiet >= self.max_quiet {
            Vital::Silent
        } else if self.stuck >= self.max_stuck {
            Vital::Stalled
        } else {
            Vital::Good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn silence_and_stalls_are_noticed_after_their_time() {
        let limits = NetLimits {
            heartbeat: Duration::from_millis(100),
            stall: Duration::from_millis(500),
            ..NetLimits::default()
        };
        let mut watch = Watch::new(&limits, Duration::from_millis(300));
        assert_eq!(watch.beat(true, false), Vital::Good);
        assert_eq!(watch.beat(true, false), Vital::Good);
        assert_eq!(watch.beat(true, false), Vital::Good);
        assert_eq!(watch.beat(true, false), Vital::Silent);
        // A connection that is not read hears nothing.
        assert_eq!(watch.beat(false, false), Vital::Good);
        for _ in 0..4 {
            watch.heard = true;
            assert_eq!(watch.beat(true, true), Vital::Good);
        }
        watch.heard = true;
        assert_eq!(watch.beat(true, true), Vital::Stalled);
        watch.heard = true;
        watch.wrote = true;
        assert_eq!(watch.beat(true, true), Vital::Good);
    }
}

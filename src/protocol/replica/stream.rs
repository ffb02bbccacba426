//! The own log, sent to every peer in order as it grows.
//!
//! A receiver never skips: it answers a write that does not follow on what it has with where it is,
//! and the sender goes back. A write goes out at once, while it is being stored here, to a peer
//! that has confirmed all before it; else with those that have become durable meanwhile. A peer
//! that is further back than the memory of recent writes reaches pulls the rest (pull.rs) and is
//! streamed to again.

use super::super::ids::{Dot, LogId, MemberId};
use super::super::limits::{Bound, met};
use super::super::message::{Ack, Append, Message};
use super::super::store::{Store, StoreError};
use super::super::teeth::{Rule, broken};
use super::super::version::Version;
use super::{Replica, cannot_be};
use std::collections::{BTreeMap, VecDeque};

/// Without progress for this long, what is unacknowledged is sent again, in microseconds.
const RESEND_US: u64 = 300_000;
/// Going back at a peer's word happens at most this often, in microseconds.
const REWIND_US: u64 = 20_000;

/// The recent writes of the own log.
#[derive(Default)]
pub(super) struct Tail {
    versions: VecDeque<Version>,
    /// Writes before the first one kept.
    before: u64,
    bytes: usize,
}

/// Where a peer is in the stream.
#[derive(Default, Clone, Copy)]
pub(super) struct Stream {
    /// The last seq sent.
    sent: u64,
    acked: u64,
    inflight_bytes: usize,
    progress_us: u64,
    rewound_us: u64,
}

impl Tail {
    pub(super) fn push(&mut self, version: Version, keep: bool) {
        if !keep {
            self.before = version.dot.seq;
            return;
        }
        self.bytes += version.size();
        self.versions.push_back(version);
    }

    /// Forgets what all have, and the oldest beyond the bound.
    fn trim(&mut self, acked_by_all: u64, most: usize) {
        let bytes = &mut self.bytes;
        while let Some(gone) = self
            .versions
            .pop_front_if(|v| v.dot.seq <= acked_by_all || *bytes > most)
        {
            if gone.dot.seq > acked_by_all {
                met(Bound::Tail);
            }
            *bytes -= gone.size();
            self.before = gone.dot.seq;
        }
    }

    /// Writes after `seq`, when the tail still reaches back there.
    fn after(&self, seq: u64) -> Option<impl Iterator<Item = &Version>> {
        let skip = usize::try_from(seq.checked_sub(self.before)?).ok()?;
        (skip <= self.versions.len()).then(|| self.versions.range(skip..))
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Sends what is durable here to every live peer.
    pub(super) fn pump_all(&mut self) {
        let (Some(state), Some(own)) = (self.cohorts.own(), self.logs.own()) else {
            return;
        };
        let (readers, upto) = (state.peers.clone(), own.applied);
        for peer in &readers {
            self.pump(*peer, upto);
        }
        let acked = readers.iter().filter_map(|m| self.peers.get(*m));
        let acked = acked.map(|p| p.stream.acked).min();
        self.tail
            .trim(acked.unwrap_or(u64::MAX), self.limits.tail_bytes);
    }

    /// Sends what is not durable here yet to peers with nothing on its way to them: they store it
    /// meanwhile. To the others it goes with what follows, in fewer messages.
    pub(super) fn pump_ahead(&mut self) {
        let Some(upto) = self.logs.own().map(|own| own.received) else {
            return;
        };
        let idle = |m: &MemberId| {
            let stream = self.peers.get(*m).map(|p| p.stream);
            stream.is_some_and(|s| s.sent == s.acked && s.sent < upto)
        };
        let state = self.cohorts.own().filter(|_| self.opened);
        let idle: Vec<_> = state.map_or(Vec::new(), |t| {
            t.peers.iter().copied().filter(|m| idle(m)).collect()
        });
        for peer in idle {
            self.pump(peer, upto);
        }
    }

    /// Sends writes up to a seq.
    fn pump(&mut self, to: MemberId, upto: u64) {
        let (now, limits) = (self.now, self.limits);
        let begins = self.peers.get(to).is_some_and(|p| p.stream.begins());
        let seals = match begins {
            true => self.seals_for(self.log),
            false => Vec::new(),
        };
        let Some(own) = self.logs.own().copied() else {
            return;
        };
        if !self.peers.is_alive(to, now) {
            return;
        }
        let Some(stream) = self.peers.stream_mut(to) else {
            return;
        };
        let stuck = now.mono_us.saturating_sub(stream.progress_us) > RESEND_US;
        if stream.sent > stream.acked && stuck {
            stream.go_back(stream.acked, now.mono_us);
        }
        let mut messages = Vec::new();
        while stream.sent < upto {
            if stream.inflight_bytes >= limits.window_bytes && stream.sent > stream.acked {
                met(Bound::Window);
                break;
            }
            let Some(tail) = self.tail.after(stream.sent) else {
                break;
            };
            let mut versions = Vec::new();
            let mut bytes = 0;
            for version in tail.take_while(|v| v.dot.seq <= upto) {
                if bytes > 0 && bytes + version.size() > limits.append_bytes {
                    met(Bound::Append);
                    break;
                }
                bytes += version.size();
                versions.push(version.clone());
            }
            let Some(first) = versions.first().map(|v| v.dot.seq) else {
                break;
            };
            if stream.sent == stream.acked {
                stream.progress_us = now.mono_us;
            }
            stream.sent = first + versions.len() as u64 - 1;
            stream.inflight_bytes += bytes;
            messages.push(Message::Append(Append {
                first,
                versions,
                stable: own.stable,
                seals: match first {
                    1 => seals.clone(),
                    _ => Vec::new(),
                },
            }));
        }
        for message in messages {
            self.effects.send(to, message);
        }
    }

    /// A peer said how far it is in a log.
    pub(super) fn acked(&mut self, from: MemberId, ack: Ack) {
        let now = self.now;
        let own = self.log;
        let Some(state) = self.cohort_of(ack.log) else {
            return;
        };
        let counts =
            ack.met == self.sharing().met(state.cohort.id) || broken(Rule::StableAcrossStarts);
        self.peers.acknowledged(from, &ack, counts);
        if ack.log == own
            && let Some(stream) = self.peers.stream_mut(from)
        {
            stream.acknowledged(ack.applied, now.mono_us);
            let again = now.mono_us.saturating_sub(stream.rewound_us) > REWIND_US;
            if ack.gap && ack.received < stream.sent && again {
                stream.go_back(ack.received, now.mono_us);
            }
        }
        self.refresh_stable();
        self.expose();
        self.pump_all();
    }

    /// The next writes of a peer's log.
    pub(super) fn append(
        &mut self,
        from: MemberId,
        incarnation: u64,
        append: Append,
    ) -> Result<(), StoreError> {
        let id = LogId {
            member: from,
            incarnation,
        };
        let Some(cohort) = self.cohort_of(id).map(|state| state.cohort.id) else {
            return Ok(());
        };
        // Nobody writes in another's log. The first stands for all: this is for every write.
        if append.versions.first().is_some_and(|v| v.dot.log != id) {
            return Ok(());
        }
        // A replica that will fetch a snapshot takes nothing that may be older than a collected
        // tombstone; one whose disk is full or behind will be sent it again.
        if !self.takes(cohort) || self.room.none().is_some() || self.disk_is_behind() {
            return Ok(());
        }
        let met = self.sharing().met(cohort);
        self.track(id);
        let (received, applied) = (self.logs.received(id), self.logs.applied(id));
        self.logs.hear_stable(id, append.stable.min(applied));
        let last = append.first + append.versions.len() as u64;
        let gap = append.first > received + 1 && !broken(Rule::AcceptGap);
        if gap || last <= received + 1 {
            if !gap {
                self.logs.progressed(id, self.now);
            }
            let ack = Ack {
                log: id,
                applied,
                received,
                gap,
                met,
            };
            self.effects.send(from, Message::Ack(ack));
            return Ok(());
        }
        // The earlier logs are pulled first; then the stream comes again.
        if received == 0 && !self.is_begun_right(id, &append.seals) {
            return Ok(());
        }
        for (seq, version) in (append.first..).zip(append.versions) {
            if seq <= received {
                continue;
            }
            let dot = Dot { log: id, seq };
            let key = self.keep(version)?;
            self.stage_dot(dot, key);
        }
        if broken(Rule::ConfirmBeforeDurable) {
            let received = self.logs.received(id);
            let ack = Ack {
                log: id,
                applied: received,
                received,
                gap: false,
                met,
            };
            self.effects.send(from, Message::Ack(ack));
        }
        Ok(())
    }

    /// Tells the writers whose logs moved how far they are durable here.
    pub(super) fn send_acks(&mut self, before: &BTreeMap<LogId, u64>) {
        for id in before.keys() {
            let Some(log) = self.logs.get(*id) else {
                cannot_be("a log moved that is not tracked");
                continue;
            };
            let met = self.sharing().met(log.cohort);
            let ack = Ack {
                log: *id,
                applied: log.applied,
                received: log.received,
                gap: false,
                met,
            };
            if self.peers.contains(id.member) {
                self.effects.send(id.member, Message::Ack(ack));
            }
        }
    }
}

impl Stream {
    /// Whether the log's first write may be sent next, or again.
    fn begins(&self) -> bool {
        self.acked == 0
    }

    fn go_back(&mut self, to: u64, mono_us: u64) {
        self.sent = to;
        self.inflight_bytes = 0;
        self.progress_us = mono_us;
        self.rewound_us = mono_us;
    }

    pub(super) fn acknowledged(&mut self, applied: u64, mono_us: u64) {
        if applied <= self.acked {
            return;
        }
        // Bytes are not kept by seq: what is left is estimated by its share.
        let (open, done) = (self.sent.saturating_sub(self.acked), applied - self.acked);
        self.inflight_bytes = if applied >= self.sent {
            0
        } else {
            let left = u128::from(open.saturating_sub(done)) * self.inflight_bytes as u128;
            usize::try_from(left / u128::from(open.max(1))).unwrap_or(0)
        };
        self.acked = applied;
        self.sent = self.sent.max(applied);
        self.progress_us = mono_us;
    }
}

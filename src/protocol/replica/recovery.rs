//! From start to serving.
//!
//! A replica whose disk has served before compares itself with a live peer, for a second at most,
//! and serves. One whose disk is empty, or older than what its peers count on, first fetches a
//! snapshot, however long that takes. In the first start of a partition all disks are empty: when
//! the replicas have told each other so, they serve.

use super::super::ids::{LogId, MemberId};
use super::super::message::{Gossip, LogReport};
use super::super::record::{self, Identity};
use super::super::store::Store;
use super::{Now, Replica};
use std::collections::BTreeMap;

/// How long a replica waits for peers before it goes on without those that do not answer, in
/// microseconds.
const PATIENCE_US: u64 = 1_000_000;

/// Where a replica is between start and serving.
pub(super) struct Recovery {
    started_us: u64,
    pub(super) serving: bool,
    /// The disk has served before and is not known to be old.
    intact: bool,
    /// The disk is old or empty and a peer has data: only a snapshot helps.
    fetch: bool,
    /// A snapshot has been taken in; its marks, which must be durable before reads are served.
    fetched: Option<Vec<LogReport>>,
    /// The first peer heard, with where it was, and where this replica was then.
    contact: Option<Contact>,
}

struct Contact {
    peer: MemberId,
    theirs: BTreeMap<LogId, u64>,
    ours: BTreeMap<LogId, u64>,
}

impl Recovery {
    pub(super) fn new(now: Now, served: bool) -> Self {
        Self {
            started_us: now.mono_us,
            serving: false,
            intact: served,
            fetch: false,
            fetched: None,
            contact: None,
        }
    }

    pub(super) fn fetched(&mut self, marks: Vec<LogReport>) {
        self.fetch = false;
        self.fetched = Some(marks);
    }
}

impl<S: Store, T> Replica<S, T> {
    /// Writes down who uses the disk now. When that is durable the peers are asked where they are.
    pub(super) fn start(&mut self) {
        self.stage_identity(self.recovery.intact);
        self.try_serve();
    }

    fn stage_identity(&mut self, served: bool) {
        let identity = Identity {
            member: self.me,
            incarnation: self.log.incarnation,
            fingerprint: self.view.fingerprint(),
            served,
        };
        self.staged
            .records
            .put(record::IDENTITY, record::encode(&identity));
    }

    /// Why reads are not served, if they are not.
    pub(super) fn recovery_reason(&self) -> Option<String> {
        if self.recovery.serving {
            return None;
        }
        let waiting_for = |members: Vec<MemberId>| {
            let address = |m: &MemberId| self.view.address(*m).map(|a| a.to_string());
            members
                .iter()
                .filter_map(address)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let peers = waiting_for(self.peer_ids.clone());
        Some(match (&self.snapshot, self.recovery.intact) {
            (Some(fetch), _) => format!("its data is being copied from {}", {
                waiting_for(vec![fetch.source()])
            }),
            (None, true) => format!("it has just started and is asking its peers ({peers})"),
            (None, false) => format!(
                "its disk is empty or old, and no replica of its partition that has the data has answered yet ({peers})"
            ),
        })
    }

    /// Why writes are not taken, if they are not: a log may only be opened by who knows what
    /// the partition has promised.
    pub(super) fn refuses_writes(&self) -> Option<String> {
        if self.recovery.intact {
            None
        } else {
            self.recovery_reason()
        }
    }

    /// Whether what is here is only good as the target of a snapshot.
    pub(super) fn must_fetch_snapshot(&self) -> bool {
        self.recovery.fetch
    }

    /// Whether this replica knows of nobody who has data.
    pub(super) fn is_fresh(&self) -> bool {
        !self.recovery.intact
            && !self.recovery.serving
            && self.recovery.fetched.is_none()
            && !self.recovery.fetch
    }

    /// Learns from gossip how this disk compares.
    pub(super) fn compare(&mut self, from: MemberId, gossip: &Gossip) {
        let old = self.is_older_than(gossip);
        let empty = !self.recovery.intact && self.recovery.fetched.is_none();
        if (old || (empty && !gossip.fresh)) && !self.peer_ids.is_empty() && !self.recovery.fetch {
            self.recovery.fetch = true;
            self.recovery.intact = false;
            self.recovery.serving = false;
            self.marks_changed = true;
        }
        if self.recovery.fetch {
            // What was deleted and collected while this replica was away must not come back. What
            // it promised before is lost with its disk, but a peer that counted on it had heard
            // of a later clock.
            self.keep_promise(gossip.clock);
            if gossip.serving {
                self.fetch_snapshot_from(from);
            }
        }
        let contact = self.recovery.contact.as_ref();
        let gone = contact.is_some_and(|c| {
            let peer = self.peers.get(&c.peer);
            !peer.is_some_and(|p| p.alive(self.now))
        });
        if (contact.is_none() || gone) && !self.recovery.serving {
            self.recovery.contact = Some(Contact {
                peer: from,
                theirs: gossip.logs.iter().map(|r| (r.log, r.applied)).collect(),
                ours: self.logs.iter().map(|(id, l)| (*id, l.applied)).collect(),
            });
        }
        self.try_serve();
    }

    /// Whether the peer counts on something that is not here: it knows a write to be at every
    /// replica, and this one lacks it.
    fn is_older_than(&self, gossip: &Gossip) -> bool {
        let behind = |log: LogId, seq: u64| match self.logs.get(&log) {
            Some(l) => l.applied < seq,
            None => seq > 0 && !self.is_finished(log),
        };
        gossip.logs.iter().any(|r| behind(r.log, r.stable))
            || gossip.finished.iter().any(|(member, finished)| {
                finished.recent.iter().any(|&(incarnation, last)| {
                    let log = LogId {
                        member: *member,
                        incarnation,
                    };
                    behind(log, last)
                })
            })
    }

    /// Starts to serve when nothing speaks against it any more.
    pub(super) fn try_serve(&mut self) {
        if self.recovery.serving || self.recovery.fetch || self.snapshot.is_some() {
            return;
        }
        let waited = self.now.mono_us.saturating_sub(self.recovery.started_us) >= PATIENCE_US;
        let ready = if self.peer_ids.is_empty() {
            true
        } else if let Some(marks) = &self.recovery.fetched {
            let applied =
                |r: &LogReport| self.logs.get(&r.log).is_none_or(|l| l.applied >= r.applied);
            marks.iter().all(applied)
        } else if self.recovery.intact {
            waited || self.level_with_contact()
        } else {
            let heard = self.peers.values().filter(|p| p.incarnation.is_some());
            let (all, fresh) = (
                heard.clone().count(),
                heard.clone().filter(|p| p.fresh || p.serving).count(),
            );
            // Empty, and so is everybody who answered. One may serve already, having been
            // the first to hear it from all.
            all > 0 && fresh == all && (all == self.peer_ids.len() || waited)
        };
        if ready {
            self.recovery.serving = true;
            self.recovery.intact = true;
            self.stage_identity(true);
            self.marks_changed = true;
            if self.opened {
                self.send_gossip(false);
            }
        }
    }

    /// Whether this replica has caught up with the first peer it heard, and that peer has all
    /// that was only here.
    fn level_with_contact(&self) -> bool {
        let Some(contact) = &self.recovery.contact else {
            return false;
        };
        let applied = |id: &LogId| self.logs.get(id).map_or(0, |l| l.applied);
        let peer = self.peers.get(&contact.peer);
        let peer_applied = |id: &LogId| peer.and_then(|p| p.applied.get(id).copied()).unwrap_or(0);
        let done = |id: &LogId| self.is_finished(*id);
        contact
            .theirs
            .iter()
            .all(|(id, seq)| done(id) || applied(id) >= *seq)
            && contact
                .ours
                .iter()
                .all(|(id, seq)| done(id) || peer_applied(id) >= *seq)
    }
}

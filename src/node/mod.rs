//! A stand-in for the running node: one map in memory behind the node's facade. It lets the HTTP
//! surface be built and tested by itself; replaced on merge.

pub mod config;
mod run;
pub mod status;

pub use run::{RunError, run};

use crate::protocol::clock::Timestamp;
use crate::protocol::context::{Codec, Context};
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::op::{Consistency, Found, Missing, Read, Refusal, Written};
use crate::protocol::version::Key;
use crate::protocol::view::{PartitionId, View};
use bytes::Bytes;
use dashmap::DashMap;
use status::{
    EntryState, Explained, MemberStatus, NodeCounters, PartitionStatus, PeerStatus, Status,
    ViewStatus,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A request that was not done.
#[derive(Debug)]
pub struct Failed {
    pub refusal: Refusal,
    /// The request's own context, merged with what is known.
    pub context: Context,
}

/// What a write came to.
#[derive(Debug)]
pub enum Wrote {
    Written(Written),
    /// A delete of a key that is not there.
    NothingToDelete(Context),
}

/// The node.
pub struct Node {
    codec: Codec,
    view: Arc<View>,
    log: LogId,
    seq: AtomicU64,
    store: DashMap<Key, Bytes>,
    counters: NodeCounters,
    max_value_bytes: usize,
    ready: AtomicBool,
}

const WALL_MS: u64 = 1_790_000_000_000;

impl Node {
    /// A node that is the first of `view`, with its data in memory.
    #[must_use]
    pub fn stub(view: View, codec: Codec, max_value_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            codec,
            view: Arc::new(view),
            log: LogId {
                member: MemberId(0),
                incarnation: 1,
            },
            seq: AtomicU64::new(0),
            store: DashMap::new(),
            counters: NodeCounters::default(),
            max_value_bytes,
            ready: AtomicBool::new(true),
        })
    }

    /// Makes the node say that it recovers, or that it serves.
    pub fn stub_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::SeqCst);
    }

    fn seen(&self, mut context: Context) -> Context {
        context.clock = context.clock.max(Timestamp::from_ms(WALL_MS));
        let seq = self.seq.load(Ordering::SeqCst);
        if seq > 0 {
            context.see(self.log, seq);
        }
        context
    }

    /// Keys with these names are refused, so that tests see every refusal.
    fn refuse(key: &Key, context: &Context) -> Result<(), Failed> {
        let refusal = match key.as_ref() {
            b"refuse:ahead" => Refusal::ClockAhead { ahead_ms: 60_000 },
            b"refuse:unknown" => Refusal::UnknownMember(MemberId(9)),
            b"refuse:short" => Refusal::Short(vec![Missing {
                log: LogId::default(),
                have: 1,
                need: 2,
                holders: vec![MemberId(1)],
            }]),
            b"refuse:recovering" => Refusal::Recovering("its disk was empty".into()),
            b"refuse:unreachable" => Refusal::Unreachable {
                partition: PartitionId(1),
                tried: vec![MemberId(2)],
            },
            b"refuse:old" => Refusal::StampTooOld(Timestamp::from_ms(1)),
            b"refuse:notmine" => Refusal::NotMine,
            b"refuse:full" => Refusal::DiskFull("no bytes left".into()),
            b"refuse:storage" => Refusal::Storage("a page is damaged".into()),
            b"refuse:overloaded" => Refusal::Overloaded,
            b"refuse:ending" => Refusal::ShuttingDown,
            _ => return Ok(()),
        };
        Err(Failed {
            refusal,
            context: context.clone(),
        })
    }

    /// How contexts are written and read.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The view in force.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// The node's number.
    pub fn me(&self) -> MemberId {
        self.log.member
    }

    /// The longest value that is taken, in bytes of JSON text.
    pub fn max_value_bytes(&self) -> usize {
        self.max_value_bytes
    }

    /// What the committer counted.
    pub fn counters(&self) -> &NodeCounters {
        &self.counters
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When no replica could answer as asked.
    pub async fn get(
        &self,
        key: Key,
        context: Context,
        consistency: Consistency,
    ) -> Result<Read, Failed> {
        Self::refuse(&key, &context)?;
        let found = self.store.get(&key).map(|value| Found {
            value: value.clone(),
            wall_ms: WALL_MS,
        });
        Ok(Read {
            found,
            context: self.seen(context),
            stale: consistency == Consistency::Eventual && key.as_ref() == b"stale",
        })
    }

    /// Writes or, with `None`, deletes a key.
    ///
    /// # Errors
    /// When no replica could take the write.
    pub async fn write(
        &self,
        key: Key,
        value: Option<Bytes>,
        context: Context,
    ) -> Result<Wrote, Failed> {
        Self::refuse(&key, &context)?;
        let created = match value {
            Some(value) => self.store.insert(key, value).is_none(),
            None if self.store.remove(&key).is_none() => {
                return Ok(Wrote::NothingToDelete(self.seen(context)));
            }
            None => false,
        };
        self.seq.fetch_add(1, Ordering::SeqCst);
        Ok(Wrote::Written(Written {
            context: self.seen(context),
            wall_ms: WALL_MS,
            copies: 2,
            created,
        }))
    }

    /// Live keys in this node's store.
    pub fn live_keys(&self) -> u64 {
        self.store.len() as u64
    }

    /// Whether the node serves reads.
    ///
    /// # Errors
    /// Why it does not.
    pub fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err("the node is recovering: its disk was <empty>".into())
        }
    }

    /// The node as it sees itself.
    pub fn status(&self) -> Status {
        let address = |m: MemberId| {
            self.view
                .address(m)
                .map_or_else(String::new, |a| a.to_string())
        };
        let ready = self.ready();
        Status {
            node: address(self.me()),
            member: self.me().0,
            incarnation: self.log.incarnation,
            version: env!("CARGO_PKG_VERSION").into(),
            state: if ready.is_ok() {
                "serving"
            } else {
                "recovering"
            }
            .into(),
            reason: ready.err(),
            partition_id: self.view.partition_of(self.me()).map_or(0, |p| p.0),
            view: ViewStatus {
                number: self.view.number,
                k: self.view.k,
                partitions: self
                    .view
                    .partitions()
                    .map(|(id, members)| PartitionStatus {
                        partition_id: id.0,
                        members: members
                            .iter()
                            .map(|m| MemberStatus {
                                node: address(*m),
                                member: m.0,
                                alive: true,
                            })
                            .collect(),
                    })
                    .collect(),
            },
            keys: self.live_keys(),
            tombstones: 3,
            unstable: 4,
            stalled_reads: 5,
            peers: vec![PeerStatus {
                node: address(MemberId(1)),
                member: 1,
                alive: true,
                lag: 6,
                behind: 7,
            }],
            storage_bytes: 8_000,
            free_bytes: 9_000_000,
            uptime_seconds: 10,
            clock_ms: WALL_MS,
        }
    }

    /// Says what each entry of a context stands for.
    pub fn explain(&self, context: &Context) -> Vec<Explained> {
        context
            .iter()
            .map(|(log, seq)| Explained {
                node: self
                    .view
                    .address(log.member)
                    .map_or_else(String::new, |a| a.to_string()),
                member: log.member.0,
                incarnation: log.incarnation,
                seq,
                partition_id: 0,
                state: EntryState::Here,
                holders: vec![],
                text: format!("writes of {} up to {seq}", log.member),
            })
            .collect()
    }
}

//! Clients that roam between the nodes: how they treat their contexts, and what they ask for.

use super::node::Input;
use super::operation::Operation;
use super::oracle::Past;
use super::plan::Plan;
use super::rng::Rng;
use super::world::{Failed, START_MS, World};
use bytes::Bytes;
use causeway::protocol::cluster::{Cluster, ClusterId, PayloadKey};
use causeway::protocol::context::Context;
use causeway::protocol::ids::{self, LogId, MemberId};
use causeway::protocol::op::{Consistency, Op};
use causeway::protocol::payload::Codec;
use causeway::protocol::version::{Key, Stamp};

/// How a client treats its context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sends what the last reply gave.
    Faithful,
    /// As a faithful client, and a second one uses the same context.
    Shared(usize),
    /// Sends none and keeps none.
    SessionLess,
    /// Sometimes comes back with a context that it had long before.
    Late,
}

/// A client.
pub struct Session {
    pub kind: Kind,
    pub context: Context,
    /// A payload that the client comes with, of another cluster or of an earlier life of this one.
    foreign: Option<String>,
    /// The full past that the context stands for.
    pub past: Past,
    old: Vec<(Context, Past)>,
    /// A client that stays at one node.
    home: Option<usize>,
    pub(super) rng: Rng,
    pub op: Option<usize>,
}

impl Session {
    /// The clients of a plan.
    pub fn all(plan: &Plan, rng: &mut Rng) -> Vec<Self> {
        let load = &plan.load;
        let session = |i: usize| {
            let kind = if i > 0 && rng.percent(load.sharing) {
                Kind::Shared(rng.index(i))
            } else if rng.percent(load.session_less) {
                Kind::SessionLess
            } else if rng.percent(load.late) {
                Kind::Late
            } else {
                Kind::Faithful
            };
            let keeps = matches!(kind, Kind::Faithful | Kind::Late);
            let foreign = keeps && rng.percent(load.from_earlier);
            Self {
                kind,
                context: Context::default(),
                foreign: foreign.then(|| from_earlier(plan, rng)),
                past: Past::default(),
                old: Vec::new(),
                home: rng.percent(25).then(|| rng.index(plan.nodes)),
                rng: Rng::new(rng.next()),
                op: None,
            }
        };
        (0..load.sessions).map(session).collect()
    }
}

/// The codec for the payloads of a cluster.
pub fn codec(cluster: u8) -> Codec {
    let cluster = Cluster {
        id: ClusterId([cluster; 16]),
        key: PayloadKey([cluster; 32]),
        former: None,
    };
    Codec::new(&cluster, None)
}

/// The cluster that is simulated.
pub const CLUSTER: u8 = 1;

/// A payload of an earlier run of the cluster, whose disks are all gone: the payload names logs
/// that nobody has, and may come from a view that there is not yet.
fn from_earlier(plan: &Plan, rng: &mut Rng) -> String {
    let mut context = Context::default();
    if rng.percent(50) {
        context.view = rng.below(1_000);
    }
    for _ in 0..1 + rng.index(3) {
        let log = LogId {
            member: MemberId(rng.index(plan.nodes) as u16),
            incarnation: ids::incarnation(
                1,
                ids::start_at(START_MS - 1_000_000 + rng.below(500_000), 0),
            ),
        };
        context.see(log, 1 + rng.below(1_000));
    }
    codec(CLUSTER + 1).encode(&context)
}

pub fn key(i: usize) -> Key {
    Key::from(format!("k{i}"))
}

/// A value of up to so many bytes, short ones as likely as long ones.
fn value(rng: &mut Rng, most: usize) -> Bytes {
    const ZEROS: &[u8] = &[0; 2_000];
    if most == 0 {
        return Bytes::new();
    }
    let bits = rng.below(u64::from(most.ilog2()) + 2);
    let most = most.min(1 << bits).min(ZEROS.len());
    Bytes::from_static(&ZEROS[..rng.index(most + 1)])
}

/// A number below `n`, of which rank `r` has weight `(r + 1) ^ -(exponent / 100)`.
fn zipf(rng: &mut Rng, n: usize, exponent: u64) -> usize {
    let weight = |rank: usize| (rank as f64).powf(-(exponent as f64) / 100.0);
    let all: f64 = (1..=n).map(weight).sum();
    let mut dice = rng.below(1 << 53) as f64 / (1u64 << 53) as f64 * all;
    (1..n)
        .position(|rank| {
            dice -= weight(rank);
            dice < 0.0
        })
        .unwrap_or(n - 1)
}

impl World {
    /// A session's next operation.
    pub fn issue(&mut self, session: usize) -> Result<(), Failed> {
        if !self.busy {
            return Ok(());
        }
        let members = self.members();
        let out = |n: usize| self.nodes[n].out || !self.nodes[n].begun;
        let gone: Vec<bool> = (0..self.nodes.len()).map(out).collect();
        let load = &self.plan.load;
        let Session { home, rng, .. } = &mut self.sessions[session];
        let entry = match *home {
            Some(home) if rng.percent(95) && !gone[home] => home,
            _ => members[rng.index(members.len())],
        };
        let key = match &self.measure {
            Some(measure) => key(measure.rank(rng)),
            None => key(zipf(rng, load.keys, load.zipf)),
        };
        let what = if rng.percent(load.writes) {
            Op::Write {
                key,
                value: (!rng.percent(load.deletes)).then(|| value(rng, load.value_bytes)),
                stamp: Stamp::default(),
                orphan: None,
            }
        } else {
            let consistency = if rng.percent(load.eventual) {
                Consistency::Eventual
            } else {
                Consistency::Causal
            };
            Op::Get { key, consistency }
        };
        self.start_op(session, entry, what, false);
        Ok(())
    }

    /// Sends an operation to a node.
    pub fn start_op(&mut self, session: usize, entry: usize, what: Op, must: bool) {
        let client = &mut self.sessions[session];
        let source = match client.kind {
            Kind::Shared(other) => other,
            _ => session,
        };
        let (mut context, mut past) = (
            self.sessions[source].context.clone(),
            self.sessions[source].past.clone(),
        );
        let client = &mut self.sessions[session];
        // A session begins anew when its foreign payload is refused.
        if let Some(foreign) = client.foreign.take()
            && let Ok(taken) = self.codec.decode(&foreign)
        {
            context = taken;
        }
        if client.kind == Kind::Late {
            client.old.push((context.clone(), past.clone()));
            if client.rng.percent(15) {
                let at = client.rng.index(client.old.len());
                (context, past) = client.old[at].clone();
            }
        }
        let payload = self.codec.encode(&context);
        let context = self.codec.decode(&payload).expect("its own payload");
        let op = self.ops.len();
        client.op = Some(op);
        let life = self.nodes[entry].life;
        let mut asked = Operation::new(entry, life, what, context, self.now);
        (asked.session, asked.past, asked.must) = (session, past, must);
        self.ops.push(asked);
        if self.nodes[entry].process.is_some() {
            self.later(entry, 100, Input::Begin(op));
        } else {
            self.end_op(op);
        }
    }
}

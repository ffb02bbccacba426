//! Operations on their way to a replica: driving a [`Route`], serving what other nodes send on,
//! and the connections that carry both.

use super::reply;
use super::wire::{Envelope, Forward, Forwarded};
use super::{Failed, Links, Node, StartError};
use crate::net::{self, Net};
use crate::protocol::clock::Timestamp;
use crate::protocol::context::Context;
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::message::{Beacon, Message};
use crate::protocol::op::{Answer, Consistency, Op, Refusal};
use crate::protocol::reads::{self, Lookup};
use crate::protocol::replica::Event;
use crate::protocol::route::{Attempt, Outcome, Route, TOTAL_US};
use crate::protocol::version::Stamp;
use crate::protocol::view::PartitionId;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::TcpListener;

/// Versions of the wire format that this program speaks.
const WIRE_VERSIONS: (u16, u16) = (1, 1);

/// Bytes of a value that a replica takes in within a microsecond, at least: the time of an attempt is
/// meant for small ones.
const BYTES_PER_US: usize = 16;

/// Drives operations for one node.
pub(super) struct Forwarder<'a> {
    node: &'a Node,
}

impl<'a> Forwarder<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        Self { node }
    }

    /// Makes attempts until one is answered or the time is up. The context that comes back is
    /// the request's own.
    pub(super) async fn drive(
        &self,
        mut op: Op,
        partition: PartitionId,
        context: Context,
    ) -> Result<(Answer, Context), Failed> {
        let node = self.node;
        let clocks = node.shared.clocks;
        let end_us = clocks.mono_us() + TOTAL_US;
        let mut route = {
            let marks = node.shared.marks.load();
            let spread = node.next_spread();
            Route::new(
                &marks,
                partition,
                &context,
                &node.health(),
                clocks.mono_us(),
                spread,
            )
        };
        loop {
            let (to, outcome) = match route.next(clocks.mono_us()) {
                Attempt::Here { stall_us } => (node.me, self.here(&op, &context, stall_us).await),
                Attempt::There {
                    to,
                    timeout_us,
                    stall_us,
                } => {
                    let left_us = end_us.saturating_sub(clocks.mono_us());
                    let timeout_us = (timeout_us + transfer_us(&op)).min(left_us);
                    let forward = Forward {
                        op: op.clone(),
                        context: context.clone(),
                        stall_us,
                    };
                    (to, self.there(to, forward, timeout_us).await)
                }
                Attempt::Pause { us } => {
                    tokio::time::sleep(Duration::from_micros(us)).await;
                    continue;
                }
                Attempt::GiveUp(refusal) => return Err(self.failed(refusal, context)),
            };
            if let Outcome::Answered(Answer::Refused(Refusal::StampTooOld(at))) = &outcome {
                node.shared.clock.observe(*at);
            }
            let answer = route.came(to, outcome, &mut node.health(), clocks.mono_us());
            match answer {
                Some(Answer::Refused(refusal)) => return Err(self.failed(refusal, context)),
                Some(answer) => return Ok((answer, context)),
                None => self.restamp(&mut op, &route, &context),
            }
        }
    }

    /// A write that nobody can have taken may get a newer stamp.
    fn restamp(&self, op: &mut Op, route: &Route, context: &Context) {
        if let Op::Write { stamp, .. } = op
            && route.wants_new_stamp()
        {
            *stamp = self.node.stamp(context.clock);
        }
    }

    fn failed(&self, refusal: Refusal, mut context: Context) -> Failed {
        self.node.shared.marks.load().prune(&mut context);
        Failed { refusal, context }
    }

    /// Does an operation on this replica.
    pub(super) async fn here(&self, op: &Op, context: &Context, stall_us: u64) -> Outcome {
        let node = self.node;
        let until_us = match op {
            Op::Get { consistency, .. } => match self.look(op, context, *consistency) {
                Now::Answer(answer) => return Outcome::Answered(answer),
                Now::Refused(refusal) if stall_us == 0 => {
                    return Outcome::Answered(Answer::Refused(refusal));
                }
                Now::Refused(_) | Now::AskReplica => node.shared.clocks.mono_us() + stall_us,
            },
            Op::Write { .. } => 0,
        };
        // Most reads end above: only what the replica has to answer costs a ticket.
        let (ticket, answer) = reply::ticket();
        let event = match op {
            Op::Get { key, consistency } => Event::Read {
                ticket,
                key: key.clone(),
                context: context.clone(),
                consistency: *consistency,
                until_us,
            },
            Op::Write { key, value, stamp } => Event::Write {
                ticket,
                key: key.clone(),
                value: value.clone(),
                stamp: *stamp,
                context: context.clone(),
            },
        };
        if !node.inbox.offer(event) {
            return Outcome::Answered(Answer::Refused(Refusal::Overloaded));
        }
        // The replica answers in time, whatever the disk does; else it ended or opened a new log.
        answer.await.map_or(Outcome::NoAnswer, Outcome::Answered)
    }

    fn look(&self, op: &Op, context: &Context, consistency: Consistency) -> Now {
        let node = self.node;
        if node.view.partition_of_key(op.key()) != node.partition {
            return Now::Refused(Refusal::NotMine);
        }
        let marks = node.shared.marks.load();
        match reads::lookup(&*node.shared.disk, &marks, op.key(), context, consistency) {
            Ok(Lookup::Answer(read)) => Now::Answer(Answer::Read(read)),
            Ok(Lookup::Hidden) => Now::AskReplica,
            Ok(Lookup::Short(missing)) => Now::Refused(Refusal::Short(missing)),
            Ok(Lookup::OldView) => Now::Refused(Refusal::OldView {
                have: marks.view().number,
                need: context.view,
            }),
            Ok(Lookup::Recovering(reason)) => Now::Refused(Refusal::Recovering(reason)),
            Err(error) => {
                log::error!("reading the store failed: {error}");
                Now::Answer(Answer::Refused(Refusal::Storage(error.to_string())))
            }
        }
    }

    async fn there(&self, to: MemberId, forward: Forward, timeout_us: u64) -> Outcome {
        let node = self.node;
        let Some(links) = node.links.get() else {
            return Outcome::NotSent;
        };
        let timeout = Duration::from_micros(timeout_us);
        match links.request(to, &forward, timeout).await {
            Ok(forwarded) => {
                let Forwarded {
                    answer,
                    stable,
                    clock,
                } = forwarded;
                self.learn(to, clock, stable);
                Outcome::Answered(answer)
            }
            Err(error) if error.definitely_not_sent() => Outcome::NotSent,
            Err(_) => Outcome::NoAnswer,
        }
    }

    /// Takes note of what an answer says about the other partition.
    fn learn(&self, from: MemberId, clock: Timestamp, stable: Vec<(LogId, u64)>) {
        let node = self.node;
        node.shared.clock.observe(clock);
        let beacon = Beacon {
            clock,
            serving: true,
            stable,
            over: Vec::new(),
        };
        if node.shared.marks.load().elsewhere.lacks(&beacon) {
            // Gossip brings it too: when the queue is full it can wait.
            let _ = node.inbox.offer(Event::Message {
                from,
                incarnation: 0,
                message: Message::Beacon(beacon),
            });
        }
    }
}

/// The time that an operation's value takes on its way to another node.
fn transfer_us(op: &Op) -> u64 {
    match op {
        Op::Write {
            value: Some(value), ..
        } => (value.len() / BYTES_PER_US) as u64,
        Op::Write { value: None, .. } | Op::Get { .. } => 0,
    }
}

/// What a look at the store gives.
enum Now {
    Answer(Answer),
    Refused(Refusal),
    AskReplica,
}

/// Serves what other nodes send.
struct Server {
    node: Weak<Node>,
}

impl net::Handler<Envelope, Forward, Forwarded> for Server {
    async fn message(&self, from: net::Peer, envelope: Envelope) {
        let Some(node) = self.node.upgrade() else {
            return;
        };
        node.health()
            .heard(from.member, node.shared.clocks.mono_us());
        node.inbox
            .send(Event::Message {
                from: from.member,
                incarnation: envelope.incarnation,
                message: envelope.message,
            })
            .await;
    }

    async fn request(&self, _from: net::Peer, forward: Forward) -> Forwarded {
        let Some(node) = self.node.upgrade() else {
            return Forwarded {
                answer: Answer::Refused(Refusal::ShuttingDown),
                clock: Default::default(),
                stable: Vec::new(),
            };
        };
        let Forward {
            op,
            context,
            stall_us,
        } = forward;
        if let Op::Write {
            stamp: Stamp { ts, .. },
            ..
        } = &op
        {
            node.shared.clock.observe(*ts);
        }
        let answer = match node.forwarder().here(&op, &context, stall_us).await {
            Outcome::Answered(answer) => answer,
            Outcome::NotSent | Outcome::NoAnswer => Answer::Refused(Refusal::Undecided),
        };
        let marks = node.shared.marks.load();
        Forwarded {
            answer,
            clock: node.shared.clock.now(),
            stable: marks.logs.iter().map(|(log, m)| (*log, m.stable)).collect(),
        }
    }
}

/// Opens the connections to and from the other nodes.
pub(super) async fn connect(node: &Arc<Node>, incarnation: u64) -> Result<Links, StartError> {
    let config = &node.config;
    let listener =
        TcpListener::bind(config.peer_bind)
            .await
            .map_err(|error| StartError::Listen {
                address: config.peer_bind,
                error,
            })?;
    let weak = Arc::downgrade(node);
    let on_state: net::OnState = Arc::new(move |member, state| {
        let Some(node) = weak.upgrade() else {
            return;
        };
        if let net::PeerState::Down = state {
            // Liveness shows it a little later all the same, should the queue be full.
            let _ = node.inbox.offer(Event::Down(member));
        }
    });
    let identity = net::Identity {
        member: node.me,
        incarnation,
        fingerprint: node.view.fingerprint(),
        versions: WIRE_VERSIONS,
        secret: config
            .cluster_secret
            .as_ref()
            .map(|s| net::Secret::new(s.as_bytes())),
    };
    let server = Server {
        node: Arc::downgrade(node),
    };
    let net_config = net::Config {
        identity,
        limits: net::Limits::default(),
        on_state: Some(on_state),
    };
    let links = Net::start(net_config, listener, server);
    for (member, http) in node.view.members() {
        if let Some(address) = config.peer_address(http) {
            links.add_peer(member, address);
        }
    }
    Ok(links)
}

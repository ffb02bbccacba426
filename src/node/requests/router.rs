//! Operations on their way to a replica: driving a [`Route`], serving what other nodes send on,
//! and the connections that carry both.

use crate::net::{self, Net};
use crate::node::error::StartError;
use crate::node::member::{Failed, Member};
use crate::node::replica::reply;
use crate::node::wire::links::{Links, identity};
use crate::node::wire::messages::{Envelope, Forward, Forwarded, Request, Response, Standing};
use crate::protocol::context::Context;
use crate::protocol::ids::MemberId;
use crate::protocol::message::{Beacon, Message};
use crate::protocol::op::{Answer, Consistency, Op, Refusal};
use crate::protocol::reads::Lookup;
use crate::protocol::replica::{Event, GIVEN_UP};
use crate::protocol::route::{Attempt, Outcome, Route, TOTAL_US};
use crate::protocol::version::Stamp;
use crate::protocol::view::PartitionId;
use crate::protocol::views::Views;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::TcpListener;

/// Bytes of a value that a replica takes in within a microsecond, at least: the time of an attempt is
/// meant for small ones.
const BYTES_PER_US: usize = 16;

/// Drives operations for one node.
pub(in crate::node) struct Forwarder<'a> {
    node: &'a Member,
}

impl<'a> Forwarder<'a> {
    pub(in crate::node) fn new(node: &'a Member) -> Self {
        Self { node }
    }

    /// Makes attempts until one is answered or the time is up. The context that comes back is
    /// the request's own; the member is the one that answered.
    pub(in crate::node) async fn drive(
        &self,
        mut op: Op,
        partition: PartitionId,
        context: Context,
    ) -> Result<(Answer, Context, MemberId), Failed> {
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
        let mut not_mine = false;
        loop {
            self.follow_the_view(&mut route, &op, &context, not_mine);
            let (to, outcome) = match route.next(clocks.mono_us()) {
                Attempt::Here {
                    timeout_us,
                    stall_us,
                } => {
                    let done = self.here(&op, &context, timeout_us, stall_us);
                    (node.me, done.await)
                }
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
            not_mine = matches!(
                outcome,
                Outcome::Answered(Answer::Refused(Refusal::NotMine))
            );
            let answer = route.came(to, outcome, &mut node.health(), clocks.mono_us());
            match answer {
                Some(Answer::Refused(refusal)) => return Err(self.failed(refusal, context)),
                Some(answer) => return Ok((answer, context, to)),
                None => self.restamp(&mut op, &route, &context),
            }
        }
    }

    /// The key may be somewhere else by now. Its partition may have been looked up before the plan was made: that shows
    /// when a replica says that the key is `not_mine`.
    fn follow_the_view(&self, route: &mut Route, op: &Op, context: &Context, not_mine: bool) {
        let node = self.node;
        let marks = node.shared.marks.load();
        let outdated = route.is_outdated(&marks);
        if !outdated && !not_mine {
            return;
        }
        let partition = marks.view().partition_of_key(op.key());
        if !outdated && partition == route.partition() {
            return;
        }
        let now = node.shared.clocks.mono_us();
        route.plan_anew(&marks, partition, context, &node.health(), now);
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

    /// Does an operation on this replica, within `timeout_us`.
    pub(in crate::node) async fn here(
        &self,
        op: &Op,
        context: &Context,
        timeout_us: u64,
        stall_us: u64,
    ) -> Outcome {
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
        if node.stop.is_cancelled() {
            return Outcome::Answered(Answer::Refused(Refusal::ShuttingDown));
        }
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
            Op::Write {
                key,
                value,
                stamp,
                orphan,
            } => Event::Write {
                ticket,
                key: key.clone(),
                value: value.clone(),
                stamp: *stamp,
                context: context.clone(),
                orphan: *orphan,
            },
        };
        if !node.inbox.offer(event) {
            return Outcome::Answered(Answer::Refused(Refusal::Overloaded));
        }
        // The replica answers in time whatever the disk does, unless its thread stands still or has ended.
        let answer = tokio::time::timeout(Duration::from_micros(timeout_us), answer).await;
        match answer {
            Ok(Ok(answer)) => Outcome::Answered(answer),
            Ok(Err(_)) | Err(_) => Outcome::NoAnswer,
        }
    }

    fn look(&self, op: &Op, context: &Context, consistency: Consistency) -> Now {
        let node = self.node;
        let partition = node.partition_of_key(op.key());
        let Some(found) = node.look(op.key(), partition, context, consistency) else {
            return Now::Refused(Refusal::NotMine);
        };
        match found {
            Ok(Lookup::Answer(read)) => Now::Answer(Answer::Read(read)),
            Ok(Lookup::Hidden) => Now::AskReplica,
            Ok(Lookup::Short(missing)) => Now::Refused(Refusal::Short(missing)),
            Ok(Lookup::OldView) => Now::Refused(Refusal::OldView {
                have: node.shared.marks.load().view().number,
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
        match links
            .request(to, &Request::Operation(forward), timeout)
            .await
        {
            Ok(Response::Operation(forwarded)) => {
                let Forwarded {
                    answer,
                    stable,
                    clock,
                    version,
                } = forwarded;
                if version > node.known.borrow().version {
                    node.ask.notify_one();
                }
                let beacon = Beacon {
                    clock,
                    wall_ms: 0,
                    serving: true,
                    version,
                    stable,
                    over: Vec::new(),
                };
                self.learn(to, beacon);
                Outcome::Answered(answer)
            }
            Ok(_) => Outcome::NoAnswer,
            Err(error) if error.definitely_not_sent() => Outcome::NotSent,
            Err(_) => Outcome::NoAnswer,
        }
    }

    /// Takes note of what an answer says about the other partition.
    fn learn(&self, from: MemberId, beacon: Beacon) {
        let node = self.node;
        let now = node.shared.clocks.now();
        node.shared.clock.observe_near(now, beacon.clock);
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
    node: Weak<Member>,
}

impl net::Handler<Envelope, Request, Response> for Server {
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

    async fn request(&self, from: net::Peer, request: Request) -> Response {
        let Some(node) = self.node.upgrade() else {
            return Response::Refused("it is ending".to_owned());
        };
        match request {
            // Whoever has no number yet, or no more, is told what is decided, may offer what it has, and may pass on an
            // operator's order.
            Request::Standing { version } => Response::Standing(node.standing(version).await),
            Request::Offer(offer) => Response::Offered(node.adopt(offer).await),
            Request::Order(order) => Response::Condition(node.obey(order)),
            _ if from.member == net::STRANGER => {
                Response::Refused(format!("it is {} of a cluster", node.me))
            }
            Request::Operation(forward) => Response::Operation(node.serve(forward).await),
            Request::Council(rpc) => match node.council() {
                Some(council) => Response::Council(council.handle(rpc).await),
                None => Response::Refused("it is starting".to_owned()),
            },
            Request::Progress => Response::Progress(node.progress()),
            Request::Hears(other) => {
                Response::Hears(other == node.me || node.presence.is_up(other))
            }
            Request::Invite(_) => Response::Refused(format!("it is {} already", node.me)),
        }
    }
}

impl Member {
    /// Does what another node sends on.
    async fn serve(&self, forward: Forward) -> Forwarded {
        self.note_request();
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
            self.shared
                .clock
                .observe_near(self.shared.clocks.now(), *ts);
        }
        let answer = if self.is_given_up() {
            Answer::Refused(Refusal::Recovering(GIVEN_UP.to_owned()))
        } else {
            match self
                .forwarder()
                .here(&op, &context, TOTAL_US, stall_us)
                .await
            {
                Outcome::Answered(answer) => answer,
                Outcome::NotSent | Outcome::NoAnswer => Answer::Refused(Refusal::Undecided),
            }
        };
        let marks = self.shared.marks.load();
        Forwarded {
            answer,
            clock: self.shared.clock.now(),
            stable: marks.logs.iter().map(|(log, m)| (*log, m.stable)).collect(),
            version: marks.views.version,
        }
    }

    /// What this node knows of views, for one that knows them up to `version`.
    async fn standing(&self, version: u64) -> Standing {
        let known = Arc::clone(&self.known.borrow());
        let newer = (known.version > version).then(|| Box::new(Views::clone(&known)));
        let past = self.past_councils().await;
        let marks = self.shared.marks.load();
        let settled = marks.views.version == known.version && !marks.gauges.dropping;
        Standing {
            newer,
            past,
            settled,
        }
    }
}

/// Opens the connections to and from the other nodes.
pub(in crate::node) async fn connect(
    node: &Arc<Member>,
    incarnation: u64,
) -> Result<Links, StartError> {
    let config = &node.config;
    let listener = listen(config.peer_bind).await?;
    let weak = Arc::downgrade(node);
    let on_state: net::OnState = Arc::new(move |member, state| {
        let Some(node) = weak.upgrade() else {
            return;
        };
        // It may have been away, or this node may: or it takes this node for a member no more.
        node.ask.notify_one();
        match state {
            net::PeerState::Up { .. } => node.presence.up(member),
            net::PeerState::Down => {
                node.presence.down(member);
                // Liveness shows it a little later all the same, should the queue be full.
                let _ = node.inbox.offer(Event::Down(member));
            }
        }
    });
    let views = Arc::clone(&node.known.borrow());
    let server = Server {
        node: Arc::downgrade(node),
    };
    let net_config = net::Config {
        identity: net::Identity {
            member: node.me,
            incarnation,
            fingerprint: views.view.fingerprint(),
            ..identity(config, &node.cluster)
        },
        limits: net::Limits::default(),
        on_state: Some(on_state),
    };
    let links = Net::start(net_config, listener, server);
    for (member, http) in views.members() {
        if let Some(address) = config.peer_address(http) {
            links.add_peer(member, address);
        }
    }
    Ok(links)
}

/// Listens for other nodes.
pub(in crate::node) async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| StartError::Listen { address, error })
}

//! Operations on their way to a replica, here or on another node: driving a [`Route`], and doing
//! what other nodes send on.

use super::admission::{Admission, Failed};
use super::bundle::{BUNDLE_REPLY_BYTES, Bundle, Bundles, ReplyRoom};
use crate::node::membership::knowledge::Knowledge;
use crate::node::membership::part::Membership;
use crate::node::replica::inbox::Inbox;
use crate::node::replica::reply;
use crate::node::replica::shared::Shared;
use crate::node::wire::messages::{Forward, Forwarded, Request, Response, Together};
use crate::node::wire::peers::Peers;
use crate::protocol::context::Context;
use crate::protocol::health::Health;
use crate::protocol::ids::MemberId;
use crate::protocol::message::{Beacon, Message};
use crate::protocol::op::{Answer, Consistency, Op, Refusal};
use crate::protocol::reads::{self, Lookup};
use crate::protocol::replica::{Event, GIVEN_UP};
use crate::protocol::route::{Attempt, AttemptOutcome, Route, TOTAL_US};
use crate::protocol::store::StoreError;
use crate::protocol::version::{Key, Stamp};
use crate::protocol::view::PartitionId;
use futures_util::future::join_all;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Bytes of a value that a replica takes in within a microsecond, at least: the time of an attempt
/// is meant for small ones.
const BYTES_PER_US: usize = 16;

/// Takes operations to replicas, for one node.
pub struct Router {
    me: MemberId,
    shared: Arc<Shared>,
    inbox: Inbox,
    peers: Arc<Peers>,
    knowledge: Arc<Knowledge>,
    admission: Admission,
    /// Which members have answered operations, and which have not.
    health: Mutex<Health>,
    /// Spreads operations over the replicas of other partitions.
    spread: AtomicUsize,
    stop: CancellationToken,
}

impl Router {
    /// The router of a member with the replica behind `inbox`.
    pub fn new(membership: &Membership, shared: Arc<Shared>, inbox: Inbox) -> Self {
        let me = membership.me();
        Self {
            me,
            admission: Admission::new(me, Arc::clone(&shared)),
            shared,
            inbox,
            peers: Arc::clone(membership.peers()),
            knowledge: Arc::clone(membership.knowledge()),
            health: Mutex::default(),
            spread: AtomicUsize::new(usize::from(me.0)),
            stop: membership.stop().clone(),
        }
    }

    /// The node's own number.
    pub fn me(&self) -> MemberId {
        self.me
    }

    /// Which requests are let in.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// The partition that holds a key.
    pub fn partition_of_key(&self, key: &Key) -> PartitionId {
        self.shared.marks.load().view().partition_of_key(key)
    }

    /// Something came from the member.
    pub fn heard(&self, member: MemberId) {
        self.health().heard(member, self.shared.clocks.mono_us());
    }

    /// Whether something came from the member within the last `dead_us` microseconds.
    pub fn is_alive(&self, member: MemberId, dead_us: u64) -> bool {
        let now = self.shared.clocks.mono_us();
        self.health().alive(member, now, dead_us)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Plain data: a thread that panicked cannot have left it half changed.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes attempts until one is answered or the time is up. The context that comes back is
    /// the request's own; the member is the one that answered.
    ///
    /// # Errors
    /// When no replica could do it, or it is not known whether one did.
    pub async fn drive(
        &self,
        op: Op,
        partition: PartitionId,
        context: Context,
    ) -> Result<(Answer, Context, MemberId), Failed> {
        self.drive_with(op, partition, context, None).await
    }

    /// As [`Router::drive`]; to other nodes the operation goes in `bundles`, if there are any.
    ///
    /// # Errors
    /// As [`Router::drive`].
    pub(super) async fn drive_with(
        &self,
        mut op: Op,
        partition: PartitionId,
        context: Context,
        bundles: Option<&Bundles>,
    ) -> Result<(Answer, Context, MemberId), Failed> {
        let clocks = self.shared.clocks;
        let end_us = clocks.mono_us() + TOTAL_US;
        let mut route = {
            let marks = self.shared.marks.load();
            let spread = self.spread.fetch_add(1, Ordering::Relaxed);
            Route::new(
                &marks,
                partition,
                &context,
                &self.health(),
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
                    (self.me, done.await)
                }
                Attempt::There {
                    to,
                    timeout_us,
                    stall_us,
                } => {
                    let left_us = end_us.saturating_sub(clocks.mono_us());
                    let forward = Forward {
                        op: op.clone(),
                        context: context.clone(),
                        stall_us,
                    };
                    let outcome = if let Some(bundles) = bundles {
                        let within = Duration::from_micros(timeout_us.min(left_us));
                        bundles.send(to, forward, within).await
                    } else {
                        let timeout_us = (timeout_us + transfer_us(&op)).min(left_us);
                        let within = Duration::from_micros(timeout_us);
                        let came = self.there(to, vec![forward], within).await;
                        came.into_iter().next().unwrap_or(AttemptOutcome::NoAnswer)
                    };
                    (to, outcome)
                }
                Attempt::Pause { us } => {
                    tokio::time::sleep(Duration::from_micros(us)).await;
                    continue;
                }
                Attempt::GiveUp(refusal) => return Err(self.failed(refusal, context)),
            };
            if let AttemptOutcome::Answered(Answer::Refused(Refusal::StampTooOld(at))) = &outcome {
                self.shared.clock.observe(*at);
            }
            not_mine = matches!(
                outcome,
                AttemptOutcome::Answered(Answer::Refused(Refusal::NotMine))
            );
            let answer = route.came(to, outcome, &mut self.health(), clocks.mono_us());
            match answer {
                Some(Answer::Refused(refusal)) => return Err(self.failed(refusal, context)),
                Some(answer) => return Ok((answer, context, to)),
                None => self.restamp(&mut op, &route, &context),
            }
        }
    }

    /// The key may be somewhere else by now. Its partition may have been looked up before the plan
    /// was made: that shows when a replica says that the key is `not_mine`.
    fn follow_the_view(&self, route: &mut Route, op: &Op, context: &Context, not_mine: bool) {
        let marks = self.shared.marks.load();
        let outdated = route.is_outdated(&marks);
        if !outdated && !not_mine {
            return;
        }
        let partition = marks.view().partition_of_key(op.key());
        if !outdated && partition == route.partition() {
            return;
        }
        let now = self.shared.clocks.mono_us();
        route.plan_anew(&marks, partition, context, &self.health(), now);
    }

    /// A write that nobody can have taken may get a newer stamp.
    fn restamp(&self, op: &mut Op, route: &Route, context: &Context) {
        if let Op::Write { stamp, .. } = op
            && route.wants_new_stamp()
        {
            *stamp = self.admission.stamp(context.clock);
        }
    }

    fn failed(&self, refusal: Refusal, mut context: Context) -> Failed {
        self.shared.marks.load().prune(&mut context);
        Failed { refusal, context }
    }

    /// Does an operation on this replica, within `timeout_us`.
    async fn here(
        &self,
        op: &Op,
        context: &Context,
        timeout_us: u64,
        stall_us: u64,
    ) -> AttemptOutcome {
        let until_us = match op {
            Op::Get { consistency, .. } => match self.look_for(op, context, *consistency) {
                Now::Answer(answer) => return AttemptOutcome::Answered(answer),
                Now::Refused(refusal) if stall_us == 0 => {
                    return AttemptOutcome::Answered(Answer::Refused(refusal));
                }
                Now::Refused(_) | Now::AskReplica => self.shared.clocks.mono_us() + stall_us,
            },
            Op::Write { .. } => 0,
        };
        if self.stop.is_cancelled() {
            return AttemptOutcome::Answered(Answer::Refused(Refusal::ShuttingDown));
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
        if !self.inbox.offer(event) {
            return AttemptOutcome::Answered(Answer::Refused(Refusal::Overloaded));
        }
        // The replica answers in time whatever the disk does, unless its thread stands still or has
        // ended.
        let answer = tokio::time::timeout(Duration::from_micros(timeout_us), answer).await;
        match answer {
            Ok(Ok(answer)) => AttemptOutcome::Answered(answer),
            Ok(Err(_)) | Err(_) => AttemptOutcome::NoAnswer,
        }
    }

    /// Whether this node is a replica of the partition, as far as its replica knows.
    pub(super) fn is_here(&self, partition: PartitionId) -> bool {
        self.shared.marks.load().partition == Some(partition)
    }

    /// Looks a key up here, if this is where it belongs.
    pub fn look(
        &self,
        key: &Key,
        partition: PartitionId,
        context: &Context,
        consistency: Consistency,
    ) -> Option<Result<Lookup, StoreError>> {
        let marks = self.shared.marks.load();
        if marks.partition != Some(partition) {
            return None;
        }
        let found = reads::lookup(&*self.shared.disk, &marks, key, context, consistency);
        // A key that is not there may have moved on, since these marks were made or since its
        // partition was looked up.
        let moved = || {
            let now = self.shared.marks.load();
            !Arc::ptr_eq(&now.views, &marks.views)
                || marks.view().partition_of_key(key) != partition
        };
        match found {
            Ok(Lookup::Answer(read)) if read.found.is_none() && moved() => None,
            found => Some(found),
        }
    }

    fn look_for(&self, op: &Op, context: &Context, consistency: Consistency) -> Now {
        let partition = self.partition_of_key(op.key());
        let Some(found) = self.look(op.key(), partition, context, consistency) else {
            return Now::Refused(Refusal::NotMine);
        };
        match found {
            Ok(Lookup::Answer(read)) => Now::Answer(Answer::Read(read)),
            Ok(Lookup::Hidden) => Now::AskReplica,
            Ok(Lookup::Short(missing)) => Now::Refused(Refusal::Short(missing)),
            Ok(Lookup::OldView) => Now::Refused(Refusal::OldView {
                have: self.shared.marks.load().view().number,
                need: context.view,
            }),
            Ok(Lookup::Recovering(reason)) => Now::Refused(Refusal::Recovering(reason)),
            Err(error) => {
                log::error!("reading the store failed: {error}");
                Now::Answer(Answer::Refused(Refusal::Storage(error.to_string())))
            }
        }
    }

    /// Sends a bundle, and hands out what came of its operations.
    pub(super) async fn deliver(&self, bundle: Bundle) {
        let transfer_us: u64 = bundle.forwards.iter().map(|f| transfer_us(&f.op)).sum();
        let within = bundle.within + Duration::from_micros(transfer_us);
        let within = within.min(Duration::from_micros(TOTAL_US));
        let came = self.there(bundle.to, bundle.forwards, within).await;
        for (outcome, to) in came.into_iter().zip(bundle.outcomes) {
            // The request may be over.
            let _ = to.send(outcome);
        }
    }

    /// Has another node do operations. An outcome for each.
    async fn there(
        &self,
        to: MemberId,
        operations: Vec<Forward>,
        within: Duration,
    ) -> Vec<AttemptOutcome> {
        let count = operations.len();
        let all = |outcome: fn() -> AttemptOutcome| (0..count).map(|_| outcome()).collect();
        let request = Request::Operations(Together(operations));
        match self.peers.request(to, &request, within).await {
            Ok(Response::Operations(forwarded)) if forwarded.answers.len() == count => {
                let Forwarded {
                    answers,
                    stable,
                    clock,
                    version,
                } = forwarded;
                if version > self.knowledge.version() {
                    self.knowledge.ask_soon();
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
                answers.into_iter().map(AttemptOutcome::Answered).collect()
            }
            Ok(_) => all(|| AttemptOutcome::NoAnswer),
            Err(error) if error.definitely_not_sent() => all(|| AttemptOutcome::NotSent),
            Err(_) => all(|| AttemptOutcome::NoAnswer),
        }
    }

    /// Takes note of what an answer says about the other partition.
    fn learn(&self, from: MemberId, beacon: Beacon) {
        let now = self.shared.clocks.now();
        self.shared.clock.observe_near(now, beacon.clock);
        if self.shared.marks.load().elsewhere.lacks(&beacon) {
            // Gossip brings it too: when the queue is full it can wait.
            let _ = self.inbox.offer(Event::Message {
                from,
                incarnation: 0,
                message: Message::Beacon(beacon),
            });
        }
    }

    /// Does what another node sends on, all at once.
    pub async fn serve(&self, operations: Vec<Forward>) -> Forwarded {
        let room = ReplyRoom::new(BUNDLE_REPLY_BYTES);
        let serve = |forward| async { room.hold(self.serve_one(forward).await) };
        let answers = join_all(operations.into_iter().map(serve)).await;
        let marks = self.shared.marks.load();
        Forwarded {
            answers,
            clock: self.shared.clock.now(),
            stable: marks.logs.iter().map(|(log, m)| (*log, m.stable)).collect(),
            version: marks.views.version,
        }
    }

    async fn serve_one(&self, forward: Forward) -> Answer {
        self.admission.note_request();
        let Forward {
            op,
            context,
            stall_us,
        } = forward;
        let stall_us = stall_us.min(TOTAL_US);
        if let Op::Write {
            stamp: Stamp { ts, .. },
            ..
        } = &op
        {
            let now = self.shared.clocks.now();
            self.shared.clock.observe_near(now, *ts);
        }
        if self.knowledge.is_given_up() {
            return Answer::Refused(Refusal::Recovering(GIVEN_UP.to_owned()));
        }
        match self.here(&op, &context, TOTAL_US, stall_us).await {
            AttemptOutcome::Answered(answer) => answer,
            AttemptOutcome::NotSent | AttemptOutcome::NoAnswer => {
                Answer::Refused(Refusal::Undecided)
            }
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

/// The result of a look at the store.
enum Now {
    Answer(Answer),
    Refused(Refusal),
    AskReplica,
}

//! The way of an operation: its entry node stamps it, sends attempts along its route, and answers.

use super::client::Kind;
use super::net::Frame;
use super::node::{FAILING, Input, Ticket};
use super::oracle::{Past, WriteId};
use super::world::{Failed, What, World};
use bytes::Bytes;
use causeway::protocol::clock::Doubt;
use causeway::protocol::context::Context;
use causeway::protocol::driver::HELD_US;
use causeway::protocol::ids::MemberId;
use causeway::protocol::op::{Answer, Op, Refusal};
use causeway::protocol::reads::{self, Lookup};
use causeway::protocol::replica::{Event, GIVE_UP_US, TICK_US};
use causeway::protocol::route::{Attempt, AttemptOutcome, Route};
use causeway::protocol::version::{Key, Stamp};
use std::sync::Arc;

/// An operation of a client.
pub struct Operation {
    pub session: usize,
    /// The offer that the operation is part of, where it is no session's.
    pub offer: Option<usize>,
    /// The client whose snapshot the operation is part of, where it is no session's.
    pub snapshooter: Option<usize>,
    pub entry: usize,
    /// The life in which the entry node took the operation up.
    life: u32,
    pub key: Key,
    pub what: Op,
    pub context: Context,
    pub past: Past,
    pub write: Option<WriteId>,
    /// The tombstone that was read.
    pub tombstone: Option<WriteId>,
    /// When the client sent the operation, and when the entry node took it up.
    pub asked_us: u64,
    pub started_us: u64,
    route: Option<Route>,
    pub attempt: u32,
    target: MemberId,
    pub answer: Option<Answer>,
    /// The operation must succeed.
    pub must: bool,
}

impl Operation {
    pub fn new(entry: usize, life: u32, what: Op, context: Context, now: u64) -> Self {
        Self {
            session: 0,
            offer: None,
            snapshooter: None,
            entry,
            life,
            key: what.key().clone(),
            what,
            context,
            past: Past::default(),
            write: None,
            tombstone: None,
            asked_us: now,
            started_us: now,
            route: None,
            attempt: 0,
            target: MemberId(entry as u16),
            answer: None,
            must: false,
        }
    }

    /// Frees what an operation that is over needs no more: a long run has very many.
    fn shrink(&mut self) {
        self.past = Past::default();
        // An earlier attempt may still be answered, and its answer is checked against this context.
        if self.attempt <= 1 {
            self.context = Context::default();
            self.route = None;
        }
        self.answer = Some(Answer::Refused(Refusal::NotMine));
    }
}

impl World {
    /// The entry node takes an operation up.
    pub fn begin(&mut self, op: usize) -> Result<(), Failed> {
        let entry = self.ops[op].entry;
        let (clocks, now) = (self.now_of(entry), self.now);
        // Counted from here: a node that is not running when the request comes cannot answer.
        self.ops[op].started_us = now;
        let Some(process) = &self.nodes[entry].process else {
            return Ok(());
        };
        let context = self.ops[op].context.clone();
        // A clock that nobody can follow must not get in with an offer either.
        let stamped = match self.ops[op].what {
            Op::Write { stamp, .. } => stamp.ts.max(context.clock),
            Op::Get { .. } => context.clock,
        };
        if process.clock.too_far_ahead(clocks, stamped) {
            let wall_ms = process.clock.wall_ms(clocks);
            let ahead_ms = stamped.ms().saturating_sub(wall_ms);
            return self.finish(op, Answer::Refused(Refusal::ClockAhead { ahead_ms }));
        }
        let writes = matches!(self.ops[op].what, Op::Write { .. });
        if let Some(doubt) = process.clock.check(clocks).err().filter(|_| writes) {
            let refusal = match doubt {
                Doubt::Unchecked => Refusal::Recovering("its clock is unchecked".to_owned()),
                Doubt::Off(off_ms) => Refusal::ClockOff { off_ms },
            };
            return self.finish(op, Answer::Refused(refusal));
        }
        let spread = self.rng.index(16);
        let (marks, health) = (&process.published, &process.health);
        let partition = marks.view().partition_of_key(&self.ops[op].key);
        let route = Route::new(marks, partition, &context, health, now, spread);
        self.ops[op].route = Some(route);
        if self.ops[op].offer.is_none() {
            self.stamp(op)?;
        }
        self.note_op(op);
        self.drive(op)
    }

    fn note_op(&mut self, op: usize) {
        if self.is_traced() {
            let o = &self.ops[op];
            let line = format!(
                "op {op} of s{} at m{}: {:?} with {:?}",
                o.session, o.entry, o.what, o.context
            );
            self.note(|| line);
        }
    }

    /// Gives a write its stamp.
    fn stamp(&mut self, op: usize) -> Result<(), Failed> {
        let entry = self.ops[op].entry;
        let now = self.now_of(entry);
        let Some(process) = &self.nodes[entry].process else {
            return Ok(());
        };
        let after = self.ops[op].context.clock;
        let Op::Write {
            key, value, stamp, ..
        } = &mut self.ops[op].what
        else {
            return Ok(());
        };
        *stamp = Stamp {
            ts: process.clock.tick(now, after),
            by: MemberId(entry as u16),
        };
        let (key, stamp, live) = (key.clone(), *stamp, value.is_some());
        let past = self.ops[op].past.clone();
        let write = self.oracle.stamped(key, stamp, live, past)?;
        self.ops[op].write = Some(write);
        if let Op::Write { value, .. } = &mut self.ops[op].what
            && live
        {
            // The value stays as long as it was drawn.
            let len = value.as_ref().map_or(0, Bytes::len);
            *value = Some(Bytes::from(format!("{write:<len$}")));
        }
        Ok(())
    }

    /// Makes the next attempt of an operation.
    pub fn drive(&mut self, op: usize) -> Result<(), Failed> {
        let (now, entry) = (self.now, self.ops[op].entry);
        if self.ops[op].answer.is_some() {
            return Ok(());
        }
        self.ops[op].attempt += 1;
        let attempt = self.ops[op].attempt;
        let Some(process) = &self.nodes[entry].process else {
            return Ok(());
        };
        let marks = Arc::clone(&process.published);
        let context = self.ops[op].context.clone();
        let partition = marks.view().partition_of_key(&self.ops[op].key);
        let Some(route) = &mut self.ops[op].route else {
            return Ok(());
        };
        if route.is_outdated(&marks) {
            route.plan_anew(&marks, partition, &context, &process.health, now);
        }
        let next = route.next(now);
        self.note(|| format!("op {op}.{attempt}: {next:?}"));
        match next {
            Attempt::Here {
                timeout_us,
                stall_us,
            } => {
                self.ops[op].target = MemberId(entry as u16);
                self.later(entry, timeout_us, Input::Late { op, attempt });
                let ticket = Ticket {
                    op,
                    attempt,
                    origin: entry,
                    until_us: now + stall_us,
                };
                let (what, context) = (self.ops[op].what.clone(), self.ops[op].context.clone());
                self.serve(entry, ticket, what, context, stall_us)
            }
            Attempt::There {
                to,
                timeout_us,
                stall_us,
            } => {
                self.ops[op].target = to;
                let target = usize::from(to.0);
                let refused = self.nodes[target].process.is_none()
                    && !self.net.is_cut(entry, target, now)
                    && !self.net.is_cut(target, entry, now);
                if refused {
                    self.later(entry, 300, Input::NotSent { op, attempt });
                    return Ok(());
                }
                self.later(entry, timeout_us, Input::Late { op, attempt });
                let frame = Frame::Request {
                    op,
                    attempt,
                    what: self.ops[op].what.clone(),
                    context: self.ops[op].context.clone(),
                    stall_us,
                };
                self.send(entry, target, frame);
                Ok(())
            }
            Attempt::Pause { us } => {
                self.later(entry, us, Input::Again(op));
                Ok(())
            }
            Attempt::GiveUp(refusal) => self.finish(op, Answer::Refused(refusal)),
        }
    }

    /// A replica does what a request asks.
    pub fn serve(
        &mut self,
        node: usize,
        ticket: Ticket,
        what: Op,
        context: Context,
        stall_us: u64,
    ) -> Result<(), Failed> {
        match what {
            Op::Get { key, consistency } => {
                let Some(process) = &self.nodes[node].process else {
                    return Ok(());
                };
                let (store, marks) = (&self.nodes[node].disk, &process.published);
                if Some(marks.view().partition_of_key(&key)) != marks.partition {
                    return self.reply(node, ticket, Answer::Refused(Refusal::NotMine));
                }
                let failing = self.nodes[node].failing_until > self.now;
                store.set_failing(if failing { FAILING } else { 0 });
                let found = reads::lookup(store, marks, &key, &context, consistency);
                store.set_failing(0);
                let found = match found {
                    Err(error) if failing => {
                        let refusal = Refusal::Storage(error.to_string());
                        return self.reply(node, ticket, Answer::Refused(refusal));
                    }
                    found => found.map_err(|e| format!("node {node}: {e}"))?,
                };
                if let Some(measure) = &mut self.measure {
                    measure.looked(&found, stall_us);
                }
                let answer = match found {
                    Lookup::Answer(read) => Answer::Read(read),
                    Lookup::Short(missing) if stall_us == 0 => {
                        Answer::Refused(Refusal::Short(missing))
                    }
                    Lookup::Recovering(reason) if stall_us == 0 => {
                        Answer::Refused(Refusal::Recovering(reason))
                    }
                    Lookup::OldView if stall_us == 0 => Answer::Refused(Refusal::OldView {
                        have: marks.view().number,
                        need: context.view,
                    }),
                    Lookup::Hidden | Lookup::Short(_) | Lookup::OldView | Lookup::Recovering(_) => {
                        let event = Event::Read {
                            ticket,
                            key,
                            context,
                            consistency,
                            until_us: self.now + stall_us,
                        };
                        return self.step(node, event);
                    }
                };
                self.reply(node, ticket, answer)
            }
            Op::Write {
                key,
                value,
                stamp,
                orphan,
            } => {
                let until_us = self.now + HELD_US + TICK_US + GIVE_UP_US;
                let event = Event::Write {
                    ticket: Ticket { until_us, ..ticket },
                    key,
                    value,
                    stamp,
                    context,
                    orphan,
                };
                self.step(node, event)
            }
        }
    }

    pub fn answered(&mut self, op: usize, attempt: u32, answer: Answer) -> Result<(), Failed> {
        self.came(op, attempt, AttemptOutcome::Answered(answer))
    }

    pub fn late(&mut self, op: usize, attempt: u32) -> Result<(), Failed> {
        self.came(op, attempt, AttemptOutcome::NoAnswer)
    }

    pub fn not_sent(&mut self, op: usize, attempt: u32) -> Result<(), Failed> {
        self.came(op, attempt, AttemptOutcome::NotSent)
    }

    fn came(&mut self, op: usize, attempt: u32, outcome: AttemptOutcome) -> Result<(), Failed> {
        let (now, target) = (self.now, self.ops[op].target);
        let entry = self.ops[op].entry;
        let over = self.ops[op].life != self.nodes[entry].life;
        if over || self.ops[op].answer.is_some() || self.ops[op].attempt != attempt {
            return Ok(());
        }
        let ahead = match &outcome {
            AttemptOutcome::Answered(Answer::Refused(Refusal::StampTooOld(clock))) => Some(*clock),
            _ => None,
        };
        let Some(process) = &mut self.nodes[entry].process else {
            return Ok(());
        };
        let Some(route) = &mut self.ops[op].route else {
            return Ok(());
        };
        let behind = matches!(
            outcome,
            AttemptOutcome::Answered(Answer::Refused(Refusal::NotMine | Refusal::OldView { .. }))
        );
        if let Some(answer) = route.came(target, outcome, &mut process.health, now) {
            return self.finish(op, answer);
        }
        if behind {
            // One of the two does not know the newest view.
            for node in [entry, usize::from(target.0)] {
                let delay = self.rng.below(10_000);
                self.after(delay, What::Learn(node));
            }
        }
        let Some(process) = &mut self.nodes[entry].process else {
            return Ok(());
        };
        let Some(route) = &mut self.ops[op].route else {
            return Ok(());
        };
        let anew = route.wants_new_stamp();
        if let Some(clock) = ahead {
            process.clock.observe(clock);
            if anew {
                self.record_before_restamp(op)?;
                self.stamp(op)?;
            }
        }
        self.drive(op)
    }

    fn finish(&mut self, op: usize, answer: Answer) -> Result<(), Failed> {
        self.note(|| format!("op {op} ends: {answer:?}"));
        self.check_answer(op, &answer)?;
        if let Some(offer) = self.ops[op].offer {
            self.offered(offer, op, Some(&answer));
            self.ops[op].answer = Some(answer);
            return Ok(());
        }
        if let Some(client) = self.ops[op].snapshooter {
            self.ops[op].answer = Some(answer.clone());
            self.snapshot_read(client, op, &answer)?;
            self.ops[op].past = Past::default();
            return Ok(());
        }
        self.record(op, Some(&answer))?;
        self.measured(op, &answer);
        self.ops[op].answer = Some(answer);
        let (context, past) = (self.ops[op].context.clone(), self.ops[op].past.clone());
        let session = self.ops[op].session;
        let keeps = match self.sessions[session].kind {
            Kind::SessionLess => None,
            Kind::Shared(other) => Some(other),
            Kind::Faithful | Kind::Late => Some(session),
        };
        if let Some(keeps) = keeps {
            (self.sessions[keeps].context, self.sessions[keeps].past) = (context, past);
        }
        if self.measure.is_some() {
            self.sessions[session].past = Past::default();
            self.ops[op].shrink();
        }
        self.end_op(op);
        Ok(())
    }

    /// The client goes on.
    pub fn end_op(&mut self, op: usize) {
        let session = self.ops[op].session;
        if self.sessions[session].op != Some(op) {
            return;
        }
        self.sessions[session].op = None;
        let think_us = self.plan.load.think_us;
        let delay = self.sessions[session].rng.below(think_us * 2) + 100;
        self.after(delay, What::Client(session));
    }

    /// The operations that a node was busy with when its process ended: their clients go on.
    pub fn lose_ops_of(&mut self, node: usize) -> Result<(), Failed> {
        self.lose_offers_of(node);
        self.lose_snapshots_of(node);
        for session in 0..self.sessions.len() {
            if let Some(op) = self.sessions[session].op
                && self.ops[op].entry == node
            {
                self.record(op, None)?;
                self.end_op(op);
            }
        }
        Ok(())
    }
}

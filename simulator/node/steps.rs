//! The steps of a process: events go into its replica, effects come out, batches get on the disk,
//! marks are published.

use super::super::net::Frame;
use super::super::world::{Failed, What, World};
use super::{FAILING, Input, Ticket};
use causeway::protocol::changes::ViewCommand;
use causeway::protocol::driver::Reopened;
use causeway::protocol::message::Message;
use causeway::protocol::op::Answer;
use causeway::protocol::replica::{Effect, Event};
use std::sync::Arc;

/// Effects come out this much later at most, in microseconds.
const FLUSH_US: u64 = 300;
/// A replica ends a wait this much late at most: it looks at its waits on its ticks.
const LATE_US: u64 = 30_000;

impl World {
    /// Lets a node's replica take an event in; its effects come out a little later, with those of
    /// other events.
    pub fn step(&mut self, node: usize, event: Event<Ticket>) -> Result<(), Failed> {
        let now = self.now_of(node);
        let target = &mut self.nodes[node];
        let Some(process) = &mut target.process else {
            return Ok(());
        };
        if let Event::Write { ticket, .. } | Event::Read { ticket, .. } = &event {
            process.waiting.push(*ticket);
        }
        if target.failing_until > self.now {
            target.disk.set_failing(FAILING);
        }
        process.driver.step(now, event);
        target.disk.set_failing(0);
        self.note_taken(node)?;
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        if process.flushing {
            return Ok(());
        }
        process.flushing = true;
        let delay = if self.rng.percent(50) {
            0
        } else {
            self.rng.below(FLUSH_US)
        };
        self.later(node, delay, Input::Flush);
        Ok(())
    }

    pub fn flush(&mut self, node: usize) -> Result<(), Failed> {
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        process.flushing = false;
        let effects = process.driver.flush();
        for effect in effects {
            match effect {
                Effect::Persist { no, batch } => self.persist(node, no, batch),
                Effect::Send { to, message } => {
                    let Some(process) = &self.nodes[node].process else {
                        break;
                    };
                    let incarnation = process.driver.log_id().incarnation;
                    for member in to {
                        if self.is_traced() && !matches!(message, Message::Beacon(_)) {
                            self.note(|| format!("m{node} -> {member} {message:?}"));
                        }
                        let frame = Frame::Protocol {
                            incarnation,
                            message: message.clone(),
                        };
                        self.send(node, usize::from(member.0), frame);
                    }
                }
                Effect::Answer { ticket, answer } => self.reply(node, ticket, answer)?,
                Effect::Ready(number) => {
                    let member = self.nodes[node].member;
                    let delay = self.rng.below(20_000);
                    let ready = ViewCommand::Ready { member, number };
                    self.after(delay, What::Propose(node, ready));
                }
                Effect::Over(cohort) => {
                    let delay = self.rng.below(20_000);
                    self.after(delay, What::Propose(node, ViewCommand::Over { cohort }));
                }
                // Dropped while the node fails reads: the replica asks again.
                Effect::Fault(_) if self.nodes[node].failing_until + FLUSH_US > self.now => {}
                Effect::Fault(error) => return Err(format!("node {node}: {error}")),
            }
        }
        self.publish(node)?;
        self.go_over(node)
    }

    /// Lets a process go on with another log, when nothing is on its way in the one before.
    pub fn go_over(&mut self, node: usize) -> Result<(), Failed> {
        let now = self.now_of(node);
        let start = self.start_number(node);
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let reopened = process.driver.go_over(now, || start);
        let reopened = reopened.map_err(|e| format!("node {node} does not open again: {e}"))?;
        let Some(Reopened { log, above }) = reopened else {
            return Ok(());
        };
        self.oracle.started(log)?;
        self.nodes[node].starts.insert(start);
        self.note(|| format!("m{node} goes on as {log} (above {above:x?})"));
        self.note_taken(node)?;
        self.flush(node)
    }

    fn persist(&mut self, node: usize, no: u64, batch: causeway::protocol::store::Batch) {
        self.nodes[node].disk.submit(no, batch);
        if self.nodes[node].disk.waiting() == 1 {
            self.begin_sync(node);
        }
    }

    /// Starts a sync of all batches that wait now; those that come meanwhile wait for the next.
    fn begin_sync(&mut self, node: usize) {
        let slow = self.nodes[node].slow_disk_until > self.now;
        let cost = if slow {
            self.rng.within(20_000, 300_000)
        } else {
            let (from, to) = self.plan.weather.sync_us;
            self.rng.within(from, to)
        };
        let stuck_until = self.nodes[node].full_until.max(self.nodes[node].hung_until);
        let cost = cost + stuck_until.saturating_sub(self.now);
        let batches = self.nodes[node].disk.waiting();
        let life = self.nodes[node].life;
        let what = What::Synced {
            node,
            life,
            batches,
        };
        self.after(cost, what);
    }

    /// The first batches of a node are durable.
    pub fn synced(&mut self, node: usize, life: u32, batches: usize) -> Result<(), Failed> {
        if self.nodes[node].life != life {
            return Ok(());
        }
        for _ in 0..batches {
            if let Some((no, _)) = self.nodes[node].disk.first_waiting() {
                self.sync_one(node)?;
                let delay = self.rng.below(300);
                self.later(node, delay, Input::Persisted(no));
            }
        }
        if self.nodes[node].disk.waiting() > 0 {
            self.begin_sync(node);
        }
        Ok(())
    }

    pub(super) fn sync_one(&mut self, node: usize) -> Result<(), Failed> {
        if let Some((_, batch)) = self.nodes[node].disk.first_waiting() {
            let before = self.before_sync(node, &batch)?;
            self.nodes[node].disk.sync_one();
            self.after_sync(node, &batch, before)?;
        }
        Ok(())
    }

    fn publish(&mut self, node: usize) -> Result<(), Failed> {
        let now = self.now;
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let Some(marks) = process.driver.changed_marks() else {
            return Ok(());
        };
        let before = std::mem::replace(&mut process.marks, Arc::clone(&marks));
        let delay = self.rng.below(500);
        process.publish_us = (now + delay).max(process.publish_us);
        let delay = process.publish_us - now;
        let mut back = false;
        if marks.recovering.is_none() {
            back = std::mem::take(&mut self.nodes[node].lost);
            self.nodes[node].comparing = false;
        }
        let mut filled = marks.cohorts.iter().filter(|(_, filled)| **filled);
        if back || filled.any(|(id, _)| before.cohorts.get(id) != Some(&true)) {
            self.check_counted_on(node)?;
        }
        self.check_marks(node, &before, &marks)?;
        self.later(node, delay, Input::Publish(marks));
        Ok(())
    }

    /// I11: a replica answers everybody who asks it, be it that it is too late.
    pub(super) fn check_waiting(&self, node: usize) -> Result<(), Failed> {
        let it = &self.nodes[node];
        let end = |w: &Ticket| w.until_us.max(it.paused_until) + LATE_US;
        let mut waiting = it.process.iter().flat_map(|p| &p.waiting);
        match waiting.find(|w| self.now > end(w)) {
            Some(Ticket { op, attempt, .. }) => Err(format!(
                "I11: node {node} does not answer op {op}.{attempt}"
            )),
            None => Ok(()),
        }
    }

    /// Gives a replica's answer to who asked.
    pub fn reply(&mut self, node: usize, ticket: Ticket, answer: Answer) -> Result<(), Failed> {
        let Ticket {
            op,
            attempt,
            origin,
            until_us,
        } = ticket;
        if let Some(process) = &mut self.nodes[node].process
            && let Some(at) = process.waiting.iter().position(|w| *w == ticket)
        {
            process.waiting.swap_remove(at);
        }
        let was_paused = self.nodes[node].paused_until >= until_us;
        if self.now > until_us + LATE_US && !was_paused && matches!(answer, Answer::Read(_)) {
            return Err(format!(
                "I11: node {node} answers read {op} {} us after it has waited long enough",
                self.now - until_us
            ));
        }
        self.note(|| format!("m{node} answers op {op}.{attempt}: {answer:?}"));
        self.check_reply(node, op, attempt, &answer)?;
        if origin == node {
            return self.answered(op, attempt, answer);
        }
        let frame = Frame::Response {
            op,
            attempt,
            answer,
            told: self.told(node),
        };
        self.send(node, origin, frame);
        Ok(())
    }
}

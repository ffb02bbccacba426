//! One session: a request, its reply, the next request, until the time is over.

use super::protocol::{BenchAnswer, Speaker};
use super::record::{Done, Reached, Recorder, judged};
use super::tally::Tally;
use super::targets::Targets;
use super::workload::Workload;
use super::{Bench, Phase, Shared};
use crate::check::history::{Completion, Kind};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// After a failure, so that a dead target does not cost a processor.
const PAUSE: Duration = Duration::from_millis(10);

pub struct BenchSession {
    id: u32,
    args: Arc<Bench>,
    workload: Workload,
    speaker: Speaker,
    targets: Targets,
    /// How far the request on its way has come, and the target that it went to.
    reached: Reached,
    asked: Option<usize>,
    history: Option<History>,
    /// Shared by the sessions of a thread.
    tally: Rc<RefCell<Tally>>,
}

/// What one request asks for.
enum Asks {
    /// An operation on the key of this number.
    One(u64),
    /// Operations on the keys of these numbers.
    Many(Vec<(Kind, u64)>),
}

/// Where a session's operations are written down, and under what name.
struct History {
    recorder: Arc<Recorder>,
    name: String,
    /// The file cannot be written.
    broken: bool,
}

impl BenchSession {
    pub fn new(id: u32, shared: &Shared, phase: Phase, tally: &Rc<RefCell<Tally>>) -> Self {
        let args = Arc::clone(&shared.args);
        let mut speaker = Speaker::new(id, &args, shared.token.clone());
        let history = shared.recorder.as_ref().map(|recorder| {
            // A phase begins with an empty context: its sessions are others.
            let name = match phase {
                Phase::Prefill { .. } => format!("p{id}"),
                Phase::Load { .. } => format!("s{id}"),
            };
            speaker.mark(recorder.keys(), &name);
            History {
                recorder: Arc::clone(recorder),
                name,
                broken: false,
            }
        });
        Self {
            id,
            workload: Workload::new(id, &args),
            speaker,
            targets: Targets::new(id, &shared.routes),
            args,
            reached: Reached::NotSent,
            asked: None,
            history,
            tally: Rc::clone(tally),
        }
    }

    pub async fn run(mut self, phase: Phase) {
        match phase {
            Phase::Prefill { until } => self.prefill(until).await,
            Phase::Load { from, until } => self.load(from, until).await,
        }
        self.tally.borrow_mut().reconnects += self.targets.reconnects;
    }

    async fn prefill(&mut self, until: Instant) {
        let keys = u64::from(self.id)..self.args.keys;
        for key in keys.step_by(self.args.connections as usize) {
            while !self.one(Kind::Put, Asks::One(key), None, until).await {
                if self.over(until) {
                    return;
                }
            }
        }
    }

    async fn load(&mut self, from: Instant, until: Instant) {
        let many = self.args.batch > 1 || self.args.snapshot;
        while !self.over(until) {
            if many {
                let count = self.args.batch as usize;
                let draw = |_| (self.workload.kind(), self.workload.key());
                let operations: Vec<_> = (0..count).map(draw).collect();
                // What is certain of it is certain of nothing that it may have written.
                let writes = operations.iter().any(|(kind, _)| *kind != Kind::Get);
                let kind = if writes { Kind::Put } else { Kind::Get };
                self.one(kind, Asks::Many(operations), Some(from), until)
                    .await;
            } else {
                let (kind, key) = (self.workload.kind(), self.workload.key());
                self.one(kind, Asks::One(key), Some(from), until).await;
            }
        }
    }

    fn over(&self, until: Instant) -> bool {
        Instant::now() >= until || self.history.as_ref().is_some_and(|h| h.broken)
    }

    /// One request; whether it was answered as asked. Counts from `from` on.
    async fn one(&mut self, kind: Kind, asks: Asks, from: Option<Instant>, until: Instant) -> bool {
        let started = Instant::now();
        let patience = Duration::from_secs(self.args.timeout);
        let patient_until = started + patience;
        (self.reached, self.asked) = (Reached::NotSent, None);
        let answer = timeout_at(patient_until.min(until), self.ask(kind, asks)).await;
        self.record(kind, started);
        let counted = from.is_none_or(|from| started >= from);
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(broken)) => {
                self.leave_alone();
                BenchAnswer::Error(broken)
            }
            // The time is over, not the patience.
            Err(_) if patient_until > until => {
                if counted {
                    self.tally.borrow_mut().cut_off += 1;
                }
                return false;
            }
            Err(_) => {
                self.leave_alone();
                BenchAnswer::Error(format!("no answer in {} s", patience.as_secs()))
            }
        };
        if let BenchAnswer::Error(error) = answer {
            if counted {
                let outcome = judged(self.args.protocol, kind, &self.reached);
                let mut tally = self.tally.borrow_mut();
                tally.error(&error, outcome == Completion::Unknown);
            }
            // Not beyond the end, however near that is.
            let _ = timeout_at(until, sleep(PAUSE)).await;
            return false;
        }
        if counted {
            let not_found = answer == BenchAnswer::NotFound;
            let chars = self.speaker.context_chars();
            let mut tally = self.tally.borrow_mut();
            tally.answered(started.elapsed(), chars, not_found);
        }
        true
    }

    async fn ask(&mut self, kind: Kind, asks: Asks) -> Result<BenchAnswer, String> {
        let snapshot = self.args.snapshot;
        // Before there is a connection: what is not sent is recorded too, with a value of its own.
        let request = match &asks {
            Asks::One(key) => {
                self.speaker.set_key(*key);
                self.speaker.request(kind)?
            }
            Asks::Many(operations) => self.speaker.request_many(operations, snapshot)?,
        };
        let (at, mut wire) = self.targets.open(self.speaker.key()).await?;
        self.asked = Some(at);
        // From here on a part of it may have left, whatever comes back.
        self.reached = Reached::Sent;
        let (status, body) = wire.exchange(request).await?;
        self.targets.keep(at, wire);
        let answer = match &asks {
            Asks::One(_) => self.speaker.reply(kind, status, &body),
            Asks::Many(operations) => {
                let count = operations.len();
                self.speaker.reply_many(count, snapshot, status, &body)
            }
        };
        // Without a history an answer that says "done" is not read further.
        if self.history.is_some() || matches!(answer, BenchAnswer::Error(_)) {
            self.reached = Reached::Reply {
                status,
                carried: self.speaker.carries(&body),
                body,
            };
        }
        Ok(answer)
    }

    fn record(&mut self, kind: Kind, started: Instant) {
        let Some(history) = &mut self.history else {
            return;
        };
        let node = self.asked.and_then(|at| self.targets.address(at));
        history.broken = !history.recorder.record(&Done {
            session: &history.name,
            kind,
            key: self.speaker.key(),
            written: self.speaker.value(),
            node: node.map_or_else(String::new, |node| node.to_string()),
            started,
            reached: &self.reached,
        });
    }

    fn leave_alone(&mut self) {
        if let Some(at) = self.asked {
            self.targets.leave_alone(at);
        }
    }
}

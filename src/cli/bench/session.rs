//! One session: a request, its reply, the next request, until the time is over.

use super::protocol::{Answer, Speaker};
use super::route::Routes;
use super::tally::Tally;
use super::wire::Wire;
use super::workload::Workload;
use super::{Bench, Phase};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// A request without an answer for that long has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure, so that a dead target does not cost a processor.
const PAUSE: Duration = Duration::from_millis(10);

pub struct Session {
    id: u32,
    args: Arc<Bench>,
    routes: Arc<Routes>,
    workload: Workload,
    speaker: Speaker,
    wires: Vec<Slot>,
    /// Shared by the sessions of a thread.
    tally: Rc<RefCell<Tally>>,
}

/// The connection to one node, opened when first needed.
#[derive(Default)]
struct Slot {
    wire: Option<Wire>,
    opened: bool,
}

impl Session {
    pub fn new(
        id: u32,
        args: &Arc<Bench>,
        routes: &Arc<Routes>,
        tally: &Rc<RefCell<Tally>>,
    ) -> Self {
        Self {
            id,
            args: Arc::clone(args),
            routes: Arc::clone(routes),
            workload: Workload::new(id, args),
            speaker: Speaker::new(id, args),
            wires: routes.nodes.iter().map(|_| Slot::default()).collect(),
            tally: Rc::clone(tally),
        }
    }

    pub async fn run(self, phase: Phase) {
        match phase {
            Phase::Prefill { until } => self.prefill(until).await,
            Phase::Load { from, until } => self.load(from, until).await,
        }
    }

    async fn prefill(mut self, until: Instant) {
        let keys = u64::from(self.id)..self.args.keys;
        for key in keys.step_by(self.args.connections as usize) {
            while !self.one(false, key, None, until).await {
                if Instant::now() >= until {
                    return;
                }
            }
        }
    }

    async fn load(mut self, from: Instant, until: Instant) {
        while Instant::now() < until {
            let (read, key) = (self.workload.reads(), self.workload.key());
            self.one(read, key, Some(from), until).await;
        }
    }

    /// One request; whether it was answered as asked. Counts from `from` on.
    async fn one(&mut self, read: bool, key: u64, from: Option<Instant>, until: Instant) -> bool {
        let started = Instant::now();
        let patient_until = started + PATIENCE;
        let answer = timeout_at(patient_until.min(until), self.ask(read, key)).await;
        let counted = from.is_none_or(|from| started >= from);
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(broken)) => Answer::Error(broken),
            // The time is over, not the patience.
            Err(_) if patient_until > until => return false,
            Err(_) => Answer::Error(format!("no answer in {} s", PATIENCE.as_secs())),
        };
        if let Answer::Error(error) = answer {
            if counted {
                self.tally.borrow_mut().error(&error);
            }
            // Not beyond the end, however near that is.
            let _ = timeout_at(until, sleep(PAUSE)).await;
            return false;
        }
        if counted {
            let not_found = answer == Answer::NotFound;
            let chars = self.speaker.context_chars();
            let mut tally = self.tally.borrow_mut();
            tally.answered(started.elapsed(), chars, not_found);
        }
        true
    }

    async fn ask(&mut self, read: bool, key: u64) -> Result<Answer, String> {
        let key = self.speaker.set_key(key);
        let at = self.routes.choose(self.id, key);
        let (Some(slot), Some(node)) = (self.wires.get_mut(at), self.routes.nodes.get(at)) else {
            return Err("no target".into());
        };
        // Taken out, and put back only after a whole reply: a connection with a reply
        // still to come would answer the next request with it.
        let open = slot.wire.take().filter(|wire| !wire.is_closed());
        let mut wire = match open {
            Some(wire) => wire,
            None => {
                if slot.opened {
                    self.tally.borrow_mut().reconnects += 1;
                }
                slot.opened = true;
                Wire::connect(*node).await?
            }
        };
        let (status, body) = wire.exchange(self.speaker.request(read)?).await?;
        slot.wire = Some(wire);
        Ok(self.speaker.reply(read, status, &body))
    }
}

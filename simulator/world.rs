//! The simulated cluster: one queue of events in time, and what each of them does.

use super::client::{CLUSTER, Session, codec};
use super::disk::Disk;
use super::measure::Measure;
use super::net::{Frame, Net};
use super::node::{Input, Node};
use super::offers::Offer;
use super::operation::Operation;
use super::oracle::Oracle;
use super::plan::{Fault, Plan};
use super::rng::Rng;
use super::snapshots::Snapshooter;
use super::views::{Asked, Decisions, address};
use causeway::check::History;
use causeway::protocol::changes::ViewCommand;
use causeway::protocol::ids::MemberId;
use causeway::protocol::payload::Codec;
use causeway::protocol::view::View;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;

/// Wall clock at the start of a run, in milliseconds since 1970.
pub const START_MS: u64 = 1_800_000_000_000;

/// Characters of a line of the trace.
const LINE: usize = 4000;

/// Something that will happen.
#[derive(Clone)]
pub enum What {
    Arrive {
        from: usize,
        to: usize,
        /// The message arrives if this is still the connection, or if the message survives the
        /// connection and the receiver is still in this life.
        connection: u64,
        survives: Option<u32>,
        frame: Frame,
    },
    /// Something for the process of a node in one of its lives.
    Input {
        node: usize,
        life: u32,
        input: Input,
    },
    /// A node's first waiting batches are durable.
    Synced {
        node: usize,
        life: u32,
        batches: usize,
    },
    /// A node's process starts.
    Restart(usize),
    /// A session issues its next operation.
    Client(usize),
    /// A client makes its next snapshot.
    Snapshot(usize),
    /// An offer goes on.
    Offer(usize),
    /// A fault of the plan, by its place there.
    Fault(usize),
    /// A flapping link goes for a moment.
    Flap { a: usize, b: usize, us: u64 },
    /// All faults end.
    Heal,
    /// The operator asks for another view.
    Ask(Asked),
    /// A node hears of newer views.
    Learn(usize),
    /// Somebody looks after a change of the view.
    Steer,
    /// A node has something for the Raft group.
    Propose(usize, ViewCommand),
}

struct Scheduled {
    at: u64,
    order: u64,
    /// Boxed: the queue moves its entries a lot.
    what: Box<What>,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Everything there is.
pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub plan: Plan,
    pub decisions: Decisions,
    pub nodes: Vec<Node>,
    pub net: Net,
    pub sessions: Vec<Session>,
    /// Clients that read several keys at once.
    pub snapshooters: Vec<Snapshooter>,
    pub ops: Vec<Operation>,
    /// The offers of given-up nodes.
    pub offers: Vec<Offer>,
    pub oracle: Oracle,
    /// The history as clients saw it.
    pub history: History,
    /// The nodes' codec of payloads.
    pub codec: Codec,
    /// Sessions issue operations.
    pub busy: bool,
    pub healed: bool,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    /// The last events, and how many of them are kept.
    trace: VecDeque<String>,
    keep: usize,
    pub steps: u64,
    /// The figures of the run, if they are asked for.
    pub measure: Option<Measure>,
}

/// The reason why a run failed.
pub type Failed = String;

impl World {
    pub fn new(plan: Plan, keep: usize) -> Self {
        let addresses: Vec<SocketAddr> = (0..plan.nodes).map(address).collect();
        let decisions = Decisions::new(View::first(&addresses, plan.k).unwrap());
        let adds = plan
            .faults
            .iter()
            .filter(|p| p.fault == Fault::Ask(Asked::Add));
        let all = plan.nodes + adds.count();
        let node = |i: usize| {
            let known = (i < plan.nodes).then(|| decisions.latest());
            Node::new(MemberId(i as u16), Disk::default(), known)
        };
        let nodes = (0..all).map(node).collect();
        // Each part has its own source of chance, so that leaving a fault out changes little else.
        let stream = |n: u64| Rng::new(plan.seed ^ n.wrapping_mul(0x9e6c_63d0_676a_9a99));
        let mut rng = stream(1);
        let sessions = Session::all(&plan, &mut rng);
        let mut snapshots = stream(3);
        let snapshooters = (0..plan.load.snapshooters)
            .map(|_| Snapshooter::new(Rng::new(snapshots.next())))
            .collect();
        let mut world = Self {
            now: 1_000_000,
            net: Net::new(all, plan.weather.clone(), stream(2)),
            oracle: Oracle::new(),
            history: History::new(),
            rng,
            plan,
            decisions,
            nodes,
            codec: codec(CLUSTER),
            sessions,
            snapshooters,
            ops: Vec::new(),
            offers: Vec::new(),
            busy: true,
            healed: false,
            queue: BinaryHeap::new(),
            order: 0,
            trace: VecDeque::new(),
            keep,
            steps: 0,
            measure: None,
        };
        for node in 0..world.plan.nodes {
            let delay = world.rng.below(200_000);
            world.after(delay, What::Restart(node));
        }
        for session in 0..world.sessions.len() {
            let delay = world.rng.below(400_000);
            world.after(delay, What::Client(session));
        }
        for client in 0..world.snapshooters.len() {
            world.after(400_000, What::Snapshot(client));
        }
        world.plan_faults();
        if world.plan.changes() {
            world.after(0, What::Steer);
        }
        world
    }

    /// Plans something.
    pub fn after(&mut self, delay_us: u64, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled {
            at: self.now + delay_us,
            order: self.order,
            what: Box::new(what),
        }));
    }

    /// Plans something for a node's process.
    pub fn later(&mut self, node: usize, delay_us: u64, input: Input) {
        let life = self.nodes[node].life;
        self.after(delay_us, What::Input { node, life, input });
    }

    /// The wall clock of a node, in milliseconds since 1970.
    pub fn wall_ms(&self, node: usize) -> u64 {
        (START_MS + self.now / 1_000).saturating_add_signed(self.nodes[node].wall.skew_at(self.now))
    }

    pub fn is_traced(&self) -> bool {
        self.keep > 0
    }

    /// Adds a line to the trace; costs nothing without one.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.keep == 0 {
            return;
        }
        let line = line();
        let shown: String = line.chars().take(LINE).collect();
        self.trace.push_back(format!("{:>10} {shown}", self.now));
        if self.trace.len() > self.keep {
            self.trace.pop_front();
        }
    }

    pub fn trace(&self) -> String {
        self.trace.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Lets everything happen until a moment.
    pub fn run_until(&mut self, until: u64) -> Result<(), Failed> {
        while self.queue.peek().is_some_and(|s| s.0.at <= until) {
            let Some(Reverse(next)) = self.queue.pop() else {
                break;
            };
            self.now = next.at;
            self.steps += 1;
            self.happen(*next.what)?;
        }
        self.now = until;
        Ok(())
    }

    fn happen(&mut self, what: What) -> Result<(), Failed> {
        match what {
            What::Arrive {
                from,
                to,
                connection,
                survives,
                frame,
            } => {
                let life = self.nodes[to].life;
                if self.net.connection(from, to) != connection && survives != Some(life) {
                    return Ok(());
                }
                self.input(
                    to,
                    life,
                    Input::Frame(MemberId(from as u16), Box::new(frame)),
                )
            }
            What::Input { node, life, input } => self.input(node, life, input),
            What::Synced {
                node,
                life,
                batches,
            } => self.synced(node, life, batches),
            What::Restart(node) => self.start_node(node),
            What::Client(session) => self.issue(session),
            What::Snapshot(client) => self.begin_snapshot(client),
            What::Offer(offer) => self.offer_next(offer),
            What::Fault(i) => self.fault(i),
            What::Flap { a, b, us } => {
                self.flap_once(a, b, us);
                Ok(())
            }
            What::Heal => {
                self.heal();
                Ok(())
            }
            What::Ask(asked) => self.ask_for(asked),
            What::Learn(node) => self.learn_views(node),
            What::Steer => self.steer(),
            What::Propose(node, command) => self.propose(node, command),
        }
    }

    /// Sends a frame; it may be lost.
    pub fn send(&mut self, from: usize, to: usize, frame: Frame) {
        if let Some(measure) = &mut self.measure {
            measure.sent(&frame);
        }
        let connection = self.net.connection(from, to);
        let deliveries = self.net.send(from, to, self.now);
        for delivery in deliveries.into_iter().flatten() {
            let what = What::Arrive {
                from,
                to,
                connection,
                survives: delivery.survives.then(|| self.nodes[to].life),
                frame: frame.clone(),
            };
            self.after(delivery.at - self.now, what);
        }
    }
}

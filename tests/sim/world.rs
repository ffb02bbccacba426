//! The simulated cluster: one queue of events in time, and what each of them does.

use super::client::{Operation, Session};
use super::disk::Disk;
use super::faults::Fault;
use super::net::{Frame, Net};
use super::node::{Input, Node};
use super::oracle::Oracle;
use super::rng::Rng;
use causeway::protocol::ids::MemberId;
use causeway::protocol::view::View;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// Wall clock at the start of a run, in milliseconds since 1970.
const START_MS: u64 = 1_800_000_000_000;

/// Something that will happen.
pub enum What {
    Arrive {
        from: usize,
        to: usize,
        connection: u64,
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
    Restart {
        node: usize,
        above: u64,
    },
    /// A session issues its next operation.
    Client(usize),
    Fault(Fault),
}

struct Scheduled {
    at: u64,
    order: u64,
    what: What,
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

/// How large a run is and what may go wrong in it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub nodes: usize,
    pub k: usize,
    pub keys: usize,
    pub sessions: usize,
    /// How long faults go on, in microseconds.
    pub faults_us: u64,
    /// The mean time between faults, in microseconds.
    pub fault_every_us: u64,
    pub lose_disks: bool,
    pub jump_clocks: bool,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(rng: &mut Rng) -> Self {
        let nodes = [3, 3, 4, 4, 5, 6, 6, 8, 12][rng.index(9)];
        Self {
            nodes,
            k: [1, 2, 2, 3, 3, 3, 4][rng.index(7)],
            keys: [2, 5, 12, 60][rng.index(4)],
            sessions: 3 + rng.index(8),
            faults_us: rng.within(3_000_000, 9_000_000),
            fault_every_us: [150_000, 400_000, 900_000, 3_000_000][rng.index(4)],
            lose_disks: rng.percent(60),
            jump_clocks: rng.percent(50),
        }
    }
}

/// Everything there is.
pub struct World {
    pub now: u64,
    pub rng: Rng,
    pub plan: Plan,
    pub view: Arc<View>,
    pub nodes: Vec<Node>,
    pub net: Net,
    pub sessions: Vec<Session>,
    pub ops: Vec<Operation>,
    pub oracle: Oracle,
    /// Sessions issue operations.
    pub busy: bool,
    pub healed: bool,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    /// The last events, and how many of them are kept.
    trace: VecDeque<String>,
    keep: usize,
    pub steps: u64,
}

/// What went wrong.
pub type Failed = String;

impl World {
    pub fn new(seed: u64, keep: usize) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::of(&mut rng);
        let addresses: Vec<SocketAddr> = (0..plan.nodes)
            .map(|i| SocketAddr::from(([10, 0, 0, i as u8 + 1], 8080)))
            .collect();
        let view = Arc::new(View::first(&addresses, plan.k).unwrap());
        let nodes = (0..plan.nodes)
            .map(|i| Node::new(MemberId(i as u16), Disk::default()))
            .collect();
        let sessions = Session::all(&plan, &mut rng);
        let mut world = Self {
            now: 1_000_000,
            net: Net::new(plan.nodes),
            oracle: Oracle::new(Arc::clone(&view)),
            rng,
            plan,
            view,
            nodes,
            sessions,
            ops: Vec::new(),
            busy: true,
            healed: false,
            queue: BinaryHeap::new(),
            order: 0,
            trace: VecDeque::new(),
            keep,
            steps: 0,
        };
        for node in 0..world.plan.nodes {
            let delay = world.rng.below(200_000);
            world.after(delay, What::Restart { node, above: 0 });
        }
        for session in 0..world.sessions.len() {
            let delay = world.rng.below(400_000);
            world.after(delay, What::Client(session));
        }
        world.plan_faults();
        world
    }

    /// Plans something.
    pub fn after(&mut self, delay_us: u64, what: What) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled {
            at: self.now + delay_us,
            order: self.order,
            what,
        }));
    }

    /// Plans something for a node's process.
    pub fn later(&mut self, node: usize, delay_us: u64, input: Input) {
        let life = self.nodes[node].life;
        self.after(delay_us, What::Input { node, life, input });
    }

    /// The wall clock of a node, in milliseconds since 1970.
    pub fn wall_ms(&self, node: usize) -> u64 {
        (START_MS + self.now / 1_000).saturating_add_signed(self.nodes[node].skew_ms)
    }

    /// Adds a line to the trace; costs nothing without one.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.keep == 0 {
            return;
        }
        self.trace.push_back(format!("{:>10} {}", self.now, line()));
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
            self.happen(next.what)?;
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
                frame,
            } => {
                if self.net.connection(from, to) != connection {
                    return Ok(());
                }
                let life = self.nodes[to].life;
                self.input(to, life, Input::Frame(MemberId(from as u16), frame))
            }
            What::Input { node, life, input } => self.input(node, life, input),
            What::Synced {
                node,
                life,
                batches,
            } => self.synced(node, life, batches),
            What::Restart { node, above } => self.start_node(node, above),
            What::Client(session) => self.issue(session),
            What::Fault(fault) => self.fault(fault),
        }
    }

    /// Sends a frame; it may be lost.
    pub fn send(&mut self, from: usize, to: usize, frame: Frame) {
        let connection = self.net.connection(from, to);
        if let Some(at) = self.net.send(from, to, self.now, &mut self.rng) {
            let what = What::Arrive {
                from,
                to,
                connection,
                frame,
            };
            self.after(at - self.now, what);
        }
    }
}

//! A simulated node: its process, which a crash ends, and its disk, which it leaves behind.
//!
//! A simulated node does what the real node's threads do, in miniature: around the same driver,
//! effects are turned into I/O, marks are published a little late, requests go through the same
//! route.

mod steps;

use super::disk::{Content, Disk};
use super::net::Frame;
use super::oracle::Applied;
use super::world::{Failed, What, World};
use causeway::protocol::clock::Clock;
use causeway::protocol::driver::Driver;
use causeway::protocol::health::Health;
use causeway::protocol::ids::{self, Dot, MemberId};
use causeway::protocol::marks::Marks;
use causeway::protocol::replica::{Event, Known, Now, Setup, TICK_US};
use causeway::protocol::room::DiskRoom;
use causeway::protocol::views::Views;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// To a replica a peer is dead after so long a silence, in microseconds.
const DEAD_US: u64 = 500_000;

/// Percent of the reads that fail on a disk of which reads fail.
pub const FAILING: u64 = 20;

/// Stands for the task that waits for the replica's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub op: usize,
    pub attempt: u32,
    pub origin: usize,
    /// When the task has waited long enough.
    pub until_us: u64,
}

/// Something for a node's process.
#[derive(Clone)]
pub enum Input {
    Frame(MemberId, Box<Frame>),
    Tick,
    Persisted(u64),
    Flush,
    Publish(Arc<Marks>),
    Down(MemberId),
    /// The room on the disk is looked at.
    Room,
    /// Clients are at work, or not any more.
    Busy(bool),
    /// A client's operation arrives.
    Begin(usize),
    /// An attempt took too long.
    Late {
        op: usize,
        attempt: u32,
    },
    /// A pause between attempts is over.
    Again(usize),
    /// Nothing was sent: the attempt failed at once.
    NotSent {
        op: usize,
        attempt: u32,
    },
}

/// The state that a crash ends.
pub struct Process {
    pub driver: Driver<Disk, Ticket>,
    pub clock: Arc<Clock>,
    pub health: Health,
    pub published: Arc<Marks>,
    /// The newest marks, published or not.
    pub marks: Arc<Marks>,
    /// The last dot of its own log that the oracle knows of.
    pub noted: Dot,
    /// The tasks that wait for the replica's answers.
    waiting: Vec<Ticket>,
    flushing: bool,
    publish_us: u64,
    /// A connection ended, or somebody was heard after a silence, since the last marks.
    pub downed: bool,
    /// When each peer was last heard.
    heard: BTreeMap<MemberId, u64>,
}

/// A node.
pub struct Node {
    pub member: MemberId,
    pub disk: Disk,
    pub process: Option<Process>,
    /// Counts starts and ends of the process.
    pub life: u32,
    pub wall: Wall,
    pub paused_until: u64,
    pub slow_disk_until: u64,
    pub full_until: u64,
    /// Until then what is free is kept for deletes.
    pub scarce_until: u64,
    /// Until then nothing gets on the disk.
    pub hung_until: u64,
    /// Until then a share of the reads of the disk fails.
    pub failing_until: u64,
    /// The disk was lost, or an old copy put in its place, and what was on it is not all back yet.
    pub lost: bool,
    /// The disk was lost at some time, or an old copy put in its place.
    pub replaced: bool,
    /// An old copy was put in the place of the disk, and the node has not found out yet.
    pub comparing: bool,
    /// The newest views that it has heard of.
    pub known: Option<Arc<Views>>,
    /// The node has been in a view, or in the next one.
    pub begun: bool,
    /// The node is out of the view for ever.
    pub out: bool,
    /// Since when its process is down.
    pub down_us: u64,
    /// Since when its process is up.
    pub up_us: u64,
    /// A copy of the disk, with how far it was.
    pub copy: Option<(Content, Applied)>,
    /// The numbers of its starts.
    starts: BTreeSet<u64>,
}

/// A wall clock: how far it is off, and how that changes.
#[derive(Debug, Clone, Default)]
pub struct Wall {
    pub skew_ms: i64,
    pub drift_ppm: i64,
    pub since_us: u64,
}

impl Wall {
    pub fn skew_at(&self, now_us: u64) -> i64 {
        self.skew_ms + (now_us - self.since_us) as i64 * self.drift_ppm / 1_000_000_000
    }
}

impl Node {
    /// When the node's disk will have room for everything.
    pub fn lacks_room_until(&self) -> u64 {
        self.full_until.max(self.scarce_until)
    }

    pub fn new(member: MemberId, disk: Disk, known: Option<Arc<Views>>) -> Self {
        Self {
            begun: known.is_some(),
            known,
            out: false,
            down_us: 0,
            up_us: 0,
            member,
            disk,
            process: None,
            life: 0,
            wall: Wall::default(),
            paused_until: 0,
            slow_disk_until: 0,
            full_until: 0,
            scarce_until: 0,
            hung_until: 0,
            failing_until: 0,
            lost: false,
            replaced: false,
            comparing: false,
            copy: None,
            starts: BTreeSet::new(),
        }
    }
}

impl World {
    pub fn now_of(&self, node: usize) -> Now {
        Now {
            mono_us: self.now,
            wall_ms: self.wall_ms(node),
        }
    }

    /// Starts a node's process on its disk.
    pub fn start_node(&mut self, node: usize) -> Result<(), Failed> {
        if self.nodes[node].process.is_some() || self.nodes[node].out {
            return Ok(());
        }
        let Some(views) = self.nodes[node].known.clone() else {
            self.learn_views(node)?;
            self.after(50_000, What::Restart(node));
            return Ok(());
        };
        if !views.members().contains_key(&self.nodes[node].member) {
            self.nodes[node].out = true;
            return self.begin_offer(node);
        }
        if self.nodes[node].comparing && !self.may_compare(node) {
            self.after(50_000, What::Restart(node));
            return Ok(());
        }
        let now = self.now_of(node);
        let start = self.start_number(node);
        let clock = Arc::new(Clock::default());
        let setup = Setup {
            me: self.nodes[node].member,
            views,
            start,
            above: 0,
            trusted: false,
            put_aside: false,
            known: Known::default(),
            limits: self.plan.limits,
        };
        let disk = self.nodes[node].disk.clone();
        let driver = Driver::open(setup, disk, Arc::clone(&clock), now)
            .map_err(|e| format!("node {node} does not open: {e}"))?;
        let marks = Arc::new(driver.replica().marks());
        let log = driver.log_id();
        self.nodes[node].life += 1;
        self.nodes[node].process = Some(Process {
            driver,
            clock,
            health: Health::default(),
            published: Arc::clone(&marks),
            marks,
            noted: Dot { log, seq: 0 },
            waiting: Vec::new(),
            flushing: false,
            publish_us: self.now,
            downed: false,
            heard: BTreeMap::new(),
        });
        self.oracle.started(log)?;
        self.nodes[node].starts.insert(start);
        self.note(|| format!("m{node} starts as {log}"));
        self.nodes[node].up_us = self.now;
        let delay = self.rng.below(TICK_US);
        self.later(node, delay, Input::Tick);
        let busy = self.rng.percent(self.plan.weather.busy);
        self.later(node, delay, Input::Busy(busy));
        self.tell_room(node);
        self.after(delay, What::Learn(node));
        self.flush(node)
    }

    /// A number for a start of a node.
    ///
    /// Never one that it has had. Where a disk is lost and the wall clock set back to the very
    /// millisecond of an earlier start, chance alone tells the two starts apart. The format takes
    /// that risk; with so many seeds it would be met.
    pub fn start_number(&mut self, node: usize) -> u64 {
        loop {
            let number = ids::start_at(self.wall_ms(node), self.rng.below(1 << 16));
            if !self.nodes[node].starts.contains(&number) {
                return number;
            }
        }
    }

    /// Ends a node's process. The first `keep` batches on their way to its disk arrive.
    pub fn stop_node(&mut self, node: usize, keep: usize) -> Result<(), Failed> {
        if self.nodes[node].process.is_none() {
            return Ok(());
        }
        let keep = keep.min(self.nodes[node].disk.waiting());
        for _ in 0..keep {
            self.sync_one(node)?;
        }
        self.nodes[node].down_us = self.now;
        self.nodes[node].disk.crash();
        self.nodes[node].process = None;
        self.nodes[node].life += 1;
        self.nodes[node].paused_until = 0;
        for other in 0..self.nodes.len() {
            if other != node {
                self.reset(node, other);
            }
        }
        self.lose_ops_of(node)
    }

    /// Ends a connection; both sides hear of it.
    pub fn reset(&mut self, a: usize, b: usize) {
        self.net.reset(a, b);
        for (at, other) in [(a, b), (b, a)] {
            let delay = self.rng.below(2_000);
            let member = self.nodes[other].member;
            self.later(at, delay, Input::Down(member));
        }
    }

    /// Hands something to a node's process, now or when its pause is over.
    pub fn input(&mut self, node: usize, life: u32, input: Input) -> Result<(), Failed> {
        let target = &self.nodes[node];
        if target.life != life || target.process.is_none() {
            return Ok(());
        }
        if target.paused_until > self.now {
            let delay = target.paused_until - self.now;
            self.after(delay, What::Input { node, life, input });
            return Ok(());
        }
        self.handle(node, input)
    }

    fn handle(&mut self, node: usize, input: Input) -> Result<(), Failed> {
        match input {
            Input::Frame(from, frame) => self.frame(node, from, *frame),
            Input::Tick => {
                self.later(node, TICK_US, Input::Tick);
                self.check_waiting(node)?;
                self.step(node, Event::Tick)
            }
            Input::Persisted(no) => self.step(node, Event::Persisted(no)),
            Input::Flush => self.flush(node),
            Input::Publish(marks) => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.published = marks;
                }
                Ok(())
            }
            Input::Down(member) => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.downed = true;
                }
                self.step(node, Event::Down(member))
            }
            Input::Room => {
                let (it, now, why) = (&self.nodes[node], self.now, "simulated".to_owned());
                let room = match (it.full_until > now, it.scarce_until > now) {
                    (true, _) => DiskRoom::None(why),
                    (false, true) => DiskRoom::Scarce(why),
                    (false, false) => DiskRoom::Ample,
                };
                self.step(node, Event::Room(room))
            }
            Input::Busy(busy) => self.step(node, Event::Busy(busy)),
            Input::Begin(op) => self.begin(op),
            Input::Late { op, attempt } => self.late(op, attempt),
            Input::Again(op) => self.drive(op),
            Input::NotSent { op, attempt } => self.not_sent(op, attempt),
        }
    }

    fn frame(&mut self, node: usize, from: MemberId, frame: Frame) -> Result<(), Failed> {
        let now = self.now;
        if let Some(process) = &mut self.nodes[node].process {
            process.health.heard(from, now);
        }
        match frame {
            Frame::Protocol {
                incarnation,
                message,
            } => {
                if let Some(process) = &mut self.nodes[node].process {
                    let before = process.heard.insert(from, now).unwrap_or(0);
                    process.downed |= now - before >= DEAD_US;
                }
                let event = Event::Message {
                    from,
                    incarnation,
                    message,
                };
                self.step(node, event)
            }
            Frame::Request {
                op,
                attempt,
                what,
                context,
                stall_us,
            } => {
                let ticket = Ticket {
                    op,
                    attempt,
                    origin: usize::from(from.0),
                    until_us: now + stall_us,
                };
                self.serve(node, ticket, what, context, stall_us)
            }
            Frame::Response {
                op,
                attempt,
                answer,
                told,
            } => {
                if let Some(told) = told {
                    self.learn(node, from, told)?;
                }
                self.answered(op, attempt, answer)
            }
        }
    }
}

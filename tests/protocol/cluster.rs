//! A few replicas in one thread, for readable tests: messages arrive in a millisecond, disks sync
//! at once, and a test cuts links, stops nodes and takes disks away by hand.

use crate::disk::Disk;
use bytes::Bytes;
use causeway::protocol::clock::{Clock, Timestamp};
use causeway::protocol::context::Context;
use causeway::protocol::ids::MemberId;
use causeway::protocol::marks::Marks;
use causeway::protocol::message::Message;
use causeway::protocol::op::{Answer, Consistency, Read, Refusal, Written};
use causeway::protocol::replica::{Effect, Event, Now, Replica, Setup};
use causeway::protocol::version::{Key, Stamp};
use causeway::protocol::view::View;
use causeway::protocol::views::Views;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// The wall clock at the start of a test, in milliseconds since 1970.
pub const START_MS: u64 = 1_800_000_000_000;

type Ticket = usize;

pub struct Node {
    pub disk: Disk,
    pub replica: Option<Replica<Disk, Ticket>>,
    pub clock: Arc<Clock>,
    incarnation: u64,
    /// A node whose disk hangs: nothing becomes durable.
    pub disk_hangs: bool,
    /// A node whose own log does not get through, though all else does.
    pub keeps_log: bool,
    pub skew_ms: i64,
    /// What the replica asked for: to be started again above this incarnation.
    pub restart: Option<u64>,
}

pub struct Cluster {
    pub now_us: u64,
    pub view: Arc<View>,
    pub nodes: Vec<Node>,
    cut: BTreeSet<(usize, usize)>,
    wire: VecDeque<(usize, usize, u64, Message)>,
    answers: BTreeMap<Ticket, Answer>,
    next: Ticket,
}

impl Cluster {
    /// A cluster of `n` nodes with `k` replicas a partition, started and serving.
    pub fn new(n: usize, k: usize) -> Self {
        let mut cluster = Self::stopped(n, k);
        for node in 0..n {
            cluster.start(node);
        }
        cluster.run_ms(200);
        cluster
    }

    pub fn stopped(n: usize, k: usize) -> Self {
        let addresses: Vec<SocketAddr> = (0..n)
            .map(|i| SocketAddr::from(([10, 0, 0, i as u8 + 1], 8080)))
            .collect();
        let node = |_| Node {
            disk: Disk::default(),
            replica: None,
            clock: Arc::default(),
            incarnation: 0,
            disk_hangs: false,
            keeps_log: false,
            skew_ms: 0,
            restart: None,
        };
        Self {
            now_us: 0,
            view: Arc::new(View::first(&addresses, k).unwrap()),
            nodes: (0..n).map(node).collect(),
            cut: BTreeSet::new(),
            wire: VecDeque::new(),
            answers: BTreeMap::new(),
            next: 0,
        }
    }

    pub fn now(&self, node: usize) -> Now {
        Now {
            mono_us: self.now_us,
            wall_ms: (START_MS + self.now_us / 1_000)
                .saturating_add_signed(self.nodes[node].skew_ms),
        }
    }

    pub fn start(&mut self, node: usize) {
        let now = self.now(node);
        let clock = Arc::new(Clock::default());
        let setup = Setup {
            me: MemberId(node as u16),
            views: Arc::new(Views::first(View::clone(&self.view))),
            start: now.wall_ms,
            above: 0,
            trusted: false,
            elsewhere: Arc::default(),
        };
        let disk = self.nodes[node].disk.clone();
        let replica = Replica::open(setup, disk, Arc::clone(&clock), now).unwrap();
        self.nodes[node].incarnation = replica.log_id().incarnation;
        self.nodes[node].clock = clock;
        self.nodes[node].replica = Some(replica);
        self.flush(node);
    }

    /// Ends a node's process; what is durable stays.
    pub fn stop(&mut self, node: usize) {
        self.nodes[node].disk.crash();
        self.nodes[node].replica = None;
        for other in 0..self.nodes.len() {
            self.step(other, Event::Down(MemberId(node as u16)));
        }
    }

    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut.extend([(a, b), (b, a)]);
    }

    /// Cuts one direction.
    pub fn mute(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub fn step(&mut self, node: usize, event: Event<Ticket>) {
        let now = self.now(node);
        if let Some(replica) = &mut self.nodes[node].replica {
            replica.step(now, event);
            self.flush(node);
        }
    }

    fn flush(&mut self, node: usize) {
        let Some(replica) = &mut self.nodes[node].replica else {
            return;
        };
        for effect in replica.flush() {
            match effect {
                Effect::Persist { no, batch } => self.nodes[node].disk.submit(no, batch),
                Effect::Send { to, message } => {
                    let incarnation = self.nodes[node].incarnation;
                    let own = match &message {
                        Message::Append(_) => true,
                        Message::Range(range) => range.log.member == MemberId(node as u16),
                        _ => false,
                    };
                    if own && self.nodes[node].keeps_log {
                        continue;
                    }
                    for member in to {
                        let to = usize::from(member.0);
                        if !self.cut.contains(&(node, to)) {
                            self.wire
                                .push_back((node, to, incarnation, message.clone()));
                        }
                    }
                }
                Effect::Answer { ticket, answer } => {
                    self.answers.insert(ticket, answer);
                }
                Effect::Fault(error) => panic!("node {node}: {error}"),
                Effect::Ready(_) | Effect::Over(_) => {}
                Effect::Restart { above } => self.nodes[node].restart = Some(above),
            }
        }
    }

    /// Lets time pass, a millisecond at a time.
    pub fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_us += 1_000;
            for (from, to, incarnation, message) in std::mem::take(&mut self.wire) {
                let event = Event::Message {
                    from: MemberId(from as u16),
                    incarnation,
                    message,
                };
                self.step(to, event);
            }
            for node in 0..self.nodes.len() {
                while !self.nodes[node].disk_hangs
                    && self.nodes[node].disk.waiting() > 0
                    && let Some((no, _)) = self.nodes[node].disk.first_waiting()
                {
                    self.nodes[node].disk.sync_one();
                    self.step(node, Event::Persisted(no));
                }
                if self.now_us.is_multiple_of(20_000) {
                    self.step(node, Event::Tick);
                }
            }
        }
    }

    pub fn marks(&self, node: usize) -> Marks {
        self.nodes[node].replica.as_ref().unwrap().marks()
    }

    pub fn serves(&self, node: usize) -> bool {
        self.marks(node).recovering.is_none()
    }

    /// A key of a partition.
    pub fn key(&self, partition: u32, n: usize) -> Key {
        let all = (0..).map(|i| Key::from(format!("key{i}")));
        let mut of_partition = all.filter(|k| self.view.partition_of_key(k).0 == partition);
        of_partition.nth(n).unwrap()
    }

    pub fn stamp(&self, node: usize, context: &Context) -> Stamp {
        Stamp {
            ts: self.nodes[node]
                .clock
                .tick(self.now(node).wall_ms, context.clock),
            by: MemberId(node as u16),
        }
    }

    /// Begins a write; `None` deletes.
    pub fn write(
        &mut self,
        node: usize,
        key: &Key,
        value: Option<&str>,
        context: &Context,
    ) -> usize {
        let stamp = self.stamp(node, context);
        self.write_as(node, key, value, context, stamp)
    }

    pub fn write_as(
        &mut self,
        node: usize,
        key: &Key,
        value: Option<&str>,
        context: &Context,
        stamp: Stamp,
    ) -> usize {
        self.next += 1;
        let event = Event::Write {
            ticket: self.next,
            key: key.clone(),
            value: value.map(|v| Bytes::from(v.to_owned())),
            stamp,
            context: context.clone(),
        };
        self.step(node, event);
        self.next
    }

    pub fn answer(&mut self, ticket: usize) -> Option<Answer> {
        self.answers.remove(&ticket)
    }

    pub fn written(&mut self, ticket: usize) -> Option<Written> {
        self.answer(ticket).map(|answer| match answer {
            Answer::Written(written) => written,
            other => panic!("not written: {other:?}"),
        })
    }

    /// Writes, and waits for the answer; the context that it gives.
    pub fn put(
        &mut self,
        node: usize,
        key: &Key,
        value: Option<&str>,
        context: &Context,
    ) -> Context {
        let ticket = self.write(node, key, value, context);
        self.run_ms(150);
        self.written(ticket).unwrap().context
    }

    /// Begins a read that may wait.
    pub fn read(&mut self, node: usize, key: &Key, context: &Context, wait_ms: u64) -> usize {
        self.next += 1;
        let event = Event::Read {
            ticket: self.next,
            key: key.clone(),
            context: context.clone(),
            consistency: Consistency::Causal,
            until_us: self.now_us + wait_ms * 1_000,
        };
        self.step(node, event);
        self.next
    }

    /// Reads without waiting.
    pub fn get(&mut self, node: usize, key: &Key, context: &Context) -> Result<Read, Refusal> {
        let ticket = self.read(node, key, context, 0);
        match self.answer(ticket) {
            Some(Answer::Read(read)) => Ok(read),
            Some(Answer::Refused(refusal)) => Err(refusal),
            other => panic!("no answer to a read: {other:?}"),
        }
    }

    pub fn value(&mut self, node: usize, key: &Key, context: &Context) -> Option<String> {
        let read = self.get(node, key, context).unwrap();
        read.found
            .map(|f| String::from_utf8(f.value.to_vec()).unwrap())
    }

    /// The context of a client that has seen one write and nothing else.
    pub fn after(log: causeway::protocol::ids::LogId, seq: u64, clock: Timestamp) -> Context {
        let mut context = Context::default();
        context.clock = clock;
        context.see(log, seq);
        context
    }
}

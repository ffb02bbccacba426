//! A few replicas in one thread, for readable tests: messages arrive in a millisecond, disks sync
//! at once, and a test cuts links, stops nodes and takes disks away by hand.

use crate::disk::Disk;
use bytes::Bytes;
use causeway::protocol::changes::{ViewChanges, ViewCommand, ViewOutcome};
use causeway::protocol::clock::{Clock, Timestamp};
use causeway::protocol::context::Context;
use causeway::protocol::driver::Driver;
use causeway::protocol::ids::MemberId;
use causeway::protocol::limits::Limits;
use causeway::protocol::marks::Marks;
use causeway::protocol::message::{Gossip, Message};
use causeway::protocol::op::{Answer, Consistency, Read, Refusal, Written};
use causeway::protocol::placement::Change;
use causeway::protocol::replica::{Effect, Event, Known, Now, Replica, Setup, TICK_US};
use causeway::protocol::version::{Key, Stamp, Version};
use causeway::protocol::view::View;
use causeway::protocol::views::{CohortId, Views};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// The wall clock at the start of a test, in milliseconds since 1970.
pub const START_MS: u64 = 1_800_000_000_000;

type Ticket = usize;

pub struct Node {
    pub disk: Disk,
    pub driver: Option<Driver<Disk, Ticket>>,
    pub clock: Arc<Clock>,
    /// A node whose disk hangs: nothing becomes durable.
    pub disk_hangs: bool,
    /// A node whose own log does not get through, though all else does.
    pub keeps_log: bool,
    /// A node whose pulls do not get through.
    pub pulls_nothing: bool,
    /// A node whose disk fails to read now and then.
    pub reads_fail: bool,
    /// What it last told others, whether that got through or not.
    pub gossip: Option<Gossip>,
    pub skew_ms: i64,
    /// The disk is empty because its damaged data was put aside.
    pub put_aside: bool,
    /// The newest views that it has heard of.
    pub views: Arc<Views>,
}

impl Node {
    fn new(views: &Views) -> Self {
        Self {
            disk: Disk::default(),
            driver: None,
            clock: Arc::default(),
            disk_hangs: false,
            keeps_log: false,
            pulls_nothing: false,
            reads_fail: false,
            gossip: None,
            skew_ms: 0,
            put_aside: false,
            views: Arc::new(views.clone()),
        }
    }

    /// The replica, while the node runs.
    pub fn replica(&self) -> &Replica<Disk, Ticket> {
        self.driver.as_ref().unwrap().replica()
    }
}

pub struct Cluster {
    pub now_us: u64,
    /// What replicas that are started are bounded by.
    pub limits: Limits,
    /// How often a replica asked its peers for gossip.
    pub asked: usize,
    pub changes: ViewChanges,
    /// Closing cohorts of which somebody said that they are over.
    pub over: BTreeSet<CohortId>,
    pub nodes: Vec<Node>,
    /// What nodes have sent, if that is to be kept.
    pub sent: Option<Vec<Message>>,
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
        let addresses: Vec<SocketAddr> = (0..n).map(address).collect();
        let changes = ViewChanges::first(View::first(&addresses, k).unwrap());
        Self {
            now_us: 0,
            limits: Limits::ORDINARY,
            asked: 0,
            nodes: (0..n).map(|_| Node::new(changes.views())).collect(),
            changes,
            over: BTreeSet::new(),
            sent: None,
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
            views: Arc::clone(&self.nodes[node].views),
            start: now.wall_ms,
            above: 0,
            trusted: false,
            put_aside: self.nodes[node].put_aside,
            known: Known::default(),
            limits: self.limits,
        };
        let disk = self.nodes[node].disk.clone();
        let driver = Driver::open(setup, disk, Arc::clone(&clock), now).unwrap();
        self.nodes[node].clock = clock;
        self.nodes[node].driver = Some(driver);
        self.flush(node);
    }

    /// Ends a node's process; what is durable stays.
    pub fn stop(&mut self, node: usize) {
        self.nodes[node].disk.crash();
        self.nodes[node].driver = None;
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
        if let Some(driver) = &mut self.nodes[node].driver {
            driver.step(now, event);
            self.flush(node);
        }
    }

    fn flush(&mut self, node: usize) {
        let now = self.now(node);
        let Some(driver) = &mut self.nodes[node].driver else {
            return;
        };
        let incarnation = driver.log_id().incarnation;
        for effect in driver.flush() {
            match effect {
                Effect::Persist { no, batch } => self.nodes[node].disk.submit(no, batch),
                Effect::Send { to, message } => {
                    let own = match &message {
                        Message::Append(_) => true,
                        Message::Range(range) => range.log.member == MemberId(node as u16),
                        _ => false,
                    };
                    if own && self.nodes[node].keeps_log {
                        continue;
                    }
                    if matches!(message, Message::Pull(_)) && self.nodes[node].pulls_nothing {
                        continue;
                    }
                    if let Message::Gossip(gossip) = &message {
                        self.asked += usize::from(gossip.reply);
                        self.nodes[node].gossip = Some(gossip.clone());
                    }
                    self.sent.iter_mut().for_each(|s| s.push(message.clone()));
                    for member in to {
                        let to = usize::from(member.0);
                        // A node that is being added may not run yet.
                        let runs = to < self.nodes.len();
                        if runs && !self.cut.contains(&(node, to)) {
                            self.wire
                                .push_back((node, to, incarnation, message.clone()));
                        }
                    }
                }
                Effect::Answer { ticket, answer } => {
                    self.answers.insert(ticket, answer);
                }
                Effect::Fault(_) if self.nodes[node].reads_fail => {}
                Effect::Fault(error) => panic!("node {node}: {error}"),
                Effect::Ready(number) => {
                    let member = MemberId(node as u16);
                    self.changes.apply(ViewCommand::Ready { member, number });
                }
                Effect::Over(cohort) => {
                    self.over.insert(cohort);
                }
            }
        }
        let reopened = match &mut self.nodes[node].driver {
            Some(driver) => driver.go_over(now, || now.wall_ms).unwrap(),
            None => None,
        };
        if reopened.is_some() {
            self.flush(node);
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
                while !self.nodes[node].disk_hangs && self.store_batch(node) {}
                if self.now_us.is_multiple_of(TICK_US) {
                    self.step(node, Event::Tick);
                }
            }
        }
    }

    /// Makes the first batch durable that waits for the disk. False if none waits.
    pub fn store_batch(&mut self, node: usize) -> bool {
        let disk = &mut self.nodes[node].disk;
        let Some((no, _)) = disk.first_waiting().filter(|_| disk.waiting() > 0) else {
            return false;
        };
        disk.sync_one();
        self.step(node, Event::Persisted(no));
        true
    }

    /// Decides something about views. Nodes do not know of it before they are told.
    pub fn decide(&mut self, command: ViewCommand) -> ViewOutcome {
        self.changes.apply(command)
    }

    /// Starts a change of the view. A node that is added comes with an empty disk, and runs once it
    /// is told.
    pub fn change(&mut self, change: Change) -> u64 {
        let outcome = self.decide(ViewCommand::Change {
            change,
            give_up: false,
            lose_data: false,
        });
        let ViewOutcome::Started { number } = outcome else {
            panic!("{change:?}: {outcome:?}");
        };
        number
    }

    /// Adds a node, the next one there is; its number.
    pub fn add(&mut self) -> usize {
        let node = self.nodes.len();
        self.change(Change::Add(address(node)));
        self.nodes.push(Node::new(self.changes.views()));
        self.start(node);
        node
    }

    /// Puts the next view in force, if who is waited for is ready.
    pub fn enact(&mut self, number: u64) {
        let without = BTreeSet::new();
        let outcome = self.decide(ViewCommand::Enact { number, without });
        assert_eq!(outcome, ViewOutcome::InForce { number });
    }

    /// A node hears of the newest views, and goes over to them.
    pub fn tell(&mut self, node: usize) {
        self.begin_to_tell(node);
        while self.nodes[node]
            .driver
            .as_ref()
            .is_some_and(Driver::is_closing)
        {
            self.run_ms(1);
        }
    }

    /// A node hears of the newest views, and will go over to them.
    pub fn begin_to_tell(&mut self, node: usize) {
        let views = Arc::new(self.changes.views().clone());
        if self.nodes[node].views == views {
            return;
        }
        self.nodes[node].views = Arc::clone(&views);
        let member = MemberId(node as u16);
        if !views.members().contains_key(&member) {
            return self.stop(node);
        }
        if let Some(driver) = &mut self.nodes[node].driver {
            driver.learn(views);
            self.flush(node);
        }
    }

    /// Whether a node is about to be opened again.
    pub fn is_closing(&self, node: usize) -> bool {
        let driver = self.nodes[node].driver.as_ref();
        driver.is_some_and(Driver::is_closing)
    }

    /// All nodes hear of the newest views.
    pub fn tell_all(&mut self) {
        for node in 0..self.nodes.len() {
            self.tell(node);
        }
    }

    /// Lets the running change, if any, and all cohorts that are closing come to an end; false if
    /// they do not.
    pub fn views_settle(&mut self) -> bool {
        for _ in 0..50 {
            if let Some(number) = self.changes.running().map(|r| r.number) {
                let without = BTreeSet::new();
                self.decide(ViewCommand::Enact { number, without });
            }
            for cohort in std::mem::take(&mut self.over) {
                self.decide(ViewCommand::Over { cohort });
            }
            self.tell_all();
            let views = self.changes.views();
            if self.changes.running().is_none() && views.closing.is_empty() {
                return true;
            }
            self.run_ms(200);
        }
        false
    }

    pub fn marks(&self, node: usize) -> Marks {
        self.nodes[node].replica().marks()
    }

    pub fn serves(&self, node: usize) -> bool {
        self.marks(node).recovering.is_none()
    }

    /// The view in force.
    pub fn view(&self) -> &View {
        &self.changes.views().view
    }

    /// A key of a partition.
    pub fn key(&self, partition: u32, n: usize) -> Key {
        let all = (0..).map(|i| Key::from(format!("key{i}")));
        let mut of_partition = all.filter(|k| self.view().partition_of_key(k).0 == partition);
        of_partition.nth(n).unwrap()
    }

    pub fn stamp(&self, node: usize, context: &Context) -> Stamp {
        Stamp {
            ts: self.nodes[node].clock.tick(self.now(node), context.clock),
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
            orphan: None,
        };
        self.step(node, event);
        self.next
    }

    /// Offers a write that a node had which was given up.
    pub fn offer(&mut self, node: usize, version: &Version, context: &Context) -> usize {
        self.next += 1;
        let event = Event::Write {
            ticket: self.next,
            key: version.key.clone(),
            value: version.value.clone(),
            stamp: version.stamp,
            context: context.clone(),
            orphan: Some(version.wall_ms),
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

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 8080))
}

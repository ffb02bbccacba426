//! The cost of a run: bytes on the wire, how long contexts are, reads that could not be answered at
//! once, how old the knowledge of other partitions is. `benches/scale.rs` turns this on and reads
//! it.
//!
//! A run that is measured keeps no clients' pasts, which grow with the square of the run: of the
//! invariants I4 and I5 are not checked. Answers between nodes tell how far the partition is, as in
//! the real node.

#![allow(dead_code, reason = "the tests do not measure")]

use super::client::{CLUSTER, codec};
use super::net::Frame;
use super::rng::Rng;
use super::world::{Failed, World};
use causeway::protocol::ids::{LogId, MemberId};
use causeway::protocol::marks::Marks;
use causeway::protocol::message::{Beacon, Message};
use causeway::protocol::op::{Answer, Op};
use causeway::protocol::payload::Codec;
use causeway::protocol::reads::Lookup;
use causeway::protocol::replica::Event;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a frame before its payload: length, check sum and kind, as in src/net/frame.rs.
const HEAD: u64 = 9;

/// Frames and their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    pub frames: u64,
    pub bytes: u64,
}

/// Counts since a moment.
#[derive(Debug, Clone, Default)]
pub struct Window {
    pub since_us: u64,
    pub traffic: BTreeMap<&'static str, Traffic>,
    /// For the answers that clients got: characters and entries of the context.
    pub texts: Vec<u64>,
    pub entries: Vec<u64>,
    pub reads: u64,
    pub writes: u64,
    /// Answers that say no, by what they say.
    pub refused: BTreeMap<String, u64>,
    /// Looks at a replica that lacked what the client had seen: passed on, or waited.
    pub passed_on: u64,
    pub stalled: u64,
    /// Reads that met a version without a second copy.
    pub hidden: u64,
    /// Time from a read's arrival to its answer, in microseconds.
    pub read_us: Vec<u64>,
}

/// The counters of a run, and how its keys are drawn.
pub struct Measure {
    pub window: Window,
    codec: Codec,
    /// The weight of all keys up to each one.
    weights: Vec<f64>,
    /// How far each log was stable in its own partition, and since when.
    stable: BTreeMap<LogId, Vec<(u64, u64)>>,
}

impl Measure {
    /// With as many keys, whose weight falls off as `rank ^ -(zipf / 100)`.
    pub fn new(keys: usize, zipf: u64) -> Self {
        let mut all = 0.0;
        let weights = (1..=keys).map(|rank| {
            all += (rank as f64).powf(-(zipf as f64) / 100.0);
            all
        });
        Self {
            weights: weights.collect(),
            window: Window::default(),
            codec: codec(CLUSTER),
            stable: BTreeMap::new(),
        }
    }

    /// Draws a key.
    pub fn rank(&self, rng: &mut Rng) -> usize {
        let all = self.weights.last().copied().unwrap_or(0.0);
        let dice = rng.below(1 << 53) as f64 / (1u64 << 53) as f64 * all;
        let rank = self.weights.partition_point(|upto| *upto <= dice);
        rank.min(self.weights.len() - 1)
    }

    /// Starts to count anew, and gives what was counted.
    pub fn next_window(&mut self, now: u64) -> Window {
        let next = Window {
            since_us: now,
            ..Window::default()
        };
        std::mem::replace(&mut self.window, next)
    }

    /// Counts a frame, as long as the real one.
    pub fn sent(&mut self, frame: &Frame) {
        let (kind, bytes) = match frame {
            Frame::Protocol {
                incarnation,
                message,
            } => (kind(message), size(&(incarnation, message))),
            Frame::Request {
                op,
                what,
                context,
                stall_us,
                ..
            } => ("requests", size(&(op, what, context, stall_us))),
            Frame::Response {
                op, answer, told, ..
            } => {
                let told = told.as_ref().map(|b| (b.clock, &b.stable));
                (
                    "answers",
                    size(&(op, answer)) + told.map_or(0, |t| size(&t)),
                )
            }
        };
        let traffic = self.window.traffic.entry(kind).or_default();
        traffic.frames += 1;
        traffic.bytes += HEAD + bytes;
    }

    /// Counts what a replica found when it was asked.
    pub fn looked(&mut self, found: &Lookup, stall_us: u64) {
        match found {
            Lookup::Short(_) if stall_us == 0 => self.window.passed_on += 1,
            Lookup::Short(_) => self.window.stalled += 1,
            Lookup::Hidden => self.window.hidden += 1,
            Lookup::Answer(_) | Lookup::OldView | Lookup::Recovering(_) => {}
        }
    }

    /// For each log of other partitions: how long its own partition has known what these marks do
    /// not know.
    pub fn ages(&self, marks: &Marks, now: u64) -> Vec<u64> {
        let others = self
            .stable
            .iter()
            .filter(|(log, _)| !marks.is_tracked(**log));
        let age = |(log, history): (&LogId, &Vec<(u64, u64)>)| {
            let known = history.partition_point(|(_, seq)| marks.is_stable(*log, *seq));
            history.get(known).map_or(0, |(since, _)| now - since)
        };
        others.map(age).collect()
    }
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Gossip(_) => "gossip",
        Message::Beacon(_) => "beacons",
        Message::Append(_) | Message::Ack(_) => "streams",
        Message::Pull(_)
        | Message::Range(_)
        | Message::SnapshotPull(_)
        | Message::SnapshotChunk(_)
        | Message::Early(_)
        | Message::EarlyKept(_)
        | Message::Outdated { .. } => "repair",
    }
}

fn size(payload: &impl Serialize) -> u64 {
    postcard::experimental::serialized_size(payload).map_or(0, |n| n as u64)
}

impl World {
    /// The beacon that comes with a node's answer.
    pub fn told(&self, node: usize) -> Option<Beacon> {
        let process = self.nodes[node].process.as_ref()?;
        self.measure.as_ref()?;
        let logs = process.published.logs.iter();
        Some(Beacon {
            clock: process.clock.now(),
            wall_ms: 0,
            serving: true,
            version: process.published.views.version,
            stable: logs.map(|(log, mark)| (*log, mark.stable)).collect(),
            over: Vec::new(),
        })
    }

    /// A node takes note of what an answer told.
    pub fn learn(&mut self, node: usize, from: MemberId, told: Beacon) -> Result<(), Failed> {
        let Some(process) = &self.nodes[node].process else {
            return Ok(());
        };
        process.clock.observe(told.clock);
        if !process.published.elsewhere.lacks(&told) {
            return Ok(());
        }
        let event = Event::Message {
            from,
            incarnation: 0,
            message: Message::Beacon(told),
        };
        self.step(node, event)
    }

    /// Counts an operation that is over.
    pub fn measured(&mut self, op: usize, answer: &Answer) {
        let Some(measure) = &mut self.measure else {
            return;
        };
        let (operation, window) = (&self.ops[op], &mut measure.window);
        if matches!(operation.what, Op::Get { .. }) {
            window.reads += 1;
            window.read_us.push(self.now - operation.started_us);
        } else {
            window.writes += 1;
        }
        let context = match answer {
            Answer::Read(read) => &read.context,
            Answer::Written(written) => &written.context,
            Answer::NothingToDelete(context) | Answer::Declined(_, context) => context,
            Answer::Refused(refusal) => {
                let what = format!("{refusal:?}");
                let name = what.split([' ', '(', '{']).next().unwrap_or_default();
                *window.refused.entry(name.to_owned()).or_default() += 1;
                return;
            }
        };
        window
            .texts
            .push(measure.codec.encode(context).len() as u64);
        window.entries.push(context.len() as u64);
    }

    /// Writes down how far every log is stable where it is at home.
    pub fn note_stable(&mut self) {
        let Some(measure) = &mut self.measure else {
            return;
        };
        for process in self.nodes.iter().filter_map(|n| n.process.as_ref()) {
            for (log, mark) in &process.marks.logs {
                let history = measure.stable.entry(*log).or_default();
                if history.last().is_none_or(|(_, seq)| *seq < mark.stable) && mark.stable > 0 {
                    history.push((self.now, mark.stable));
                }
            }
        }
    }

    /// The marks that a node's readers use now.
    pub fn marks_of(&self, node: usize) -> Option<&Arc<Marks>> {
        Some(&self.nodes[node].process.as_ref()?.published)
    }
}

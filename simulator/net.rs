//! The network: every ordered pair of nodes has a link that keeps order within a connection, and
//! faults that last for a while.

use super::plan::Weather;
use super::rng::Rng;
use causeway::protocol::context::Context;
use causeway::protocol::message::{Beacon, Message};
use causeway::protocol::op::{Answer, Op};

/// A message between nodes.
#[derive(Debug, Clone)]
pub enum Frame {
    Protocol {
        incarnation: u64,
        message: Message,
    },
    Request {
        op: usize,
        attempt: u32,
        what: Op,
        context: Context,
        stall_us: u64,
    },
    Response {
        op: usize,
        attempt: u32,
        answer: Answer,
        /// The beacon that comes with the answer; only in runs that are measured.
        told: Option<Beacon>,
    },
}

/// One direction between two nodes.
#[derive(Debug, Clone, Default)]
struct Link {
    /// Nothing overtakes: the last delivery's time.
    last_us: u64,
    /// Cut off until then; what is sent waits for it or is lost.
    cut_until: u64,
    holds: bool,
    loss_until: u64,
    loss: u64,
    twice_until: u64,
    twice: u64,
    slow_until: u64,
}

/// When a frame arrives, and whether it does so even if its connection ends before.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    pub at: u64,
    pub survives: bool,
}

/// All links.
pub struct Net {
    nodes: usize,
    weather: Weather,
    rng: Rng,
    links: Vec<Link>,
    /// The number of each pair's connection; a reset begins the next.
    connections: Vec<u64>,
}

impl Net {
    pub fn new(nodes: usize, weather: Weather, rng: Rng) -> Self {
        Self {
            nodes,
            weather,
            rng,
            links: vec![Link::default(); nodes * nodes],
            connections: vec![0; nodes * nodes],
        }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    /// The connection of two nodes, whichever of them asks.
    pub fn connection(&self, a: usize, b: usize) -> u64 {
        self.connections[a.min(b) * self.nodes + a.max(b)]
    }

    /// Ends a connection: what is under way on it in either direction is lost, or most of it.
    pub fn reset(&mut self, a: usize, b: usize) {
        self.connections[a.min(b) * self.nodes + a.max(b)] += 1;
        for (from, to) in [(a, b), (b, a)] {
            self.link(from, to).last_us = 0;
        }
    }

    /// Whether a node could not open a connection to another now.
    pub fn is_cut(&self, from: usize, to: usize, now: u64) -> bool {
        self.links[from * self.nodes + to].cut_until > now
    }

    /// Whether anything is wrong with a link now.
    pub fn is_faulty(&self, from: usize, to: usize, now: u64) -> bool {
        let link = &self.links[from * self.nodes + to];
        let until = link.cut_until.max(link.loss_until).max(link.slow_until);
        until.max(link.twice_until) > now
    }

    /// When something sent now arrives: never, once, or twice.
    pub fn send(&mut self, from: usize, to: usize, now: u64) -> [Option<Delivery>; 2] {
        let (weather, rng) = (&self.weather, &mut self.rng);
        let link = &mut self.links[from * self.nodes + to];
        let mut delay = rng.within(weather.delay_us.0, weather.delay_us.1);
        if rng.percent(weather.slow) || link.slow_until > now {
            delay += rng.below(weather.slow_us);
        }
        if link.loss_until > now && rng.percent(link.loss) {
            return [None; 2];
        }
        let mut start = now;
        if link.cut_until > now {
            if !link.holds {
                return [None; 2];
            }
            start = link.cut_until;
        }
        let at = (start + delay).max(link.last_us + 1);
        link.last_us = at;
        let survives = rng.percent(weather.survives);
        let first = Delivery { at, survives };
        let second = (link.twice_until > now && rng.percent(link.twice)).then(|| Delivery {
            at: at + 1 + rng.below(400_000),
            survives,
        });
        [Some(first), second]
    }

    pub fn cut(&mut self, from: usize, to: usize, until: u64, holds: bool) {
        let link = self.link(from, to);
        link.cut_until = link.cut_until.max(until);
        link.holds = holds;
    }

    pub fn lose(&mut self, from: usize, to: usize, until: u64, percent: u64) {
        let link = self.link(from, to);
        (link.loss_until, link.loss) = (until, percent);
    }

    pub fn duplicate(&mut self, from: usize, to: usize, until: u64, percent: u64) {
        let link = self.link(from, to);
        (link.twice_until, link.twice) = (until, percent);
    }

    pub fn slow(&mut self, from: usize, to: usize, until: u64) {
        self.link(from, to).slow_until = until;
    }

    /// Ends all faults. Frames that take longer than an attempt would keep operations from
    /// succeeding.
    pub fn heal(&mut self, now: u64) {
        self.weather.slow = 0;
        for link in &mut self.links {
            link.cut_until = link.cut_until.min(now);
            (link.loss_until, link.slow_until, link.twice_until) = (0, 0, 0);
        }
    }
}

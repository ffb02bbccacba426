//! The network: every ordered pair of nodes has a link that keeps order within a connection.

use super::rng::Rng;
use causeway::protocol::context::Context;
use causeway::protocol::message::Message;
use causeway::protocol::op::{Answer, Op};

/// What travels between nodes.
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
    slow_until: u64,
}

/// All links.
pub struct Net {
    nodes: usize,
    links: Vec<Link>,
    /// The number of each pair's connection; a reset begins the next.
    connections: Vec<u64>,
}

impl Net {
    pub fn new(nodes: usize) -> Self {
        Self {
            nodes,
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

    /// Ends a connection: what is under way on it in either direction is lost.
    pub fn reset(&mut self, a: usize, b: usize) {
        self.connections[a.min(b) * self.nodes + a.max(b)] += 1;
    }

    /// Whether a node could open a connection to another now.
    pub fn is_cut(&self, from: usize, to: usize, now: u64) -> bool {
        self.links[from * self.nodes + to].cut_until > now
    }

    /// When something sent now arrives; `None` when it is lost.
    pub fn send(&mut self, from: usize, to: usize, now: u64, rng: &mut Rng) -> Option<u64> {
        let slow = rng.percent(3);
        let mut delay = rng.within(100, 1_500);
        let link = self.link(from, to);
        if link.slow_until > now || slow {
            delay += rng.within(1_000, 60_000);
        }
        if link.loss_until > now && rng.percent(30) {
            return None;
        }
        let mut start = now;
        if link.cut_until > now {
            if !link.holds {
                return None;
            }
            start = link.cut_until;
        }
        let at = (start + delay).max(link.last_us + 1);
        link.last_us = at;
        Some(at)
    }

    pub fn cut(&mut self, from: usize, to: usize, until: u64, holds: bool) {
        let link = self.link(from, to);
        link.cut_until = link.cut_until.max(until);
        link.holds = holds;
    }

    pub fn lose(&mut self, from: usize, to: usize, until: u64) {
        self.link(from, to).loss_until = until;
    }

    pub fn slow(&mut self, from: usize, to: usize, until: u64) {
        self.link(from, to).slow_until = until;
    }

    /// Ends all faults.
    pub fn heal(&mut self, now: u64) {
        for link in &mut self.links {
            link.cut_until = link.cut_until.min(now);
            (link.loss_until, link.slow_until) = (0, 0);
        }
    }
}

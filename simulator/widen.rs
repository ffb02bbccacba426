//! Faults that only some runs have. Each has a source of chance of its own, so that what else a
//! seed decides stays what it was when one is added here.

use super::plan::{Fault, Plan, Planned, pick};
use super::rng::Rng;
use super::schedule::{Draw, duration};
use super::views::Asked;

/// The longest absence of a long run, in microseconds.
const AWAY_US: u64 = 40_000_000;

#[derive(Clone, Copy)]
enum Extra {
    InTurn,
    RestartAll,
    BadReads,
    HungDisk,
    GiveUp,
}

impl Plan {
    /// Adds what only some runs have.
    pub(super) fn widen(&mut self, long: bool) {
        self.add_extras();
        self.add_scarce_disks();
        self.add_first_start();
        if long {
            self.add_absences();
        }
        let end_us = self.faults_us;
        self.faults.retain(|planned| planned.at_us <= end_us);
        self.faults.sort_by_key(|planned| planned.at_us);
    }

    fn draw<'a>(&mut self, rng: &'a mut Rng) -> Draw<'a> {
        Draw {
            rng,
            nodes: self.nodes,
            k: self.k,
            faults: std::mem::take(&mut self.faults),
        }
    }

    fn add_extras(&mut self) {
        let end_us = self.faults_us;
        let rng = &mut Rng::new(self.seed ^ 0x77de_4e5e_ed5a_0011);
        let mut draw = self.draw(rng);
        for extra in [
            Extra::InTurn,
            Extra::RestartAll,
            Extra::BadReads,
            Extra::HungDisk,
        ] {
            let times = pick(draw.rng, &[0, 0, 0, 1, 3]);
            for _ in 0..times {
                let at_us = draw.rng.below(end_us);
                draw.extra(extra, at_us);
            }
        }
        // Only where the view changes anyway.
        let changes = |planned: &Planned| matches!(planned.fault, Fault::Ask(_));
        if draw.faults.iter().any(changes) && draw.rng.percent(30) {
            let at_us = draw.rng.below(end_us);
            draw.extra(Extra::GiveUp, at_us);
        }
        self.faults = draw.faults;
    }

    /// Disks that have room left for deletes alone.
    fn add_scarce_disks(&mut self) {
        let end_us = self.faults_us;
        let rng = &mut Rng::new(self.seed ^ 0x7363_6172_6365_6469);
        let mut draw = self.draw(rng);
        for _ in 0..pick(draw.rng, &[0, 0, 1, 3]) {
            let node = draw.rng.index(draw.nodes);
            let us = duration(draw.rng, 3_000_000);
            let at_us = draw.rng.below(end_us);
            draw.push(at_us, Fault::ScarceDisk { node, us });
        }
        self.faults = draw.faults;
    }

    /// Processes that die while the cluster starts for the first time, some with their disks.
    fn add_first_start(&mut self) {
        let rng = &mut Rng::new(self.seed ^ 0x6669_7273_7473_7461);
        if !rng.percent(15) {
            return;
        }
        let mut draw = self.draw(rng);
        for _ in 0..1 + draw.rng.below(3) {
            let within_us = pick(draw.rng, &[5_000, 50_000, 400_000]);
            let at_us = draw.rng.below(within_us);
            let fault = Fault::FirstStart {
                die: draw.rng.next(),
                wiped: draw.rng.next(),
                down_us: duration(draw.rng, 1_000_000),
            };
            draw.push(at_us, fault);
        }
        self.faults = draw.faults;
    }

    /// Nodes that are away for much longer than anybody waits for them.
    fn add_absences(&mut self) {
        let end_us = self.faults_us;
        let rng = &mut Rng::new(self.seed ^ 0x6c6f_6e67_6177_6179);
        let mut draw = self.draw(rng);
        for _ in 0..1 + draw.rng.below(3) {
            let node = draw.rng.index(draw.nodes);
            let us = draw.rng.within(6_000_000, AWAY_US).min(end_us / 2);
            let at_us = draw.rng.below(end_us - us);
            let fault = match draw.rng.percent(50) {
                true => Fault::Crash { node, down_us: us },
                false => Fault::CutOff { node, us },
            };
            draw.push(at_us, fault);
        }
        self.faults = draw.faults;
    }
}

impl Draw<'_> {
    fn extra(&mut self, extra: Extra, at_us: u64) {
        let node = self.rng.index(self.nodes);
        let us = duration(self.rng, 3_000_000);
        let fault = match extra {
            Extra::BadReads => Fault::BadReads { node, us },
            Extra::HungDisk => Fault::HungDisk { node, us },
            Extra::RestartAll => Fault::RestartAll {
                down_us: duration(self.rng, 1_000_000),
                lost: self.rng.percent(50).then_some(node),
            },
            Extra::GiveUp => Fault::Ask(Asked::GiveUp { node, down_us: us }),
            Extra::InTurn => return self.in_turn(node, at_us),
        };
        self.push(at_us, fault);
    }

    /// The replicas of a partition lose their disks one after the other, each time after the one
    /// before may have been filled again.
    fn in_turn(&mut self, node: usize, at_us: u64) {
        let first = node / self.k * self.k;
        let mut at_us = at_us;
        for node in first..self.nodes.min(first + self.k) {
            let down_us = duration(self.rng, 300_000);
            self.push(at_us, Fault::LoseDisk { node, down_us });
            at_us += down_us + 50_000 + duration(self.rng, 2_000_000);
        }
    }
}

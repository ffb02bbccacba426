//! The schedule of a plan: which kinds of faults a run has, how often, and every single one.

use super::plan::{DOWN_US, Fault, Planned, pick};
use super::rng::Rng;
use super::views::Asked;

/// Something that can be drawn: one fault, or a sequence that only harms in this order.
#[derive(Clone, Copy)]
enum Kind {
    Crash,
    LoseDisk,
    OldDisk,
    Split,
    OneWay,
    Apart,
    Flap,
    Reset,
    Loss,
    Duplicate,
    SlowLink,
    Clock,
    Pause,
    SlowDisk,
    FullDisk,
    Ambush,
    Refill,
    Add,
    Remove,
    SetK,
}

const KINDS: [Kind; 20] = [
    Kind::Crash,
    Kind::LoseDisk,
    Kind::OldDisk,
    Kind::Split,
    Kind::OneWay,
    Kind::Apart,
    Kind::Flap,
    Kind::Reset,
    Kind::Loss,
    Kind::Duplicate,
    Kind::SlowLink,
    Kind::Clock,
    Kind::Pause,
    Kind::SlowDisk,
    Kind::FullDisk,
    Kind::Ambush,
    Kind::Refill,
    Kind::Add,
    Kind::Remove,
    Kind::SetK,
];

/// Draws faults one after the other.
pub(super) struct Draw<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) nodes: usize,
    pub(super) k: usize,
    pub(super) faults: Vec<Planned>,
}

pub(super) fn schedule(
    rng: &mut Rng,
    nodes: usize,
    k: usize,
    end_us: u64,
    every_us: u64,
) -> Vec<Planned> {
    // A third of the kinds does not exist in this run; the others differ in how often.
    let mut weights = KINDS.map(|kind| (kind, pick(rng, &[0, 0, 1, 1, 3, 8])));
    // In half of the runs the view stays what it is.
    let fixed = rng.percent(50);
    for (kind, weight) in &mut weights {
        if matches!(kind, Kind::Add | Kind::Remove | Kind::SetK) {
            *weight = if fixed { 0 } else { (*weight).min(3) };
        }
    }
    let all: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut at_us = rng.below(500_000);
    let mut draw = Draw {
        rng,
        nodes,
        k,
        faults: Vec::new(),
    };
    while all > 0 && at_us < end_us {
        let mut dice = draw.rng.below(all);
        for (kind, weight) in weights {
            if dice < weight {
                draw.add(kind, at_us);
                break;
            }
            dice -= weight;
        }
        at_us += draw.rng.below(every_us * 2) + 1;
    }
    draw.faults.retain(|planned| planned.at_us <= end_us);
    draw.faults.sort_by_key(|planned| planned.at_us);
    draw.faults
}

/// Up to `most`, and as likely between 20 and 40 ms as between 1 and 2 s.
pub(super) fn duration(rng: &mut Rng, most: u64) -> u64 {
    let most = most.max(10_000);
    let doublings = most.ilog2() - 10_000u64.ilog2();
    (10_000 << rng.below(u64::from(doublings) + 1)).min(most) * rng.within(50, 100) / 100
}

impl Draw<'_> {
    pub(super) fn push(&mut self, at_us: u64, fault: Fault) {
        self.faults.push(Planned { at_us, fault });
    }

    /// Another replica of a node's partition, mostly; else any node.
    fn peer(&mut self, node: usize) -> usize {
        if self.rng.percent(30) {
            return self.rng.index(self.nodes);
        }
        let first = node / self.k * self.k;
        first + self.rng.index(self.k.min(self.nodes - first))
    }

    /// Three replicas of a partition, in any order.
    fn three(&mut self) -> Option<[usize; 3]> {
        let first = self.rng.index(self.nodes) / self.k * self.k;
        let mut replicas: Vec<usize> = (first..self.nodes.min(first + self.k)).collect();
        if replicas.len() < 3 {
            return None;
        }
        Some([(); 3].map(|()| replicas.remove(self.rng.index(replicas.len()))))
    }

    fn add(&mut self, kind: Kind, at_us: u64) {
        let node = self.rng.index(self.nodes);
        let peer = self.peer(node);
        let us = duration(self.rng, DOWN_US - 100_000);
        let (side, holds) = (self.rng.next(), self.rng.percent(50));
        let percent = pick(self.rng, &[5, 30, 80]);
        let (from, to) = (node, peer);
        let fault = match kind {
            Kind::Crash => Fault::Crash { node, down_us: us },
            Kind::LoseDisk => Fault::LoseDisk { node, down_us: us },
            Kind::OldDisk => {
                // Some so old that a delete may be forgotten everywhere else.
                let age_us = if holds {
                    self.rng.within(2_500_000, 5_000_000)
                } else {
                    duration(self.rng, 2_000_000)
                };
                self.push(at_us, Fault::Copy { node });
                return self.push(at_us + age_us, Fault::OldDisk { node, down_us: us });
            }
            Kind::Split => Fault::Split { side, us, holds },
            Kind::OneWay => Fault::OneWay {
                from,
                to,
                us,
                holds,
            },
            Kind::Apart => Fault::Apart {
                a: node,
                b: peer,
                // Some longer than all promises about timestamps wait.
                us: if side % 2 == 0 { us } else { DOWN_US - us / 4 },
                holds,
            },
            Kind::Flap => Fault::Flap {
                a: node,
                b: peer,
                period_us: us / 20 + 1_000,
                times: 2 + (side % 8) as u8,
            },
            Kind::Reset => Fault::Reset { a: node, b: peer },
            Kind::Loss => Fault::Loss {
                from,
                to,
                us,
                percent,
            },
            Kind::Duplicate => Fault::Duplicate {
                from,
                to,
                us,
                percent,
            },
            Kind::SlowLink => Fault::SlowLink { from, to, us },
            Kind::Clock => {
                let by = self.rng.below(60_001) as i64 - 30_000;
                if holds {
                    Fault::Drift { node, ppm: by * 10 }
                } else {
                    // By half a minute at most, or by an hour.
                    let far = if side % 3 == 0 { 120 } else { 1 };
                    Fault::Jump {
                        node,
                        skew_ms: by * far,
                    }
                }
            }
            Kind::Pause => Fault::Pause {
                node,
                us: us.min(2_000_000),
            },
            Kind::SlowDisk => Fault::SlowDisk { node, us },
            Kind::FullDisk => Fault::FullDisk { node, us },
            Kind::Add => Fault::Ask(Asked::Add),
            Kind::Remove => Fault::Ask(Asked::Remove { node }),
            Kind::SetK => Fault::Ask(Asked::SetK {
                k: 1 + (side % 4) as usize,
            }),
            Kind::Ambush => return self.ambush(at_us),
            Kind::Refill => return self.refill(at_us),
        };
        self.push(at_us, fault);
    }

    fn apart(&mut self, at_us: u64, a: usize, b: usize, us: u64) {
        let holds = self.rng.percent(30);
        self.push(at_us, Fault::Apart { a, b, us, holds });
    }

    /// First one replica is away, then a second is alone with what the third wrote before; the two
    /// meet over a bad link, and the second loses its disk.
    fn ambush(&mut self, at_us: u64) {
        let Some([node, peer, other]) = self.three() else {
            return;
        };
        let away_us = duration(self.rng, 500_000);
        let alone_us = away_us + 50_000 + duration(self.rng, 1_000_000);
        let met_us = duration(self.rng, 400_000);
        self.apart(at_us, peer, node, alone_us);
        self.apart(at_us, peer, other, alone_us + met_us);
        self.apart(at_us + away_us, node, other, alone_us - away_us + met_us);
        let lossy = Fault::Loss {
            from: node,
            to: peer,
            us: met_us,
            percent: 60,
        };
        self.push(at_us + alone_us, lossy);
        let down_us = duration(self.rng, 500_000);
        let lost = Fault::LoseDisk { node, down_us };
        self.push(at_us + alone_us + met_us, lost);
    }

    /// A node loses its disk and is refilled by the one that was away; a third does not hear of
    /// that.
    fn refill(&mut self, at_us: u64) {
        let Some([node, away, third]) = self.three() else {
            return;
        };
        let away_us = duration(self.rng, 1_000_000);
        let refill_us = 100_000 + duration(self.rng, 1_000_000);
        let deaf_us = duration(self.rng, 1_500_000);
        self.apart(at_us, away, node, away_us);
        self.apart(at_us, away, third, away_us + refill_us);
        self.apart(at_us + away_us, third, node, refill_us + deaf_us);
        let down_us = duration(self.rng, 100_000);
        self.push(at_us + away_us, Fault::LoseDisk { node, down_us });
    }
}

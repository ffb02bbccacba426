//! The decisions of a seed about a run: the cluster, its clients, and what goes wrong when.
//!
//! A disk is lost only where the rules allow it (`raft/rejoin/eligibility.rs`): when all other
//! voters have their votes, so that of what was promised and confirmed no more than one copy is
//! forgotten at a time. Two of three would be a majority that never was. And not before the cluster
//! is born, nor of an only voter.

use super::disk::Trouble;
use super::rng::Rng;
use super::views::Asked;

/// The node that a fault happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Leader,
    /// The node with this number, counted among those that are not gone.
    Node(usize),
}

/// A fault, with its duration in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Kill(Target, u64),
    Shutdown(Target, u64),
    /// The node is killed, and comes back without its disk.
    Lose(Target, u64),
    Freeze(Target, u64),
    /// The target and those in the mask, each by its place, cannot talk to the others. One way:
    /// they do not hear them.
    Split(Target, u64, bool, u64),
    Weather {
        loss: u64,
        late: u64,
        ms: u64,
    },
    Disk(Target, Trouble, u64),
    /// The power fails while all disks but the leader's are slow: all nodes are killed at one
    /// moment, and come back one after the other within this time, the leader often later.
    Power(u64),
    /// A leader whose disk is slow is killed, and is back this soon.
    Stumble(u64),
    /// A sequence that only harms in this order: a minority is cut off for a while, the leader
    /// among it or not; then of the others one loses its disk, the rest goes away for some seconds,
    /// and the minority is back.
    Trap {
        with_leader: bool,
        behind_ms: u64,
        gone_ms: u64,
    },
    View(Asked),
}

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub founders: u16,
    pub k: usize,
    pub clients: u64,
    /// The pause of a client between two requests, on average.
    pub pause_ms: u64,
    pub snapshot_after: u64,
    pub dead_after_ms: u64,
    /// When each founder starts.
    pub starts_ms: Vec<u64>,
    pub length_ms: u64,
    /// In the order of their times.
    pub faults: Vec<(u64, Fault)>,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0x05ee_d0f1_2af7);
        let founders = match rng.below(20) {
            0 => 1,
            1..4 => 2,
            4..13 => 3,
            13..15 => 4,
            15..19 => 5,
            _ => 6,
        };
        let spread = [1, 300, 3000][rng.index(3)];
        let length_ms = rng.within(8_000, 20_000);
        let mut faults: Vec<(u64, Fault)> = (0..rng.within(2, 14))
            .map(|_| (rng.below(length_ms), fault(rng)))
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            founders,
            k: rng.within(1, 4) as usize,
            clients: rng.within(1, 5),
            pause_ms: [15, 60, 200][rng.index(3)],
            snapshot_after: [1_500, 12_000, 60_000][rng.index(3)],
            dead_after_ms: rng.within(1_000, 6_000),
            starts_ms: (0..founders).map(|_| rng.below(spread)).collect(),
            length_ms,
            faults,
        }
    }
}

fn target(rng: &mut Rng) -> Target {
    match rng.percent(40) {
        true => Target::Leader,
        false => Target::Node(rng.index(8)),
    }
}

/// Mostly short.
fn time(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0..3 => rng.within(20, 400),
        3..8 => rng.within(400, 3_000),
        _ => rng.within(3_000, 8_000),
    }
}

fn fault(rng: &mut Rng) -> Fault {
    let (at, ms) = (target(rng), time(rng));
    match rng.below(115) {
        100..103 => Fault::Power(rng.within(50, 2_500)),
        103..106 => Fault::Stumble(rng.within(20, 500)),
        106..111 => Fault::Trap {
            with_leader: rng.percent(60),
            behind_ms: rng.within(2_000, 4_500),
            gone_ms: rng.within(2_500, 6_000),
        },
        111..115 => Fault::Freeze(Target::Leader, rng.within(2_000, 5_000)),
        0..20 => Fault::Kill(at, ms),
        20..27 => Fault::Shutdown(at, ms),
        27..39 => Fault::Lose(at, ms),
        39..50 => Fault::Freeze(at, ms),
        50..66 => Fault::Split(at, rng.below(64), rng.percent(30), ms),
        66..74 => Fault::Weather {
            loss: rng.below(40),
            late: rng.below(40),
            ms,
        },
        74..86 => {
            let trouble = match rng.below(4) {
                0 => Trouble::Slow(rng.within(5, 200)),
                1 => Trouble::Hangs,
                2 => Trouble::Full,
                _ => Trouble::Fails,
            };
            Fault::Disk(at, trouble, ms)
        }
        _ => Fault::View(match rng.below(5) {
            0..2 => Asked::Add,
            2..4 => Asked::Remove(rng.index(8)),
            _ => Asked::Cancel,
        }),
    }
}

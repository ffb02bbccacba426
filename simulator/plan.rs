//! The decisions of a seed before anything runs: the shape of the cluster, the load, which faults
//! exist at all and how often (swarm testing: Groce et al., ISSTA 2012), and the schedule of every
//! single one.
//!
//! The schedule is plain data. Leaving faults out of it gives another run of the same cluster: that
//! is how a failing seed is shrunk.

use super::rng::Rng;
use super::schedule::schedule;
use super::views::Asked;
use causeway::protocol::limits::Limits;

/// How long a node that went down stays away, and a link is cut, at most, in microseconds.
pub const DOWN_US: u64 = 4_500_000;

/// Something that goes wrong at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub at_us: u64,
    pub fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The process dies; of what was on its way to the disk a part arrives.
    Crash {
        node: usize,
        down_us: u64,
    },
    /// The process dies and its disk is lost.
    LoseDisk {
        node: usize,
        down_us: u64,
    },
    /// The disk is copied, to be put back by a later `OldDisk`.
    Copy {
        node: usize,
    },
    /// The process dies and comes back with the last copy of its disk.
    OldDisk {
        node: usize,
        down_us: u64,
    },
    /// The nodes fall into two halves that cannot talk. Frames that are sent across are lost, or
    /// held back.
    Split {
        side: u64,
        us: u64,
        holds: bool,
    },
    /// One direction between two nodes is dead.
    OneWay {
        from: usize,
        to: usize,
        us: u64,
        holds: bool,
    },
    /// Two nodes cannot talk.
    Apart {
        a: usize,
        b: usize,
        us: u64,
        holds: bool,
    },
    /// A link goes and comes, over and over.
    Flap {
        a: usize,
        b: usize,
        period_us: u64,
        times: u8,
    },
    /// A connection breaks; both sides hear of it.
    Reset {
        a: usize,
        b: usize,
    },
    /// A share of what is sent is lost.
    Loss {
        from: usize,
        to: usize,
        us: u64,
        percent: u64,
    },
    /// A share of what is sent arrives twice, the second time late.
    Duplicate {
        from: usize,
        to: usize,
        us: u64,
        percent: u64,
    },
    SlowLink {
        from: usize,
        to: usize,
        us: u64,
    },
    /// The wall clock is set.
    Jump {
        node: usize,
        skew_ms: i64,
    },
    /// The wall clock runs fast or slow from now on.
    Drift {
        node: usize,
        ppm: i64,
    },
    Pause {
        node: usize,
        us: u64,
    },
    SlowDisk {
        node: usize,
        us: u64,
    },
    /// The disk takes nothing more for a while.
    FullDisk {
        node: usize,
        us: u64,
    },
    /// The room that the disk has left is kept for deletes for a while.
    ScarceDisk {
        node: usize,
        us: u64,
    },
    /// Nothing gets on the disk for a while.
    HungDisk {
        node: usize,
        us: u64,
    },
    /// A share of what is read of the disk cannot be read for a while.
    BadReads {
        node: usize,
        us: u64,
    },
    /// All processes die at one moment, and one of them may lose its disk.
    RestartAll {
        down_us: u64,
        lost: Option<usize>,
    },
    /// Before anything was written some processes die, and the disks of some of these are wiped.
    FirstStart {
        die: u64,
        wiped: u64,
        down_us: u64,
    },
    /// No other node hears a node, nor does it hear them.
    CutOff {
        node: usize,
        us: u64,
    },
    /// The operator asks for another view.
    Ask(Asked),
}

/// How large a run is, what its clients do, and what goes wrong.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub k: usize,
    pub load: Load,
    pub weather: Weather,
    /// The bounds of the replicas.
    pub limits: Limits,
    /// How long faults go on, in microseconds.
    pub faults_us: u64,
    pub faults: Vec<Planned>,
}

/// The load of the clients.
#[derive(Debug, Clone)]
pub struct Load {
    pub sessions: usize,
    pub keys: usize,
    /// The keys' weight falls off as `rank ^ -(zipf / 100)`.
    pub zipf: u64,
    /// Percent of the operations.
    pub writes: u64,
    /// Percent of the writes.
    pub deletes: u64,
    /// Percent of the reads that ask for what is there.
    pub eventual: u64,
    /// Percent of the sessions that share another one's context, use an old one now and then, come
    /// with one from an earlier run of the cluster, or keep none.
    pub sharing: u64,
    pub late: u64,
    pub from_earlier: u64,
    pub session_less: u64,
    /// Clients that read several keys at once, beside the sessions.
    pub snapshooters: usize,
    /// Mean time between a session's operations, in microseconds.
    pub think_us: u64,
    /// Bytes of a value, at most.
    pub value_bytes: usize,
}

/// Network and disks as they are all the time.
#[derive(Debug, Clone)]
pub struct Weather {
    pub delay_us: (u64, u64),
    /// Percent of the frames that take much longer, and how long at most.
    pub slow: u64,
    pub slow_us: u64,
    /// Percent of the frames under way on a connection that ends which arrive all the same.
    pub survives: u64,
    pub sync_us: (u64, u64),
    /// Percent of the processes that take themselves for busy with clients.
    pub busy: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let rng = &mut Rng::new(seed);
        let nodes = pick(rng, &[1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 6, 7, 8, 9, 12, 16]);
        let k = pick(rng, &[1, 2, 2, 2, 3, 3, 3, 3, 4, 5]);
        // Runs over minutes, with little load and few faults, but long ones.
        let also = &mut Rng::new(seed ^ 0x6c69_6d69_7473);
        let long = also.percent(2);
        let mut load = Load::of(rng);
        load.value_bytes = pick(also, &[0, 0, 40, 2_000]);
        let reads = &mut Rng::new(seed ^ 0x736e_6170_7368_6f74);
        load.snapshooters = pick(reads, &[0, 0, 1, 2]);
        if long {
            load.sessions = load.sessions.min(4);
            load.think_us = 200_000;
        }
        let weather = Weather {
            delay_us: pick(
                rng,
                &[(20, 200), (100, 1_500), (100, 1_500), (2_000, 20_000)],
            ),
            slow: pick(rng, &[0, 1, 3, 10]),
            slow_us: pick(rng, &[5_000, 60_000, 60_000, 250_000]),
            survives: pick(rng, &[0, 0, 50]),
            sync_us: pick(rng, &[(20, 100), (50, 2_000), (50, 2_000), (3_000, 15_000)]),
            busy: pick(also, &[0, 50, 100]),
        };
        let mut faults_us = rng.within(2_000_000, 8_000_000);
        let mut every_us = pick(
            rng,
            &[100_000, 200_000, 400_000, 900_000, 1_500_000, 3_000_000],
        );
        if long {
            (faults_us, every_us) = (faults_us * 12, 8_000_000);
        }
        let limits = match also.percent(25) {
            true => Limits::ORDINARY,
            false => small(also, &load),
        };
        let faults = schedule(rng, nodes, k, faults_us, every_us);
        let mut plan = Self {
            seed,
            nodes,
            k,
            load,
            weather,
            limits,
            faults_us,
            faults,
        };
        plan.widen(long);
        plan
    }

    /// When the faults are over and every node has been started again.
    pub fn healed_us(&self) -> u64 {
        self.faults_us + DOWN_US + 100_000
    }

    /// Whether the view may change.
    pub fn changes(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|p| matches!(p.fault, Fault::Ask(_)))
    }
}

impl Load {
    fn of(rng: &mut Rng) -> Self {
        Self {
            sessions: 2 + rng.index(10),
            keys: pick(rng, &[1, 2, 5, 12, 60, 200]),
            zipf: pick(rng, &[0, 60, 99, 150]),
            writes: pick(rng, &[10, 50, 50, 80]),
            deletes: pick(rng, &[0, 15, 30, 60]),
            eventual: pick(rng, &[0, 0, 10]),
            sharing: pick(rng, &[0, 20, 50]),
            late: pick(rng, &[0, 15, 30]),
            from_earlier: pick(rng, &[0, 0, 30]),
            session_less: pick(rng, &[0, 10, 30]),
            snapshooters: 0,
            think_us: pick(rng, &[500, 5_000, 40_000, 200_000]),
            value_bytes: 0,
        }
    }
}

pub(super) fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.index(from.len())]
}

/// Limits of which some are small: as small as lets a replica that was away catch up within the
/// time that it has.
fn small(rng: &mut Rng, load: &Load) -> Limits {
    let wide = Limits::ORDINARY;
    // The writes made while a replica is away, and the whole content, have to fit into so many
    // messages.
    let written = load.sessions as u64 * load.writes * 50_000 / (load.think_us + 5_000);
    let (dots, size) = (written as usize / 80 + 1, 160 + load.value_bytes / 4);
    let part = dots * size;
    let share = load.keys / 40 + 1;
    let chunk = share * size;
    let mut one = |ordinary: usize, small: &[usize], least: usize| match rng.percent(60) {
        true => pick(rng, small).max(least),
        false => ordinary,
    };
    let behind_bytes = one(wide.behind_bytes, &[600, 4_000], part);
    let batch_bytes = one(wide.batch_bytes, &[1, 300, 2_000], 0).min(behind_bytes);
    let append_bytes = one(wide.append_bytes, &[1, 300, 2_000], part);
    let window_bytes = one(wide.window_bytes, &[1, 600, 4_000], append_bytes);
    let chunk_bytes = one(wide.chunk_bytes as usize, &[1, 300, 2_000], chunk) as u32;
    let dropped = one(wide.dropped, &[2, 10, 50], 0);
    let limits = Limits {
        batch_bytes,
        behind_bytes,
        append_bytes,
        window_bytes,
        tail_bytes: one(wide.tail_bytes, &[600, 4_000], window_bytes),
        range_bytes: one(wide.range_bytes, &[1, 300, 2_000], part),
        range_dots: one(wide.range_dots, &[1, 3, 20], dots),
        chunk_bytes,
        busy_chunk_bytes: (chunk_bytes / 2).max(1),
        handed_bytes: one(wide.handed_bytes, &[1, 300], 0),
        run_dots: one(wide.run_dots, &[1, 3, 16], 0),
        index_dots: one(wide.index_dots as usize, &[8, 50, 300], 0) as u64,
        prune_runs: one(wide.prune_runs, &[1, 4], dots),
        tombstones: one(wide.tombstones, &[1, 5], dots),
        dropped,
        busy_dropped: (dropped / 2).max(1),
        finished: one(wide.finished, &[1, 3], 0),
        beacons: one(wide.beacons, &[1, 4], 0),
        waiting_writes: one(wide.waiting_writes, &[2, 5], 0),
        held_writes: one(wide.held_writes, &[0, 1, 3], 0),
        stalled_reads: one(wide.stalled_reads, &[0, 1, 3], 0),
    };
    assert!(limits.are_sound(), "{limits:?}");
    limits
}

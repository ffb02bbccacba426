//! What a large cluster costs: the simulator, with K = 3, some load, and one node
//! that goes and comes back, for several numbers of nodes. Prints the table of docs/scale.md.
//!
//! Run with `cargo bench --bench scale`, or with other numbers of nodes: `cargo bench --bench scale
//! -- 12 300`, and with `SCALE_SESSIONS=10` clients for each node, where otherwise there is one,
//! who makes 10 operations a second. The same numbers come out every time, but for the last rows,
//! which say what the run took on this machine.

#![allow(dead_code, reason = "the simulator's tests use all of it")]

#[path = "../simulator/mod.rs"]
mod simulator;

use causeway::protocol::clock::Timestamp;
use causeway::protocol::ids::LogId;
use causeway::protocol::limits::Limits;
use causeway::protocol::marks::Elsewhere;
use causeway::protocol::message::Beacon;
use simulator::measure::{Measure, Window};
use simulator::plan::{Fault, Load, Plan, Planned, Weather};
use simulator::world::World;
use std::sync::Arc;
use std::time::Instant;

const K: usize = 3;
const KEYS_PER_NODE: usize = 30;
const ZIPF: u64 = 99;
/// The node that goes, and for how long.
const GOES: usize = 1;
const DOWN_US: u64 = 5_000_000;
/// What is looked at: after so long, for so long; in between it looks at the marks this often.
const WARM_UP_US: u64 = 3_000_000;
const WINDOW_US: u64 = 5_000_000;
const LOOK_US: u64 = 20_000;
/// How long coming right again may take.
const PATIENCE_US: u64 = 20_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut sizes: Vec<usize> = args.iter().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        // Run by `cargo test` it only shows that it works.
        let real = args.iter().any(|a| a == "--bench");
        sizes = if real { vec![100, 1_000] } else { vec![6] };
    }
    let columns: Vec<Vec<(&str, String)>> = sizes.iter().map(|n| column(*n)).collect();
    let heads: Vec<String> = sizes.iter().map(|n| format!("{n} nodes")).collect();
    println!("|  | {} |", heads.join(" | "));
    println!("|---|{}", "---:|".repeat(sizes.len()));
    for row in 0..columns.first().map_or(0, Vec::len) {
        let cells: Vec<&str> = columns.iter().map(|c| c[row].1.as_str()).collect();
        println!("| {} | {} |", columns[0][row].0, cells.join(" | "));
    }
}

fn sessions_per_node() -> usize {
    let given = std::env::var("SCALE_SESSIONS").ok();
    given.and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// The run of a cluster.
fn plan(nodes: usize) -> Plan {
    Plan {
        seed: 1,
        nodes,
        k: K,
        load: Load {
            sessions: nodes * sessions_per_node(),
            keys: nodes * KEYS_PER_NODE,
            zipf: ZIPF,
            writes: 50,
            deletes: 0,
            eventual: 0,
            sharing: 0,
            late: 0,
            from_earlier: 0,
            session_less: 0,
            snapshooters: 0,
            think_us: 100_000,
            value_bytes: 0,
        },
        weather: Weather {
            delay_us: (100, 1_500),
            slow: 1,
            slow_us: 5_000,
            survives: 0,
            sync_us: (50, 2_000),
            busy: 0,
        },
        limits: Limits::ORDINARY,
        faults_us: 600_000_000,
        faults: vec![Planned {
            at_us: WARM_UP_US + WINDOW_US,
            fault: Fault::Crash {
                node: GOES,
                down_us: DOWN_US,
            },
        }],
    }
}

/// How long after a node's return things were right again.
#[derive(Default)]
struct Return {
    serves: Option<u64>,
    /// It has all that was written up to its return.
    has: Option<u64>,
    /// All its replicas know that of each other.
    level: Option<u64>,
    /// Every node of the cluster knows it.
    known: Option<u64>,
}

/// Lets a cluster run, and says what that cost.
fn column(nodes: usize) -> Vec<(&'static str, String)> {
    let began = Instant::now();
    let mut world = World::new(plan(nodes), 0);
    world.measure = Some(Measure::new(nodes * KEYS_PER_NODE, ZIPF));
    let start = world.now;
    go(&mut world, start + WARM_UP_US);
    next_window(&mut world);
    let mut ages = Vec::new();
    for i in 0..WINDOW_US / LOOK_US {
        let until = world.now + LOOK_US;
        go(&mut world, until);
        world.note_stable();
        // Marks that were there before the first look are of no known age.
        if i >= 125 && i % 25 == 0 {
            let some = (0..nodes).step_by(nodes.div_ceil(50));
            for marks in some.filter_map(|n| world.marks_of(n)) {
                let measure = world.measure.as_ref();
                ages.extend(measure.map_or(Vec::new(), |m| m.ages(marks, world.now)));
            }
        }
    }
    let well = next_window(&mut world);
    let until = world.now + DOWN_US;
    go(&mut world, until);
    let down = next_window(&mut world);
    let back = come_back(&mut world);
    let returning = next_window(&mut world);
    let until = world.now + WINDOW_US;
    go(&mut world, until);
    let after = next_window(&mut world);
    let took = began.elapsed().as_secs_f64();
    let peak = memory("VmHWM:");
    let (join_us, table) = table(&world);
    let each = nodes as f64 * WINDOW_US as f64 / 1e6;
    let rate = |w: &Window, kind: &str| {
        let t = w.traffic.get(kind).copied().unwrap_or_default();
        let (frames, bytes) = (t.frames as f64 / each, t.bytes as f64 / each);
        format!("{bytes:.0} ({frames:.0})")
    };
    let all = |count: &dyn Fn(&Window) -> u64| {
        let counts = [&well, &down, &returning, &after].map(|w| count(w).to_string());
        counts.join(", ")
    };
    let ops = (well.reads + well.writes) as f64 / each;
    vec![
        ("operations per node and second", format!("{ops:.1}")),
        (
            "gossip in the partition, B (frames) sent per node and second",
            rate(&well, "gossip"),
        ),
        ("beacons to other partitions, same", rate(&well, "beacons")),
        ("streams and acknowledgements, same", rate(&well, "streams")),
        ("pulls and ranges, same", rate(&well, "repair")),
        ("requests sent on, same", rate(&well, "requests")),
        ("answers to them, same", rate(&well, "answers")),
        (
            "age of what is not known yet of other partitions, p50 / p99 / max ms",
            {
                ages.retain(|a| *a > 0);
                spread(&mut ages, 1_000)
            },
        ),
        ("context entries, all well, p50 / p99 / max", entries(&well)),
        ("the same, one node down", entries(&down)),
        ("the same, after its return", entries(&after)),
        (
            "context characters, all well, p50 / p99 / max",
            texts(&well),
        ),
        ("the same, one node down", texts(&down)),
        ("the same, after its return", texts(&after)),
        (
            "reads: all well, one down, until all know of its return, after",
            all(&|w| w.reads),
        ),
        (
            "reads that a replica passed on, since it lacked something",
            all(&|w| w.passed_on),
        ),
        (
            "reads that waited for what was missing",
            all(&|w| w.stalled),
        ),
        (
            "reads that met a write before its second copy",
            all(&|w| w.hidden),
        ),
        (
            "answers that said no, to reads and writes",
            all(&|w| w.refused.values().sum()),
        ),
        ("read time, all well, p50 / p99 / max ms", reads(&well)),
        ("the same, one node down", reads(&down)),
        (
            "after its return, the node serves after, ms",
            ms(back.serves),
        ),
        ("it has all that it missed after, ms", ms(back.has)),
        ("its partition is level after, ms", ms(back.level)),
        ("every node knows that after, ms", ms(back.known)),
        (
            "table of other partitions' marks, KiB",
            format!("{table:.0}"),
        ),
        (
            "taking a beacon in while readers hold it, µs",
            format!("{join_us:.1}"),
        ),
        (
            "events, wall time, peak memory",
            format!("{}, {took:.0} s, {peak:.0} MiB", world.steps),
        ),
    ]
}

fn go(world: &mut World, until: u64) {
    if let Err(failed) = world.run_until(until) {
        panic!("{failed}");
    }
}

fn next_window(world: &mut World) -> Window {
    let now = world.now;
    let measure = world.measure.as_mut();
    measure.map_or_else(Window::default, |m| m.next_window(now))
}

/// Looks on until everything is right again after the return of the node that went.
fn come_back(world: &mut World) -> Return {
    let start = world.now;
    let partition = world.view().partition_of_key(b"");
    let member = world.nodes[GOES].member;
    let partition = world.view().partition_of(member).unwrap_or(partition);
    let replicas = world.nodes_of(partition);
    // What was written up to its return, as the other replicas have it.
    let mut heads: Vec<(LogId, u64)> = Vec::new();
    for node in replicas.iter().filter(|n| **n != GOES) {
        let marks = world.marks_of(*node);
        heads.extend(
            marks
                .into_iter()
                .flat_map(|m| m.logs.iter().map(|(l, m)| (*l, m.applied))),
        );
    }
    let mut back = Return::default();
    while back.known.is_none() && world.now < start + PATIENCE_US {
        let until = world.now + 5_000;
        go(world, until);
        let since = Some(world.now - start);
        let Some(here) = world.marks_of(GOES) else {
            continue;
        };
        let stable = |n: usize| {
            let marks = world.marks_of(n);
            marks.is_some_and(|m| heads.iter().all(|(log, seq)| m.is_stable(*log, *seq)))
        };
        let has = |(log, seq): &(LogId, u64)| {
            here.is_finished(*log) || here.logs.get(log).is_some_and(|m| m.applied >= *seq)
        };
        if here.recovering.is_none() {
            back.serves = back.serves.or(since);
        }
        if heads.iter().all(has) {
            back.has = back.has.or(since);
        }
        if replicas.iter().all(|n| stable(*n)) {
            back.level = back.level.or(since);
        }
        if (0..world.nodes.len()).all(stable) {
            back.known = since;
        }
    }
    back
}

/// The middle, all but one in a hundred, and the most of these.
fn spread(values: &mut [u64], unit: u64) -> String {
    values.sort_unstable();
    let Some(last) = values.len().checked_sub(1) else {
        return "-".to_owned();
    };
    let at = |percent: usize| values[last * percent / 100] as f64 / unit as f64;
    let digits = usize::from(unit > 1 && at(100) < 100.0);
    format!(
        "{:.digits$} / {:.digits$} / {:.digits$}",
        at(50),
        at(99),
        at(100)
    )
}

fn entries(window: &Window) -> String {
    spread(&mut window.entries.clone(), 1)
}

fn texts(window: &Window) -> String {
    spread(&mut window.texts.clone(), 1)
}

fn reads(window: &Window) -> String {
    spread(&mut window.read_us.clone(), 1_000)
}

fn ms(us: Option<u64>) -> String {
    us.map_or_else(|| "never".to_owned(), |us| (us / 1_000).to_string())
}

/// What a node knows of other partitions: the time to take a beacon in while readers hold the
/// table, in microseconds, and its memory, in KiB.
fn table(world: &World) -> (f64, f64) {
    const TABLES: usize = 2_000;
    let mut beacons: Vec<Beacon> = Vec::new();
    for marks in (0..world.nodes.len()).filter_map(|n| world.marks_of(n)) {
        let finished = marks.finished.iter();
        beacons.push(Beacon {
            clock: Timestamp::default(),
            wall_ms: 0,
            serving: true,
            version: marks.views.version,
            stable: marks.logs.iter().map(|(l, m)| (*l, m.stable)).collect(),
            over: finished
                .map(|((cohort, m), f)| (*m, *cohort, f.newest()))
                .collect(),
        });
    }
    let views = world.decisions.latest();
    let before = memory("VmRSS:");
    let mut tables = vec![Elsewhere::default(); TABLES];
    for beacon in &beacons {
        tables
            .iter_mut()
            .for_each(|table| table.join(beacon, &views));
    }
    let kib = (memory("VmRSS:") - before) * 1_024.0 / TABLES as f64;
    let mut shown = Arc::new(tables.swap_remove(0));
    for (_, stable) in beacons.iter_mut().flat_map(|b| &mut b.stable) {
        *stable += 1_000_000;
    }
    let began = Instant::now();
    for beacon in &beacons {
        let readers = Arc::clone(&shown);
        Arc::make_mut(&mut shown).join(beacon, &views);
        drop(readers);
    }
    let us = began.elapsed().as_secs_f64() * 1e6 / beacons.len() as f64;
    (us, kib)
}

/// A line of what Linux says of this process, in MiB; 0 elsewhere.
fn memory(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|l| l.strip_prefix(line));
    let kib = found.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1_024.0
}

//! Running seeds: many at once, and one again and again until only what matters is left of it.

use super::plan::Plan;
use super::regressions::plan;
use super::settings::Settings;
use super::world::World;
use causeway::protocol::limits::{Bound, take_met};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Runs that looking for what matters may take.
const SHRINK_RUNS: usize = 200;
/// Lines of trace that a shrunk run shows, and a replayed one that fails.
const SHOWN: usize = 60;
const TRACE: usize = 400;

/// A run that went wrong.
pub struct Failure {
    pub what: String,
    pub plan: Plan,
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            nodes,
            k,
            load,
            weather,
            ..
        } = &self.plan;
        write!(
            f,
            "{}\n{nodes} nodes, K={k}\n{load:?}\n{weather:?}",
            self.what
        )
    }
}

impl Failure {
    /// The promise that was broken: the text before the first colon.
    fn promise(&self) -> &str {
        self.what.split(':').next().unwrap_or_default()
    }
}

/// A run in which nothing went wrong.
#[derive(Debug, PartialEq)]
pub struct Done {
    pub steps: u64,
    pub trace: String,
    pub met: Met,
}

/// How often each bound was met.
pub type Met = BTreeMap<Bound, u64>;

/// Runs a plan and keeps so many of the last events.
pub fn run(plan: Plan, keep: usize) -> Result<Done, Box<Failure>> {
    // Bounds met by an earlier run on this thread do not count.
    let _ = take_met();
    let mut world = World::new(plan, keep);
    let done = catch_unwind(AssertUnwindSafe(|| world.run()));
    let what = match done {
        Ok(Ok(())) => {
            return Ok(Done {
                steps: world.steps,
                trace: world.trace(),
                met: take_met(),
            });
        }
        Ok(Err(failed)) => failed,
        Err(_) => "it panicked".to_owned(),
    };
    Err(Box::new(Failure {
        what,
        trace: world.trace(),
        plan: world.plan,
    }))
}

/// Several runs in which nothing went wrong.
pub struct AllDone {
    pub runs: usize,
    /// How often they met each bound, taken together.
    pub met: Met,
}

/// Runs seeds, those that are named here and then those that the settings ask for, and shows how
/// they ended. Shrinks the first of those that fail.
///
/// # Errors
/// How many seeds failed.
pub fn run_seeds(named: &[u64], settings: &Settings) -> Result<AllDone, String> {
    let named = named.iter().copied().map(plan);
    let plans: Vec<Plan> = named.chain(settings.plans()).collect();
    let (steps, met, failures) = run_all(&plans);
    let runs = plans.len();
    println!("{runs} seeds, {steps} events, bounds met: {met:?}");
    for (i, (seed, failed)) in failures.iter().enumerate() {
        println!("\nseed {seed}: {failed}\nreplay: {}", command(*seed, ""));
        // Shrinking takes many runs.
        if i < settings.shrink {
            println!("{}", shrink(failed));
        }
    }
    match failures.len() {
        0 => Ok(AllDone { runs, met }),
        failed => Err(format!("{failed} seeds failed")),
    }
}

/// Runs one seed, or the part of it that the settings ask for, and shows how it ended.
///
/// # Errors
/// The last events, and what failed.
pub fn replay(seed: u64, settings: &Settings) -> Result<(), String> {
    match run(settings.part_of(seed), settings.trace.unwrap_or(TRACE)) {
        Ok(done) => {
            if settings.trace.is_some() {
                println!("{}", done.trace);
            }
            println!("seed {seed}: {} events, nothing wrong", done.steps);
            Ok(())
        }
        Err(failed) => Err(format!("seed {seed}: {}\n{failed}", failed.trace)),
    }
}

/// The command that replays a seed, with these other options, in a build like the present one:
/// others assert more, or less.
fn command(seed: u64, options: &str) -> String {
    let release = match cfg!(debug_assertions) {
        true => "",
        false => "--release ",
    };
    format!("cargo run {release}--example simulate -- --seed {seed}{options}")
}

/// Runs plans on all cores: the number of events, how often each bound was met, and the failures by
/// seed.
fn run_all(plans: &[Plan]) -> (u64, Met, Vec<(u64, Box<Failure>)>) {
    let (steps, met) = (AtomicU64::new(0), Mutex::new(Met::new()));
    let failures = Mutex::new(Vec::new());
    on_all_cores(plans, |plan| match run(plan.clone(), 0) {
        Ok(done) => {
            steps.fetch_add(done.steps, Ordering::Relaxed);
            let mut met = met.lock().unwrap();
            for (bound, times) in done.met {
                *met.entry(bound).or_default() += times;
            }
        }
        Err(failed) => {
            // Said at once: a long run need not end to be of use.
            println!("seed {}: {}", plan.seed, failed.what);
            failures.lock().unwrap().push((plan.seed, failed));
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort_by_key(|(seed, _)| *seed);
    (steps.into_inner(), met.into_inner().unwrap(), failures)
}

/// Does something with each of these, several at a time.
pub fn on_all_cores<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(one);
                }
            });
        }
    });
}

/// Leaves out faults and clients as long as the same promise is broken; what is left, and how it
/// ended.
///
/// Delta debugging (Zeller and Hildebrandt, TSE 2002, section 3): halves first, then ever smaller
/// parts.
fn shrink(failed: &Failure) -> String {
    let promise = failed.promise().to_owned();
    let whole = &failed.plan;
    let seed = whole.seed;
    let fails = |kept: &[usize], sessions: usize, keep: usize| {
        let mut plan = whole.clone();
        plan.faults = kept.iter().map(|i| whole.faults[*i].clone()).collect();
        plan.load.sessions = sessions;
        run(plan, keep).err().filter(|f| f.promise() == promise)
    };
    let mut kept: Vec<usize> = (0..whole.faults.len()).collect();
    let mut sessions = whole.load.sessions;
    let mut part = kept.len().div_ceil(2).max(1);
    let mut left = SHRINK_RUNS;
    while left > 0 {
        let mut at = 0;
        while at < kept.len() && left > 0 {
            let mut without = kept.clone();
            without.drain(at..(at + part).min(kept.len()));
            left -= 1;
            match fails(&without, sessions, 0) {
                Some(_) => kept = without,
                None => at += part,
            }
        }
        if part == 1 {
            break;
        }
        part = part.div_ceil(2);
    }
    for fewer in 1..sessions {
        if fails(&kept, fewer, 0).is_some() {
            sessions = fewer;
            break;
        }
    }
    let Some(failure) = fails(&kept, sessions, SHOWN) else {
        return "it does not fail again".to_owned();
    };
    let list: Vec<String> = kept.iter().map(usize::to_string).collect();
    let part = format!(" --faults={} --sessions={sessions}", list.join(","));
    let schedule: String = kept
        .iter()
        .map(|i| (i, &whole.faults[*i]))
        .map(|(i, p)| format!("  {:>8} us  {i}: {:?}\n", p.at_us, p.fault))
        .collect();
    format!(
        "what matters of it: {} of {} faults, {sessions} of {} clients\n{schedule}last events:\n{}\n{}\nreplay: {}",
        kept.len(),
        whole.faults.len(),
        whole.load.sessions,
        failure.trace,
        failure.what,
        command(seed, &part),
    )
}

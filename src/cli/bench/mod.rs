//! `bench`: a closed-loop load generator. Each connection is a session with one request in flight,
//! and carries its context from reply to request, as a real client would.
//!
//! It shares the machine with what it measures, so it has to be light: one thread unless told
//! otherwise, no timer, thread or JSON tree per request. HTTP is hyper's low-level connection: 2.0
//! us of user time a request where a hand-written exchange over httparse took 0.5 (128 connections;
//! the kernel's part is 6 to 7 us in both). That is not enough to carry an HTTP client of our own.

mod many;
mod protocol;
mod record;
mod route;
mod session;
mod tally;
mod targets;
mod workload;

use super::client::{DEFAULT_NODE, TokenArg};
use super::failure::{Code, CommandResult, Failure, note, print};
use super::kv::ConsistencyArg;
use clap::Args;
use hyper::header::HeaderValue;
use protocol::Protocol;
use record::Recorder;
use route::{Routes, Routing};
use session::BenchSession;
use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::task::LocalSet;
use tokio::time::Instant;
use workload::Distribution;

/// Writing all keys first takes no longer than this, or is given up.
const PREFILL_WITHIN: Duration = Duration::from_secs(120);

/// The meaning of the figures.
const FIGURES_HELP: &str = "\
Requests are those answered as asked, `not found` included. Errors are told apart by what is known:
  refused           certainly not done: refused, never sent, or a read without an answer
  unknown outcome   a write or delete that may have been done, or may be done later: no answer
                    came in time, or one that leaves it open
  under way         cut off by the end; nobody waited for the answer
With --history the last line counts what the file has, as `causeway check` does. It is of the whole
run, and a delete that found nothing is one more unknown outcome there: an earlier attempt may have
deleted.

Exit codes: 0 when requests were answered, whatever became of others; 1 when none was; 2 when the
command line makes no sense";

#[derive(Args)]
#[command(after_help = FIGURES_HELP)]
pub struct Bench {
    /// The nodes to load, as ip:port or URL
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_NODE)]
    target: Vec<String>,
    #[arg(long, value_enum, default_value_t = Protocol::Causeway)]
    protocol: Protocol,
    /// Sessions, each with one request in flight
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How long to measure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How long to run before measuring
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(..=3_600))]
    warmup: u64,
    /// The share of requests that read, 0.0 to 1.0
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    read_share: f64,
    /// The share of requests that delete; those that neither read nor delete write
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    delete_share: f64,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    keys: u64,
    /// Bytes per value
    #[arg(long, default_value_t = 100)]
    value_size: usize,
    /// Operations of one request: beyond 1, requests are batches
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    batch: u32,
    /// Requests are snapshots of as many keys as --batch says
    #[arg(long)]
    snapshot: bool,
    /// Which keys: all alike, or YCSB's few hot ones (Zipf, exponent 0.99)
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    distribution: Distribution,
    /// Any: a session stays with one target. Aware: each request goes to a node that holds its key.
    /// Roam: each request goes to a target at random, and to another when that cannot be reached
    #[arg(long, value_enum, default_value_t = Routing::Any)]
    routing: Routing,
    /// Eventual: reads ask for what is there, and no context is carried
    #[arg(long, value_enum, default_value_t = ConsistencyArg::Causal)]
    consistency: ConsistencyArg,
    /// Write every key once before anything else
    #[arg(long)]
    prefill: bool,
    /// Seconds after which a request without an answer has failed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// Threads that the sessions are spread over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
    /// Write down every operation as a line of JSON, for `causeway check`. The keys are this run's
    /// own. Of lists, for `causeway check --lists`: puts are appends then
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    #[command(flatten)]
    token: TokenArg,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it has to be a number from 0.0 to 1.0".into()),
    }
}

/// The work of all sessions.
#[derive(Clone, Copy)]
enum Phase {
    /// Each key once, shared out among the sessions.
    Prefill { until: Instant },
    /// As the options say, counted from `from` on.
    Load { from: Instant, until: Instant },
}

/// State that all sessions share.
#[derive(Clone)]
struct Shared {
    args: Arc<Bench>,
    /// Shown with changes of lists.
    token: Option<HeaderValue>,
    routes: Arc<Routes>,
    recorder: Option<Arc<Recorder>>,
}

/// Refuses options that do not go together.
fn sound(args: &Bench) -> CommandResult {
    if args.read_share + args.delete_share > 1.0 {
        return Err(Failure::usage(
            "--read-share and --delete-share are more than 1.0 together",
        ));
    }
    if (args.batch > 1 || args.snapshot) && args.protocol != Protocol::Causeway {
        return Err(Failure::usage(
            "--batch and --snapshot need --protocol causeway",
        ));
    }
    if args.batch > 1 && args.routing == Routing::Aware {
        return Err(Failure::usage(
            "a batch has keys of all partitions: leave out --routing aware",
        ));
    }
    if args.snapshot && args.read_share < 1.0 {
        return Err(Failure::usage("--snapshot reads: give --read-share 1"));
    }
    if args.history.is_none() {
        return Ok(());
    }
    if args.batch > 1 || args.snapshot {
        return Err(Failure::usage(
            "--history has single operations: leave out --batch and --snapshot",
        ));
    }
    if args.protocol == Protocol::Keys && args.delete_share > 0.0 {
        return Err(Failure::usage(
            "--history of lists has appends and reads only: leave out --delete-share",
        ));
    }
    if !matches!(args.protocol, Protocol::Causeway | Protocol::Keys) {
        return Err(Failure::usage(
            "--history needs --protocol causeway or keys: others have no promise to be held to",
        ));
    }
    if args.consistency == ConsistencyArg::Eventual {
        return Err(Failure::usage(
            "--history needs --consistency causal: eventual reads promise nothing to be checked",
        ));
    }
    Ok(())
}

pub fn bench(args: Bench) -> CommandResult {
    sound(&args)?;
    // First, so that a file of before is not lost to a cluster that is not there.
    let routes = Routes::learn(&args)?;
    let lists = args.protocol == Protocol::Keys;
    let create = |path| Recorder::create(path, lists);
    let recorder = args.history.as_deref().map(create).transpose()?;
    let shared = Shared {
        routes: Arc::new(routes),
        token: args.token.header()?,
        args: Arc::new(args),
        recorder: recorder.map(Arc::new),
    };
    let measured = measure(&shared);
    // The more telling of two failures: a run that could not be written down ends for that reason.
    if let Some(recorder) = &shared.recorder {
        recorder.finish()?;
    }
    measured
}

fn measure(shared: &Shared) -> CommandResult {
    let args = &shared.args;
    if args.prefill && args.protocol != Protocol::Bare {
        let until = Instant::now() + PREFILL_WITHIN;
        let tally = run(shared, Phase::Prefill { until })?;
        if tally.requests() < args.keys {
            return Err(Failure::not_done(format!(
                "only {} of {} keys were written first, in {} s{}",
                tally.requests(),
                args.keys,
                PREFILL_WITHIN.as_secs(),
                tally.first_errors()
            )));
        }
    }
    if std::io::stderr().is_terminal() {
        note(format_args!(
            "{} sessions load {} for {} s, after {} s that are not counted",
            args.connections,
            args.target.join(", "),
            args.seconds,
            args.warmup
        ));
    }
    let from = Instant::now() + Duration::from_secs(args.warmup);
    let until = from + Duration::from_secs(args.seconds);
    let tally = run(shared, Phase::Load { from, until })?;
    let history = shared.recorder.as_ref().map(|recorder| recorder.recorded());
    let report = tally.report(args.seconds, args.batch, history);
    if args.json {
        let text = serde_json::to_string(&report)
            .map_err(|e| Failure::not_done(format!("cannot print the figures: {e}")))?;
        print(text)?;
    } else {
        print(&report)?;
    }
    if report.errors > 0 {
        note(format_args!(
            "{} requests were refused, and {} may have been done or not{}",
            report.refused,
            report.unknown,
            tally.first_errors()
        ));
    }
    if report.requests == 0 {
        return Err(Failure::new(Code::NotDone, "no request was answered"));
    }
    Ok(())
}

/// Runs every session through one phase, on as many threads as asked for.
fn run(shared: &Shared, phase: Phase) -> Result<Tally, Failure> {
    let cannot = |e: std::io::Error| Failure::not_done(format!("cannot start a thread: {e}"));
    let mut threads = Vec::new();
    for thread in 0..u32::from(shared.args.threads) {
        let shared = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(cannot)?;
        let work = move || {
            let tally = Rc::new(RefCell::new(Tally::default()));
            let sessions = LocalSet::new();
            let all = thread..shared.args.connections;
            for id in all.step_by(usize::from(shared.args.threads)) {
                let session = BenchSession::new(id, &shared, phase, &tally);
                sessions.spawn_local(session.run(phase));
            }
            runtime.block_on(sessions);
            tally.take()
        };
        threads.push(std::thread::Builder::new().spawn(work).map_err(cannot)?);
    }
    let mut sum = Tally::default();
    for thread in threads {
        let tally = thread
            .join()
            .map_err(|_| Failure::not_done("a load thread broke down"))?;
        sum.add(&tally);
    }
    Ok(sum)
}

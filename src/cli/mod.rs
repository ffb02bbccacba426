//! The command line: without arguments a node, otherwise a client of one.

mod bench;
mod check;
mod client;
mod explain;
mod failure;
mod inspect;
mod keys;
mod kv;
mod local;
mod logging;
mod many;
mod operator;
mod report;
mod scrub;
mod serve;
mod session;
mod status;
mod terminal;
mod view;
mod wire;

use clap::{Parser, Subcommand};
use failure::{CODES_HELP, CommandResult, Failure, note};
use logging::LogFormat;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// A partitioned, replicated key-value store with causal consistency across all keys.
///
/// Without a command, runs a node as the environment describes it: ip_port (its own address,
/// required), VIEW (comma-separated ip:ports; without it the node waits to be added), K, BIND,
/// PEER_PORT, DATA_DIR, CLUSTER_SECRET, CLUSTER_SECRET_ALSO, API_TOKEN, WRITE_TOKEN, READ_TOKEN,
/// MAX_VALUE_BYTES, DISK_RESERVE_BYTES, SLOW_REQUEST_MS, LOG_FORMAT (text or json), RUST_LOG.
/// CONFIG names a file with more of these, one NAME=value a line.
#[derive(Parser)]
#[command(name = "causeway", version, after_help = CODES_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole cluster on this machine, to try things out
    Local(local::Local),
    /// Write a key
    #[command(after_help = CODES_HELP)]
    Put(kv::Put),
    /// Read a key
    ///
    /// A string is printed as its text, any other value to the letter, as JSON. On a terminal
    /// control characters are escaped (as \u001b), line ends and tabs excepted; into a pipe or a
    /// file everything goes as it is.
    #[command(after_help = CODES_HELP)]
    Get(kv::Get),
    /// Delete a key
    #[command(after_help = CODES_HELP)]
    Delete(kv::Delete),
    /// Do many operations in one call
    #[command(after_help = CODES_HELP)]
    Batch(many::BatchArgs),
    /// Read several keys as one causal cut
    #[command(after_help = CODES_HELP)]
    Snapshot(many::SnapshotArgs),
    /// Work on the session's context itself
    Session(many::SessionCommand),
    /// Lists that are linearizable: put, append, get, delete
    Keys(keys::KeysArgs),
    /// Say in plain words what a causal_payload depends on
    Explain(explain::Explain),
    /// Show the cluster: partitions, nodes, who is alive and who is behind
    Status(status::StatusArgs),
    /// Change the view: add and remove nodes, set K; plan it, watch it, cancel it
    View(view::ViewArgs),
    /// Choose from a menu: strategy, plain keys, faults on demand. Lines from a pipe are taken as
    /// well
    Shell(operator::Shell),
    /// Plain writes, reads and deletes, without a session
    #[command(after_help = CODES_HELP)]
    Operator(operator::Operator),
    /// Show the nodes; make them act as dead ones, and let them come back
    #[command(after_help = CODES_HELP)]
    Node(operator::Nodes),
    /// Say how many nodes hold each key
    #[command(after_help = CODES_HELP)]
    Strategy(operator::StrategyArgs),
    /// Check that the node of this environment is alive (for a container's health check)
    Health,
    /// Measure a cluster under load
    Bench(bench::Bench),
    /// Make faults and measure times on clusters of its own, and write a page about it
    Report(report::ReportArgs),
    /// Check a recorded history for causal consistency, or one of lists for linearizability
    #[command(after_help = check::CODES_HELP)]
    Check(check::Check),
    /// Look into the data directory of a node that does not run: keys, versions, logs
    Inspect(inspect::Inspect),
    /// Read all that a node which does not run has on its disk, and say whether it is as it was
    /// written
    #[command(after_help = CODES_HELP)]
    Scrub(scrub::Scrub),
    /// Serve an empty handler: what the HTTP server alone can do, for bench to compare with
    #[command(hide = true)]
    BenchServer {
        #[arg(long)]
        bind: SocketAddr,
    },
}

/// Runs the process's command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // The engine, the framework and the Raft library say little that helps an operator.
    let level = match cli.command {
        None => "info,fjall=warn,lsm_tree=warn,actix_server=warn",
        // Nodes that start together miss each other at first.
        // Nodes that fail on demand are missed by the others, and say what they do.
        Some(Command::Local(_)) => "warn,causeway::net=error",
        Some(Command::Report(_)) => "error",
        Some(_) => "warn",
    };
    let setting = match cli.command {
        None => serve::setting,
        Some(_) => serve::variable,
    };
    let mut filter = setting("RUST_LOG").unwrap_or_else(|| level.to_owned());
    if !filter.contains("openraft") {
        filter.push_str(",openraft=off,tracing=off");
    }
    // It calls it an error when a client sends what is no HTTP.
    if !filter.contains("actix_http") {
        filter.push_str(",actix_http=off");
    }
    let format = match LogFormat::read(setting("LOG_FORMAT").as_deref()) {
        Ok(format) => format,
        Err(Failure { code, text }) => {
            note(text);
            return ExitCode::from(code as u8);
        }
    };
    let node = setting("ip_port").filter(|_| cli.command.is_none());
    format.begin(&filter, node);
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, text }) => {
            format.end(&text);
            ExitCode::from(code as u8)
        }
    }
}

fn run(command: Option<Command>) -> CommandResult {
    match command {
        None => {
            let config = serve::environment()?;
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(serve::runtime_threads());
            runtime(builder)?.block_on(serve::node(config))
        }
        Some(Command::Local(args)) => {
            runtime(Builder::new_multi_thread())?.block_on(local::local(args))
        }
        Some(Command::BenchServer { bind }) => {
            runtime(Builder::new_multi_thread())?.block_on(serve::bare(bind))
        }
        Some(Command::Report(args)) => client(report::report(args)),
        Some(Command::Bench(args)) => bench::bench(args),
        Some(Command::Check(args)) => check::check(&args),
        Some(Command::Inspect(args)) => inspect::inspect(&args),
        Some(Command::Scrub(args)) => scrub::scrub(&args),
        Some(Command::Put(args)) => client(kv::put(args)),
        Some(Command::Get(args)) => client(kv::get(args)),
        Some(Command::Delete(args)) => client(kv::delete(args)),
        Some(Command::Batch(args)) => client(many::batch(args)),
        Some(Command::Snapshot(args)) => client(many::snapshot(args)),
        Some(Command::Session(args)) => client(many::session(args)),
        Some(Command::Keys(args)) => client(keys::keys(args)),
        Some(Command::Explain(args)) => client(explain::explain(args)),
        Some(Command::Status(args)) => client(status::status(args)),
        Some(Command::View(args)) => client(view::view(args)),
        Some(Command::Shell(args)) => client(operator::shell(args)),
        Some(Command::Operator(args)) => client(operator::operator(args)),
        Some(Command::Node(args)) => client(operator::nodes(args)),
        Some(Command::Strategy(args)) => client(operator::strategy(args)),
        Some(Command::Health) => client(serve::health()),
    }
}

/// Runs a command that talks to nodes: one thread is enough.
fn client(command: impl Future<Output = CommandResult>) -> CommandResult {
    runtime(Builder::new_current_thread())?.block_on(command)
}

fn runtime(mut builder: Builder) -> Result<Runtime, Failure> {
    builder
        .enable_all()
        .build()
        .map_err(|e| Failure::not_done(format!("cannot start: {e}")))
}

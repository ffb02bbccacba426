//! `report`: tests of faults and of speed on clusters of its own, written down as one page with a
//! plot.
//!
//! ```text
//! mod.rs      the command
//! cluster.rs  a cluster of processes, with data on the disk
//! faults.rs   nodes fail, and everything is read
//! speed.rs    writes, reads, failing and recovering, timed
//! page.rs     the page, in Markdown
//! plot.rs     the plot, in SVG
//! ```

mod cluster;
mod faults;
mod page;
mod plot;
mod speed;

use super::failure::{CommandResult, Failure, note, print};
use clap::Args;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Args)]
pub struct ReportArgs {
    /// Where the page goes; the plot goes beside it, as .svg
    #[arg(long, value_name = "FILE", default_value = "report.md")]
    out: PathBuf,
    /// Where the nodes keep their data meanwhile: on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// The first node's port; the others take the ones after it
    #[arg(long, default_value_t = 8481, value_parser = clap::value_parser!(u16).range(1..=50_000))]
    port: u16,
    /// Writes, and reads, to be timed
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    operations: u32,
}

/// How many nodes hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Consistent(u16),
    Full,
}

impl Kind {
    fn text(self) -> String {
        match self {
            Self::Consistent(factor) => format!("consistent, factor {factor}"),
            Self::Full => "full".to_owned(),
        }
    }
}

pub async fn report(args: ReportArgs) -> CommandResult {
    let failed = |e| Failure::not_done(format!("cannot wait for signals: {e}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    // Whatever ends it, its nodes and their data go with it.
    tokio::select! {
        outcome = measure(args) => outcome,
        _ = interrupt.recv() => Err(Failure::not_done("interrupted")),
        _ = terminate.recv() => Err(Failure::not_done("told to end")),
    }
}

async fn measure(args: ReportArgs) -> CommandResult {
    let out = args.out.with_extension("md");
    let plot = args.out.with_extension("svg");
    let workspace = cluster::Workspace::make(&args.data, args.port)?;
    note("faults: 3 nodes, 10 keys");
    let mut faults = faults::lose(&workspace, 3, 2, 10, 1).await?;
    note("faults: 5 nodes, 20 keys");
    faults.extend(faults::lose(&workspace, 5, 3, 20, 2).await?);
    note("fail, write, recover, read");
    let comebacks = faults::come_back(&workspace).await?;
    note(format_args!(
        "speed: {} operations at a time",
        args.operations
    ));
    let speeds = speed::measure(&workspace, args.operations).await?;
    let name = plot
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let page = page::page(&faults, &comebacks, &speeds, &name.unwrap_or_default());
    plot::draw(&plot, &speeds)?;
    std::fs::write(&out, page)
        .map_err(|e| Failure::not_done(format!("cannot write {}: {e}", out.display())))?;
    print(format_args!(
        "wrote {} and {}",
        out.display(),
        plot.display()
    ))?;
    let wrong = faults.iter().filter(|loss| !loss.is_right()).count();
    match wrong + comebacks.iter().filter(|c| !c.is_right()).count() {
        0 => Ok(()),
        n => Err(Failure::not_done(format!(
            "{n} tests failed: the page says which"
        ))),
    }
}

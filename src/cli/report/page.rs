//! The page: what was measured, in Markdown.

use super::Kind;
use super::faults::{Comeback, Loss};
use super::speed::{Speed, Times};
use std::fmt::Write as _;
use std::time::Duration;

/// Figures reported for an earlier store with the same calls, for a write and for a read: something
/// to compare with, no more. How they were measured is not known.
pub const EARLIER_WRITE: Duration = Duration::from_millis(50);
pub const EARLIER_READ: Duration = Duration::from_millis(30);

/// The whole page. `plot` is the name of the plot's file beside it.
pub fn page(faults: &[Loss], comebacks: &[Comeback], speeds: &[Speed], plot: &str) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "# Faults and speed\n\n\
         Measured by `causeway report`, release {}, {} build, at {} UTC, on {} processors. All nodes and clients ran on this\n\
         one machine. A write is answered when it is on the disks of two nodes, or of one where the key has one.\n\n",
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M"),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    losses(&mut text, faults);
    returns(&mut text, comebacks);
    times(&mut text, speeds, plot);
    text
}

fn losses(text: &mut String, faults: &[Loss]) {
    text.push_str(
        "## Nodes fail, and everything is read\n\n\
         Every choice of nodes fails in turn. `No node left` counts the keys all of whose nodes had failed: these must be\n\
         refused with 503 and the reason, and all others must be read with the right value. Where the number of nodes is\n\
         no multiple of the factor, one partition has fewer nodes than the factor.\n\n\
         | nodes | strategy | failed | keys | read | no node left | refused with 503 | |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for loss in faults {
        let failed: Vec<String> = loss.failed.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            loss.nodes,
            loss.kind.text(),
            failed.join(", "),
            loss.keys,
            loss.read,
            loss.gone,
            loss.refused,
            verdict(loss.is_right()),
        );
    }
    text.push('\n');
}

fn returns(text: &mut String, comebacks: &[Comeback]) {
    text.push_str(
        "## Fail, write, recover, read from the recovered node\n\n\
         Of 20 keys that are written while node 0 of three is failed, it has to answer for those that it holds, by itself and\n\
         at once when it is back.\n\n\
         | strategy | its keys | answered by it | to fail | to recover | |\n\
         |---|---|---|---|---|---|\n",
    );
    for comeback in comebacks {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            comeback.kind.text(),
            comeback.written,
            comeback.read,
            ms(comeback.fail),
            ms(comeback.recover),
            verdict(comeback.is_right()),
        );
    }
    text.push('\n');
}

fn times(text: &mut String, speeds: &[Speed], plot: &str) {
    let _ = write!(
        text,
        "## Speed\n\n\
         Three nodes. `mean`, `median` and `99 %` are times of single operations, as their clients waited for them; of fewer\n\
         than a hundred, `99 %` is the longest. `a second` is how many all clients together got done. An earlier store with\n\
         the same calls was reported to take {} for a write and {} for a read, measured in a way that is not known here:\n\
         `earlier / median` divides these by the median.\n\n\
         | strategy | operation | clients | count | mean | median | 99 % | a second | earlier / median |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        ms(EARLIER_WRITE),
        ms(EARLIER_READ),
    );
    for speed in speeds {
        for (what, times, earlier) in [
            ("write", &speed.writes, EARLIER_WRITE),
            ("read", &speed.reads, EARLIER_READ),
        ] {
            for times in times {
                row(text, speed.kind, what, times, Some(earlier));
            }
        }
        row(text, speed.kind, "fail a node", &speed.fail, None);
        row(text, speed.kind, "recover a node", &speed.recover, None);
    }
    let _ = write!(text, "\n![Median time of an operation]({plot})\n");
}

/// `earlier` is what to compare with. Where there is nothing the operations came one by one, with
/// others between them, and how many a second says nothing.
fn row(text: &mut String, kind: Kind, what: &str, times: &Times, earlier: Option<Duration>) {
    let seconds = |time: Duration| time.as_secs_f64().max(1e-9);
    let (rate, factor) = match earlier {
        Some(earlier) => (
            format!("{:.0}", times.count as f64 / seconds(times.whole)),
            format!("{:.0}", seconds(earlier) / seconds(times.median)),
        ),
        None => (String::new(), String::new()),
    };
    let _ = writeln!(
        text,
        "| {} | {what} | {} | {} | {} | {} | {} | {rate} | {factor} |",
        kind.text(),
        times.clients,
        times.count,
        ms(times.mean),
        ms(times.median),
        ms(times.p99),
    );
}

/// Milliseconds, with three digits that count.
pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

fn verdict(right: bool) -> &'static str {
    if right { "passed" } else { "FAILED" }
}

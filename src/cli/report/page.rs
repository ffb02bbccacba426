//! The page: what was measured, in Markdown.

use super::Kind;
use super::faults::{Comeback, Loss};
use super::speed::{Speed, Times};
use std::fmt::Write as _;
use std::time::Duration;

/// What the original reports for a write and for a read.
pub const ORIGINAL_WRITE: Duration = Duration::from_millis(50);
pub const ORIGINAL_READ: Duration = Duration::from_millis(30);

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
         Three nodes. `each` is the whole time divided by the number of operations. The original reports {} a write and {} a\n\
         read: the last two columns are how many times faster the median and `each` are.\n\n\
         | strategy | operation | clients | count | mean | median | 99 % | each | median faster | each faster |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        ms(ORIGINAL_WRITE),
        ms(ORIGINAL_READ),
    );
    for speed in speeds {
        for (what, times, original) in [
            ("write", &speed.writes, ORIGINAL_WRITE),
            ("read", &speed.reads, ORIGINAL_READ),
        ] {
            for times in times {
                row(text, speed.kind, what, times, Some(original));
            }
        }
        row(text, speed.kind, "fail a node", &speed.fail, None);
        row(text, speed.kind, "recover a node", &speed.recover, None);
    }
    let _ = write!(text, "\n![Time of an operation]({plot})\n");
}

fn row(text: &mut String, kind: Kind, what: &str, times: &Times, original: Option<Duration>) {
    let factor = |time: Duration| {
        let factor = original.map(|o| o.as_secs_f64() / time.as_secs_f64().max(1e-9));
        factor.map_or_else(String::new, |factor| format!("{factor:.0}"))
    };
    let _ = writeln!(
        text,
        "| {} | {what} | {} | {} | {} | {} | {} | {} | {} | {} |",
        kind.text(),
        times.clients,
        times.count,
        ms(times.mean),
        ms(times.median),
        ms(times.p99),
        ms(times.each),
        factor(times.median),
        factor(times.each),
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

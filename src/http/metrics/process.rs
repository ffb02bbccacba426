//! What the operating system knows of the process, under the names that Prometheus has for it.
//! Where there is no `/proc` nothing is said.

use super::samples::{gauges, seconds};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Unit;
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::fs;
use std::time::Duration;

/// Tells of the process when somebody asks for metrics.
#[derive(Debug)]
pub struct FromProcess;

/// The kernel tells programs of times in hundredths of a second, whatever its own clock does.
const TICKS: u64 = 100;

/// What `/proc/self/stat` says, in ticks.
#[derive(Debug, PartialEq, Eq)]
struct ProcessTimes {
    /// Time on processors.
    spent: u64,
    /// When the process began, since the system did.
    began: u64,
}

impl ProcessTimes {
    fn read(stat: &str) -> Option<Self> {
        // The name of the program may have anything in it. Behind it is the third field.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
        Some(Self {
            spent: field(14)?.saturating_add(field(15)?),
            began: field(22)?,
        })
    }
}

/// A number in `/proc/self/status`; one of memory is in KiB.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.strip_prefix(':')?.split_ascii_whitespace().next()?;
    number.parse().ok()
}

/// When the system began, in seconds since 1970.
fn boot_seconds(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

impl Collector for FromProcess {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut values = Vec::new();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (field, name, help, unit, factor) in [
            (
                "VmRSS",
                "process_resident_memory",
                "Memory that the process takes",
                Some(Unit::Bytes),
                1_024,
            ),
            (
                "VmSize",
                "process_virtual_memory",
                "Address space that the process has",
                Some(Unit::Bytes),
                1_024,
            ),
            ("Threads", "process_threads", "Threads", None, 1),
        ] {
            if let Some(value) = number(&status, field) {
                values.push((name, help, unit, value.saturating_mul(factor)));
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The directory itself is open meanwhile.
            let open = (open.count() as u64).saturating_sub(1);
            values.push((
                "process_open_fds",
                "Files and connections that are open",
                None,
                open,
            ));
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            values.push(("process_max_fds", "How many may be", None, most));
        }
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let times = ProcessTimes::read(&stat);
        let boot = boot_seconds(&fs::read_to_string("/proc/stat").unwrap_or_default());
        if let (Some(times), Some(boot)) = (&times, boot) {
            values.push((
                "process_start_time",
                "When the process began, since 1970",
                Some(Unit::Seconds),
                boot.saturating_add(times.began / TICKS),
            ));
        }
        gauges(&mut encoder, values)?;
        let Some(ProcessTimes { spent, .. }) = times else {
            return Ok(());
        };
        let spent = Duration::from_millis(spent.saturating_mul(1_000 / TICKS));
        seconds(&mut encoder, "process_cpu", "Time on processors", spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_s_words_are_understood_whatever_the_program_is_called() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 123456 1000000 345 18446744073709551615 1";
        let expected = ProcessTimes {
            spent: 300,
            began: 123_456,
        };
        assert_eq!(ProcessTimes::read(stat), Some(expected));
        for text in ["", "17 (a", "17 (a) S 1", "17 (a) S x x x"] {
            assert_eq!(ProcessTimes::read(text), None, "{text}");
        }
        let status = "Name:\tVmRSS\nVmRSS:\t  345 kB\nThreads:\t9\n";
        assert_eq!(number(status, "VmRSS"), Some(345));
        assert_eq!(number(status, "Threads"), Some(9));
        assert_eq!(number(status, "VmSize"), None);
        let text = "cpu 1 2 3\nbtime 1790000000\nprocesses 9\n";
        assert_eq!(boot_seconds(text), Some(1_790_000_000));
        assert_eq!(boot_seconds("cpu 1"), None);
    }
}

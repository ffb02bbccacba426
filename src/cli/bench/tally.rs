//! The measurements.

use crate::check::history::Completion;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Kinds of errors shown; the rest is only counted.
const SHOWN: usize = 5;
/// Microseconds: longer than any request is waited for.
const LONGEST: u64 = 60_000_000;
/// Longer than any context that a node takes.
const MOST_CHARS: u64 = 128 * 1024;

pub struct Tally {
    /// In microseconds.
    latency: Histogram<u64>,
    context_chars: Histogram<u64>,
    not_found: u64,
    pub reconnects: u64,
    /// Requests under way when the time was over: nobody waited for their answers.
    pub cut_off: u64,
    /// Errors that leave open whether the operation was done.
    unknown: u64,
    /// By kind: how many, and the first of them in full.
    errors: BTreeMap<String, (u64, String)>,
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    /// Answered as asked, "not found" included.
    pub requests: u64,
    /// All others, but for those that were cut off by the end: `refused` and `unknown` together.
    pub errors: u64,
    /// Certainly not done: refused, never sent, or reads without an answer.
    pub refused: u64,
    /// Writes and deletes that may have been done, or may be done later: no answer came, or one
    /// that leaves it open.
    pub unknown: u64,
    /// Under way when the time was over. Each may have been done.
    pub cut_off: u64,
    pub seconds: u64,
    pub requests_per_second: f64,
    /// Of those that make up the requests, where these are batches or snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_per_second: Option<f64>,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    pub context_chars_p50: u64,
    pub context_chars_p99: u64,
    pub not_found: u64,
    pub reconnects: u64,
    pub errors_by_kind: BTreeMap<String, u64>,
    /// The counts of the history's lines, as the check counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Recorded>,
}

/// The lines of a history. They are of the whole run: what came before the measurement, and what
/// was under way at its end, are in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recorded {
    pub operations: u64,
    /// May have been done.
    pub unknown: u64,
    /// Of these, deletes that were answered "not found": an earlier attempt may have deleted.
    pub deletes_of_nothing: u64,
    /// Certainly not done.
    pub failed: u64,
}

impl Recorded {
    /// Counts a line.
    pub fn add(&mut self, status: Completion) {
        self.operations += 1;
        match status {
            Completion::Ok => {}
            Completion::Unknown => self.unknown += 1,
            Completion::Fail => self.failed += 1,
        }
    }

    /// Counts the read that a delete of nothing was as well.
    pub fn add_delete_of_nothing(&mut self) {
        self.add(Completion::Ok);
        self.deletes_of_nothing += 1;
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: histogram(LONGEST),
            context_chars: histogram(MOST_CHARS),
            not_found: 0,
            reconnects: 0,
            cut_off: 0,
            unknown: 0,
            errors: BTreeMap::new(),
        }
    }
}

/// Exact to three digits.
#[allow(
    clippy::expect_used,
    reason = "the bounds are constants that hdrhistogram allows"
)]
fn histogram(most: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, most, 3).expect("constant bounds")
}

impl Tally {
    pub fn answered(&mut self, took: Duration, context_chars: usize, not_found: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros.max(1));
        self.context_chars.saturating_record(context_chars as u64);
        self.not_found += u64::from(not_found);
    }

    /// A request that was not answered as asked. If `open`, it may have been done.
    pub fn error(&mut self, error: &str, open: bool) {
        self.unknown += u64::from(open);
        let kind = error.split(": {").next().unwrap_or(error);
        let count = self
            .errors
            .entry(kind.to_owned())
            .or_insert_with(|| (0, error.to_owned()));
        count.0 += 1;
    }

    pub fn add(&mut self, other: &Self) {
        // Fails only between histograms of different bounds.
        let _ = self.latency.add(&other.latency);
        let _ = self.context_chars.add(&other.context_chars);
        self.not_found += other.not_found;
        self.reconnects += other.reconnects;
        self.cut_off += other.cut_off;
        self.unknown += other.unknown;
        for (kind, (n, first)) in &other.errors {
            let count = self
                .errors
                .entry(kind.clone())
                .or_insert_with(|| (0, first.clone()));
            count.0 += n;
        }
    }

    pub fn requests(&self) -> u64 {
        self.latency.len()
    }

    /// The first error of each kind, to be put after a sentence; empty without errors.
    pub fn first_errors(&self) -> String {
        let shown = self.errors.values().take(SHOWN);
        let mut text: String = shown
            .map(|(n, first)| format!("\n  {n} x {first}"))
            .collect();
        if self.errors.len() > SHOWN {
            text += &format!("\n  and {} more kinds", self.errors.len() - SHOWN);
        }
        text
    }

    /// The figures of so many seconds, in which each request was so many operations.
    pub fn report(&self, seconds: u64, batch: u32, history: Option<Recorded>) -> BenchReport {
        let rate = self.requests() as f64 / seconds as f64;
        let at = |h: &Histogram<u64>, q| h.value_at_quantile(q);
        let errors: u64 = self.errors.values().map(|(n, _)| n).sum();
        BenchReport {
            requests: self.requests(),
            errors,
            refused: errors.saturating_sub(self.unknown),
            unknown: self.unknown,
            cut_off: self.cut_off,
            seconds,
            requests_per_second: rate.round(),
            operations_per_second: (batch > 1).then(|| (rate * f64::from(batch)).round()),
            p50_us: at(&self.latency, 0.5),
            p99_us: at(&self.latency, 0.99),
            p999_us: at(&self.latency, 0.999),
            max_us: self.latency.max(),
            context_chars_p50: at(&self.context_chars, 0.5),
            context_chars_p99: at(&self.context_chars, 0.99),
            not_found: self.not_found,
            reconnects: self.reconnects,
            errors_by_kind: self
                .errors
                .iter()
                .map(|(kind, (n, _))| (kind.clone(), *n))
                .collect(),
            history,
        }
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        writeln!(
            f,
            "{} requests in {} s: {} a second ({} not found, {} reconnects)",
            self.requests, self.seconds, self.requests_per_second, self.not_found, self.reconnects
        )?;
        if let Some(operations) = self.operations_per_second {
            writeln!(f, "together {operations} operations a second")?;
        }
        writeln!(
            f,
            "errors   {} refused, {} with unknown outcome; {} under way at the end",
            self.refused, self.unknown, self.cut_off
        )?;
        writeln!(
            f,
            "latency  p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms",
            ms(self.p50_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us)
        )?;
        write!(
            f,
            "context  p50 {} characters, p99 {}",
            self.context_chars_p50, self.context_chars_p99
        )?;
        let Some(history) = &self.history else {
            return Ok(());
        };
        write!(
            f,
            "\nhistory  {} operations, {} with unknown outcome ({} deletes that found nothing), {} failed",
            history.operations, history.unknown, history.deletes_of_nothing, history.failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_of_threads_add_up() {
        let (mut a, mut b) = (Tally::default(), Tally::default());
        for ms in 1..=50 {
            a.answered(Duration::from_millis(ms), 20, false);
            b.answered(Duration::from_millis(50 + ms), 40, ms == 1);
        }
        b.answered(Duration::MAX, usize::MAX, false);
        a.error(r#"HTTP 503: {"error":"x"}"#, true);
        b.error(r#"HTTP 503: {"error":"y"}"#, false);
        b.cut_off += 3;
        a.add(&b);
        let report = a.report(10, 1, None);
        assert_eq!(
            (report.requests, report.errors, report.not_found),
            (101, 2, 1)
        );
        let (refused, unknown) = (report.refused, report.unknown);
        assert_eq!((refused, unknown, report.cut_off), (1, 1, 3));
        let text = report.to_string();
        let errors = "errors   1 refused, 1 with unknown outcome; 3 under way at the end";
        assert!(text.lines().any(|line| line == errors), "{text}");
        assert_eq!(report.requests_per_second, 10.0);
        assert!((50_900..=51_100).contains(&report.p50_us), "{report:?}");
        assert_eq!(report.errors_by_kind["HTTP 503"], 2);
        assert!(a.first_errors().contains(r#"2 x HTTP 503: {"error":"x"}"#));
    }
}

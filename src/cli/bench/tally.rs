//! What was measured.

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
    /// By kind: how many, and the first of them in full.
    errors: BTreeMap<String, (u64, String)>,
}

/// The figures of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub requests: u64,
    pub errors: u64,
    pub seconds: u64,
    pub requests_per_second: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    pub context_chars_p50: u64,
    pub context_chars_p99: u64,
    pub not_found: u64,
    pub reconnects: u64,
    pub errors_by_kind: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: histogram(LONGEST),
            context_chars: histogram(MOST_CHARS),
            not_found: 0,
            reconnects: 0,
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

    pub fn error(&mut self, error: &str) {
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

    pub fn report(&self, seconds: u64) -> Report {
        let at = |h: &Histogram<u64>, q| h.value_at_quantile(q);
        Report {
            requests: self.requests(),
            errors: self.errors.values().map(|(n, _)| n).sum(),
            seconds,
            requests_per_second: (self.requests() as f64 / seconds as f64).round(),
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
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1_000.0;
        writeln!(
            f,
            "{} requests in {} s: {} a second ({} errors, {} not found, {} reconnects)",
            self.requests,
            self.seconds,
            self.requests_per_second,
            self.errors,
            self.not_found,
            self.reconnects
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
        a.error(r#"HTTP 503: {"error":"x"}"#);
        b.error(r#"HTTP 503: {"error":"y"}"#);
        a.add(&b);
        let report = a.report(10);
        assert_eq!(
            (report.requests, report.errors, report.not_found),
            (101, 2, 1)
        );
        assert_eq!(report.requests_per_second, 10.0);
        assert!((50_900..=51_100).contains(&report.p50_us), "{report:?}");
        assert_eq!(report.errors_by_kind["HTTP 503"], 2);
        assert!(a.first_errors().contains(r#"2 x HTTP 503: {"error":"x"}"#));
    }
}

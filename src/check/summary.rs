//! The size of a consistent history.

use super::history::{Completion, Kind};
use super::input::{History, NULL};
use std::fmt;

/// The size of a history that was found consistent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// All operations.
    pub operations: u64,
    /// Sessions that asked for something.
    pub sessions: u64,
    /// Keys that were used.
    pub keys: u64,
    /// Reads with an answer, also those that found nothing.
    pub reads: u64,
    /// Reads with the answer that the key is not there.
    pub not_found: u64,
    /// Reads that found nothing and for which more than one explanation is left.
    pub undecided: u64,
    /// Puts that were done.
    pub puts: u64,
    /// Deletes that were done.
    pub deletes: u64,
    /// Operations whose outcome is not known.
    pub unknown: u64,
    /// Operations that were certainly not done.
    pub failed: u64,
}

impl Summary {
    pub(super) fn new(history: &History, undecided: u64) -> Self {
        let mut summary = Self {
            operations: history.ops.len() as u64,
            sessions: history.sessions.len() as u64,
            keys: history.keys.len() as u64,
            undecided,
            ..Self::default()
        };
        for op in &history.ops {
            let count = match (op.status, op.kind) {
                (Completion::Fail, _) => &mut summary.failed,
                (Completion::Unknown, _) => &mut summary.unknown,
                (Completion::Ok, Kind::Put) => &mut summary.puts,
                (Completion::Ok, Kind::Delete) => &mut summary.deletes,
                (Completion::Ok, Kind::Get) => {
                    summary.not_found += u64::from(op.value == NULL);
                    &mut summary.reads
                }
            };
            *count += 1;
        }
        summary
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = grouped;
        writeln!(
            f,
            "consistent: {} operations, {} sessions, {} keys",
            n(self.operations),
            n(self.sessions),
            n(self.keys)
        )?;
        write!(
            f,
            "{} reads ({} found nothing, {} of them with more than one explanation), \
             {} puts, {} deletes, {} with unknown outcome, {} failed",
            n(self.reads),
            n(self.not_found),
            n(self.undecided),
            n(self.puts),
            n(self.deletes),
            n(self.unknown),
            n(self.failed)
        )
    }
}

/// A number with a comma before every third digit.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn numbers_are_grouped() {
        let texts = [0, 999, 1000, 12_345_678].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345,678"]);
    }
}

//! The answers that clients got, and whether they can be right: the lists' own checker looks at
//! lists that only grow, and revisions, which say in which order all changes were made, at
//! everything.

use bytes::Bytes;
use causeway::check::ListHistory;
use causeway::protocol::keys::{List, What};
use std::collections::BTreeMap;

/// Whether a change was made, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Made, by this revision.
    Done(u64),
    /// There was nothing to delete.
    Nothing,
    NotDone,
    Unknown,
}

/// When something began and ended, in microseconds.
type Span = (u64, u64);

struct Made {
    key: String,
    what: What,
    span: Span,
}

struct Read {
    key: String,
    list: Option<(u64, Vec<Bytes>)>,
    span: Span,
}

/// Everything that clients did.
#[derive(Default)]
pub struct History {
    /// By revision.
    made: BTreeMap<u64, Made>,
    reads: Vec<Read>,
    /// As the lists' checker reads them.
    lines: String,
    twice: Option<String>,
    pub changes: u64,
    pub unknown: u64,
}

impl History {
    pub fn changed(&mut self, key: &str, what: What, seen: Seen, span: Span) {
        self.changes += 1;
        self.unknown += u64::from(seen == Seen::Unknown);
        if let What::Append(item) = &what
            && key.starts_with("list")
        {
            let status = match seen {
                Seen::Done(_) | Seen::Nothing => "ok",
                Seen::NotDone => "fail",
                Seen::Unknown => "unknown",
            };
            let item = String::from_utf8_lossy(item);
            self.line("append", key, &format!("\"{item}\""), status, span);
        }
        if let Seen::Done(revision) = seen {
            let key = key.to_owned();
            let made = Made { key, what, span };
            if let Some(other) = self.made.insert(revision, made) {
                let what = format!(
                    "revision {revision} made two changes, one of them {:?}",
                    other.what
                );
                self.twice.get_or_insert(what);
            }
        }
    }

    pub fn read(&mut self, key: &str, list: Option<List>, span: Span) {
        let list = list.map(|list| {
            (
                list.revision,
                list.items.iter().cloned().collect::<Vec<_>>(),
            )
        });
        if key.starts_with("list") {
            let items = list.iter().flat_map(|(_, items)| items);
            let items: Vec<String> = items
                .map(|i| format!("\"{}\"", String::from_utf8_lossy(i)))
                .collect();
            self.line("get", key, &format!("[{}]", items.join(",")), "ok", span);
        }
        let key = key.to_owned();
        self.reads.push(Read { key, list, span });
    }

    fn line(&mut self, op: &str, key: &str, value: &str, status: &str, (start, end): Span) {
        self.lines += &format!(
            "{{\"op\":\"{op}\",\"key\":\"{key}\",\"value\":{value},\"status\":\"{status}\",\"start_us\":{start},\"end_us\":{end}}}\n"
        );
    }

    pub fn reads(&self) -> usize {
        self.reads.len()
    }

    /// Checks whether all that clients saw can be so.
    ///
    /// # Errors The operation that cannot.
    pub fn check(&self) -> Result<(), String> {
        self.twice.clone().map_or(Ok(()), Err)?;
        let lists = ListHistory::read(self.lines.as_bytes()).map_err(|e| format!("{e:?}"))?;
        lists
            .check()
            .map_err(|found| format!("not linearizable: {found:?}"))?;
        self.check_order()?;
        self.reads.iter().try_for_each(|read| self.check_read(read))
    }

    /// No change was made after one that began when it had ended.
    fn check_order(&self) -> Result<(), String> {
        let mut latest = (0, 0);
        for (revision, made) in &self.made {
            if made.span.1 < latest.0 {
                return Err(format!(
                    "revision {revision} ended at {} us, before revision {} began",
                    made.span.1, latest.1
                ));
            }
            latest = latest.max((made.span.0, *revision));
        }
        Ok(())
    }

    /// A read shows what was made, and nothing that was replaced before it began.
    fn check_read(&self, read: &Read) -> Result<(), String> {
        let shown = read.list.as_ref().map_or(0, |(revision, _)| *revision);
        if let (Some(made), Some((_, items))) = (self.made.get(&shown), &read.list) {
            let right = match &made.what {
                What::Put(put) => put == items,
                What::Append(item) => items.last() == Some(item),
                What::Delete => false,
            };
            if !right || made.key != read.key || made.span.0 > read.span.1 {
                return Err(format!(
                    "a read of {} shows {items:?} as revision {shown}, which is {:?}",
                    read.key, made.what
                ));
            }
        }
        let later = self.made.range(shown + 1..);
        let mut later = later.filter(|(_, made)| made.key == read.key);
        // Where nothing was read, a delete may have come last.
        let old = later.find(|(_, made)| {
            made.span.1 < read.span.0 && (read.list.is_some() || read.key.starts_with("list"))
        });
        match old {
            Some((revision, _)) => Err(format!(
                "a read of {} at {:?} us shows revision {shown}, and {revision} was made before",
                read.key, read.span
            )),
            None => Ok(()),
        }
    }
}

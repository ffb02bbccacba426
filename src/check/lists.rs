//! Is a history of lists linearizable? For histories of two operations, by which a list shows its
//! own order: items, each of its own, that are appended, and reads of the whole list.
//!
//! What a read returns says where it stands: after the append of its last item, before that of the
//! next. So all that was done to a list is in order by what it returned, and the history is
//! linearizable if and only if no operation ended before one began that comes before it in that
//! order. An append without a good answer counts as soon as it is read.

use super::history::Completion;
use super::input::Unreadable;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::BufRead;

/// An operation as a line of a file has it. Other fields are ignored.
#[derive(Deserialize)]
struct Line<'a> {
    op: Kind,
    #[serde(borrow)]
    key: Cow<'a, str>,
    /// The item that was appended, or the list that was read; `null` when there is none.
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    status: Completion,
    start_us: u64,
    end_us: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Append,
    Get,
}

/// When something took place, and the line that says so.
#[derive(Clone, Copy)]
struct Span {
    line: u64,
    start: u64,
    end: u64,
}

struct Append {
    span: Span,
    status: Completion,
}

/// The operations on one list.
#[derive(Default)]
struct List {
    appends: HashMap<String, Append>,
    reads: Vec<(Span, Vec<String>)>,
}

/// The lists of a history, and what was done to each.
#[derive(Default)]
pub struct ListHistory {
    lists: BTreeMap<String, List>,
    failed: u64,
}

/// The size of a history that was found linearizable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListsSummary {
    /// Lists that were used.
    pub lists: u64,
    /// Reads with an answer.
    pub reads: u64,
    /// With a good answer.
    pub appends: u64,
    /// Appends without one.
    pub unknown: u64,
    /// Operations that were certainly not done.
    pub failed: u64,
}

/// Why a history of lists is not linearizable: two lines that contradict each other, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListsViolation {
    /// The key of the list.
    pub key: String,
    /// The lines that contradict each other, from 1.
    pub lines: Vec<u64>,
    /// The reason, for people.
    pub why: String,
}

impl ListHistory {
    /// Reads a file, one JSON object a line.
    ///
    /// # Errors
    /// The first line that is no operation.
    pub fn read(from: impl BufRead) -> Result<Self, Unreadable> {
        let mut lists = Self::default();
        for (number, text) in (1..).zip(from.lines()) {
            let unreadable = |why: String| Unreadable { line: number, why };
            let text = text.map_err(|e| unreadable(e.to_string()))?;
            if !text.trim().is_empty() {
                lists.add(number, &text).map_err(unreadable)?;
            }
        }
        Ok(lists)
    }

    fn add(&mut self, line: u64, text: &str) -> Result<(), String> {
        let found: Line<'_> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if found.end_us < found.start_us {
            return Err("it ends before it starts".to_owned());
        }
        let value = found.value.map_or("null", RawValue::get);
        let span = Span {
            line,
            start: found.start_us,
            end: found.end_us,
        };
        let list = self.lists.entry(found.key.into_owned()).or_default();
        match (found.op, found.status) {
            (Kind::Append, status) => {
                let item = serde_json::from_str(value);
                let item = item.map_err(|e| format!("an item is a string: {e}"))?;
                self.failed += u64::from(status == Completion::Fail);
                if let Some(other) = list.appends.insert(item, Append { span, status }) {
                    let line = other.span.line;
                    return Err(format!(
                        "line {line} appends the same item: items have to differ"
                    ));
                }
            }
            (Kind::Get, Completion::Ok) => {
                let items: Option<_> =
                    serde_json::from_str(value).map_err(|e| format!("a list has strings: {e}"))?;
                list.reads.push((span, items.unwrap_or_default()));
            }
            // A read without an answer says nothing.
            (Kind::Get, _) => self.failed += 1,
        }
        Ok(())
    }

    /// Checks each list by itself: what is linearizable list by list is so as a whole.
    ///
    /// # Errors
    /// A contradiction.
    pub fn check(&self) -> Result<ListsSummary, ListsViolation> {
        let mut summary = ListsSummary {
            lists: self.lists.len() as u64,
            failed: self.failed,
            ..ListsSummary::default()
        };
        for (key, list) in &self.lists {
            list.check().map_err(|(lines, why)| ListsViolation {
                key: key.clone(),
                lines,
                why,
            })?;
            let count = |status| list.appends.values().filter(|a| a.status == status).count();
            summary.reads += list.reads.len() as u64;
            summary.appends += count(Completion::Ok) as u64;
            summary.unknown += count(Completion::Unknown) as u64;
        }
        Ok(summary)
    }
}

type Contradiction = (Vec<u64>, String);

impl List {
    fn check(&self) -> Result<(), Contradiction> {
        let none = Vec::new();
        let longest = self.reads.iter().max_by_key(|(_, items)| items.len());
        let (at, all) = longest.map_or((0, &none), |(span, items)| (span.line, items));
        let mut places = HashMap::new();
        for (place, item) in all.iter().enumerate() {
            if places.insert(item.as_str(), place).is_some() {
                return Err((vec![at], format!("it reads {item:?} twice")));
            }
            match self.appends.get(item) {
                None => {
                    return Err((
                        vec![at],
                        format!("it reads {item:?}, which nobody appended"),
                    ));
                }
                Some(append) if append.status == Completion::Fail => {
                    let why = format!("{item:?} was said not to be done, and is read");
                    return Err((vec![append.span.line, at], why));
                }
                Some(_) => {}
            }
        }
        let mut order = Vec::new();
        for (span, items) in &self.reads {
            if !all.starts_with(items) {
                let why = "they read lists of which neither continues the other".to_owned();
                return Err((vec![span.line, at], why));
            }
            order.push((2 * items.len(), *span));
        }
        for (item, Append { span, status }) in &self.appends {
            match (places.get(item.as_str()), status) {
                (Some(place), Completion::Ok) => order.push((2 * place + 1, *span)),
                // The append may have taken effect at any time after it was sent.
                (Some(place), _) => order.push((
                    2 * place + 1,
                    Span {
                        end: u64::MAX,
                        ..*span
                    },
                )),
                // Nobody has read it, so it comes after all that was read.
                (None, Completion::Ok) => order.push((2 * all.len() + 1, *span)),
                (None, _) => {}
            }
        }
        in_time(order)
    }
}

/// Whether no operation ended before one began that has an earlier place.
fn in_time(mut order: Vec<(usize, Span)>) -> Result<(), Contradiction> {
    order.sort_by_key(|(place, span)| (*place, span.line));
    let mut latest: Option<Span> = None;
    for same in order.chunk_by(|(a, _), (b, _)| a == b) {
        if let Some(before) = latest
            && let Some((_, span)) = same.iter().find(|(_, span)| span.end < before.start)
        {
            let why = format!(
                "line {} ended before line {} began, and comes after it by what was read",
                span.line, before.line
            );
            return Err((vec![span.line, before.line], why));
        }
        let spans = same.iter().map(|(_, span)| *span);
        latest = latest
            .into_iter()
            .chain(spans)
            .max_by_key(|span| span.start);
    }
    Ok(())
}

impl fmt::Display for ListsSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "linearizable: {} lists, {} reads, {} appends, {} of unknown outcome, {} failed",
            self.lists, self.reads, self.appends, self.unknown, self.failed
        )
    }
}

impl fmt::Display for ListsViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.lines.iter().map(u64::to_string).collect();
        write!(
            f,
            "violated: list {:?}, line {}: {}",
            self.key,
            lines.join(" and line "),
            self.why
        )
    }
}

//! Answering a read from the store and a snapshot of the marks, without asking the replica.
//!
//! Any thread may do this: marks only grow and are published after the store has what they
//! claim, so checking the marks first and reading the store second is safe.

use super::context::Context;
use super::ids::Dot;
use super::marks::Marks;
use super::op::{Consistency, Found, Missing, Read};
use super::record;
use super::slots::Slot;
use super::store::{Store, StoreError};
use super::teeth::{Rule, broken};
use super::version::{Key, Version};

/// The result of a look at the store and the marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The answer, found here.
    Answer(Read),
    /// The newest version is not shown yet: the replica knows the one before it.
    Hidden,
    /// The client has seen writes that are not here.
    Short(Vec<Missing>),
    /// The client has seen a view that is not known here.
    OldView,
    /// The replica does not serve reads.
    Recovering(String),
}

/// Looks a key up for a client with this past.
///
/// # Errors
/// When the store fails.
pub fn lookup<S: Store + ?Sized>(
    store: &S,
    marks: &Marks,
    key: &Key,
    context: &Context,
    consistency: Consistency,
) -> Result<Lookup, StoreError> {
    let mut stale = false;
    if let Some(reason) = &marks.recovering {
        match consistency {
            Consistency::Causal => return Ok(Lookup::Recovering(reason.clone())),
            Consistency::Eventual => stale = true,
        }
    }
    // A context without entries, of a view that is known, needs nothing.
    if (!context.is_empty() || marks.is_behind(context)) && !marks.covers(Slot::of(key), context) {
        match consistency {
            Consistency::Causal
                if broken(Rule::AbsentUnchecked) && record::load(store, key)?.is_none() => {}
            Consistency::Causal if marks.is_behind(context) => return Ok(Lookup::OldView),
            Consistency::Causal => {
                return Ok(Lookup::Short(marks.missing(Slot::of(key), context)));
            }
            Consistency::Eventual => stale = true,
        }
    }
    let version = record::load(store, key)?;
    if version
        .as_ref()
        .is_some_and(|v| hidden(marks, v.dot, context))
    {
        return Ok(Lookup::Hidden);
    }
    Ok(Lookup::Answer(answer(marks, version, context, stale)))
}

/// Whether a write may not be shown yet: only its writer has it, and the client has not seen it.
#[must_use]
pub fn hidden(marks: &Marks, dot: Dot, context: &Context) -> bool {
    let own = marks.own;
    // A replica that was opened again writes a log that marks from before do not know. What came
    // back from peers of an earlier log of its own, ahead of that, is no secret.
    let newer = dot.log.member == own.member && dot.log.incarnation > own.incarnation;
    let exposed = || marks.logs.get(&own).map_or(0, |mark| mark.exposed);
    (newer || (dot.log == own && dot.seq > exposed()))
        && !broken(Rule::ShowHidden)
        && context.get(dot.log).is_none_or(|seen| seen < dot.seq)
}

/// The reply for a version: its value, and the request's context joined with the version's past.
/// A tombstone is a version too: "not found" tells of the delete.
#[must_use]
pub fn answer(marks: &Marks, version: Option<Version>, context: &Context, stale: bool) -> Read {
    let mut context = context.clone();
    marks.prune(&mut context);
    let Some(version) = version else {
        return Read {
            found: None,
            stamp: None,
            context,
            stale,
        };
    };
    observe(marks, &version, &mut context);
    Read {
        stamp: Some(version.stamp),
        found: version.value.map(|value| Found {
            value,
            wall_ms: version.wall_ms,
        }),
        context,
        stale,
    }
}

/// Adds a version and its past to what a client has seen.
pub fn observe(marks: &Marks, version: &Version, context: &mut Context) {
    // An orphaned write may come after what is newer than itself.
    context.clock = context.clock.max(version.stamp.ts).max(version.deps.clock);
    context.view = context.view.max(version.deps.view);
    for (log, seq) in version
        .deps
        .iter()
        .filter(|_| !broken(Rule::DropDependencies))
        .chain([(version.dot.log, version.dot.seq)])
    {
        if !marks.is_stable(log, seq) {
            context.see(log, seq);
        }
    }
    marks.fold(context);
}

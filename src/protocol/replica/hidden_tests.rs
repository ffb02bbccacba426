//! What readers see in the place of writes that are hidden.

use super::*;
use crate::protocol::clock::Timestamp;
use crate::protocol::ids::{LogId, MemberId};
use crate::protocol::version::Stamp;
use bytes::Bytes;

const OWN: LogId = log(0);
const OTHER: LogId = log(1);
const NOW: Now = Now {
    mono_us: 5,
    wall_ms: 1,
};

const fn log(member: u16) -> LogId {
    LogId {
        member: MemberId(member),
        incarnation: 1,
    }
}

fn ts(ms: u64) -> Timestamp {
    Timestamp::from_ms(ms)
}

/// A version of the one key, as old as its value says.
fn version(log: LogId, seq: u64, ms: u64) -> Version {
    Version {
        key: Key::from("k"),
        value: Some(Bytes::from(ms.to_string())),
        stamp: Stamp {
            ts: ts(ms),
            by: log.member,
        },
        dot: Dot { log, seq },
        wall_ms: ms,
        deps: Context::default(),
    }
}

/// A client with this clock, which has seen nothing that a context must name.
fn client(ms: u64) -> Context {
    let mut context = Context::default();
    context.clock = ts(ms);
    context
}

fn durable(ms: u64) -> Before {
    Before {
        shown: Some(version(OTHER, 1, ms)),
        coming: None,
    }
}

fn shown(hidden: &HiddenWrites, context: &Context) -> Result<Option<u64>, Dot> {
    let shown = hidden.shown(&Key::from("k"), context)?;
    Ok(shown.map(|v| v.stamp.ts.ms()))
}

#[test]
fn readers_see_the_version_before_until_the_write_is_shown() {
    let mut hidden = HiddenWrites::default();
    hidden.hide(&version(OWN, 3, 20), durable(10), NOW);
    assert_eq!(shown(&hidden, &client(0)), Ok(Some(10)));
    assert_eq!((hidden.since(4), hidden.since(5)), (0, 3));
    hidden.check(3, std::iter::once(3));
    hidden.show(2);
    assert!(hidden.hides(&Key::from("k")));
    hidden.show(3);
    assert!(!hidden.hides(&Key::from("k")) && hidden.is_empty());
}

#[test]
fn a_client_that_has_seen_the_write_sees_it_and_one_that_may_have_waits() {
    let mut hidden = HiddenWrites::default();
    let write = version(OWN, 3, 20);
    hidden.hide(&write, durable(10), NOW);
    let mut named = client(20);
    named.see(OWN, 3);
    assert_eq!(shown(&hidden, &named), Ok(Some(20)));
    assert_eq!(shown(&hidden, &client(20)), Err(write.dot));
    assert_eq!(shown(&hidden, &client(19)), Ok(Some(10)));
}

#[test]
fn a_version_of_others_is_seen_when_it_is_durable_and_nobody_waits_for_it() {
    let mut hidden = HiddenWrites::default();
    hidden.hide(&version(OWN, 3, 20), durable(10), NOW);
    hidden.shown_meanwhile(&version(OTHER, 2, 15), 7);
    hidden.shown_meanwhile(&version(OTHER, 3, 16), 8);
    assert_eq!(shown(&hidden, &client(17)), Ok(Some(10)));
    hidden.stored(7);
    assert_eq!(shown(&hidden, &client(17)), Ok(Some(15)));
    // An older one that comes later changes nothing.
    hidden.shown_meanwhile(&version(log(2), 1, 12), 8);
    hidden.stored(8);
    assert_eq!(shown(&hidden, &client(17)), Ok(Some(16)));
}

#[test]
fn a_client_waits_while_an_unknown_version_may_have_become_durable() {
    let mut hidden = HiddenWrites::default();
    let coming = version(OTHER, 2, 15);
    let before = Before {
        shown: Some(version(OTHER, 1, 10)),
        coming: Some((7, coming.clone())),
    };
    hidden.hide(&version(OWN, 3, 20), before, NOW);
    assert_eq!(
        shown(&hidden, &client(9)),
        Ok(Some(10)),
        "has seen nothing newer"
    );
    // Of two versions with one time the one of the higher node wins.
    assert_eq!(shown(&hidden, &client(10)), Err(coming.dot));
    assert_eq!(shown(&hidden, &client(12)), Err(coming.dot));
    hidden.stored(7);
    assert_eq!(shown(&hidden, &client(12)), Ok(Some(15)));
    hidden.shown_meanwhile(&version(OTHER, 3, 16), 8);
    assert_eq!(shown(&hidden, &client(17)), Ok(Some(15)));
}

//! Each thing that no node can have made is refused where it is read, by its own reason.

use super::super::changes::ViewChanges;
use super::super::clock::Timestamp;
use super::super::context::Context;
use super::super::ids::{Dot, LogId, MAX_VIEW, MemberId};
use super::super::message::{Ack, Append, Gossip, LogReport, Message, Pull, Range, SnapshotPull};
use super::super::op::{Consistency, Op};
use super::super::placement::Change;
use super::super::record::{Finished, Seal};
use super::super::slots::{SLOTS, Slot, SlotSet};
use super::super::version::{LONGEST_KEY, Stamp, Version};
use super::super::view::{PartitionId, View};
use super::super::views::{Cohort, CohortId, Views};
use super::*;
use bytes::Bytes;
use core::fmt::Debug;
use core::net::SocketAddr;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that is read as it was written.
#[track_caller]
fn passes<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T) {
    let bytes = postcard::to_allocvec(value).unwrap();
    assert_eq!(&postcard::from_bytes::<T>(&bytes).unwrap(), value);
}

/// A value that is not read, and why not.
#[track_caller]
fn refused<T: Serialize + DeserializeOwned + Debug>(value: &T, why: &str) {
    let bytes = postcard::to_allocvec(value).unwrap();
    assert!(postcard::from_bytes::<T>(&bytes).is_err(), "{value:?}");
    // Only a format with texts tells the reason.
    let text = serde_json::to_string(value).unwrap();
    let error = serde_json::from_str::<T>(&text).unwrap_err().to_string();
    assert!(error.contains(why), "{error}, not {why}");
}

fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 8080))
}

fn view() -> View {
    View::first(&[at(1), at(2), at(3)], 2).unwrap()
}

#[test]
fn a_view_with_a_hole_in_it() {
    passes(&view());
    let but = |change: fn(&mut View)| {
        let mut view = view();
        change(&mut view);
        view
    };
    for (view, why) in [
        (
            but(|v| v.slots.truncate(16_383)),
            "not every slot is placed",
        ),
        (but(|v| v.slots.clear()), "not every slot is placed"),
        (but(|v| v.slots.push(PartitionId(0))), "not every slot"),
        (
            but(|v| v.slots[7] = PartitionId(9)),
            "slots of no partition",
        ),
        (but(|v| v.k = 0), "without replicas"),
        (but(|v| v.number = 0), "impossible number"),
        (but(|v| v.number = MAX_VIEW), "impossible number"),
    ] {
        refused(&view, why);
    }
}

#[test]
fn a_view_with_members_that_are_not_in_just_one_place() {
    let replicas = |view: &mut View, partition: u32, replicas: &[u16]| {
        let partition = view.partitions.get_mut(&PartitionId(partition)).unwrap();
        partition.replicas = replicas.iter().copied().map(MemberId).collect();
    };
    let with = |partition, members: &[u16]| {
        let mut view = view();
        replicas(&mut view, partition, members);
        view
    };
    refused(&with(0, &[]), "of nobody");
    refused(&with(0, &[0]), "not in just one place");
    refused(&with(0, &[0, 0]), "not in just one place");
    refused(&with(0, &[0, 1, 9]), "no member of its partition");
    refused(&with(0, &[0, 1, 2]), "no member of its partition");
    let mut unknown = view();
    unknown.next_member = 2;
    refused(&unknown, "member number never given out");
    let mut unknown = view();
    unknown.next_partition = 1;
    refused(&unknown, "partition never given out");
    let mut twice = view();
    twice.members.get_mut(&MemberId(1)).unwrap().address = at(1);
    refused(&twice, "one address");
    let mut later = view();
    later.partitions.get_mut(&PartitionId(1)).unwrap().since = 2;
    refused(&later, "of a later view");
}

#[test]
fn views_that_contradict_themselves() {
    let mut changes = ViewChanges::first(view());
    changes.apply(super::super::changes::ViewCommand::Change {
        change: Change::Add(at(4)),
        give_up: false,
        lose_data: false,
    });
    let sound = changes.views().clone();
    passes(&sound);
    let but = |change: &dyn Fn(&mut Views)| {
        let mut views = sound.clone();
        change(&mut views);
        views
    };
    let cohort = |since, until| Cohort {
        id: CohortId {
            partition: PartitionId(0),
            since,
        },
        until,
        slots: SlotSet::default(),
        replicas: Vec::new(),
    };
    let closing = |cohorts: &[Cohort]| but(&|v| v.closing = cohorts.to_vec());
    let same = but(&|v| v.view.number = v.next.as_ref().unwrap().number);
    refused(&same, "number of the present one");
    let foreign = but(&|v| v.next.as_mut().unwrap().cluster = [7; 32]);
    refused(&foreign, "of another cluster");
    refused(&but(&|v| v.view.k = 0), "without replicas");
    let hole = but(&|v| v.next.as_mut().unwrap().slots.truncate(1));
    refused(&hole, "not every slot");
    passes(&closing(&[cohort(0, Some(1))]));
    refused(&closing(&[cohort(0, None)]), "not closed");
    refused(&closing(&[cohort(0, Some(2))]), "not closed");
    refused(&closing(&[cohort(0, Some(1)), cohort(0, Some(1))]), "twice");
    let gone = but(&|v| v.given_up = [MemberId(7)].into());
    refused(&gone, "given up that is not in the view");
    let here = but(&|v| v.leaving = [(MemberId(0), at(1))].into());
    refused(&here, "leaving that is in the view");
}

#[test]
fn numbers_that_no_log_clock_or_slot_reaches() {
    let log = |incarnation| LogId {
        member: MemberId(1),
        incarnation,
    };
    passes(&log(MAX_INCARNATION - 1));
    refused(&log(MAX_INCARNATION + 1), "under no view");
    refused(&log(u64::MAX), "under no view");
    let dot = |seq| Dot { log: log(1), seq };
    passes(&dot(MAX_SEQ));
    refused(&dot(u64::MAX), "no log reaches");
    passes(&Timestamp::from_ms(1_800_000_000_000));
    refused(&Timestamp(u64::MAX), "no clock reaches");
    passes(&Slot(SLOTS - 1));
    refused(&Slot(SLOTS), "does not exist");
    let seal = |by, upto| Seal { by, upto };
    passes(&seal(1, 1));
    refused(&seal(u64::MAX, 1), "under no view");
    refused(&seal(1, u64::MAX), "no log reaches");
}

#[test]
fn what_is_searched_by_its_order_is_in_order() {
    let mut context = Context::at(Timestamp(1), 1);
    for incarnation in [3, 5] {
        let member = MemberId(1);
        context.see(
            LogId {
                member,
                incarnation,
            },
            1,
        );
    }
    passes(&context);
    let text = serde_json::to_string(&context).unwrap();
    let backwards = text.replace(":3}", ":9}");
    let twice = text.replace(":3}", ":5}");
    for text in [backwards, twice] {
        assert_ne!(text, serde_json::to_string(&context).unwrap());
        let error = serde_json::from_str::<Context>(&text).unwrap_err();
        assert!(error.to_string().contains("out of order"), "{error}");
    }
    refused(&Context::at(Timestamp(1), MAX_VIEW), "of no view");
    let finished = |recent: &[(u64, u64)]| Finished {
        below: 1,
        recent: recent.to_vec(),
    };
    passes(&finished(&[(1, 4), (2, 3)]));
    refused(&finished(&[(2, 3), (1, 4)]), "out of order");
    refused(&finished(&[(2, 3), (2, 3)]), "out of order");
    refused(&finished(&[(u64::MAX, 3)]), "under no view");
}

#[test]
fn sets_of_slots_whose_runs_are_not_in_order() {
    let set = |runs: &[(u16, u16)]| {
        postcard::from_bytes::<SlotSet>(&postcard::to_allocvec(runs).unwrap())
    };
    assert_eq!(
        set(&[(0, 2), (2, 5), (9, SLOTS)]).unwrap().len(),
        5 + usize::from(SLOTS) - 9
    );
    for runs in [
        &[(0, SLOTS + 1)][..],
        &[(5, 5)],
        &[(5, 2)],
        &[(4, 8), (0, 2)],
        &[(0, 8), (4, 9)],
        &[(0, SLOTS), (0, SLOTS)],
    ] {
        assert!(set(runs).is_err(), "{runs:?}");
    }
}

fn version(key: &[u8], seq: u64) -> Version {
    Version {
        key: Bytes::copy_from_slice(key),
        value: None,
        stamp: Stamp::default(),
        dot: Dot {
            log: LogId::default(),
            seq,
        },
        wall_ms: 0,
        deps: Context::default(),
    }
}

#[test]
fn keys_that_cannot_be_stored() {
    let longest = vec![b'k'; LONGEST_KEY];
    let longer = vec![b'k'; LONGEST_KEY + 1];
    passes(&version(&longest, 1));
    for key in [&[][..], &longer] {
        refused(&version(key, 1), "empty or too long");
        let key = Bytes::copy_from_slice(key);
        let get = Op::Get {
            key: key.clone(),
            consistency: Consistency::Causal,
        };
        refused(&get, "empty or too long");
        let kept = Message::EarlyKept(vec![(Dot::default(), key)]);
        refused(&kept, "empty or too long");
    }
    let range = |key: &[u8]| {
        Message::Range(Range {
            log: LogId::default(),
            after: 0,
            keys: vec![Bytes::copy_from_slice(key)],
            versions: Vec::new(),
            too_old: false,
            seals: Vec::new(),
        })
    };
    // One in a slot that the sender does not hold is left out.
    passes(&range(b""));
    refused(&range(&longer), "too long");
    let pull = |after: usize| {
        Message::SnapshotPull(SnapshotPull {
            id: 1,
            cohort: CohortId {
                partition: PartitionId(0),
                since: 1,
            },
            slots: SlotSet::default(),
            after: vec![0; after].into(),
            bytes: u32::MAX,
        })
    };
    passes(&pull(3 + LONGEST_KEY));
    refused(&pull(4 + LONGEST_KEY), "too long");
}

#[test]
fn messages_that_count_beyond_all_logs_or_out_of_order() {
    let append = |first: u64, seqs: &[u64]| {
        Message::Append(Append {
            first,
            versions: seqs.iter().map(|seq| version(b"k", *seq)).collect(),
            stable: 0,
            seals: Vec::new(),
        })
    };
    passes(&append(3, &[3, 4]));
    refused(&append(0, &[]), "before the first");
    refused(&append(u64::MAX, &[]), "no log reaches");
    refused(&append(3, &[4]), "out of order");
    refused(&append(3, &[3, 5]), "out of order");
    let log = LogId::default();
    let ack = |applied, received| {
        Message::Ack(Ack {
            log,
            applied,
            received,
            gap: false,
            met: 0,
        })
    };
    passes(&ack(1, 1));
    refused(&ack(u64::MAX, 1), "no log reaches");
    refused(&ack(1, u64::MAX), "no log reaches");
    let pull = Message::Pull(Pull {
        log,
        after: u64::MAX,
        slots: SlotSet::default(),
    });
    refused(&pull, "no log reaches");
    refused(&Message::Outdated { known: u64::MAX }, "under no view");
    let report = LogReport {
        log,
        applied: u64::MAX,
        stable: 0,
    };
    let gossip = |logs: &[LogReport], head| {
        Message::Gossip(Gossip {
            clock: Timestamp(1),
            wall_ms: 1,
            serving: true,
            fresh: false,
            empty: false,
            open: Vec::new(),
            met: Vec::new(),
            filled: Vec::new(),
            logs: logs.to_vec(),
            finished: Vec::new(),
            head,
            promise: Timestamp(1),
            floor: Timestamp(1),
            reply: false,
        })
    };
    passes(&gossip(&[], 1));
    refused(&gossip(&[report], 1), "no log reaches");
    refused(&gossip(&[], u64::MAX), "no log reaches");
}

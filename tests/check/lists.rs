//! Histories of lists: what is said of them is what a checker says that tries all orders (Wing and
//! Gong, with Lowe's memory).

use causeway::check::ListHistory;
use proptest::prelude::*;
use serde_json::{Value, json};
use todc_utils::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// An operation: from when to when, and what it did.
#[derive(Debug, Clone)]
struct Done {
    start: u64,
    end: u64,
    what: What,
    status: &'static str,
}

#[derive(Debug, Clone)]
enum What {
    Append(u8),
    Read(Vec<u8>),
}

struct Model;

impl Specification for Model {
    type State = Vec<u8>;
    type Operation = What;

    fn init() -> Vec<u8> {
        Vec::new()
    }

    fn apply(operation: &What, state: &Vec<u8>) -> (bool, Vec<u8>) {
        match operation {
            What::Append(item) => (true, [&state[..], &[*item]].concat()),
            What::Read(list) => (list == state, state.clone()),
        }
    }
}

/// Tries all orders. An operation that was certainly not done is left out, and so is one that may
/// not have been done and that nobody has read.
fn tries_all(history: &[Done]) -> bool {
    let read = |item: u8| {
        history
            .iter()
            .any(|done| matches!(&done.what, What::Read(list) if list.contains(&item)))
    };
    let mut events = Vec::new();
    for (number, done) in history.iter().enumerate() {
        let end = match (&done.what, done.status) {
            (_, "fail") => continue,
            (What::Append(item), "unknown") if !read(*item) => continue,
            (_, "unknown") => u64::MAX,
            _ => done.end,
        };
        // At the same time counts as together: calls come first.
        events.push((done.start, 0, number, Action::Call(done.what.clone())));
        events.push((end, 1, number, Action::Response(done.what.clone())));
    }
    events.sort_by_key(|(at, kind, number, _)| (*at, *kind, *number));
    let actions: Vec<_> = events
        .into_iter()
        .map(|(.., number, action)| (number, action))
        .collect();
    actions.is_empty() || WGLChecker::<Model>::is_linearizable(History::from_actions(actions))
}

fn file(history: &[Done]) -> String {
    let line = |done: &Done| {
        let (op, value) = match &done.what {
            What::Append(item) => ("append", json!(item.to_string())),
            What::Read(list) if list.is_empty() => ("get", Value::Null),
            What::Read(list) => ("get", list.iter().map(u8::to_string).collect()),
        };
        json!({"session": "s", "op": op, "key": "k", "value": value, "status": done.status,
            "start_us": done.start, "end_us": done.end})
        .to_string()
    };
    history.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn by_file(text: &str) -> Result<(), String> {
    let lists = ListHistory::read(text.as_bytes()).unwrap();
    lists
        .check()
        .map(drop)
        .map_err(|violation| violation.to_string())
}

/// Some appends of different items, and reads of stretches of one order of them: near enough to the
/// truth to be right often.
fn histories() -> impl Strategy<Value = Vec<Done>> {
    let status = prop_oneof![6 => Just("ok"), 2 => Just("unknown"), 1 => Just("fail")];
    let append = (0u64..30, 0u64..8, status);
    let read = (0u64..30, 0u64..8, 0usize..5, prop::bool::weighted(0.05));
    (
        prop::collection::vec(append, 0..5),
        prop::collection::vec(read, 0..5),
    )
        .prop_map(|(appends, reads)| {
            let mut order: Vec<(u64, u8)> = (0..)
                .zip(&appends)
                .map(|(item, a)| (a.0 + a.1 / 2, item))
                .collect();
            order.sort_unstable();
            let order: Vec<u8> = order.into_iter().map(|(_, item)| item).collect();
            let appends = (0..)
                .zip(appends)
                .map(|(item, (start, long, status))| Done {
                    start,
                    end: start + long,
                    what: What::Append(item),
                    status,
                });
            let reads = reads.into_iter().map(|(start, long, count, swapped)| {
                let mut list: Vec<u8> = order.iter().copied().take(count).collect();
                if swapped {
                    list.reverse();
                }
                Done {
                    start,
                    end: start + long,
                    what: What::Read(list),
                    status: "ok",
                }
            });
            appends.chain(reads).collect()
        })
}

#[test]
fn the_verdict_is_that_of_a_search_through_all_orders() {
    let (mut good, mut bad) = (0, 0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(3000));
    let seen = std::cell::RefCell::new((&mut good, &mut bad));
    runner
        .run(&histories(), |history| {
            let (verdict, all) = (by_file(&file(&history)), tries_all(&history));
            prop_assert_eq!(verdict.is_ok(), all, "{:?}", verdict);
            let mut seen = seen.borrow_mut();
            *if all { &mut *seen.0 } else { &mut *seen.1 } += 1;
            Ok(())
        })
        .unwrap();
    assert!(good > 300 && bad > 300, "{good} linearizable, {bad} not");
}

#[test]
fn a_contradiction_is_named_by_its_lines() {
    let append = |item: &str, start: u64, status: &str| {
        json!({"op": "append", "key": "k", "value": item, "status": status, "start_us": start, "end_us": start + 5}).to_string()
    };
    let get = |list: Value, start: u64| {
        json!({"op": "get", "key": "k", "value": list, "status": "ok", "start_us": start, "end_us": start + 5}).to_string()
    };
    let verdict = |lines: &[String]| by_file(&lines.join("\n"));
    let (a, b) = (append("a", 0, "ok"), append("b", 10, "ok"));
    assert_eq!(
        verdict(&[
            a.clone(),
            b.clone(),
            get(json!(["a", "b"]), 20),
            get(Value::Null, 0)
        ]),
        Ok(())
    );
    for (lines, part) in [
        (
            vec![a.clone(), get(Value::Null, 10)],
            "line 1 ended before line 2 began",
        ),
        (
            vec![a.clone(), b.clone(), get(json!(["b", "a"]), 20)],
            "line 1 ended before line 2 began",
        ),
        (vec![get(json!(["x"]), 0)], "which nobody appended"),
        (
            vec![append("a", 0, "fail"), get(json!(["a"]), 10)],
            "said not to be done",
        ),
        (vec![a.clone(), get(json!(["a", "a"]), 10)], "twice"),
        (
            vec![
                a.clone(),
                b.clone(),
                get(json!(["a"]), 11),
                get(json!(["b"]), 11),
            ],
            "neither continues",
        ),
    ] {
        let why = verdict(&lines).unwrap_err();
        assert!(why.contains(part), "{part}: {why}");
    }
    for (bad, part) in [
        ("{}", "line 1"),
        (
            r#"{"op":"append","key":"k","value":1,"status":"ok","start_us":1,"end_us":2}"#,
            "string",
        ),
        (
            r#"{"op":"get","key":"k","value":null,"status":"ok","start_us":3,"end_us":2}"#,
            "ends before",
        ),
    ] {
        let why = ListHistory::read(bad.as_bytes()).err().unwrap().to_string();
        assert!(why.contains(part), "{why}");
    }
    let twice = [a.clone(), a].join("\n");
    assert!(ListHistory::read(twice.as_bytes()).is_err());
}

//! One run: a cluster is formed, clients work, things go wrong and are healed; then all has to be
//! well within bounded time, and what clients were told has to be linearizable.

use super::clients::Clients;
use super::exec::{self, Exec};
use super::history::History;
use super::machine;
use super::net::Net;
use super::nodes::{Nodes, address};
use super::plan::Plan;
use causeway::protocol::ids::MemberId;
use causeway::protocol::view::View;
use causeway::raft::{Machine, RaftConfig, first_voters};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Within this time after the faults all has to be well.
const CALM: Duration = Duration::from_secs(40);

/// A run that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Tells runs apart.
    pub digest: u64,
    pub changes: u64,
    pub unknown: u64,
    pub reads: usize,
    /// The version of the views in the end.
    pub views: u64,
    /// The term in the end.
    pub term: u64,
    /// Simulated, in milliseconds.
    pub ms: u64,
}

/// Runs a plan.
///
/// # Errors
/// What went wrong.
pub fn run(plan: Plan) -> Result<Done, String> {
    machine::begin();
    let ran = || exec::run(plan.seed, move |exec| scenario(exec, plan));
    match catch_unwind(AssertUnwindSafe(ran)) {
        Ok(ended) => ended.and_then(|found| found),
        Err(panic) => Err(match panic.downcast_ref::<String>() {
            Some(text) => format!("panic: {text}"),
            None => format!("panic: {:?}", panic.downcast_ref::<&str>()),
        }),
    }
}

/// However a run ends, its nodes go.
struct Clear(Net);

impl Drop for Clear {
    fn drop(&mut self) {
        self.0.clear();
    }
}

async fn scenario(exec: Exec, plan: Plan) -> Result<Done, String> {
    super::trace::follow(&exec);
    let addresses: Vec<_> = (0..plan.founders).map(|i| address(MemberId(i))).collect();
    let first = View::first(&addresses, plan.k.min(addresses.len())).map_err(|e| e.to_string())?;
    let config = RaftConfig {
        dead_after: Duration::from_millis(plan.dead_after_ms),
        snapshot_after: plan.snapshot_after,
        ..RaftConfig::default()
    };
    let nodes = Nodes::new(exec.clone(), config, first);
    let _clear = Clear(nodes.net.clone());
    for (node, at) in nodes.founders().into_iter().zip(&plan.starts_ms) {
        nodes.start_after(node, Duration::from_millis(*at));
    }
    let history = Arc::new(Mutex::new(History::default()));
    let clients = Clients {
        nodes: nodes.clone(),
        history: Arc::clone(&history),
        stop: Arc::default(),
    };
    for client in 0..plan.clients {
        exec.spawn(exec::NOBODY, clients.clone().work(client, plan.pause_ms));
    }
    for (number, (at, fault)) in plan.faults.iter().copied().enumerate() {
        let (nodes, sleep) = (nodes.clone(), exec.sleep(Duration::from_millis(at)));
        exec.spawn(exec::NOBODY, async move {
            sleep.await;
            nodes.suffer(number, fault).await;
        });
    }
    while exec.now_us() < plan.length_ms * 1000 {
        exec.sleep(Duration::from_millis(50)).await;
        nodes.wrong().map_or(Ok(()), Err)?;
    }
    // Faults that still run end by themselves before all has to be well.
    exec.sleep(Duration::from_secs(9)).await;
    nodes.heal();
    log::info!("all is healed");
    let healed = exec.now_us();
    let members = loop {
        exec.sleep(Duration::from_millis(200)).await;
        nodes.wrong().map_or(Ok(()), Err)?;
        let why = match nodes.is_well().await {
            Ok(members) => break members,
            Err(why) => why,
        };
        if exec.now_us() > healed + CALM.as_micros() as u64 {
            return Err(format!("all is healed, and {CALM:?} later not well: {why}"));
        }
    };
    log::info!("all is well");
    clients.stop.store(true, Ordering::Relaxed);
    exec.sleep(Duration::from_secs(3)).await;
    for node in members {
        for key in 0..3 {
            for key in [format!("list{key}"), format!("free{key}")] {
                if !clients.read_at(node, &key, exec.now_us()).await {
                    return Err(format!("all is well, and {node} does not read"));
                }
            }
        }
    }
    nodes.wrong().map_or(Ok(()), Err)?;
    let (_, status) = nodes
        .leader()
        .await
        .ok_or("there is no leader in the end")?;
    let looks = nodes.looks().await;
    let views = looks
        .iter()
        .filter_map(|(_, state, _)| state.decided.views.as_ref());
    let views = views.map(|views| views.views().version).max().unwrap_or(0);
    let history = history.lock().unwrap();
    history.check()?;
    Ok(Done {
        digest: exec.digest(),
        changes: history.changes,
        unknown: history.unknown,
        reads: history.reads(),
        views,
        term: status.term,
        ms: exec.now_us() / 1000,
    })
}

impl Nodes {
    /// The members, if all of them run and have applied the same, and those vote that are to.
    async fn is_well(&self) -> Result<Vec<MemberId>, String> {
        let looks = self.looks().await;
        let told = || -> String {
            let all = looks.iter().map(|(_, state, status)| {
                let views = state.decided.views.as_ref();
                let running = views.and_then(|v| v.running()).map(|r| r.change);
                format!("\n{} applied, {running:?} runs, {status:?}", state.count)
            });
            all.collect()
        };
        let Some((leader, status)) = self.leader().await else {
            return Err(format!("there is no leader: {}", told()));
        };
        let found = looks.iter().find(|(node, ..)| *node == leader);
        let Some((_, state, _)) = found else {
            return Err("the leader has changed".to_owned());
        };
        let Some(views) = &state.decided.views else {
            return Err(format!("the cluster is not born: {}", told()));
        };
        let members: Vec<MemberId> = views.members().into_keys().collect();
        // A node whose addition was cancelled before it heard of that is still there. The node
        // waits to be added, as a standby does.
        let is_here = |node: &MemberId| members.contains(node) || self.is_known(*node);
        let here: Vec<MemberId> = self.all().into_iter().filter(is_here).collect();
        let running = looks.iter().filter(|(node, ..)| is_here(node)).count();
        if here != members || running != members.len() {
            return Err(format!(
                "members are {members:?}, nodes {here:?}: {}",
                told()
            ));
        }
        if views.running().is_some() || !views.views().closing.is_empty() {
            return Err(format!("a change of the view is not done: {}", told()));
        }
        // Clients go on.
        let counts = looks.iter().filter(|(node, ..)| is_here(node));
        let least = counts.map(|(_, other, _)| other.count).min();
        if least.is_none_or(|least| least + 50 < state.count) {
            return Err(format!("not all have applied the same: {}", told()));
        }
        let votes = first_voters(&state.decided.electable()).len();
        let voting = looks
            .iter()
            .filter(|(node, _, own)| status.voters.contains(node) && own.may_vote);
        if status.voters.len() != votes || voting.count() != votes {
            return Err(format!("{votes} votes are to be used: {}", told()));
        }
        Ok(members)
    }

    /// Ends all that goes wrong.
    fn heal(&self) {
        self.net.heal();
        for node in self.all() {
            self.set_trouble(node, None);
            self.freeze(node, false);
            self.start(node);
        }
    }
}

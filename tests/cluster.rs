//! Clusters of real nodes on loopback, as their clients and operators meet them.

mod common;

#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/session.rs"]
mod session;

#[path = "cluster/calm.rs"]
mod calm;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/history.rs"]
mod history;
#[path = "cluster/operator.rs"]
mod operator;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/restarts.rs"]
mod restarts;

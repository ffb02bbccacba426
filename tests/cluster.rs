//! Clusters of real nodes on loopback, as their clients and operators meet them.

mod common;

#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/session.rs"]
mod session;
#[path = "cluster/views.rs"]
mod views;

#[path = "cluster/calm.rs"]
mod calm;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/grow.rs"]
mod grow;
#[path = "cluster/history.rs"]
mod history;
#[path = "cluster/keys.rs"]
mod keys;
#[path = "cluster/operator.rs"]
mod operator;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/removed.rs"]
mod removed;
#[path = "cluster/restarts.rs"]
mod restarts;
#[path = "cluster/view_faults.rs"]
mod view_faults;

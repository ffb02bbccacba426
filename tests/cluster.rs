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

#[path = "cluster/backup.rs"]
mod backup;
#[path = "cluster/calm.rs"]
mod calm;
#[path = "cluster/dead_partition.rs"]
mod dead_partition;
#[path = "cluster/failing.rs"]
mod failing;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/grow.rs"]
mod grow;
#[path = "cluster/history.rs"]
mod history;
#[path = "cluster/identity.rs"]
mod identity;
#[path = "cluster/keys.rs"]
mod keys;
#[path = "cluster/keys_history.rs"]
mod keys_history;
#[path = "cluster/operator.rs"]
mod operator;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/removed.rs"]
mod removed;
#[path = "cluster/report.rs"]
mod report;
#[path = "cluster/restarts.rs"]
mod restarts;
#[path = "cluster/shell.rs"]
mod shell;
#[path = "cluster/sole_holder.rs"]
mod sole_holder;
#[path = "cluster/strategy.rs"]
mod strategy;
#[path = "cluster/view_faults.rs"]
mod view_faults;

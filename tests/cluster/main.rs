//! Clusters of real nodes on loopback, as their clients and operators meet them.

#[path = "../common/mod.rs"]
mod common;

mod harness;
mod load;
mod session;
mod views;

mod backup;
mod batch;
mod calm;
mod damage;
mod dead_partition;
mod failing;
mod faults;
mod grow;
mod history;
mod identity;
mod keys;
mod keys_history;
mod longest;
mod noise;
mod operator;
mod refusals;
mod removed;
mod report;
mod restarts;
mod shell;
mod siege;
mod sole_holder;
mod strategy;
mod suspect;
mod view_faults;

//! The handlers, one file per surface.
//!
//! ```text
//! kvs.rs          the causal store
//! batch.rs        many of its keys in one call, and snapshots
//! keys.rs         the linearizable lists
//! cluster.rs      where things are
//! view.rs         changes of the view
//! raft_status.rs  how the Raft group stands
//! health.rs       is the node alive, does it serve, how is it doing
//! operator        the operator's store: plain keys, faults on demand, the replication strategy
//! ```

pub mod batch;
pub mod cluster;
pub mod health;
pub mod keys;
pub mod kvs;
pub mod operator;
pub mod raft_status;
pub mod view;

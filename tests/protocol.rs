//! The rules of the protocol, one by one, on a few replicas that a test drives by hand.

#[path = "protocol/bounds.rs"]
mod bounds;
#[path = "protocol/causality.rs"]
mod causality;
#[path = "protocol/clocks.rs"]
mod clocks;
#[path = "protocol/cluster.rs"]
mod cluster;
#[path = "protocol/dead.rs"]
mod dead;
#[path = "sim/disk.rs"]
mod disk;
#[path = "protocol/early.rs"]
mod early;
#[path = "protocol/given_up.rs"]
mod given_up;
#[path = "protocol/handover_disks.rs"]
mod handover_disks;
#[path = "protocol/orphans.rs"]
mod orphans;
#[path = "protocol/peers.rs"]
mod peers;
#[path = "protocol/recovery.rs"]
mod recovery;
#[path = "protocol/teeth.rs"]
mod teeth;
#[path = "protocol/turned_away.rs"]
mod turned_away;
#[path = "protocol/views.rs"]
mod views;
#[path = "protocol/writes.rs"]
mod writes;

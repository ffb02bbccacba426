//! The rules of the protocol, one by one, on a few replicas that a test drives by hand.

mod accept;
mod ahead;
mod cluster;
mod dead;
#[path = "../../simulator/disk.rs"]
mod disk;
mod driver;
mod given_up;
mod gossip;
mod handover;
mod index;
mod lies;
mod log_end;
mod longest;
mod orphans;
mod publish;
mod pull;
mod reads;
mod recovery;
mod seals;
mod snapshot;
mod teeth;
mod tombstones;
mod turned_away;
mod version;
mod views;
mod walls;

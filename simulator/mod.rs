//! The simulator of the causal store: whole clusters on simulated networks, disks and clocks, under
//! faults that follow from one seed, and an oracle that knows what is true.
//!
//! A folder of its own, which tests (`tests/sim`, `tests/protocol`, `tests/raft_sim`), a bench
//! (`benches/scale.rs`) and a command (`examples/simulate.rs`) take in as a module.
//!
//! | | |
//! |---|---|
//! | `plan`, `schedule`, `widen`, `rng` | what a seed draws: shape, load, faults |
//! | `world` | one run: events in the order of time |
//! | `node`, `disk`, `journal`, `net` | a process around the real driver, and what lies under it |
//! | `client`, `operation`, `snapshots` | clients of single keys, and of several at once |
//! | `offers`, `views` | orphaned writes, the operator and the Raft group |
//! | `faults`, `calm` | what goes wrong, and what must hold when that is over |
//! | `oracle`, `checks`, `history` | what is true, and what is compared with it |
//! | `measure` | figures of a run |
//! | `settings`, `regressions`, `runs` | which seeds run, and how; shrinking one that fails |

pub mod calm;
pub mod checks;
pub mod client;
pub mod disk;
pub mod faults;
pub mod history;
pub mod journal;
pub mod measure;
pub mod net;
pub mod node;
pub mod offers;
pub mod operation;
pub mod oracle;
pub mod plan;
pub mod regressions;
pub mod rng;
pub mod runs;
pub mod schedule;
pub mod settings;
pub mod snapshots;
pub mod views;
pub mod widen;
pub mod world;

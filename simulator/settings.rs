//! The settings of a run: `tests/sim` takes them from the environment, the command
//! `examples/simulate.rs` from its options as well.

use super::plan::Plan;
use super::regressions::plan;
use clap::{Parser, ValueEnum};
use std::str::FromStr;

/// Seeds of an ordinary run.
pub const SEEDS: u64 = 300;

/// Simulates clusters of the causal store on networks, disks and clocks that fail.
///
/// Each seed draws a cluster and its faults, and has to keep every promise. A seed that fails is
/// shrunk to what matters of it.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
pub struct Settings {
    /// Run so many seeds
    #[arg(long, env = "SIM_SEEDS", value_name = "N", default_value_t = SEEDS)]
    pub seeds: u64,
    /// Begin at this seed
    #[arg(long, env = "SIM_FROM", value_name = "SEED", default_value_t = 0)]
    pub from: u64,
    /// Take only seeds whose plan leaves the view as it is, or only the others
    #[arg(long, env = "SIM_VIEWS", value_name = "WHICH")]
    pub views: Option<Views>,
    /// Shrink the first so many seeds that fail
    #[arg(long, env = "SIM_SHRINK", value_name = "N", default_value_t = 3)]
    pub shrink: usize,
    /// Replay this seed alone
    #[arg(long, env = "SIM_SEED", value_name = "SEED")]
    pub seed: Option<u64>,
    /// Only these faults of the seed's schedule, by their places in it
    #[arg(long, env = "SIM_FAULTS", value_name = "LIST", requires = "seed")]
    pub faults: Option<Places>,
    /// Only the seed's first clients
    #[arg(long, env = "SIM_SESSIONS", value_name = "N", requires = "seed")]
    pub sessions: Option<usize>,
    /// Show so many of the seed's last events, also if nothing is wrong
    #[arg(long, env = "SIM_TRACE", value_name = "N", requires = "seed")]
    pub trace: Option<usize>,
}

/// Seeds by what becomes of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Views {
    /// The view stays what it is.
    Fixed,
    /// The operator asks for other views.
    Changing,
}

/// Places in a list, from 0 on. None at all is a choice too: shrinking may leave no fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(Vec<usize>);

impl FromStr for Places {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let places = text.split(',').filter(|place| !place.is_empty());
        places.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Settings {
    /// The settings that the environment has.
    pub fn from_environment() -> Result<Self, clap::Error> {
        Self::try_parse_from(["simulate"])
    }

    /// The plans of the seeds that are to be run.
    pub fn plans(&self) -> impl Iterator<Item = Plan> {
        let wanted = |plan: &Plan| match self.views {
            None => true,
            Some(views) => plan.changes() == (views == Views::Changing),
        };
        let plans = (self.from..).map(plan).filter(wanted);
        plans.take(usize::try_from(self.seeds).unwrap_or(usize::MAX))
    }

    /// The part of a seed's plan that is to be replayed.
    pub fn part_of(&self, seed: u64) -> Plan {
        let mut plan = plan(seed);
        if let Some(Places(kept)) = &self.faults {
            let faults = plan.faults.into_iter().enumerate();
            let kept = faults.filter(|(place, _)| kept.contains(place));
            plan.faults = kept.map(|(_, fault)| fault).collect();
        }
        if let Some(sessions) = self.sessions {
            plan.load.sessions = sessions;
        }
        plan
    }
}

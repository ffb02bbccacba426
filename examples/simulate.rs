//! Runs seeds of the simulator of the causal store, or replays one:
//!
//! ```text
//! cargo run --example simulate -- --seed 7 --trace 400
//! cargo run --release --example simulate -- --seeds 500 --from 1000000 --views changing
//! ```
//!
//! A debug build also asserts what each replica and the decided views must be after every step; a
//! release build is several times as fast. The program ends with exit code 1 if a seed failed, with
//! 2 if it does not understand its options.

#![allow(dead_code, reason = "the simulator's tests use all of it")]

#[path = "../simulator/mod.rs"]
mod simulator;

use clap::Parser;
use simulator::runs::{replay, run_seeds};
use simulator::settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let settings = Settings::parse();
    let done = match settings.seed {
        Some(seed) => replay(seed, &settings),
        None => run_seeds(&[], &settings).map(|_| ()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("{failed}");
            ExitCode::FAILURE
        }
    }
}

//! Which key a session asks for next, and whether it reads or writes.

use super::Bench;
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution as _, Zipf};

/// YCSB's exponent ("Benchmarking Cloud Serving Systems with YCSB", SoCC 2010).
const ZIPF_EXPONENT: f64 = 0.99;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Distribution {
    Uniform,
    Zipf,
}

/// The same sequence for the same session, run after run.
pub struct Workload {
    random: StdRng,
    keys: u64,
    read_share: f64,
    zipf: Option<Zipf<f64>>,
}

impl Workload {
    pub fn new(session: u32, args: &Bench) -> Self {
        Self::of(
            session,
            args.keys,
            args.read_share,
            args.distribution == Distribution::Zipf,
        )
    }

    fn of(session: u32, keys: u64, read_share: f64, zipf: bool) -> Self {
        Self {
            random: StdRng::seed_from_u64(u64::from(session)),
            keys,
            read_share,
            // Refused only for parameters that the options exclude.
            zipf: zipf
                .then(|| Zipf::new(keys as f64, ZIPF_EXPONENT).ok())
                .flatten(),
        }
    }

    pub fn reads(&mut self) -> bool {
        self.random.random_bool(self.read_share)
    }

    /// The number of a key, from 0. Under Zipf the low ones are the hot ones: keys are placed by
    /// a hash, so that they lie anywhere.
    pub fn key(&mut self) -> u64 {
        match &self.zipf {
            Some(zipf) => (zipf.sample(&mut self.random) as u64).clamp(1, self.keys) - 1,
            None => self.random.random_range(0..self.keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(zipf: bool, keys: u64, draws: u32) -> Vec<u32> {
        let mut workload = Workload::of(7, keys, 0.5, zipf);
        let mut counts = vec![0; keys as usize];
        for _ in 0..draws {
            counts[workload.key() as usize] += 1;
        }
        counts
    }

    #[test]
    fn zipf_falls_off_as_its_exponent_says() {
        let (keys, draws) = (1_000, 200_000);
        let counts = counts(true, keys, draws);
        let norm: f64 = (1..=keys).map(|r| (r as f64).powf(-ZIPF_EXPONENT)).sum();
        for rank in [1usize, 2, 10, 50] {
            let expected = f64::from(draws) * (rank as f64).powf(-ZIPF_EXPONENT) / norm;
            let got = f64::from(counts[rank - 1]);
            assert!(
                (got / expected - 1.0).abs() < 0.15,
                "{rank}: {got} {expected}"
            );
        }
    }

    #[test]
    fn uniform_reaches_all_keys_alike() {
        let counts = counts(false, 100, 100_000);
        assert!(
            counts.iter().all(|n| (800..1_200).contains(n)),
            "{counts:?}"
        );
        assert_eq!(Workload::of(1, 1, 0.0, true).key(), 0);
    }

    #[test]
    fn the_read_share_is_kept() {
        let mut workload = Workload::of(3, 1, 0.9, false);
        let reads = (0..10_000).filter(|_| workload.reads()).count();
        assert!((8_800..9_200).contains(&reads), "{reads}");
        assert!(!Workload::of(3, 1, 0.0, false).reads());
        assert!(Workload::of(3, 1, 1.0, false).reads());
    }
}

//! Which key a session asks for next, and whether it reads, writes or deletes it.

use super::Bench;
use crate::check::history::Kind;
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

/// The sequence of operations of a session, the same in every run.
pub struct Workload {
    random: StdRng,
    keys: u64,
    read_share: f64,
    /// The share of deletes among operations that are not reads.
    deletes: f64,
    zipf: Option<Zipf<f64>>,
}

impl Workload {
    pub fn new(session: u32, args: &Bench) -> Self {
        Self::of(
            session,
            args.keys,
            args.read_share,
            args.delete_share,
            args.distribution == Distribution::Zipf,
        )
    }

    fn of(session: u32, keys: u64, read_share: f64, delete_share: f64, zipf: bool) -> Self {
        Self {
            random: StdRng::seed_from_u64(u64::from(session)),
            keys,
            read_share,
            // All shares together are at most 1, but for the last digit.
            deletes: (delete_share / (1.0 - read_share).max(f64::EPSILON)).min(1.0),
            // Refused only for parameters that the options exclude.
            zipf: zipf
                .then(|| Zipf::new(keys as f64, ZIPF_EXPONENT).ok())
                .flatten(),
        }
    }

    pub fn kind(&mut self) -> Kind {
        if self.random.random_bool(self.read_share) {
            Kind::Get
        } else if self.deletes > 0.0 && self.random.random_bool(self.deletes) {
            Kind::Delete
        } else {
            Kind::Put
        }
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
        let mut workload = Workload::of(7, keys, 0.5, 0.0, zipf);
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
        assert_eq!(Workload::of(1, 1, 0.0, 0.0, true).key(), 0);
    }

    #[test]
    fn the_shares_are_kept() {
        let of = |reads, deletes, kind| {
            let mut workload = Workload::of(3, 1, reads, deletes, false);
            (0..10_000).filter(|_| workload.kind() == kind).count()
        };
        let reads = of(0.7, 0.1, Kind::Get);
        assert!((6_800..7_200).contains(&reads), "{reads}");
        let deletes = of(0.7, 0.1, Kind::Delete);
        assert!((850..1_150).contains(&deletes), "{deletes}");
        assert_eq!(of(0.0, 0.0, Kind::Put), 10_000);
        assert_eq!(of(1.0, 0.0, Kind::Get), 10_000);
        assert_eq!(of(0.0, 1.0, Kind::Delete), 10_000);
    }
}

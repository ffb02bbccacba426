//! What the store on disk costs: durable commits of several sizes, and point reads.
//!
//! Run with `cargo bench --bench storage`. The numbers depend on how long the device takes to sync.

use std::sync::atomic::{AtomicU64, Ordering};

use causeway::protocol::store::{Batch, Store};
use causeway::storage::{Commit, Disk};
use divan::counter::ItemsCount;

const KEYS: u64 = 200_000;
const VALUE: [u8; 100] = [7; 100];

fn main() {
    divan::main();
}

fn key(n: u64) -> Vec<u8> {
    // Multiplied by an odd number, so that keys come in no order.
    format!("key{:020}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes()
}

fn puts(from: u64, count: u64) -> Batch {
    let mut batch = Batch::default();
    for n in from..from + count {
        batch.put(key(n), &VALUE[..]);
    }
    batch
}

fn open() -> (tempfile::TempDir, Disk) {
    // Beside the build, not in /tmp, which may be memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let disk = Disk::open(dir.path()).expect("a store");
    (dir, disk)
}

#[divan::bench(args = [1, 32, 128], min_time = 1)]
fn commit(bencher: divan::Bencher, puts_per_sync: u64) {
    let (_dir, disk) = open();
    let next = AtomicU64::new(0);
    bencher
        .counter(ItemsCount::new(puts_per_sync))
        .with_inputs(|| {
            puts(
                next.fetch_add(puts_per_sync, Ordering::Relaxed),
                puts_per_sync,
            )
        })
        .bench_values(|batch| disk.commit(&[batch]).expect("a commit"));
}

/// Reads keys `from..from + KEYS` of a store that holds `0..KEYS`.
fn read(bencher: divan::Bencher, from: u64) {
    let (_dir, disk) = open();
    for n in (0..KEYS).step_by(1000) {
        disk.commit(&[puts(n, 1000)]).expect("a commit");
    }
    let next = AtomicU64::new(0);
    bencher
        .with_inputs(|| key(from + next.fetch_add(7919, Ordering::Relaxed) % KEYS))
        .bench_refs(|key| disk.get(key).expect("a read").is_some());
}

#[divan::bench(min_time = 1)]
fn read_hit(bencher: divan::Bencher) {
    read(bencher, 0);
}

#[divan::bench(min_time = 1)]
fn read_miss(bencher: divan::Bencher) {
    read(bencher, KEYS);
}

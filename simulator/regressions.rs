//! Seeds that once found a defect.

use super::plan::Plan;

/// The seeds, in the order in which they found one. Every run of `tests/sim` includes them.
pub const REGRESSIONS: &[u64] = &[
    1005, 1141, 434, 900_088, 900_203, 900_210, 910_234, 910_129, 960_669, 960_432, 980_803,
    961_998, 1_100_226, 1_100_371, 1_101_528, 1_103_322, 2_000_338, 2_002_996, 2_011_155,
    2_006_435, 2_012_948, 2_010_498, 2_010_745, 2_020_438, 2_022_140, 2_031_649, 2_033_770,
    2_053_098, 2_054_959, 2_073_089, 2_074_210, 3_003_070, 4_000_283, 4_060_242, 14_000_622,
];

/// The plan of any seed. Regressions are older than snapshots, which would change what happens.
pub fn plan(seed: u64) -> Plan {
    let mut plan = Plan::of(seed);
    if REGRESSIONS.contains(&seed) {
        plan.load.snapshooters = 0;
    }
    plan
}

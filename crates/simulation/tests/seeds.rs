//! Histories with faults end as they do without, and no law is ever broken on the way.

use simulation::{Trial, campaign};

/// About a minute of two cores. `cargo xtask simulate --seeds N` runs more.
const SEEDS: u64 = 150;

#[test]
fn histories_end_as_without_faults() {
    let found = campaign(0, SEEDS, 2, false);
    assert!(
        found.failed.is_empty(),
        "{:?}; `cargo xtask simulate --seed N` shows what happens",
        found.failed
    );
    assert!(
        found.faults > SEEDS,
        "something must have gone wrong: {} faults",
        found.faults
    );
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 77, 1_000_003] {
        let mut trial = Trial::of(seed);
        trial.settings.trace = true;
        let (first, second) = (trial.run(), trial.run());
        assert!(!first.with.trace.is_empty());
        assert_eq!(first.with.trace, second.with.trace, "seed {seed}");
        assert_eq!(first.with.faults, second.with.faults, "seed {seed}");
    }
}

//! Some hundred runs of the imagined world, and every seed that ever failed. After every event and
//! at the end the world is held against sync-11, sync-12, sync-20, sync-22, sync-23, sync-25,
//! sync-27, sync-53 and sync-54.

#![expect(
    clippy::disallowed_methods,
    reason = "the person who runs the test may choose the seeds"
)]

/// Seeds that once failed, each with what it taught: a number and a sentence on each line.
const LESSONS: &str = include_str!("seeds.txt");

/// How many seeds a plain test run takes; `AHOY_SEEDS=from..to` takes others.
const SEEDS: u64 = 300;

fn range() -> std::ops::Range<u64> {
    let text = std::env::var("AHOY_SEEDS").unwrap_or_default();
    let parsed = text
        .split_once("..")
        .and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?));
    parsed.unwrap_or(0..SEEDS)
}

fn run(seed: u64) -> Result<[u8; 32], String> {
    ahoy_sim::replay(seed, false)
        .map_err(|what| format!("seed {seed}: {what:.300} (`ahoy sim --seed {seed}` tells more)"))
}

#[test]
fn everything_converges_and_nothing_is_lost() {
    let failures: Vec<String> = range().filter_map(|seed| run(seed).err()).collect();
    let shown: Vec<&String> = failures.iter().take(30).collect();
    assert!(
        failures.is_empty(),
        "{} seeds failed: {shown:#?}",
        failures.len()
    );
}

#[test]
fn lessons_stay_learnt() {
    let lines = LESSONS.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let (seed, taught) = line.split_once(' ').expect("a seed and what it taught");
        let seed = seed.parse().expect("a seed is a number");
        if let Err(what) = run(seed) {
            panic!("{what}\nit had taught: {}", taught.trim());
        }
    }
}

#[test]
fn a_seed_is_the_same_run_twice() {
    for seed in range().take(20) {
        assert_eq!(
            ahoy_sim::replay(seed, false),
            ahoy_sim::replay(seed, false),
            "seed {seed}"
        );
    }
}

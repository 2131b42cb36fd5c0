//! Some hundred runs of the imagined world, and every seed that ever failed. After every event and
//! at the end the world is held against sync-11, sync-12, sync-20, sync-22, sync-23, sync-25,
//! sync-27, sync-36, sync-53 and sync-54.

use ahoy_sim::weather::{MILD_SEEDS, ROTTEN_SEEDS, RULED_SEEDS, TRACKED_SEEDS, Weather};
use ahoy_sim::{Passed, Run, shrink};

/// Seeds that once failed, each with what it taught: a number and a sentence on each line.
const LESSONS: &str = include_str!("seeds.txt");

/// How many seeds of each weather a test run takes; `ahoy sim` takes as many as one likes.
const MILD: u64 = 500;
const WILD: u64 = 2000;
const TRACKED: u64 = 200;
const RULED: u64 = 300;
const ROTTEN: u64 = 300;

fn run(seed: u64) -> Result<Passed, String> {
    Run::of(seed)
        .play(false)
        .map_err(|failure| format!("seed {seed}: {failure} (`ahoy sim --seed {seed}` tells more)"))
}

fn all_pass(seeds: impl Iterator<Item = u64>) {
    let failures: Vec<String> = seeds.filter_map(|seed| run(seed).err()).collect();
    let shown: Vec<&String> = failures.iter().take(30).collect();
    assert!(
        failures.is_empty(),
        "{} seeds failed: {shown:#?}",
        failures.len()
    );
}

#[test]
fn everything_converges_and_nothing_is_lost_in_mild_weather() {
    all_pass(0..MILD);
}

#[test]
fn everything_converges_and_nothing_is_lost_in_wild_weather() {
    all_pass(MILD_SEEDS..MILD_SEEDS + WILD);
}

#[test]
fn machines_find_each_other_through_a_tracker_that_comes_and_goes() {
    all_pass(TRACKED_SEEDS..TRACKED_SEEDS + TRACKED);
}

#[test]
fn what_is_left_out_stays_out_and_the_rest_converges() {
    all_pass(RULED_SEEDS..RULED_SEEDS + RULED);
}

#[test]
fn what_disks_change_is_found_and_goes_nowhere() {
    all_pass(ROTTEN_SEEDS..ROTTEN_SEEDS + ROTTEN);
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
    let tracked = TRACKED_SEEDS..TRACKED_SEEDS + 10;
    let ruled = RULED_SEEDS..RULED_SEEDS + 10;
    let rotten = ROTTEN_SEEDS..ROTTEN_SEEDS + 10;
    for seed in (0..10)
        .chain(MILD_SEEDS..MILD_SEEDS + 10)
        .chain(tracked)
        .chain(ruled)
        .chain(rotten)
    {
        let run = Run::of(seed);
        assert_eq!(run.play(false), run.play(false), "seed {seed}");
    }
}

/// A run that cannot go well: machines of which one never hears of the other.
#[test]
fn a_run_that_fails_is_told_in_its_shortest_form() {
    let mut weather = Weather::of(MILD_SEEDS);
    (weather.machines, weather.row_of_friends) = (2, true);
    weather.deeds = 30;
    let run = Run {
        seed: MILD_SEEDS,
        weather,
        left_out: Default::default(),
        flaw: Some(ahoy_sim::Flaw::Deaf),
    };
    let shrunk = shrink(&run).expect("it fails");
    assert!(shrunk.kept <= 3, "{} of {}", shrunk.kept, shrunk.planned);
    assert!(shrunk.planned >= 30);
    let columns = shrunk.failure.story.iter().map(ToString::to_string);
    for line in columns {
        let (at, rest) = line.split_at(9);
        assert!(at.trim().parse::<u64>().is_ok(), "{line}");
        assert!(
            rest.as_bytes()[0] == b' ' && rest.as_bytes()[4] == b' ',
            "{line}"
        );
    }
}

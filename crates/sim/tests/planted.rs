//! The judge on trial: faults planted in the engine and in the imagined host, each of which must be
//! found within the seeds of one test run. A fault that is not found here would not be found
//! anywhere.

use ahoy_logic::sync::planted::{Bug, plant};
use ahoy_sim::weather::{MILD_SEEDS, ROTTEN_SEEDS, RULED_SEEDS, TRACKED_SEEDS};
use ahoy_sim::{Flaw, Run};

/// How many seeds of wild weather there are to find it; `tests/seeds.rs` runs the same ones.
const WILD: u64 = 2000;

/// The same of mild weather.
const MILD: u64 = 500;

/// The same of those with a tracker.
const TRACKED: u64 = 100;

/// The same of those with rules of what is left out.
const RULED: u64 = 300;

/// The same of those with disks that rot.
const ROTTEN: u64 = 300;

/// The first seed that fails.
fn first_failing(flaw: Option<Flaw>) -> Option<u64> {
    let fails = |seed: &u64| {
        let run = Run {
            flaw,
            ..Run::of(*seed)
        };
        run.play(false).is_err()
    };
    let mut seeds = (MILD_SEEDS..MILD_SEEDS + WILD)
        .chain(0..MILD)
        .chain(TRACKED_SEEDS..TRACKED_SEEDS + TRACKED)
        .chain(RULED_SEEDS..RULED_SEEDS + RULED)
        .chain(ROTTEN_SEEDS..ROTTEN_SEEDS + ROTTEN);
    seeds.find(fails)
}

#[test]
fn faults_of_the_engine_are_found() {
    let bugs = [
        Bug::VersionNotRaised,
        Bug::ConflictIgnored,
        Bug::DeleteWithoutWitness,
        Bug::DeletionBeatsEdit,
        Bug::ContentNotSaved,
        Bug::CountersForgotten,
        Bug::RootLostIgnored,
        Bug::ReaderWrittenOver,
        Bug::OwnMoveWins,
        Bug::RecordSkipped,
        Bug::ModeNotTold,
        Bug::RulesNotHeeded,
        Bug::LeftOutInTheWay,
        Bug::RotOverlooked,
        Bug::RotIsAVersion,
    ];
    let missed = bugs.into_iter().filter(|bug| {
        plant(Some(*bug));
        let found = first_failing(None);
        plant(None);
        println!("{bug:?}: {found:?}");
        found.is_none()
    });
    assert_eq!(missed.collect::<Vec<_>>(), []);
}

#[test]
fn faults_of_the_host_are_found() {
    let flaws = [
        Flaw::ContentNotSynced,
        Flaw::IndexBeforeDisk,
        Flaw::ReadingNotSynced,
        Flaw::NoLastCheck,
        Flaw::ParkedForgotten,
        Flaw::NoFloor,
        Flaw::GateOpen,
        Flaw::ContentNotVerified,
        Flaw::RootNotWatched,
        Flaw::IndexNotWritten,
        Flaw::TrackerMute,
        Flaw::TrackerClockStands,
    ];
    let missed = flaws.into_iter().filter(|flaw| {
        let found = first_failing(Some(*flaw));
        println!("{flaw:?}: {found:?}");
        found.is_none()
    });
    assert_eq!(missed.collect::<Vec<_>>(), []);
}

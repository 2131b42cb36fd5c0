//! The imagined world: engines, network and disks driven from one seed.
//!
//! [`Run::play`] runs one seed to its end and judges it; the same run is the same to the event.
//! [`shrink`] makes a run that fails shorter.
#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

pub mod dice;
pub mod disk;
mod plan;
mod shrink;
mod story;
pub mod weather;
pub mod world;

use std::collections::BTreeSet;

pub use shrink::{Shrunk, shrink};
pub use story::{Failure, Passed};
use weather::Weather;
use world::World;

/// What is to be run. Two equal runs are the same to the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Decides everything.
    pub seed: u64,
    /// How wild it is; [`Weather::of`] the seed, unless somebody wants it otherwise.
    pub weather: Weather,
    /// What the plan has and is not to happen, by its place in the plan.
    pub left_out: BTreeSet<usize>,
    /// A fault of the imagined host, to see whether it is found.
    pub flaw: Option<Flaw>,
}

/// Faults that the imagined host can be given, to see whether the judge finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A file gets its name before its content is on the device.
    ContentNotSynced,
    /// The index is written although renames are not on the device yet.
    IndexBeforeDisk,
    /// What a user wrote is told of before it is on the device.
    ReadingNotSynced,
    /// A step does not check what it replaces.
    NoLastCheck,
    /// What a start finds in the parking place is not told.
    ParkedForgotten,
    /// A machine that was put back from a backup numbers the lines of its log on from there.
    NoFloor,
    /// Unsigned records of a reader are let through.
    GateOpen,
    /// Fetched content is not held against its hash.
    ContentNotVerified,
    /// That the root is away is not noticed.
    RootNotWatched,
    /// Of a turn everything is done but nothing is kept.
    IndexNotWritten,
    /// The last machine hears nothing that others say.
    Deaf,
    /// Nothing that the tracker says arrives.
    TrackerMute,
    /// For the tracker no time passes.
    TrackerClockStands,
}

impl Run {
    /// The run of a seed.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            weather: Weather::of(seed),
            left_out: BTreeSet::new(),
            flaw: None,
        }
    }

    /// Runs it to its end; with its story, line by line, if `told`.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn play(&self, told: bool) -> Result<Passed, Box<Failure>> {
        World::new(self, told).run()
    }
}

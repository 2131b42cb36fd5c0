//! The imagined world: engines, network and disks driven from one seed.
//!
//! [`replay`] runs one seed to its end and judges it; the same seed is the same run, to the event.
#![forbid(unsafe_code)]
#![warn(clippy::iter_over_hash_type)]

pub mod dice;
pub mod disk;
pub mod world;

use dice::Dice;
use world::{Weather, World};

/// Runs one seed; the hash of its trace, or what went wrong (with the whole story if `log`).
///
/// # Errors
/// The first invariant that did not hold, in words.
pub fn replay(seed: u64, log: bool) -> Result<[u8; 32], String> {
    World::new(seed, weather(seed), log).run()
}

/// The weather of a seed: from a quiet day to a bad week.
pub fn weather(seed: u64) -> Weather {
    let mut dice = Dice::new(seed ^ 0x5eed);
    let pick = |dice: &mut Dice, from: &[u64]| dice.pick(from).unwrap_or(0);
    Weather {
        machines: 2 + dice.below(2) as usize,
        deeds: pick(&mut dice, &[5, 15, 40, 80]),
        span: pick(&mut dice, &[300, 3_000, 30_000]),
        missed_percent: pick(&mut dice, &[0, 0, 10, 50]),
        cut_every: pick(&mut dice, &[0, 0, 500, 5_000]),
        crash_every: pick(&mut dice, &[0, 0, 700, 7_000]),
        row_of_friends: dice.chance(30),
        full_at_start: dice.chance(40),
    }
}

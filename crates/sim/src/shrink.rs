//! Makes a run that fails shorter: calmer weather first, then fewer things in its plan, as long as
//! it goes on failing. What it fails with may change on the way.

use crate::Run;
use crate::story::Failure;
use crate::weather::Weather;

/// Most runs that are tried.
const TRIALS_MAX: usize = 600;

/// A shorter run, and how it fails.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The run.
    pub run: Run,
    /// With its whole story.
    pub failure: Failure,
    /// Things that are left of its plan.
    pub kept: usize,
    /// Things that the plan of its seed has.
    pub planned: usize,
}

/// The shortest form of `run` that could be found; `None` if it does not fail.
pub fn shrink(run: &Run) -> Option<Shrunk> {
    let planned = run.play(false).err()?.planned;
    let mut best = run.clone();
    let mut trials = 0;
    for calm in CALMER {
        let mut next = best.clone();
        calm(&mut next.weather);
        if next.weather != best.weather && fails(&next, &mut trials) {
            best = next;
        }
    }
    leave_out(&mut best, &mut trials);
    let failure = *best.play(true).err()?;
    let kept = failure.planned - best.left_out.len();
    Some(Shrunk {
        run: best,
        failure,
        kept,
        planned,
    })
}

/// One kind of trouble less. Each may also change what happens when, so it is tried early.
const CALMER: [fn(&mut Weather); 17] = [
    |weather| weather.error_percent = 0,
    |weather| weather.power_every = 0,
    |weather| weather.restore_every = 0,
    |weather| weather.away_every = 0,
    |weather| weather.full_every = 0,
    |weather| weather.overflow_every = 0,
    |weather| weather.stall_every = 0,
    |weather| weather.jump_every = 0,
    |weather| weather.twin_percent = 0,
    |weather| weather.has_reader = false,
    |weather| weather.reuses_inodes = false,
    |weather| weather.missed_percent = 0,
    |weather| weather.crash_every = 0,
    |weather| weather.cut_every = 0,
    |weather| weather.tick = 1,
    |weather| weather.tracker_every = 0,
    |weather| weather.has_tracker = false,
];

fn fails(run: &Run, trials: &mut usize) -> bool {
    *trials += 1;
    run.play(false).is_err()
}

/// Leaves out big pieces of the plan, then smaller ones, then single things.
fn leave_out(best: &mut Run, trials: &mut usize) {
    let Err(failure) = best.play(false) else {
        return;
    };
    let len = failure.planned;
    let mut piece = len.div_ceil(2).max(1);
    loop {
        let mut start = 0;
        while start < len && *trials < TRIALS_MAX {
            let mut next = best.clone();
            next.left_out.extend(start..(start + piece).min(len));
            if next.left_out != best.left_out && fails(&next, trials) {
                *best = next;
            }
            start += piece;
        }
        if piece == 1 || *trials >= TRIALS_MAX {
            return;
        }
        piece = piece.div_ceil(2);
    }
}

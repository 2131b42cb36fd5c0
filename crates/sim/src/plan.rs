//! The plan of a run: which users do something when, and when fate strikes. Drawn before the run,
//! so that single things can be left out of it.

use crate::dice::Dice;
use crate::weather::{Millis, Weather};

/// Something that happens from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// A user does something.
    Deed,
    /// A link breaks.
    Cut,
    /// A process dies.
    Crash,
    /// The power fails.
    Power,
    /// A backup is made.
    Backup,
    /// A machine is put back from its backup.
    Restore,
    /// A disk is full for a while.
    Full,
    /// A watcher's queue overflows.
    Overflow,
    /// One direction of a link stands still for a while.
    Stall,
    /// A clock jumps.
    Jump,
    /// A folder is away for a while.
    Away,
    /// The tracker dies, or somebody loses his way to it or is moved.
    Tracker,
    /// A machine takes rules of what is left out, or gives them up.
    Rules,
    /// Bytes of a file change though nobody writes them.
    Rot,
}

/// What happens when, in the order in which it was drawn.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Each with its moment.
    pub items: Vec<(Millis, Doing)>,
}

impl Plan {
    /// The plan of a wild run.
    pub fn of(seed: u64, weather: &Weather) -> Self {
        let mut plan = Self::default();
        plan.draw_mild(&mut Dice::new(seed ^ 0x91a4), weather);
        plan.draw_wild(&mut Dice::new(seed ^ 0x91a5), weather);
        plan
    }

    /// Deeds, cuts and crashes.
    pub fn draw_mild(&mut self, dice: &mut Dice, weather: &Weather) {
        for _ in 0..weather.deeds {
            let when = dice.below(weather.span);
            self.items.push((when, Doing::Deed));
        }
        self.strike(dice, weather.span, weather.cut_every, Doing::Cut);
        self.strike(dice, weather.span, weather.crash_every, Doing::Crash);
    }

    fn draw_wild(&mut self, dice: &mut Dice, weather: &Weather) {
        let kinds = [
            (weather.power_every, Doing::Power),
            (weather.restore_every / 2, Doing::Backup),
            (weather.restore_every, Doing::Restore),
            (weather.full_every, Doing::Full),
            (weather.overflow_every, Doing::Overflow),
            (weather.stall_every, Doing::Stall),
            (weather.jump_every, Doing::Jump),
            (weather.away_every, Doing::Away),
            (weather.tracker_every, Doing::Tracker),
            (weather.rules_every, Doing::Rules),
            (weather.rot_every, Doing::Rot),
        ];
        for (every, doing) in kinds {
            self.strike(dice, weather.span, every, doing);
        }
    }

    fn strike(&mut self, dice: &mut Dice, span: Millis, every: Millis, doing: Doing) {
        let mut when = 0;
        loop {
            when += 1 + dice.below(2 * every);
            if every == 0 || when >= span {
                break;
            }
            self.items.push((when, doing));
        }
    }
}

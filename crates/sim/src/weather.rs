//! How wild a run is, drawn from its seed.
//!
//! Seeds below [`MILD_SEEDS`] have mild weather: processes die, links break, the watcher misses
//! things. From there on everything may happen: power fails, disks fill up and refuse, clocks jump,
//! folders disappear, machines are put back from a backup, one of them may be a reader that cheats.
//! From [`BUSY_SEEDS`] on the users also do what programs do: copy trees, save with a backup, put
//! one kind of thing in the place of another, turn directories inside out. From [`SLOW_SEEDS`] on
//! writing an index takes time, as it does in the host. From [`TRACKED_SEEDS`] on machines do not
//! know where others are, and find them through a tracker. From [`RULED_SEEDS`] on they know again,
//! and some names are left out of the share: everywhere, or by some machines, and then by others.
//! From [`ROTTEN_SEEDS`] on nothing is left out, and disks change bytes that nobody wrote.

use crate::dice::Dice;

/// Milliseconds of the imagined clock.
pub type Millis = u64;

/// Seeds below this have mild weather only.
pub const MILD_SEEDS: u64 = 20_000;

/// From here on users do more than single deeds.
pub const BUSY_SEEDS: u64 = 60_000;

/// From here on writing an index takes time, and engines go on meanwhile.
pub const SLOW_SEEDS: u64 = 200_000;

/// From here on machines find each other through a tracker.
pub const TRACKED_SEEDS: u64 = 300_000;

/// From here on some names are left out of the share.
pub const RULED_SEEDS: u64 = 400_000;

/// From here on files rot.
pub const ROTTEN_SEEDS: u64 = 700_000;

/// Rules of which each says something about names that users give.
const RULES: [&str; 5] = ["d", "d\n*~", "b/", "/a/b\nc", "*\n!a\n!b"];

/// Ticks from here on are those of file systems that keep whole seconds.
pub(crate) const COARSE_TICK: Millis = 1_000;

/// How wild a run is. What is 0 or false does not happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weather {
    /// Machines.
    pub machines: usize,
    /// What users do in all.
    pub deeds: u64,
    /// For how long they do it.
    pub span: Millis,
    /// Events of the watcher that are lost, in percent.
    pub missed_percent: u64,
    /// Links are cut about this often.
    pub cut_every: Millis,
    /// A process dies about this often.
    pub crash_every: Millis,
    /// Machines meet only their neighbours in a row, not everybody.
    pub row_of_friends: bool,
    /// Everybody starts with files of their own at the same paths.
    pub full_at_start: bool,
    /// All that follows may happen.
    pub is_wild: bool,
    /// Power fails about this often; what was not synced may be gone, torn or back as it was.
    pub power_every: Millis,
    /// A machine is put back from a backup about this often.
    pub restore_every: Millis,
    /// Steps, readings and looks that fail for no reason, in percent.
    pub error_percent: u64,
    /// A disk is full for a while about this often.
    pub full_every: Millis,
    /// A watcher's queue overflows about this often.
    pub overflow_every: Millis,
    /// One direction of a link stands still for a while about this often.
    pub stall_every: Millis,
    /// A second session between the same two machines is opened, in percent of meetings.
    pub twin_percent: u64,
    /// A clock jumps about this often.
    pub jump_every: Millis,
    /// A folder is away for a while about this often.
    pub away_every: Millis,
    /// Of the machines that stop, so many percent stay away for a long time.
    pub long_sleep_percent: u64,
    /// Ticks of the clocks that files are stamped with; 0 gives every change a time of its own.
    pub tick: Millis,
    /// Numbers of deleted files are given again at once.
    pub reuses_inodes: bool,
    /// The last machine is a reader.
    pub has_reader: bool,
    /// It sends what it must not, and garbage for content.
    pub reader_cheats: bool,
    /// Writing the index takes up to so long; no time if 0.
    pub commit_ms: Millis,
    /// Of these writings, so many percent take much longer: there is no room for the index.
    pub commit_trouble_percent: u64,
    /// Of the deeds, so many percent are of many steps.
    pub busy_percent: u64,
    /// Machines find each other through a tracker.
    pub has_tracker: bool,
    /// Who is not heard for so many seconds is gone for it.
    pub tracker_timeout_s: u16,
    /// It dies, or somebody loses his way to it or is moved, about this often.
    pub tracker_every: Millis,
    /// What is left out of the share; empty if nothing is.
    pub rules: &'static str,
    /// All machines have the same rules from the start to the end.
    pub same_rules: bool,
    /// A machine takes rules, or gives them up, about this often.
    pub rules_every: Millis,
    /// A file rots about this often.
    pub rot_every: Millis,
}

impl Weather {
    /// The weather of a seed: from a quiet day to a bad week.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5eed);
        let pick = |dice: &mut Dice, from: &[u64]| dice.pick(from).unwrap_or(0);
        let mild = Self {
            machines: 2 + dice.below(2) as usize,
            deeds: pick(&mut dice, &[5, 15, 40, 80]),
            span: pick(&mut dice, &[300, 3_000, 30_000]),
            missed_percent: pick(&mut dice, &[0, 0, 10, 50]),
            cut_every: pick(&mut dice, &[0, 0, 500, 5_000]),
            crash_every: pick(&mut dice, &[0, 0, 700, 7_000]),
            row_of_friends: dice.chance(30),
            full_at_start: dice.chance(40),
            ..Self::default()
        };
        if seed < MILD_SEEDS {
            return mild;
        }
        let span = mild.span;
        let wild = Self {
            machines: pick(&mut dice, &[2, 2, 2, 3, 3, 4, 5]) as usize,
            is_wild: true,
            power_every: often(&mut dice, span),
            restore_every: often(&mut dice, span),
            error_percent: pick(&mut dice, &[0, 0, 0, 2, 20]),
            full_every: often(&mut dice, span),
            overflow_every: often(&mut dice, span),
            stall_every: often(&mut dice, span),
            twin_percent: pick(&mut dice, &[0, 0, 20]),
            jump_every: often(&mut dice, span),
            away_every: often(&mut dice, span),
            long_sleep_percent: pick(&mut dice, &[0, 0, 30, 100]),
            tick: pick(&mut dice, &[1, 4, 4, 1_000, 2_000]),
            reuses_inodes: dice.chance(50),
            has_reader: dice.chance(20),
            reader_cheats: dice.chance(50),
            busy_percent: if seed < BUSY_SEEDS { 0 } else { 30 },
            ..mild
        };
        // A machine that is put back needs a clock that has gone on since (sync-12). And a clock
        // that ticks in seconds and goes back gives the same times again: nothing could see that.
        let jump_every = if wild.restore_every > 0 || wild.tick >= COARSE_TICK {
            0
        } else {
            wild.jump_every
        };
        let wild = Self { jump_every, ..wild };
        if seed < SLOW_SEEDS {
            return wild;
        }
        let mut dice = Dice::new(seed ^ 0xc033);
        let slow = Self {
            commit_ms: pick(&mut dice, &[0, 3, 50, 50, 800]),
            commit_trouble_percent: pick(&mut dice, &[0, 0, 5]),
            ..wild
        };
        if seed < TRACKED_SEEDS {
            return slow;
        }
        if seed >= ROTTEN_SEEDS {
            return slow.rotten(&mut Dice::new(seed ^ 0x0407), span);
        }
        if seed >= RULED_SEEDS {
            return slow.ruled(&mut Dice::new(seed ^ 0x1609), span);
        }
        slow.tracked(&mut Dice::new(seed ^ 0x7ac4), span)
    }

    fn tracked(self, dice: &mut Dice, span: Millis) -> Self {
        Self {
            has_tracker: true,
            tracker_every: often(dice, span),
            tracker_timeout_s: if dice.chance(30) { 30 } else { 300 },
            ..self
        }
    }

    fn rotten(self, dice: &mut Dice, span: Millis) -> Self {
        Self {
            // What a machine does not know any more it cannot tell from an edit.
            restore_every: 0,
            rot_every: dice.pick(&[span / 2, span / 5, span / 12]).unwrap_or(span),
            ..self
        }
    }

    fn ruled(self, dice: &mut Dice, span: Millis) -> Self {
        let same_rules = dice.chance(40);
        // What is known by its name alone is never told by anybody who leaves it out.
        let kinds = if same_rules { &RULES[..2] } else { &RULES[..] };
        Self {
            rules: dice.pick(kinds).unwrap_or_default(),
            same_rules,
            rules_every: if same_rules { 0 } else { often(dice, span) },
            ..self
        }
    }
}

/// How often one kind of trouble strikes. Each is left out of most runs, so that some show one kind
/// alone.
fn often(dice: &mut Dice, span: Millis) -> Millis {
    match dice.below(10) {
        0..6 => 0,
        6..9 => span / 2,
        _ => span / 8,
    }
}

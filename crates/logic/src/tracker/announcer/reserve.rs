//! What the owner of an announcer keeps from one run to the next.

/// So many announcements are covered at a time: one a second for twelve days.
const AHEAD: u64 = 1 << 20;

/// A number above all that a peer's announcements have had. Kept on the disk, it makes them rise
/// even if the clock has gone back between two runs (tracker-14): those who know the higher ones
/// would take no notice of lower ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve(u64);

impl Reserve {
    /// As it was kept; 0 before the first run.
    #[must_use]
    pub const fn new(kept: u64) -> Self {
        Self(kept)
    }

    /// What is to be kept.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Where the numbers of a run begin that is started when the clock shows `clock_ms`,
    /// milliseconds since 1970.
    #[must_use]
    pub fn floor(self, clock_ms: u64) -> u64 {
        self.0.max(clock_ms)
    }

    /// Numbers up to `sequence` are given. Answers whether it has risen and is to be kept anew.
    #[must_use]
    pub fn use_up(&mut self, sequence: u64) -> bool {
        let is_low = sequence.saturating_add(AHEAD / 2) > self.0;
        if is_low {
            self.0 = sequence.saturating_add(AHEAD);
        }
        is_low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_over_runs_whatever_the_clock_shows() {
        let mut kept = Reserve::default();
        let mut last = 0;
        for clock_ms in [1_000_000, 2_000_000, 5, 1_000_000_000, 0] {
            let floor = kept.floor(clock_ms);
            assert!(floor > last, "{floor} after {last}");
            assert!(kept.use_up(floor), "each run makes room for itself");
            last = floor;
            for _ in 0..2 * AHEAD {
                last += 1;
                let _ = kept.use_up(last);
                assert!(kept.get() > last);
            }
        }
    }

    #[test]
    fn it_is_kept_rarely() {
        let mut kept = Reserve::default();
        assert!(kept.use_up(7));
        assert!((8..100_000).all(|sequence| !kept.use_up(sequence)));
    }
}

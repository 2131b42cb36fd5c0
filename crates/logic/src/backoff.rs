//! How long to wait before the next try: twice as long each time, up to a limit, never all at once.
//!
//! Half of each wait is drawn by lot, so that a crowd that lost the same server does not come back
//! as a crowd. The lots come from a seed that the owner brings; nothing here is a source of chance,
//! and nothing here is fit for secrets.

use std::time::Duration;

/// Waits between tries.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    tries: u32,
    lots: u64,
}

impl Backoff {
    /// Waits of `first`, twice `first` and so on up to `max`, each shortened by up to a half.
    #[must_use]
    pub const fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self {
            first,
            max,
            tries: 0,
            lots: seed,
        }
    }

    /// The wait before the next try.
    pub fn wait(&mut self) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX));
        self.tries = self.tries.saturating_add(1);
        let whole = doubled.min(self.max);
        let half_ns = u64::try_from((whole / 2).as_nanos()).unwrap_or(u64::MAX);
        whole - Duration::from_nanos(self.draw() % half_ns.saturating_add(1).max(1))
    }

    /// It worked: the next wait is a first one.
    pub const fn reset(&mut self) {
        self.tries = 0;
    }

    /// How many waits there were since the start or the last reset.
    #[must_use]
    pub const fn tries(&self) -> u32 {
        self.tries
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    const fn draw(&mut self) -> u64 {
        self.lots = self.lots.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.lots;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_are_halved_at_most() {
        for seed in 0..50 {
            let mut backoff =
                Backoff::new(Duration::from_millis(500), Duration::from_secs(30), seed);
            let mut whole = Duration::from_millis(500);
            for _ in 0..80 {
                let wait = backoff.wait();
                assert!(wait <= whole && wait >= whole / 2, "{wait:?} of {whole:?}");
                whole = (whole * 2).min(Duration::from_secs(30));
            }
            backoff.reset();
            assert!(backoff.wait() <= Duration::from_millis(500));
            assert_eq!(backoff.tries(), 1);
        }
    }

    #[test]
    fn two_seeds_do_not_come_back_together() {
        let wait = |seed| Backoff::new(Duration::from_secs(8), Duration::from_secs(8), seed).wait();
        assert_eq!(wait(1), wait(1));
        assert_ne!(wait(1), wait(2));
    }

    #[test]
    fn extreme_spans_do_not_panic() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX, 1);
        assert!((0..99).all(|_| backoff.wait() >= Duration::MAX / 2));
        assert_eq!(
            Backoff::new(Duration::ZERO, Duration::ZERO, 1).wait(),
            Duration::ZERO
        );
    }
}

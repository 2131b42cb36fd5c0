//! Bytes per second over the last few seconds, from counts that come in whenever they like.

use std::time::{Duration, Instant};

/// Length of one slot.
const SLOT: Duration = Duration::from_millis(250);

/// Slots that count: the last four seconds.
const SLOTS: usize = 16;

/// Counts bytes as they pass.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    /// The slot that is being filled, counted from `start`.
    slot: u128,
    bytes: [u64; SLOTS],
}

impl Meter {
    /// A meter that has seen nothing yet.
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            slot: 0,
            bytes: [0; SLOTS],
        }
    }

    /// Counts `bytes` at `now`, which must not go back.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        self.advance(now);
        let at = (self.slot % SLOTS as u128) as usize;
        self.bytes[at] = self.bytes[at].saturating_add(bytes);
    }

    /// The mean over the last seconds, or since the start if that was later; bytes per second.
    pub fn rate(&mut self, now: Instant) -> u64 {
        self.advance(now);
        let whole = SLOT * (SLOTS as u32 - 1);
        let into_slot = now.duration_since(self.start).as_nanos() % SLOT.as_nanos();
        let seen = whole + Duration::from_nanos(into_slot as u64);
        let seen = seen.min(now.duration_since(self.start)).max(SLOT);
        let total: u64 = self.bytes.iter().fold(0, |sum, n| sum.saturating_add(*n));
        (total as f64 / seen.as_secs_f64()) as u64
    }

    fn advance(&mut self, now: Instant) {
        let slot = now.duration_since(self.start).as_nanos() / SLOT.as_nanos();
        let passed = slot.saturating_sub(self.slot).min(SLOTS as u128);
        for n in 1..=passed {
            self.bytes[((self.slot + n) % SLOTS as u128) as usize] = 0;
        }
        self.slot = self.slot.max(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_shows_its_rate_and_silence_none() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let at = |millis| start + Duration::from_millis(millis);
        for n in 0..200 {
            meter.add(at(n * 50), 50_000);
            if n > 10 {
                let rate = meter.rate(at(n * 50));
                assert!((900_000..1_150_000).contains(&rate), "{n}: {rate}");
            }
        }
        assert_eq!(meter.rate(at(10_000 + 4_000)), 0);
        meter.add(at(100_000), 1_000);
        assert!(meter.rate(at(100_000)) > 200);
    }
}

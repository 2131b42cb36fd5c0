//! A limit on bytes per second, kept by several who take from one bucket.
//!
//! Whoever moves bytes takes them from the [`Bucket`] afterwards, as many as it really moved, and
//! is told from when on the bucket is paid off again: until then it moves nothing that can wait.
//! Since each taker waits for what was taken before it as well, all of them get their turn, in the
//! order in which they took, and together they keep to the rate. What cannot wait (signs of life,
//! requests) is taken too, without waiting; the others pay for it. Nothing here waits or counts
//! time by itself.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// What may be taken at once after a pause: the bytes of so long a time. Enough for who wakes up a
/// little late, too little to be felt.
const SLACK: Duration = Duration::from_millis(50);

/// The unit of debt: this many of it are a byte, so that a nanosecond pays a whole number.
const UNITS_PER_BYTE: i128 = 1_000_000_000;

/// Bytes per second; a number for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Rate(NonZeroU64);

impl Rate {
    /// The lowest rate that can be asked for: with less, a peer could not tell a slow connection
    /// from a dead one.
    pub const MIN: Self = Self(NonZeroU64::new(10_000).expect("it is not zero"));

    /// So many bytes per second; `None` if that is less than [`Rate::MIN`].
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        NonZeroU64::new(bytes_per_second)
            .map(Self)
            .filter(|rate| *rate >= Self::MIN)
    }

    /// Bytes per second.
    #[must_use]
    pub const fn bytes_per_second(self) -> u64 {
        self.0.get()
    }

    /// How many bytes `time` has room for, but at least `least` and at most `most`: how much to
    /// move in one piece so that pieces follow each other quickly at every rate.
    #[must_use]
    pub fn piece(self, time: Duration, least: usize, most: usize) -> usize {
        let bytes = u128::from(self.0.get()) * time.as_nanos() / 1_000_000_000;
        usize::try_from(bytes).map_or(most, |bytes| bytes.max(least).min(most))
    }
}

/// It is lower than [`Rate::MIN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a limit is at least {} bytes per second", Rate::MIN.bytes_per_second())]
pub struct TooSlow;

impl TryFrom<u64> for Rate {
    type Error = TooSlow;

    fn try_from(bytes_per_second: u64) -> Result<Self, TooSlow> {
        Self::new(bytes_per_second).ok_or(TooSlow)
    }
}

impl From<Rate> for u64 {
    fn from(rate: Rate) -> Self {
        rate.bytes_per_second()
    }
}

/// What has been taken and not yet been paid off by the passing of time.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Option<Rate>,
    /// In [`UNITS_PER_BYTE`]; below zero is [`SLACK`].
    debt: i128,
    /// When `debt` was right.
    at: Moment,
}

impl Bucket {
    /// Nothing taken yet; no limit without a rate.
    #[must_use]
    pub const fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            debt: 0,
            at: Moment::ORIGIN,
        }
    }

    /// From now on at this rate. What is not paid off yet is paid off at it.
    pub fn set_rate(&mut self, now: Moment, rate: Option<Rate>) {
        self.pay(now);
        self.rate = rate;
        if rate.is_none() {
            self.debt = 0;
        }
        self.pay(now);
    }

    /// These bytes have been moved; from when on more may be. `now` must not go back.
    pub fn take(&mut self, now: Moment, bytes: u64) -> Moment {
        let Some(rate) = self.rate else { return now };
        self.pay(now);
        self.debt = self
            .debt
            .saturating_add(i128::from(bytes).saturating_mul(UNITS_PER_BYTE));
        let per_ns = i128::from(rate.bytes_per_second());
        // Rounded up: who comes back then finds it paid.
        let wait_ns = (self.debt.max(0) + per_ns - 1) / per_ns;
        now + Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX))
    }

    fn pay(&mut self, now: Moment) {
        let passed = i128::try_from((now - self.at).as_nanos()).unwrap_or(i128::MAX);
        self.at = self.at.max(now);
        let Some(rate) = self.rate else { return };
        let per_ns = i128::from(rate.bytes_per_second());
        let slack = i128::try_from(SLACK.as_nanos()).expect("it is short") * per_ns;
        self.debt = self
            .debt
            .saturating_sub(passed.saturating_mul(per_ns))
            .max(-slack);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(bytes_per_second: u64) -> Rate {
        Rate::new(bytes_per_second).expect("a rate")
    }

    fn at_ms(ms: u64) -> Moment {
        Moment::after_origin(Duration::from_millis(ms))
    }

    #[test]
    fn one_taker_keeps_to_the_rate() {
        let mut bucket = Bucket::new(Some(rate(100_000)));
        let mut now = at_ms(0);
        for _ in 0..100 {
            now = bucket.take(now, 50_000);
        }
        // 5,000,000 bytes at 100,000 a second; nothing is given away before the first of them.
        assert_eq!(now, at_ms(50_000));
    }

    #[test]
    fn two_takers_share_it_and_take_turns() {
        let mut bucket = Bucket::new(Some(rate(100_000)));
        let (mut one, mut two) = (at_ms(0), at_ms(0));
        let (mut ones, mut twos) = (0, 0);
        while one.min(two) < at_ms(60_000) {
            if one <= two {
                one = bucket.take(one, 10_000);
                ones += 1;
            } else {
                two = bucket.take(two, 30_000);
                twos += 1;
            }
        }
        assert!(ones == twos || ones == twos + 1, "{ones}, {twos}");
        let bytes = ones * 10_000 + twos * 30_000;
        assert!((6_000_000..6_080_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_pause_saves_up_very_little() {
        let mut bucket = Bucket::new(Some(rate(100_000)));
        bucket.take(at_ms(0), 1);
        let long_after = at_ms(1_000_000);
        assert_eq!(bucket.take(long_after, 5_000), long_after);
        assert_eq!(
            bucket.take(long_after, 100_000),
            long_after + Duration::from_secs(1)
        );
    }

    #[test]
    fn who_comes_late_by_less_than_the_slack_loses_nothing() {
        let mut bucket = Bucket::new(Some(rate(1_000_000)));
        let mut now = at_ms(0);
        for _ in 0..1_000 {
            now = bucket.take(now, 100_000) + Duration::from_millis(40);
        }
        let took = now.since_origin();
        assert!(took < Duration::from_millis(100_100), "{took:?}");
    }

    #[test]
    fn a_new_rate_holds_for_what_is_still_owed() {
        let mut bucket = Bucket::new(Some(rate(100_000)));
        assert_eq!(bucket.take(at_ms(0), 1_000_000), at_ms(10_000));
        bucket.set_rate(at_ms(5_000), Some(rate(1_000_000)));
        assert_eq!(bucket.take(at_ms(5_000), 0), at_ms(5_500));
        bucket.set_rate(at_ms(5_000), None);
        assert_eq!(bucket.take(at_ms(5_000), u64::MAX), at_ms(5_000));
        // What was moved without a limit is not held against anybody later.
        bucket.set_rate(at_ms(6_000), Some(rate(100_000)));
        assert_eq!(bucket.take(at_ms(6_000), 100_000), at_ms(7_000));
    }

    #[test]
    fn rates_that_look_like_death_are_refused() {
        assert_eq!(Rate::new(0), None);
        assert_eq!(Rate::new(9_999), None);
        assert_eq!(Rate::new(10_000), Some(Rate::MIN));
        let piece = |rate, time_ms| {
            let rate = Rate::new(rate).expect("a rate");
            rate.piece(Duration::from_millis(time_ms), 4_096, 1 << 18)
        };
        assert_eq!(piece(10_000, 125), 4_096);
        assert_eq!(piece(800_000, 125), 100_000);
        assert_eq!(piece(u64::MAX, 125), 1 << 18);
    }

    proptest! {
        /// Whoever takes whatever at any time, as long as each waits as told: what was taken
        /// before the last one never exceeds what the time was worth, the slack and a piece each.
        #[test]
        fn nobody_gets_more_than_the_rate(
            rate_bytes in 10_000_u64..1 << 40,
            takers in prop::collection::vec(
                prop::collection::vec((0_u64..1 << 20, 0_u64..200), 1..40),
                1..4,
            ),
        ) {
            let mut bucket = Bucket::new(Some(rate(rate_bytes)));
            let pieces = takers.len() as u128 * (1 << 20);
            let mut takers: Vec<_> =
                takers.into_iter().map(|takes| (at_ms(0), takes.into_iter())).collect();
            let mut taken = 0_u128;
            while let Some(next) = (0..takers.len()).min_by_key(|n| takers[*n].0) {
                let (now, takes) = &mut takers[next];
                let worth = u128::from(rate_bytes) * now.since_origin().as_nanos() / 1_000_000_000;
                let slack = u128::from(rate_bytes) / 20;
                prop_assert!(taken <= worth + slack + pieces, "{taken} by {now}");
                match takes.next() {
                    Some((bytes, late_ms)) => {
                        taken += u128::from(bytes);
                        *now = bucket.take(*now, bytes) + Duration::from_millis(late_ms);
                    }
                    None => {
                        takers.remove(next);
                    }
                }
            }
        }

        #[test]
        fn extremes_do_not_panic(
            rate_bytes in 10_000_u64..,
            takes in prop::collection::vec((any::<u64>(), any::<u64>()), 0..50),
        ) {
            let mut bucket = Bucket::new(Some(rate(rate_bytes)));
            let mut now = Moment::ORIGIN;
            for (bytes, ns) in takes {
                let free = bucket.take(now, bytes);
                prop_assert!(free >= now);
                now = now + Duration::from_nanos(ns);
            }
        }
    }
}

//! How much a connection may cost: a bucket of tokens that refills with time.
//!
//! A message costs one token, a list one more for each frame that it fills. An honest peer sends a
//! few messages a minute; the bucket lets a burst through and then bounds what a hostile one can
//! make the tracker check and send.

use std::time::Duration;

use crate::moment::Moment;

/// Tokens of a bucket that is full (tracker-33).
pub(super) const BURST_MAX: u32 = 256;
/// The bucket gets one more after each of these.
pub(super) const REFILL_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub(crate) struct Budget {
    tokens: u32,
    /// Refilled up to here.
    since: Moment,
}

impl Budget {
    pub(crate) fn new(now: Moment) -> Self {
        Self {
            tokens: BURST_MAX,
            since: now,
        }
    }

    /// Takes so many tokens out; false, and none taken, if there are fewer.
    pub(crate) fn pay(&mut self, now: Moment, cost: u32) -> bool {
        let refills = (now - self.since).as_millis() / REFILL_INTERVAL.as_millis();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(refills).min(BURST_MAX);
        self.since = if self.tokens == BURST_MAX {
            now
        } else {
            self.since + REFILL_INTERVAL.saturating_mul(refills)
        };
        match self.tokens.checked_sub(cost) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_message_for_each_interval() {
        let mut now = Moment::ORIGIN;
        let mut budget = Budget::new(now);
        assert!((0..BURST_MAX).all(|_| budget.pay(now, 1)));
        assert!(!budget.pay(now, 1));
        now = now + REFILL_INTERVAL / 2;
        assert!(!budget.pay(now, 1), "half an interval is no token");
        now = now + REFILL_INTERVAL / 2;
        assert!(budget.pay(now, 1));
        assert!(!budget.pay(now, 1));
        now = now + REFILL_INTERVAL * 10 * BURST_MAX;
        assert!(!budget.pay(now, BURST_MAX + 1), "more than was ever there");
        assert_eq!(
            (0..2 * BURST_MAX).filter(|_| budget.pay(now, 1)).count(),
            256
        );
    }
}

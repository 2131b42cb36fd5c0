//! Time as the decisions see it: an argument, never a clock.
//!
//! A [`Moment`] is a point on a monotonic scale whose origin the caller chooses (host: the start of
//! its loop; sim: zero). It is kept apart from `Duration` so that a lease length can never be taken
//! for a point in time. It says nothing about the date on the wall; that is printed by the roof.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in monotonic time, in nanoseconds since an origin that the caller chose.
///
/// Arithmetic saturates: a moment too far away is simply never reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The origin itself.
    pub const ORIGIN: Self = Self(0);

    /// The moment that lies `since_origin` after the origin.
    #[must_use]
    pub fn after_origin(since_origin: Duration) -> Self {
        Self(u64::try_from(since_origin.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long after the origin this moment lies.
    #[must_use]
    pub fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long it is from `now` until this moment; zero if it has passed.
    #[must_use]
    pub fn wait_from(self, now: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(now.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(wait_ns))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// How long it is from `earlier` to `self`; zero if `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        self.wait_from(earlier)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:.6}s", self.since_origin().as_secs_f64())
    }
}

/// The next time a machine wants to be called, and why: a wake-up without a reason cannot be
/// debugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline<Reason> {
    /// Call the machine once `now` has reached this.
    pub at: Moment,
    /// What falls due then; for logs and for the simulator's trace, never for a decision.
    pub reason: Reason,
}

impl<Reason> Deadline<Reason> {
    /// The earlier of two optional deadlines; the first on a tie.
    #[must_use]
    pub fn earlier(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let late = Moment::after_origin(Duration::MAX);
        assert_eq!(late + Duration::MAX, late);
        assert_eq!(Moment::ORIGIN - late, Duration::ZERO);
        assert_eq!(
            Moment::ORIGIN + Duration::from_secs(2) - Moment::ORIGIN,
            Duration::from_secs(2)
        );
    }

    #[test]
    fn earlier_prefers_the_first_on_a_tie() {
        let at = Moment::ORIGIN;
        let first = Deadline {
            at,
            reason: "first",
        };
        let second = Deadline {
            at,
            reason: "second",
        };
        assert_eq!(Deadline::earlier(Some(first), Some(second)), Some(first));
        assert_eq!(Deadline::earlier(None, Some(second)), Some(second));
    }
}

//! The one place where a service's clock is read: monotonic time, counted from the clock's making.

use std::time::Instant;

use ahoy_logic::moment::Moment;

/// Turns the system's monotonic time into the moments that the machines are given.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::after_origin(self.origin.elapsed())
    }

    /// The system's own name for `moment`, for timers; None if it lies beyond what that can name.
    #[must_use]
    pub fn instant_of(&self, moment: Moment) -> Option<Instant> {
        self.origin.checked_add(moment.since_origin())
    }
}

//! How fast this process may send and receive, over all its folders and peers together.
//!
//! One bucket for each direction (`logic::limit`), and the sizes of pieces that go with its rate.
//! Counted is what sessions with peers put on the wire, TLS included, TCP and IP not (`sync-62`).
//! The links wait for themselves; nothing here blocks.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ahoy_logic::limit::{Bucket, Rate};
use ahoy_logic::moment::Moment;
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::window::Window;

/// How long one piece of content may keep the connection busy.
const PIECE_TIME: Duration = Duration::from_millis(125);

/// The same for a message of records, which cannot be sent in parts and costs the peer a commit.
const RECORDS_TIME: Duration = Duration::from_millis(500);

/// How far ahead content is asked for: what is on its way when something more urgent comes.
const ASKED_TIME: Duration = Duration::from_secs(2);

/// The smallest piece of content: more would go into heads.
const PIECE_BYTES_MIN: usize = 4 * 1024;

/// The smallest message of records.
const RECORDS_BYTES_MIN: usize = 32 * 1024;

/// The smallest part of a file that is asked for at once.
const ASK_BYTES_MIN: usize = 16 * 1024;

/// The least that is asked for ahead.
const ASKED_BYTES_MIN: usize = 64 * 1024;

/// The limits of one process; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// On what is sent.
    pub up: Option<Rate>,
    /// On what is received.
    pub down: Option<Rate>,
}

impl Caps {
    /// The stricter of each: what two folders of one process together may do.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        let lower = |a: Option<Rate>, b: Option<Rate>| a.into_iter().chain(b).min();
        Self {
            up: lower(self.up, other.up),
            down: lower(self.down, other.down),
        }
    }
}

/// The two buckets of one process.
#[derive(Debug)]
pub struct Limits {
    origin: Instant,
    up: Lane,
    down: Lane,
    window: Window,
}

impl Limits {
    /// Fresh buckets; one pair for all shares of a process. Reads what the system allows, so it
    /// comes before the process is confined.
    #[must_use]
    pub fn new(caps: Caps) -> Arc<Self> {
        Arc::new(Self {
            origin: Instant::now(),
            up: Lane::new(caps.up),
            down: Lane::new(caps.down),
            window: Window::of_this_system(),
        })
    }

    /// What holds now.
    #[must_use]
    pub fn caps(&self) -> Caps {
        Caps {
            up: self.up.rate(),
            down: self.down.rate(),
        }
    }

    /// From now on these hold.
    pub fn set(&self, caps: Caps) {
        self.up.set(self.now(), caps.up);
        self.down.set(self.now(), caps.down);
    }

    /// Makes room in a socket for what is on its way to a peer.
    ///
    /// # Errors
    /// The socket is none.
    pub(super) fn widen(&self, socket: SockRef<'_>) -> io::Result<()> {
        self.window.open(socket)
    }

    /// So much was sent; when more may be that can wait, if there is a limit.
    pub(super) fn sent(&self, bytes: usize) -> Option<Instant> {
        self.take(&self.up, bytes)
    }

    /// So much was received; when to read on, if there is a limit.
    pub(super) fn received(&self, bytes: usize) -> Option<Instant> {
        self.take(&self.down, bytes)
    }

    /// How much content to send in one piece, at most `most` bytes.
    pub(super) fn piece(&self, most: usize) -> usize {
        let piece = |rate: Rate| rate.piece(PIECE_TIME, PIECE_BYTES_MIN, most);
        self.up.rate().map_or(most, piece)
    }

    /// How much to put into one message of records, at most `most` bytes.
    pub(super) fn records(&self, most: usize) -> usize {
        let piece = |rate: Rate| rate.piece(RECORDS_TIME, RECORDS_BYTES_MIN, most);
        self.up.rate().map_or(most, piece)
    }

    /// How much to read at once, at most `most` bytes.
    pub(super) fn gulp(&self, most: usize) -> usize {
        let piece = |rate: Rate| rate.piece(PIECE_TIME, PIECE_BYTES_MIN, most);
        self.down.rate().map_or(most, piece)
    }

    /// How much of a file to ask for at once, at most `most` bytes.
    pub(super) fn ask(&self, most: u64) -> u64 {
        self.ahead(2 * PIECE_TIME, ASK_BYTES_MIN, most)
    }

    /// How much to ask for ahead on one link, at most `most` bytes.
    pub(super) fn asked(&self, most: u64) -> u64 {
        self.ahead(ASKED_TIME, ASKED_BYTES_MIN, most)
    }

    fn ahead(&self, time: Duration, least: usize, most: u64) -> u64 {
        self.down.rate().map_or(most, |rate| {
            let room = usize::try_from(most).unwrap_or(usize::MAX);
            rate.piece(time, least, room) as u64
        })
    }

    fn take(&self, lane: &Lane, bytes: usize) -> Option<Instant> {
        lane.rate()?;
        let mut bucket = lane.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let free = bucket.take(self.now(), bytes as u64);
        self.origin.checked_add(free.since_origin())
    }

    fn now(&self) -> Moment {
        Moment::after_origin(self.origin.elapsed())
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    /// Bytes per second, 0 for no limit; read without the lock, since mostly there is none.
    rate: AtomicU64,
    bucket: Mutex<Bucket>,
}

impl Lane {
    fn new(rate: Option<Rate>) -> Self {
        Self {
            rate: AtomicU64::new(rate.map_or(0, Rate::bytes_per_second)),
            bucket: Mutex::new(Bucket::new(rate)),
        }
    }

    fn rate(&self) -> Option<Rate> {
        Rate::new(self.rate.load(Ordering::Relaxed))
    }

    fn set(&self, now: Moment, rate: Option<Rate>) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.set_rate(now, rate);
        let number = rate.map_or(0, Rate::bytes_per_second);
        self.rate.store(number, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nothing_waits_and_nothing_is_smaller() {
        let limits = Limits::new(Caps::default());
        assert_eq!(
            (limits.sent(1 << 40), limits.received(1 << 40)),
            (None, None)
        );
        assert_eq!(limits.piece(1 << 18), 1 << 18);
        assert_eq!(limits.records(1 << 21), 1 << 21);
        assert_eq!(limits.gulp(1 << 18), 1 << 18);
        assert_eq!(
            (limits.ask(1 << 20), limits.asked(1 << 25)),
            (1 << 20, 1 << 25)
        );
    }

    #[test]
    fn each_direction_has_its_own_limit_and_both_can_be_changed() {
        let slow = Rate::new(100_000);
        let limits = Limits::new(Caps {
            up: slow,
            down: None,
        });
        let free = limits.sent(1_000_000).expect("a limit");
        let wait = free.saturating_duration_since(Instant::now());
        assert!(
            wait > Duration::from_secs(5) && wait <= Duration::from_secs(10),
            "{wait:?}"
        );
        assert_eq!(limits.received(1_000_000), None);
        assert_eq!(limits.piece(1 << 18), 12_500);
        assert_eq!(limits.records(1 << 21), 50_000);
        let down = Caps {
            up: None,
            down: slow,
        };
        limits.set(down);
        assert_eq!(limits.caps(), down);
        assert_eq!(limits.sent(1), None);
        assert!(limits.received(1).is_some());
        assert_eq!(
            (limits.ask(1 << 20), limits.asked(1 << 25)),
            (25_000, 200_000)
        );
    }

    #[test]
    fn of_two_folders_the_stricter_limit_counts() {
        let caps = |up, down| Caps {
            up: Rate::new(up),
            down: Rate::new(down),
        };
        let both = caps(50_000, 0).stricter(caps(20_000, 30_000));
        assert_eq!(both, caps(20_000, 30_000));
        assert_eq!(caps(0, 0).stricter(caps(0, 0)), Caps::default());
    }
}

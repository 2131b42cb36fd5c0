//! Names to be looked at a little later: files that are still being written.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Print, Time};
use ahoy_wire::sync::{Name, RelPath};

use super::super::beneath::{is_within, rebase};
use super::super::print;

/// How long a file that is open for writing has to be quiet before it is looked at.
const QUIET: Duration = Duration::from_millis(300);

/// How long a file that never is quiet stays unlooked at.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most names that wait; more are looked at at once.
const NAMES_MAX: usize = 10_000;

/// Whether a file that has just turned up was last written to so long ago: it was written under
/// another name, or put there by ahoy.
pub(super) fn is_quiet(print: &Print, now: Time) -> bool {
    print::nanoseconds(print.mtime) + QUIET.as_nanos() as Time <= now
}

/// A file that is closed more often than this within a second is still being written, whatever
/// its closes say.
const CLOSES_PER_SECOND_MAX: u32 = 8;

/// Most files whose closes are counted.
const COUNTED_MAX: usize = 1024;

/// How often files were closed of late.
#[derive(Debug, Default)]
pub(super) struct Haste {
    closes: HashMap<(RelPath, Name), (Instant, u32)>,
}

impl Haste {
    /// It was closed once more; answers whether that happens too often to look every time.
    pub(super) fn closed(&mut self, key: &(RelPath, Name), now: Instant) -> bool {
        let second = Duration::from_secs(1);
        if self.closes.len() >= COUNTED_MAX {
            self.closes
                .retain(|_, (first, _)| now.duration_since(*first) < second);
        }
        if let Some((first, count)) = self.closes.get_mut(key) {
            if now.duration_since(*first) >= second {
                (*first, *count) = (now, 0);
            }
            *count += 1;
            return *count > CLOSES_PER_SECOND_MAX;
        }
        if self.closes.len() < COUNTED_MAX {
            self.closes.insert(key.clone(), (now, 1));
        }
        false
    }
}

/// The names and when they are due.
#[derive(Debug, Default)]
pub(super) struct Later {
    names: HashMap<(RelPath, Name), Due>,
    /// No name is due before this.
    soonest: Option<Instant>,
}

#[derive(Debug)]
struct Due {
    first: Instant,
    at: Instant,
}

impl Later {
    /// It was just written to. Answers false if there is no room to wait.
    pub(super) fn written(&mut self, key: (RelPath, Name), now: Instant) -> bool {
        if let Some(due) = self.names.get_mut(&key) {
            due.at = (now + QUIET).min(due.first + PATIENCE).max(due.at);
            return true;
        }
        self.put(key, now, now + QUIET)
    }

    /// It is to be looked at at `at`, or earlier if it was to be anyway.
    pub(super) fn at(&mut self, key: (RelPath, Name), now: Instant, at: Instant) -> bool {
        if let Some(due) = self.names.get_mut(&key) {
            due.at = due.at.min(at);
            self.soonest = Some(self.soonest.map_or(at, |s| s.min(at)));
            return true;
        }
        self.put(key, now, at)
    }

    fn put(&mut self, key: (RelPath, Name), now: Instant, at: Instant) -> bool {
        if self.names.len() >= NAMES_MAX {
            return false;
        }
        self.names.insert(key, Due { first: now, at });
        self.soonest = Some(self.soonest.map_or(at, |s| s.min(at)));
        true
    }

    /// It is looked at now; no need to wait any more.
    pub(super) fn forget(&mut self, key: &(RelPath, Name)) {
        self.names.remove(key);
    }

    /// The directory `from` is `to` now.
    pub(super) fn renamed(&mut self, from: &RelPath, to: &RelPath) {
        let moved: Vec<_> = self
            .names
            .keys()
            .filter(|key| is_within(&key.0, from))
            .cloned()
            .collect();
        for key in moved {
            let Some(due) = self.names.remove(&key) else {
                continue;
            };
            if let Some(dir) = rebase(&key.0, from, to) {
                self.names.insert((dir, key.1), due);
            }
        }
    }

    /// Takes what is due.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(RelPath, Name)> {
        if self.soonest.is_none_or(|soonest| now < soonest) {
            return Vec::new();
        }
        let due = |due: &Due| due.at <= now;
        let keys: Vec<_> = self
            .names
            .iter()
            .filter(|(_, d)| due(d))
            .map(|(key, _)| key.clone())
            .collect();
        self.names.retain(|_, d| !due(d));
        self.soonest = self.names.values().map(|due| due.at).min();
        keys
    }

    /// When to look for what is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.soonest
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(dir: &str, name: &str) -> (RelPath, Name) {
        let dir = RelPath::parse(dir.as_bytes()).expect("a path");
        (dir, Name::new(name.as_bytes()).expect("a name"))
    }

    #[test]
    fn a_file_is_due_when_it_is_quiet_but_not_for_ever() {
        let start = Instant::now();
        let mut later = Later::default();
        assert!(later.written(key("d", "f"), start));
        let mut now = start;
        while now < start + PATIENCE {
            assert_eq!(later.take(now), []);
            assert!(later.written(key("d", "f"), now));
            now += Duration::from_millis(100);
        }
        assert_eq!(later.take(start + PATIENCE), [key("d", "f")]);
        assert_eq!(later.deadline(), None);
        later.written(key("d", "g"), now);
        assert!(later.deadline() <= Some(now + QUIET));
        assert_eq!(later.take(now + QUIET), [key("d", "g")]);
    }

    #[test]
    fn a_file_that_is_closed_all_the_time_is_in_too_much_haste() {
        let (start, mut haste) = (Instant::now(), Haste::default());
        let often: Vec<bool> = (0..20)
            .map(|_| haste.closed(&key("d", "f"), start))
            .collect();
        let calm = CLOSES_PER_SECOND_MAX as usize;
        assert!(often[..calm].iter().all(|hasty| !hasty) && often[calm..].iter().all(|h| *h));
        assert!(!haste.closed(&key("d", "g"), start), "another file");
        assert!(!haste.closed(&key("d", "f"), start + Duration::from_secs(1)));
        for number in 0..2 * COUNTED_MAX {
            haste.closed(&key("d", &number.to_string()), start);
        }
        assert!(haste.closes.len() <= COUNTED_MAX);
    }

    #[test]
    fn names_follow_their_directory_and_are_bounded() {
        let now = Instant::now();
        let mut later = Later::default();
        let root = RelPath::root();
        assert!(later.at(key("a/b", "f"), now, now));
        assert!(later.at(key("ab", "f"), now, now));
        later.renamed(
            &root.join(&key("", "a").1).expect("short"),
            &key("z", "any").0,
        );
        let mut due = later.take(now);
        due.sort();
        assert_eq!(due, [key("ab", "f"), key("z/b", "f")]);
        for number in 0..NAMES_MAX {
            assert!(later.at(key("", &number.to_string()), now, now));
        }
        assert!(!later.at(key("", "one more"), now, now));
    }
}

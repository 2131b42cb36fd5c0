//! What inotify events mean: which names to look at, and which directories have moved.

use std::time::Instant;

use ahoy_wire::sync::{Name, RelPath};

use super::super::beneath::rebase;
use super::notify::{Event, What};
use super::watches::Detached;
use super::{HALF_MOVE, Half, Watcher, Why};

impl Watcher {
    /// Takes in the events that are waiting; answers whether there are more.
    pub(super) fn take_events(&mut self) -> bool {
        let Some(notify) = &mut self.notify else {
            return false;
        };
        let mut events = Vec::new();
        let more = notify.drain(&mut events).unwrap_or(false);
        for event in events {
            self.happened(event);
        }
        if !more && self.halves.is_empty() {
            self.looked.clear();
        }
        more
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Overflow => self.look_at_everything(None),
            Event::SelfMoved(_) => self.unsettled = true,
            Event::Ended(wd) => {
                // If it was the root, whether that is still there is asked when settling.
                self.unsettled |= self.watches.path(wd).is_some_and(|path| path.is_root());
                self.watches.forget(wd);
            }
            Event::Named {
                wd,
                name,
                is_dir,
                what,
            } => {
                let Some(dir) = self.watches.path(wd) else {
                    return;
                };
                if is_dir {
                    self.dir_happened(dir, name, what);
                } else {
                    self.file_happened(dir, name, what);
                }
            }
        }
    }

    fn file_happened(&mut self, dir: RelPath, name: Name, what: What) {
        let key = (dir, name);
        match what {
            What::Modified => {
                if self.now.contains_key(&key) || self.later.written(key.clone(), Instant::now()) {
                    return;
                }
            }
            What::Created => {
                self.now.entry(key).or_insert(Why::Created);
                return;
            }
            What::MovedFrom(cookie) => {
                let from = key.0.join(&key.1).unwrap_or_default();
                self.half(cookie, from, None);
            }
            What::MovedTo(cookie) => {
                self.halves.remove(&cookie);
            }
            What::Settled => {
                let now = Instant::now();
                if self.haste.closed(&key, now) && self.later.written(key.clone(), now) {
                    return;
                }
            }
            What::Deleted => {}
        }
        self.later.forget(&key);
        self.now.insert(key, Why::Certain);
    }

    fn dir_happened(&mut self, dir: RelPath, name: Name, what: What) {
        let Some(path) = dir.join(&name) else { return };
        match what {
            What::MovedFrom(cookie) => {
                let dir = self.watches.detach(&path);
                self.half(cookie, path, dir);
            }
            What::MovedTo(cookie) => self.dir_arrived(cookie, &path),
            What::Deleted => {
                let given_up = self.watches.remove(&path);
                self.unwatch(&given_up);
            }
            // The look that follows lists it if it is not watched yet.
            What::Created | What::Settled | What::Modified => {}
        }
        self.now.insert((dir, name), Why::Certain);
    }

    fn dir_arrived(&mut self, cookie: u32, to: &RelPath) {
        let Some(half) = self.halves.remove(&cookie) else {
            return;
        };
        if let Some(dir) = half.dir {
            let given_up = self.watches.attach(dir, to);
            self.unwatch(&given_up);
        }
        self.later.renamed(&half.from, to);
        self.names_moved(&half.from, to);
        let busy = !self.stack.is_empty();
        for (path, _) in &mut self.stack {
            if let Some(moved) = rebase(path, &half.from, to) {
                *path = moved;
            }
        }
        // Listings of this very moment may have missed it in both places.
        if busy || self.whole_tree {
            self.stack.push((to.clone(), None));
        }
    }

    /// What is to be looked at in a directory that has moved is to be looked at where it is now;
    /// what has just been looked at as well, since the directory may have been gone by then.
    fn names_moved(&mut self, from: &RelPath, to: &RelPath) {
        let moved = |(dir, name): &(RelPath, Name)| {
            let dir = rebase(dir, from, to)?;
            Some((dir, name.clone()))
        };
        let looked = self.looked.iter().map(|key| (key, &Why::Certain));
        let now: Vec<_> = looked
            .chain(&self.now)
            .filter_map(|(key, why)| moved(key).map(|key| (key, *why)))
            .collect();
        for (key, why) in now {
            // The old name as well: something else may be there by now.
            self.now
                .entry(key)
                .and_modify(|known| *known = (*known).max(why))
                .or_insert(why);
        }
        let asked: Vec<_> = self.asked.iter().filter_map(moved).collect();
        self.asked.extend(asked);
    }

    fn half(&mut self, cookie: u32, from: RelPath, dir: Option<Detached>) {
        let due = Instant::now() + HALF_MOVE;
        self.halves.insert(cookie, Half { from, dir, due });
    }

    /// Gives up waiting for moves that have left the share. Answers false while there are some
    /// to be waited for.
    pub(super) fn drop_late_halves(&mut self, now: Instant) -> bool {
        let late: Vec<u32> = self
            .halves
            .iter()
            .filter(|(_, half)| half.due <= now)
            .map(|(c, _)| *c)
            .collect();
        let waited = !late.is_empty();
        for cookie in late {
            let Some(half) = self.halves.remove(&cookie) else {
                continue;
            };
            if let Some(dir) = half.dir {
                let given_up = self.watches.abandon(dir);
                self.unwatch(&given_up);
            }
        }
        // Younger ones do not hold up the older for ever.
        waited || self.halves.is_empty()
    }
}

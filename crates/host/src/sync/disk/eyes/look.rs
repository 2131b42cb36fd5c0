//! Looking at names and listing directories.
//!
//! Where to look is decided by the loop and by events; here it is done and reported.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Found, Sighting};
use ahoy_wire::sync::{Name, RelPath};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::beneath::{self, Parents};
use super::super::{Root, print, walk};
use super::{BATCH, Watcher, Why, later, rules};

impl Watcher {
    /// Looks at the names that events have named.
    pub(super) fn look_at_events(&mut self) {
        let mut names = std::mem::take(&mut self.now);
        // What may yet turn up elsewhere is not missing yet.
        for half in self.halves.values() {
            if let Some(key) = half.from.split()
                && let Some(why) = names.remove(&key)
            {
                self.now.insert(key, why);
            }
        }
        self.look_at(names, None);
    }

    /// Looks at names and reports them.
    pub(super) fn look_at(&mut self, names: BTreeMap<(RelPath, Name), Why>, ask: Option<u64>) {
        if names.keys().any(|(dir, name)| rules::is_rules(dir, name)) {
            self.refresh_rules();
        }
        self.looked.extend(names.keys().cloned());
        let world = Arc::clone(&self.world);
        let glimpse = world.glimpse();
        let mut parents = Parents::default();
        let mut sightings = Vec::with_capacity(names.len());
        let (now, instant) = (print::now(), Instant::now());
        let mut gone = HashSet::new();
        for ((dir, name), why) in names {
            let wanted = dir.as_bytes().len();
            let Some(sighting) = nearest(&self.root, &mut parents, dir, name) else {
                continue;
            };
            let key = (sighting.dir.clone(), sighting.name.clone());
            if key.0.as_bytes().len() < wanted && !gone.insert(key.clone()) {
                continue;
            }
            match (&sighting.found, why) {
                (Found::File(print), Why::Created)
                    if !later::is_quiet(print, now) && self.later.written(key.clone(), instant) =>
                {
                    continue;
                }
                (Found::Dir(_), _) => self.descend(&key),
                (Found::File(print), _) if print.racy && self.blind => {
                    self.later
                        .at(key.clone(), instant, instant + Duration::from_millis(50));
                }
                (
                    Found::File(_)
                    | Found::Link(..)
                    | Found::Foreign
                    | Found::Unreadable(_)
                    | Found::Nothing,
                    _,
                ) => {}
            }
            sightings.push(sighting);
        }
        self.unsettled |= !sightings.is_empty();
        drop(parents);
        let root = Arc::clone(&self.root);
        glimpse.report(sightings, Vec::new(), ask, |dir, name| {
            found_at(&root, dir, name)
        });
    }

    /// Has a directory listed that is not watched yet.
    fn descend(&mut self, key: &(RelPath, Name)) {
        let Some(path) = key.0.join(&key.1) else {
            return;
        };
        if !self.watches.knows(&path) && self.root.rules().let_into(&path, false) {
            self.stack.push((path, None));
        }
    }

    /// Lists directories from the stack until there is enough for one report.
    pub(super) fn list_some(&mut self) {
        let world = Arc::clone(&self.world);
        let glimpse = world.glimpse();
        let (mut sightings, mut whole) = (Vec::new(), Vec::new());
        let Some((_, ask)) = self.stack.last().cloned() else {
            return;
        };
        while sightings.len() < BATCH
            && let Some((path, _)) = self.stack.pop_if(|(_, other)| *other == ask)
        {
            self.list_one(&path, ask, &mut sightings, &mut whole);
        }
        self.unsettled = true;
        let root = Arc::clone(&self.root);
        let stale = glimpse.report(sightings, whole, ask, |dir, name| {
            found_at(&root, dir, name)
        });
        self.stack.extend(stale.into_iter().map(|path| (path, ask)));
    }

    fn list_one(
        &mut self,
        path: &RelPath,
        ask: Option<u64>,
        sightings: &mut Vec<Sighting>,
        whole: &mut Vec<RelPath>,
    ) {
        let dir = match beneath::open_dir(self.root.fd(), path, OFlags::RDONLY) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                let given_up = self.watches.remove(path);
                self.unwatch(&given_up);
                return;
            }
            Err(errno) => return self.cannot_list(path, errno, sightings),
        };
        self.watch(path, &dir);
        let (listing, done) = walk::list(&dir, path, self.root.device());
        for text in listing.odd {
            self.world.warn(text);
        }
        sightings.extend(listing.sightings);
        if let Err(errno) = done {
            return self.cannot_list(path, errno, sightings);
        }
        self.forget_missing(path, &listing.dirs);
        whole.push(path.clone());
        let mut entered = listing.dirs;
        let rules = self.root.rules();
        entered.retain(|dir| rules.let_into(dir, ask.is_some()));
        self.stack
            .extend(entered.into_iter().rev().map(|dir| (dir, ask)));
    }

    fn cannot_list(&self, path: &RelPath, errno: Errno, sightings: &mut Vec<Sighting>) {
        let reason = print::words(errno);
        match path.split() {
            Some((dir, name)) => {
                sightings.push(Sighting {
                    dir,
                    name,
                    found: Found::Unreadable(reason),
                });
            }
            None => self
                .world
                .warn(format!("the folder itself cannot be listed: {reason}")),
        }
    }

    /// Gives up the watches of directories that are no longer in `path`.
    fn forget_missing(&mut self, path: &RelPath, dirs: &[RelPath]) {
        let there: HashSet<&RelPath> = dirs.iter().collect();
        for name in self.watches.children(path) {
            let Some(below) = path.join(&name) else {
                continue;
            };
            if !there.contains(&below) {
                let given_up = self.watches.remove(&below);
                self.unwatch(&given_up);
            }
        }
    }

    fn watch(&mut self, path: &RelPath, dir: &OwnedFd) {
        let Some(notify) = &self.notify else { return };
        if self.blind && !self.watches.knows(path) {
            return;
        }
        match notify.watch(&self.root, path, dir) {
            Ok(wd) => {
                let given_up = self.watches.put(wd, path);
                self.unwatch(&given_up);
            }
            Err(errno) => {
                self.blind = true;
                self.tell_blind(errno);
            }
        }
    }

    pub(super) fn unwatch(&self, wds: &[i32]) {
        if let Some(notify) = &self.notify {
            notify.unwatch(wds);
        }
    }

    pub(super) fn tell_blind(&mut self, errno: Errno) {
        if std::mem::replace(&mut self.told_blind, true) {
            return;
        }
        let every = self.options.blind_look_every.as_secs();
        let limit = match errno {
            Errno::NOSPC => {
                "the system allows no more watches; raise the limit with: \
                 sudo sysctl fs.inotify.max_user_watches=1048576"
            }
            Errno::MFILE => {
                "the system allows no more inotify instances; raise the limit with: \
                 sudo sysctl fs.inotify.max_user_instances=1024"
            }
            _ => "watching is not possible here",
        };
        self.world.warn(format!(
            "some changes are noticed only every {every} s: {limit} ({})",
            print::words(errno)
        ));
    }
}

/// Looks at one name, through directories opened for this.
fn found_at(root: &Root, dir: &RelPath, name: &Name) -> Found {
    match beneath::open_dir(root.fd(), dir, OFlags::PATH) {
        Ok(fd) => walk::found_at(&fd, dir, name, root.device()),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Found::Nothing,
        Err(errno) => Found::Unreadable(print::words(errno)),
    }
}

/// Looks at `name` in `dir`; if `dir` is not there, at the uppermost directory that is missing:
/// the rest is known by that.
fn nearest(
    root: &Root,
    parents: &mut Parents,
    mut dir: RelPath,
    mut name: Name,
) -> Option<Sighting> {
    loop {
        match parents.dir(root.fd(), &dir) {
            Ok(fd) => {
                let found = walk::found_at(&*fd, &dir, &name, root.device());
                return Some(Sighting { dir, name, found });
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                (dir, name) = dir.split()?;
            }
            Err(errno) => {
                return Some(Sighting {
                    dir,
                    name,
                    found: Found::Unreadable(print::words(errno)),
                });
            }
        }
    }
}

//! The eyes of a share: whole looks, and inotify for what changes afterwards.
//!
//! One thread does both, so that every report is in order and a burst of events is settled only
//! when all that belongs to it has been looked at. A directory is watched before it is listed, so
//! nothing falls in between. Events are only hints where to look: what is reported is what a look
//! finds. Where watches run out, whole looks at short intervals take their place.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Found, Input, Look, Sighting};
use ahoy_wire::sync::{Name, RelPath};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::beneath::{self, Parents, is_within, rebase};
use super::later::Later;
use super::notify::{Event, Notify, What};
use super::watches::Watches;
use super::world::World;
use super::{Root, print, walk};

/// Sightings reported at once, unless one directory holds more.
const BATCH: usize = 1000;

/// How long a file that was moved away may take to turn up elsewhere in the share.
const HALF_MOVE: Duration = Duration::from_millis(2);

/// How often a root that is gone is looked for.
const RETURN_PERIOD: Duration = Duration::from_millis(500);

/// How the eyes work.
#[derive(Debug, Clone)]
pub struct EyesOptions {
    /// Time between whole looks while every directory is watched: a safety net.
    pub whole_look_every: Duration,
    /// Time between whole looks when some directories cannot be watched.
    pub blind_look_every: Duration,
    /// Whether to watch at all.
    pub watch: bool,
}

impl Default for EyesOptions {
    fn default() -> Self {
        Self {
            whole_look_every: Duration::from_secs(600),
            blind_look_every: Duration::from_secs(30),
            watch: true,
        }
    }
}

/// The thread that looks. It looks at nothing before it is asked to: begin with a look below the
/// root.
pub(super) struct Eyes {
    asks: Arc<Asks>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is asked from outside.
pub(super) struct Asks {
    list: Mutex<Vec<Ask>>,
    wake: OwnedFd,
    stop: AtomicBool,
}

#[derive(Debug)]
enum Ask {
    /// With the number of the engine's question, if it is one.
    Look(Look, Option<u64>),
    Later(RelPath, Name, Instant),
}

impl Asks {
    /// Looks there soon; what is seen carries the number `ask`.
    pub(super) fn look(&self, look: Look, ask: Option<u64>) {
        self.ask(Ask::Look(look, ask));
    }

    /// Looks at `path` after `delay`.
    pub(super) fn look_later(&self, path: &RelPath, delay: Duration) {
        if let Some((dir, name)) = path.split() {
            self.ask(Ask::Later(dir, name, Instant::now() + delay));
        }
    }

    fn ask(&self, ask: Ask) {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ask);
        self.wake();
    }

    fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn take(&self) -> Vec<Ask> {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Eyes {
    pub(super) fn start(
        root: Arc<Root>,
        world: Arc<World>,
        options: EyesOptions,
    ) -> std::io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let asks = Arc::new(Asks {
            list: Mutex::default(),
            wake,
            stop: AtomicBool::new(false),
        });
        let watcher = Watcher::new(root, world, Arc::clone(&asks), options);
        let thread = std::thread::Builder::new()
            .name("eyes".into())
            .spawn(|| watcher.run())?;
        Ok(Self {
            asks,
            thread: Some(thread),
        })
    }

    pub(super) fn asks(&self) -> &Arc<Asks> {
        &self.asks
    }
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.asks.stop.store(true, Ordering::Release);
        self.asks.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why a name is to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It has come into being, and if it is a file, it is probably still being written.
    Created,
    /// Something is finished with it.
    Certain,
}

/// One half of a move.
struct Half {
    from: RelPath,
    is_dir: bool,
    due: Instant,
}

struct Watcher {
    root: Arc<Root>,
    world: Arc<World>,
    asks: Arc<Asks>,
    options: EyesOptions,
    notify: Option<Notify>,
    watches: Watches,
    /// Names to look at now; directories sort before what is in them.
    now: BTreeMap<(RelPath, Name), Why>,
    /// Names to look at because the engine has asked, and its last question.
    asked: BTreeSet<(RelPath, Name)>,
    last_ask: Option<u64>,
    later: Later,
    /// Moves of which only the first half is known.
    halves: HashMap<u32, Half>,
    /// Directories to list, the next one last, with the question that this answers.
    stack: Vec<(RelPath, Option<u64>)>,
    /// The stack began with the root.
    whole_tree: bool,
    /// Something has been reported that is not settled yet.
    unsettled: bool,
    /// Some directory could not be watched.
    blind: bool,
    told_blind: bool,
    lost: bool,
    next_whole: Option<Instant>,
}

impl Watcher {
    fn new(root: Arc<Root>, world: Arc<World>, asks: Arc<Asks>, options: EyesOptions) -> Self {
        let mut watcher = Self {
            root,
            world,
            asks,
            options,
            notify: None,
            watches: Watches::new(),
            now: BTreeMap::new(),
            asked: BTreeSet::new(),
            last_ask: None,
            later: Later::default(),
            halves: HashMap::new(),
            stack: Vec::new(),
            whole_tree: false,
            unsettled: false,
            blind: true,
            told_blind: false,
            lost: false,
            next_whole: None,
        };
        if watcher.options.watch {
            match Notify::new() {
                Ok(notify) => watcher.notify = Some(notify),
                Err(errno) => watcher.tell_blind(errno),
            }
        }
        watcher
    }

    fn run(mut self) {
        let mut more = false;
        while !self.asks.stop.load(Ordering::Acquire) {
            self.wait(more);
            for ask in self.asks.take() {
                self.take_ask(ask);
            }
            more = self.take_events();
            self.turn();
        }
    }

    /// One round of work after events and asks have been taken in.
    fn turn(&mut self) {
        let now = Instant::now();
        if self.lost {
            self.look_for_root();
            return;
        }
        if self.next_whole.is_some_and(|at| at <= now) {
            self.look_at_everything(None);
        }
        for key in self.later.take(now) {
            self.now.insert(key, Why::Certain);
        }
        if !self.drop_late_halves(now) {
            return;
        }
        if !self.now.is_empty() {
            self.look_at_events();
        }
        if !self.asked.is_empty() {
            let names = std::mem::take(&mut self.asked)
                .into_iter()
                .map(|key| (key, Why::Certain));
            let ask = self.last_ask;
            self.look_at(names.collect(), ask);
        }
        if !self.stack.is_empty() {
            self.list_some();
            // Events of the time of this listing come first, before anything is settled.
            return;
        }
        if self.unsettled || self.whole_tree {
            self.settle();
        }
    }

    /// How long to wait for events; `None` for as long as it takes.
    fn patience(&self, more: bool) -> Option<Duration> {
        if self.lost {
            return Some(RETURN_PERIOD);
        }
        let half = self.halves.values().map(|half| half.due).min();
        if more || !self.stack.is_empty() || self.whole_tree || self.unsettled && half.is_none() {
            return Some(Duration::ZERO);
        }
        let until = [half, self.later.deadline(), self.next_whole]
            .into_iter()
            .flatten()
            .min();
        until.map(|at| at.saturating_duration_since(Instant::now()))
    }

    fn wait(&self, more: bool) {
        let timeout = self.patience(more).map(|left| rustix::event::Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut fds = vec![PollFd::from_borrowed_fd(
            self.asks.wake.as_fd(),
            PollFlags::IN,
        )];
        if let Some(notify) = &self.notify {
            fds.push(PollFd::from_borrowed_fd(notify.fd(), PollFlags::IN));
        }
        let _ = rustix::event::poll(&mut fds, timeout.as_ref());
    }

    fn take_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Look(Look::At(dir, name), ask) => self.asked((dir, name), ask),
            Ask::Look(Look::Below(path), ask) => match path.split() {
                Some(key) => {
                    self.asked(key, ask);
                    self.stack.push((path, ask));
                    self.unsettled = true;
                }
                None => self.look_at_everything(ask),
            },
            Ask::Later(dir, name, at) => {
                if !self
                    .later
                    .at((dir.clone(), name.clone()), Instant::now(), at)
                {
                    self.now.insert((dir, name), Why::Certain);
                }
            }
        }
    }

    fn asked(&mut self, key: (RelPath, Name), ask: Option<u64>) {
        if ask.is_some() {
            self.last_ask = self.last_ask.max(ask);
            self.asked.insert(key);
        } else {
            self.now.insert(key, Why::Certain);
        }
    }

    fn look_at_everything(&mut self, ask: Option<u64>) {
        // Everything is listed once more; what the engine has asked for keeps its answer.
        self.stack.retain(|(_, ask)| ask.is_some());
        self.stack.push((RelPath::root(), ask));
        self.whole_tree = true;
        self.blind = self.notify.is_none();
        let every = if self.blind {
            self.options.blind_look_every
        } else {
            self.options.whole_look_every
        };
        self.next_whole = Some(Instant::now() + every);
    }

    /// Says that everything looked at is reported, or that the root is not there.
    fn settle(&mut self) {
        let whole_tree = self.whole_tree;
        (self.unsettled, self.whole_tree) = (false, false);
        if !self.root.is_there() {
            return self.lose();
        }
        if whole_tree && self.blind {
            self.next_whole = Some(Instant::now() + self.options.blind_look_every);
        }
        self.world.tell(Input::Settled { whole_tree });
    }

    fn lose(&mut self) {
        self.lost = true;
        (self.unsettled, self.whole_tree) = (false, false);
        self.now.clear();
        self.asked.clear();
        self.later.clear();
        self.stack.clear();
        self.halves.clear();
        self.world.tell(Input::RootLost);
    }

    fn look_for_root(&mut self) {
        if self.root.is_there() {
            self.lost = false;
            self.world.tell(Input::RootBack);
            self.look_at_everything(None);
        }
        self.now.clear();
        self.asked.clear();
        self.stack.retain(|(path, _)| !self.lost && path.is_root());
        self.later.clear();
        self.halves.clear();
    }
}

/// Listing and looking.
impl Watcher {
    /// Looks at the names that events have named.
    fn look_at_events(&mut self) {
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
    fn look_at(&mut self, names: BTreeMap<(RelPath, Name), Why>, ask: Option<u64>) {
        let world = Arc::clone(&self.world);
        let glimpse = world.glimpse();
        let mut parents = Parents::default();
        let (mut sightings, instant) = (Vec::with_capacity(names.len()), Instant::now());
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
                (Found::File(_), Why::Created) if self.later.written(key.clone(), instant) => {
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
        if !self.watches.knows(&path) {
            self.stack.push((path, None));
        }
    }

    /// Lists directories from the stack until there is enough for one report.
    fn list_some(&mut self) {
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
        self.stack
            .extend(listing.dirs.into_iter().rev().map(|dir| (dir, ask)));
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

    fn unwatch(&self, wds: &[i32]) {
        if let Some(notify) = &self.notify {
            notify.unwatch(wds);
        }
    }

    fn tell_blind(&mut self, errno: Errno) {
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

/// Events.
impl Watcher {
    /// Takes in the events that are waiting; answers whether there are more.
    fn take_events(&mut self) -> bool {
        let Some(notify) = &mut self.notify else {
            return false;
        };
        let mut events = Vec::new();
        let more = notify.drain(&mut events).unwrap_or(false);
        for event in events {
            self.happened(event);
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
                self.half(cookie, from, false);
            }
            What::MovedTo(cookie) => {
                self.halves.remove(&cookie);
            }
            What::Settled | What::Deleted => {}
        }
        self.later.forget(&key);
        self.now.insert(key, Why::Certain);
    }

    fn dir_happened(&mut self, dir: RelPath, name: Name, what: What) {
        let Some(path) = dir.join(&name) else { return };
        match what {
            What::MovedFrom(cookie) => self.half(cookie, path, true),
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
        let given_up = self.watches.rename(&half.from, to);
        self.unwatch(&given_up);
        self.later.renamed(&half.from, to);
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

    fn half(&mut self, cookie: u32, from: RelPath, is_dir: bool) {
        let due = Instant::now() + HALF_MOVE;
        self.halves.insert(cookie, Half { from, is_dir, due });
    }

    /// Gives up waiting for moves that have left the share. Answers false while there are some
    /// to be waited for.
    fn drop_late_halves(&mut self, now: Instant) -> bool {
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
            if half.is_dir {
                let given_up = self.watches.remove(&half.from);
                self.unwatch(&given_up);
                self.stack.retain(|(path, _)| !is_within(path, &half.from));
            }
        }
        // Younger ones do not hold up the older for ever.
        waited || self.halves.is_empty()
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

//! The eyes of a share: whole looks, and inotify for what changes afterwards.
//!
//! One thread does both, so that every report is in order and a burst of events is settled only
//! when all that belongs to it has been looked at. A directory is watched before it is listed, so
//! nothing falls in between. Events are only hints where to look: what is reported is what a look
//! finds. Where watches run out, whole looks at short intervals take their place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Input, Look};
use ahoy_wire::sync::{Name, RelPath};
use rustix::event::{EventfdFlags, PollFd, PollFlags};

mod event;
mod later;
mod look;
mod notify;
mod rules;
mod watches;

use super::Root;
use super::world::World;
use later::{Haste, Later};
use notify::Notify;
use watches::{Detached, Watches};

/// Sightings reported at once, unless one directory holds more.
const BATCH: usize = 1000;

/// How long a file that was moved away may take to turn up elsewhere in the share.
const HALF_MOVE: Duration = Duration::from_millis(2);

/// How long to wait after a fault of our own before everything is looked at anew.
const FAULT_PAUSE: Duration = Duration::from_secs(5);

/// How often a root that is gone is looked for.
const RETURN_PERIOD: Duration = Duration::from_millis(500);

/// How the eyes work.
#[derive(Debug, Clone)]
pub struct EyesOptions {
    /// Time between whole looks while every directory is watched: a safety net.
    pub whole_look_every: Duration,
    /// Time between whole looks when some directories cannot be watched.
    pub blind_look_every: Duration,
    /// How long the rules of before count beside new ones: their file may still be being written.
    pub rules_pause: Duration,
    /// Whether to watch at all.
    pub watch: bool,
}

impl Default for EyesOptions {
    fn default() -> Self {
        Self {
            whole_look_every: Duration::from_secs(600),
            blind_look_every: Duration::from_secs(30),
            rules_pause: Duration::from_secs(2),
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
    /// The watches of a directory and of all below it.
    dir: Option<Detached>,
    due: Instant,
}

struct Watcher {
    root: Arc<Root>,
    world: Arc<World>,
    asks: Arc<Asks>,
    options: EyesOptions,
    notify: Option<Notify>,
    watches: Watches,
    known: rules::Known,
    /// Names to look at now; directories sort before what is in them.
    now: BTreeMap<(RelPath, Name), Why>,
    /// Names to look at because the engine has asked, and its last question.
    asked: BTreeSet<(RelPath, Name)>,
    last_ask: Option<u64>,
    /// Names that were looked at since all events were taken in: one of these may yet tell that
    /// their directory had been moved before.
    looked: BTreeSet<(RelPath, Name)>,
    later: Later,
    haste: Haste,
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
            known: rules::Known::default(),
            now: BTreeMap::new(),
            asked: BTreeSet::new(),
            last_ask: None,
            looked: BTreeSet::new(),
            later: Later::default(),
            haste: Haste::default(),
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
            let round = AssertUnwindSafe(|| {
                for ask in self.asks.take() {
                    self.take_ask(ask);
                }
                let more = self.take_events();
                self.turn();
                more
            });
            more = std::panic::catch_unwind(round).unwrap_or_else(|_| {
                self.world
                    .warn("an internal fault while looking at the folder; please report it".into());
                // What was forgotten by that is found by looking at everything.
                self.next_whole = Some(Instant::now() + FAULT_PAUSE);
                self.stack.clear();
                false
            });
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
        self.settle_rules(now);
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
        let until = [
            half,
            self.later.deadline(),
            self.next_whole,
            self.rules_due(),
        ]
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
        self.refresh_rules();
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
        self.looked.clear();
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
        self.looked.clear();
        self.stack.retain(|(path, _)| !self.lost && path.is_root());
        self.later.clear();
        self.halves.clear();
    }
}

//! The hands of a share: they carry out the engine's steps.
//!
//! Two writers take steps in batches: they prepare files under temporary names, make them durable
//! together, then publish them under the world's lock (see [`super::publish`]). A batch never
//! waits for more steps to come. Content that has to be brought in from a peer, or copied from a
//! big local file, is prepared by other threads first and then joins a batch.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ahoy_logic::sync::{Act, Input, Source, Step, Trouble};
use ahoy_wire::sync::Hash;

mod batch;

use super::Root;
use super::fetch::BIG_BYTES;
use super::stage::Staged;
use super::world::World;
use crate::sync::supply::Supply;
use batch::failure;

const WRITERS: usize = 2;

/// How many files are brought in at the same time: as many as the engine asks for.
const FETCHERS: usize = 16;

/// The threads that carry out steps.
pub(super) struct Hands {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    root: Arc<Root>,
    world: Arc<World>,
    supply: Arc<dyn Supply>,
    unsynced: Arc<AtomicBool>,
    stop: AtomicBool,
    /// How long the last sync of the file system took.
    last_sync_us: AtomicU64,
    queues: Mutex<Queues>,
    /// Something to write.
    to_write: Condvar,
    /// Something to prepare, or a claim given back.
    to_fetch: Condvar,
}

#[derive(Default)]
struct Queues {
    writes: VecDeque<Job>,
    fetches: VecDeque<Step>,
}

/// A step, with what has been prepared for it.
struct Job {
    step: Step,
    staged: Option<Staged>,
    /// Given back after `staged` is out of the way: fields are dropped in order.
    _claim: Option<Claim>,
}

/// The right to write to the part file of a content: two threads must not.
struct Claim {
    shared: Arc<Shared>,
    hash: Hash,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.root.busy().remove(&self.hash);
        // Under the lock, or a thread between its look and its wait would miss it.
        drop(self.shared.lock());
        self.shared.to_fetch.notify_all();
    }
}

impl Hands {
    pub(super) fn start(
        root: Arc<Root>,
        world: Arc<World>,
        supply: Arc<dyn Supply>,
        unsynced: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            root,
            world,
            supply,
            unsynced,
            stop: AtomicBool::new(false),
            last_sync_us: AtomicU64::new(0),
            queues: Mutex::default(),
            to_write: Condvar::new(),
            to_fetch: Condvar::new(),
        });
        let mut hands = Self {
            shared,
            threads: Vec::new(),
        };
        for number in 0..WRITERS + FETCHERS {
            let shared = Arc::clone(&hands.shared);
            let builder = std::thread::Builder::new();
            hands.threads.push(if number < WRITERS {
                builder
                    .name("writer".into())
                    .spawn(move || shared.write_batches())?
            } else {
                builder
                    .name("fetcher".into())
                    .spawn(move || shared.bring_in())?
            });
        }
        Ok(hands)
    }

    /// Carries out `step`; the answer is in a `Finished`. Never blocks.
    pub(super) fn carry_out(&self, step: Step) {
        let mut queues = self.shared.lock();
        if is_slow(&step.act) {
            queues.fetches.push_back(step);
            drop(queues);
            self.shared.to_fetch.notify_all();
        } else {
            queues.writes.push_back(Job {
                step,
                staged: None,
                _claim: None,
            });
            drop(queues);
            self.shared.to_write.notify_one();
        }
    }
}

impl Hands {
    /// Ends what was begun, and begins nothing more.
    pub(super) fn rest(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Under the lock, or a thread between its look at `stop` and its wait would miss it.
        drop(self.shared.lock());
        self.shared.to_write.notify_all();
        self.shared.to_fetch.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.rest();
        // Claims in the queue hold the queue's owner alive.
        let left = std::mem::take(&mut self.shared.lock().writes);
        drop(left);
    }
}

/// Whether preparing it can take so long that it must not hold up others.
fn is_slow(act: &Act) -> bool {
    match act {
        Act::Write {
            source: Source::Peer { .. },
            ..
        } => true,
        Act::Write {
            source: Source::Local { .. },
            size,
            ..
        } => *size >= BIG_BYTES,
        Act::Write {
            source: Source::Here(_),
            ..
        }
        | Act::MakeDir { .. }
        | Act::MakeLink { .. }
        | Act::SetMeta { .. }
        | Act::Move { .. }
        | Act::Remove { .. }
        | Act::Park { .. }
        | Act::Unpark { .. } => false,
    }
}

/// A panic is a fault of ours; the step fails, the thread goes on.
fn guarded<T>(work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Trouble::Refused(
            "an internal fault; please report it".into(),
        ))
    })
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn bring_in(self: Arc<Self>) {
        while let Some((step, claim)) = self.next_fetch() {
            match guarded(|| self.prepare(&step)) {
                Ok(staged) => {
                    self.lock().writes.push_back(Job {
                        step,
                        staged,
                        _claim: claim,
                    });
                    self.to_write.notify_one();
                }
                Err(trouble) => {
                    drop(claim);
                    self.world
                        .tell(Input::Finished(vec![failure(step.job, trouble)]));
                }
            }
        }
    }

    /// The next step to prepare whose content nobody else is bringing in.
    fn next_fetch(self: &Arc<Self>) -> Option<(Step, Option<Claim>)> {
        let mut queues = self.lock();
        loop {
            if self.stopped() {
                return None;
            }
            let mut busy = self.root.busy();
            let free = |step: &Step| claimable(step).is_none_or(|hash| !busy.contains(&hash));
            if let Some(at) = queues.fetches.iter().position(free)
                && let Some(step) = queues.fetches.remove(at)
            {
                let claim = claimable(&step).map(|hash| {
                    busy.insert(hash);
                    Claim {
                        shared: Arc::clone(self),
                        hash,
                    }
                });
                return Some((step, claim));
            }
            drop(busy);
            queues = self
                .to_fetch
                .wait(queues)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The content whose part file a step needs.
fn claimable(step: &Step) -> Option<Hash> {
    match &step.act {
        Act::Write {
            hash,
            source: Source::Peer { .. },
            ..
        } => Some(*hash),
        Act::Write { .. }
        | Act::MakeDir { .. }
        | Act::MakeLink { .. }
        | Act::SetMeta { .. }
        | Act::Move { .. }
        | Act::Remove { .. }
        | Act::Park { .. }
        | Act::Unpark { .. } => None,
    }
}

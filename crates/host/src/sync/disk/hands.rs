//! The hands of a share: they carry out the engine's steps.
//!
//! Two writers take steps in batches: they prepare files under temporary names, make them durable
//! together, then publish them under the world's lock (see [`super::publish`]). A batch never
//! waits for more steps to come. Content that has to be brought in from a peer, or copied from a
//! big local file, is prepared by other threads first and then joins a batch.

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Act, Input, JobId, Outcome, Source, Step, Trouble};
use ahoy_wire::sync::Hash;

use super::Root;
use super::beneath::Parents;
use super::fetch::{self, BIG_BYTES, Errand};
use super::publish::{Done, Publisher};
use super::stage::{self, Staged};
use super::world::World;
use crate::sync::supply::Supply;

const WRITERS: usize = 2;

/// How many files are brought in at the same time.
const FETCHERS: usize = 8;

/// A batch ends at this many steps, this many bytes, or after this time.
const BATCH_STEPS: usize = 1000;
const BATCH_BYTES: u64 = 64 << 20;
const BATCH_TIME: Duration = Duration::from_millis(50);

/// Fewer files than this are synced one by one: a sync of the whole file system would also wait
/// for everything that other programs have written.
const SMALL_BATCH: usize = 10;

/// Steps published before others get the world's lock.
const CHUNK_STEPS: usize = 64;

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
    /// Contents that are being brought in: two threads must not write to one part file.
    claimed: HashSet<Hash>,
}

/// A step, with what has been prepared for it.
struct Job {
    step: Step,
    staged: Option<Staged>,
    /// Given back after `staged` is out of the way: fields are dropped in order.
    _claim: Option<Claim>,
}

/// The right to write to the part file of a content.
struct Claim {
    shared: Arc<Shared>,
    hash: Hash,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.lock().claimed.remove(&self.hash);
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

impl Drop for Hands {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Under the lock, or a thread between its look at `stop` and its wait would miss it.
        drop(self.shared.lock());
        self.shared.to_write.notify_all();
        self.shared.to_fetch.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
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

/// Writing.
impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn write_batches(&self) {
        while let Some(first) = self.next_write() {
            let (ready, failed) = self.prepare_batch(first);
            if !failed.is_empty() {
                self.world.tell(Input::Finished(failed));
            }
            self.publish_batch(ready);
        }
    }

    fn next_write(&self) -> Option<Job> {
        let mut queues = self.lock();
        loop {
            if self.stopped() {
                return None;
            }
            if let Some(job) = queues.writes.pop_front() {
                return Some(job);
            }
            queues = self
                .to_write
                .wait(queues)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Prepares steps until the batch is full or the queue is empty, and makes their content
    /// durable. Answers what can be published and what has failed.
    fn prepare_batch(&self, first: Job) -> (Vec<Job>, Vec<Outcome>) {
        let (mut ready, mut failed) = (Vec::new(), Vec::new());
        let (started, mut bytes, mut files) = (Instant::now(), 0, 0);
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            if job.staged.is_none() {
                match guarded(|| self.prepare(&job.step)) {
                    Ok(staged) => job.staged = staged,
                    Err(trouble) => failed.push(failure(job.step.job, trouble)),
                }
            }
            if failed
                .last()
                .is_none_or(|outcome: &Outcome| outcome.job != job.step.job)
            {
                files += usize::from(job.staged.as_ref().is_some_and(|s| s.unsynced.is_some()));
                bytes += job.staged.as_ref().map_or(0, |s| s.print.size);
                ready.push(job);
            }
            if files == SMALL_BATCH {
                // From here on one sync serves all; no need to hold hundreds of files open.
                ready.iter_mut().for_each(close);
            } else if files > SMALL_BATCH {
                ready.last_mut().into_iter().for_each(close);
            }
            let full = ready.len() >= BATCH_STEPS
                || bytes >= BATCH_BYTES
                || started.elapsed() >= BATCH_TIME;
            if !full && !self.stopped() {
                next = self.lock().writes.pop_front();
            }
        }
        self.sync_batch(&mut ready, &mut failed, files);
        (ready, failed)
    }

    fn prepare(&self, step: &Step) -> Result<Option<Staged>, Trouble> {
        let root = &self.root;
        match &step.act {
            Act::MakeDir { meta, .. } => stage::dir(root, *meta).map(Some),
            Act::MakeLink { target, mtime, .. } => stage::link(root, target, *mtime).map(Some),
            Act::Write {
                meta,
                size,
                hash,
                source,
                ..
            } => match source {
                Source::Here(bytes) => {
                    stage::from_bytes(root, bytes, (*size, *hash), *meta).map(Some)
                }
                Source::Local { from, expect } => {
                    stage::from_local(root, from, expect, (*size, *hash), *meta).map(Some)
                }
                Source::Peer { link, basis } => {
                    let basis = basis.as_ref();
                    let (node, size, hash, meta) = (step.node, *size, *hash, *meta);
                    let errand = Errand {
                        link: *link,
                        node,
                        size,
                        hash,
                        meta,
                        basis,
                    };
                    fetch::fetch(root, &*self.supply, &self.stop, &errand).map(Some)
                }
            },
            Act::SetMeta { .. }
            | Act::Move { .. }
            | Act::Remove { .. }
            | Act::Park { .. }
            | Act::Unpark { .. } => Ok(None),
        }
    }

    /// Makes the content of a batch durable before any of it is published.
    fn sync_batch(&self, ready: &mut Vec<Job>, failed: &mut Vec<Outcome>, files: usize) {
        if files >= SMALL_BATCH {
            if let Err(errno) = rustix::fs::syncfs(self.root.fd()) {
                let is_file = |job: &Job| matches!(job.step.act, Act::Write { .. });
                let (files, others) = ready.drain(..).partition(is_file);
                *ready = others;
                let lost: Vec<Job> = files;
                failed.extend(
                    lost.iter()
                        .map(|j| failure(j.step.job, stage::trouble(errno))),
                );
            }
            return;
        }
        ready.retain_mut(|job| {
            let Some(file) = job.staged.as_mut().and_then(|s| s.unsynced.take()) else {
                return true;
            };
            match rustix::fs::fdatasync(&file) {
                Ok(()) => true,
                Err(errno) => {
                    failed.push(failure(job.step.job, stage::trouble(errno)));
                    false
                }
            }
        });
    }

    fn publish_batch(&self, mut ready: Vec<Job>) {
        let small = ready.len() < SMALL_BATCH;
        let mut parents = Parents::default();
        while !ready.is_empty() {
            let rest = ready.split_off(ready.len().min(CHUNK_STEPS));
            let mut chunk = std::mem::replace(&mut ready, rest);
            self.world.change(|change| {
                let mut publisher = Publisher::new(&self.root, change, &mut parents);
                let outcomes: Vec<Outcome> = chunk
                    .iter_mut()
                    .map(|job| Outcome {
                        job: job.step.job,
                        result: guarded(|| publish(&mut publisher, job)),
                    })
                    .collect();
                publisher.restore_mtimes();
                if !small || !publisher.sync() {
                    self.unsynced.store(true, Ordering::Release);
                }
                let dirs = publisher.changed_dirs();
                // Temporary files of failed steps, and claims, go before anybody hears of it.
                chunk.clear();
                change.finished(outcomes);
                if !dirs.is_empty() {
                    change.seen(dirs);
                }
            });
        }
    }
}

fn close(job: &mut Job) {
    if let Some(staged) = &mut job.staged {
        staged.unsynced = None;
    }
}

fn failure(job: JobId, trouble: Trouble) -> Outcome {
    Outcome {
        job,
        result: Err(trouble),
    }
}

fn publish(publisher: &mut Publisher<'_, '_>, job: &mut Job) -> Done {
    let node = job.step.node;
    let missing = || Trouble::Refused("nothing was prepared".into());
    match (&job.step.act, &mut job.staged) {
        (Act::MakeDir { at, meta }, Some(staged)) => publisher.put_dir(at, *meta, staged),
        (Act::MakeLink { at, over, .. } | Act::Write { at, over, .. }, Some(staged)) => {
            publisher.put(node, at, over.as_ref(), staged)
        }
        (Act::MakeDir { .. } | Act::MakeLink { .. } | Act::Write { .. }, None) => Err(missing()),
        (Act::SetMeta { at, meta, expect }, _) => publisher.set_meta(at, *meta, expect),
        (Act::Move { from, to, expect }, _) => publisher.rename(from, to, expect),
        (Act::Remove { at, expect }, _) => publisher.remove(node, at, expect),
        (Act::Park { at, expect }, _) => publisher.park(node, at, expect),
        (Act::Unpark { to }, _) => publisher.unpark(node, to),
    }
}

/// Bringing in.
impl Shared {
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
            let free = |step: &Step| claimable(step).is_none_or(|h| !queues.claimed.contains(&h));
            if let Some(at) = queues.fetches.iter().position(free)
                && let Some(step) = queues.fetches.remove(at)
            {
                let claim = claimable(&step).map(|hash| {
                    queues.claimed.insert(hash);
                    Claim {
                        shared: Arc::clone(self),
                        hash,
                    }
                });
                return Some((step, claim));
            }
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

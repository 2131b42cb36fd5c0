//! Writing in batches: prepare, make durable, publish.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Act, Input, JobId, Outcome, Source, Step, Trouble};

use super::super::beneath::Parents;
use super::super::fetch::{self, Errand};
use super::super::publish::{Done, Publisher, To};
use super::super::stage::{self, Staged};
use super::{Job, Shared, guarded};

/// A batch ends at this many steps, this many bytes, or after this time.
const BATCH_STEPS: usize = 1000;
const BATCH_BYTES: u64 = 64 << 20;
const BATCH_TIME: Duration = Duration::from_millis(50);

/// Where other programs keep the device busy, a sync can take seconds, for one file as for
/// thousands. Batches then grow with the time of the last sync, up to these.
const SLOW_BATCH_STEPS: usize = 8000;
const SLOW_BATCH_TIME: Duration = Duration::from_secs(2);

/// Fewer files than this are synced one by one: a sync of the whole file system would also wait
/// for everything that other programs have written.
const SMALL_BATCH: usize = 10;

/// Steps published before others get the world's lock.
const CHUNK_STEPS: usize = 64;

impl Shared {
    /// Takes batch after batch until it is told to stop.
    pub(super) fn write_batches(&self) {
        while let Some(first) = self.next_write() {
            let (ready, failed) = self.prepare_batch(first);
            if !failed.is_empty() {
                self.world.tell(Input::Finished(failed));
            }
            self.publish_batch(ready);
        }
    }

    /// The next step to carry out. Between steps, and before the end, what was displaced is
    /// deleted when its time has come.
    fn next_write(&self) -> Option<Job> {
        loop {
            self.root.delete_due(Instant::now());
            let mut queues = self.lock();
            let stopped = self.stopped();
            if !stopped && let Some(job) = queues.writes.pop_front() {
                return Some(job);
            }
            match self.root.displaced().due() {
                None if stopped => return None,
                None => drop(
                    self.to_write
                        .wait(queues)
                        .unwrap_or_else(PoisonError::into_inner),
                ),
                Some(due) => drop(
                    self.to_write
                        .wait_timeout(queues, due.saturating_duration_since(Instant::now()))
                        .unwrap_or_else(PoisonError::into_inner),
                ),
            }
        }
    }

    /// Prepares steps until the batch is full or the queue is empty, and makes their content
    /// durable. Answers what can be published and what has failed.
    fn prepare_batch(&self, first: Job) -> (Vec<Job>, Vec<Outcome>) {
        let last_sync = Duration::from_micros(self.last_sync_us.load(Ordering::Relaxed));
        let time = last_sync.clamp(BATCH_TIME, SLOW_BATCH_TIME);
        let steps = if time > BATCH_TIME {
            SLOW_BATCH_STEPS
        } else {
            BATCH_STEPS
        };
        let (mut batch, started) = (Batch::default(), Instant::now());
        let mut next = Some(first);
        while let Some(mut job) = next.take() {
            if job.staged.is_none() {
                match guarded(|| self.prepare(&job.step)) {
                    Ok(staged) => {
                        job.staged = staged;
                        batch.add(job);
                    }
                    Err(trouble) => batch.failed.push(failure(job.step.job, trouble)),
                }
            } else {
                batch.add(job);
            }
            let full = batch.ready.len() >= steps
                || batch.bytes >= BATCH_BYTES
                || started.elapsed() >= time;
            if !full && !self.stopped() {
                next = self.lock().writes.pop_front();
            }
        }
        self.sync_batch(&mut batch);
        (batch.ready, batch.failed)
    }

    pub(super) fn prepare(&self, step: &Step) -> Result<Option<Staged>, Trouble> {
        let root = &self.root;
        match &step.act {
            Act::MakeDir { meta, .. } => stage::dir(root, *meta).map(Some),
            Act::MakeLink { target, mtime, .. } => stage::link(root, target, *mtime).map(Some),
            Act::Write {
                meta,
                size,
                hash,
                source,
                over,
                ..
            } => match source {
                Source::Here(bytes) => {
                    let over = over.as_ref();
                    stage::from_bytes(root, bytes, (*size, *hash), *meta, over).map(Some)
                }
                Source::Local { from, expect } => {
                    let (over, stop) = (over.as_ref(), &self.stop);
                    let content = (*size, *hash);
                    stage::from_local(root, from, expect, content, *meta, over, stop).map(Some)
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
    fn sync_batch(&self, batch: &mut Batch) {
        if batch.files >= SMALL_BATCH {
            let started = Instant::now();
            let synced = rustix::fs::syncfs(self.root.fd());
            let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.last_sync_us.store(took, Ordering::Relaxed);
            if let Err(errno) = synced {
                batch.give_up_files(|| stage::trouble(errno));
            }
            return;
        }
        let failed = &mut batch.failed;
        batch.ready.retain_mut(|job| {
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

/// Steps that are prepared and not yet published.
#[derive(Default)]
struct Batch {
    ready: Vec<Job>,
    failed: Vec<Outcome>,
    /// How many of the steps have content that may not be on the device yet.
    files: usize,
    bytes: u64,
}

impl Batch {
    fn add(&mut self, mut job: Job) {
        if let Some(staged) = &mut job.staged {
            self.bytes += staged.print.size;
            self.files += usize::from(staged.unsynced.is_some());
            // From here on one sync serves all; no need to hold hundreds of files open.
            if self.files >= SMALL_BATCH {
                staged.unsynced = None;
            }
        }
        self.ready.push(job);
        if self.files == SMALL_BATCH {
            for staged in self.ready.iter_mut().filter_map(|job| job.staged.as_mut()) {
                staged.unsynced = None;
            }
        }
    }

    /// Nothing that was written in this batch can be trusted to be on the device.
    fn give_up_files(&mut self, trouble: impl Fn() -> Trouble) {
        let is_file = |job: &Job| matches!(job.step.act, Act::Write { .. });
        let (files, others): (Vec<Job>, _) = self.ready.drain(..).partition(is_file);
        self.ready = others;
        let lost = files.iter().map(|job| failure(job.step.job, trouble()));
        self.failed.extend(lost);
    }
}

/// A step that was not done.
pub(super) fn failure(job: JobId, trouble: Trouble) -> Outcome {
    Outcome {
        job,
        result: Err(trouble),
    }
}

fn publish(publisher: &mut Publisher<'_, '_>, job: &mut Job) -> Done {
    let node = job.step.node;
    let put_at = |path| To {
        path,
        within: job.step.within.as_ref(),
    };
    let missing = || Trouble::Refused("nothing was prepared".into());
    match (&job.step.act, &mut job.staged) {
        (Act::MakeDir { at, meta }, Some(staged)) => publisher.put_dir(put_at(at), *meta, staged),
        (Act::MakeLink { at, over, .. } | Act::Write { at, over, .. }, Some(staged)) => {
            publisher.put(node, put_at(at), over.as_ref(), staged)
        }
        (Act::MakeDir { .. } | Act::MakeLink { .. } | Act::Write { .. }, None) => Err(missing()),
        (Act::SetMeta { at, meta, expect }, _) => publisher.set_meta(at, *meta, expect),
        (Act::Move { from, to, expect }, _) => publisher.rename(from, put_at(to), expect),
        (Act::Remove { at, expect }, _) => publisher.remove(node, at, expect),
        (Act::Park { at, expect }, _) => publisher.park(node, at, expect),
        (Act::Unpark { to }, _) => publisher.unpark(node, put_at(to)),
    }
}

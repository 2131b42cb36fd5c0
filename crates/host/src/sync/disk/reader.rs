//! Reading files for their hashes, on two threads.
//!
//! Every request gets exactly one answer: `Hashed` if the file was the same before and after it
//! was read, `Unread` otherwise. A file that keeps changing is looked at again after a while that
//! grows from 50 ms to 2 s, so that a log file does not keep a processor busy; the look leads to
//! the next request.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Input, Print, Time};
use ahoy_wire::sync::{Hash, RelPath};
use rustix::io::Errno;

use super::Root;
use super::eyes::Asks;
use super::hashing::hash_all;
use super::print;
use super::world::World;

/// How many files are read at the same time.
const THREADS: usize = 2;

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A file changed within this time may not be on the device yet; what others are told of must be.
/// Kernels write content out after 30 s and names after 5 s, and after minutes where they are to
/// spare a battery.
const FRESH: Time = 600_000_000_000;

/// With more files than this in the queue, one sync of the file system serves them all.
const SINGLE_SYNCS_MAX: usize = 8;

/// Files for which the queue keeps room when it is empty: a first look can ask for a million at
/// once.
const QUEUE_KEPT: usize = 4096;

/// First and longest wait before a file that changed while it was read is looked at again.
const PATIENCE_FIRST: Duration = Duration::from_millis(50);
const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// A file that was quiet for this long starts with the first wait again.
const PATIENCE_FORGOTTEN: Duration = Duration::from_secs(30);

/// Most files whose patience is remembered.
const RESTLESS_MAX: usize = 4096;

/// How long a content is kept for a peer that is to get it with its record, after the last file
/// has been read.
const RECENT_FOR: Duration = Duration::from_secs(2);

/// The threads that read.
pub(super) struct Reader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    root: Arc<Root>,
    world: Arc<World>,
    asks: Arc<Asks>,
    unsynced: Arc<AtomicBool>,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    files: VecDeque<(RelPath, Print)>,
    restless: HashMap<RelPath, (Duration, Instant)>,
    stop: bool,
}

/// Why a file has no hash.
#[derive(Debug, PartialEq, Eq)]
enum Miss {
    Changing,
    System(Errno),
}

impl From<Errno> for Miss {
    fn from(errno: Errno) -> Self {
        match errno {
            // Gone, or something else by now.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::XDEV => {
                Self::Changing
            }
            _ => Self::System(errno),
        }
    }
}

impl Reader {
    pub(super) fn start(
        root: Arc<Root>,
        world: Arc<World>,
        asks: Arc<Asks>,
        unsynced: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let (queue, filled) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared {
            root,
            world,
            asks,
            unsynced,
            queue,
            filled,
        });
        let mut reader = Self {
            shared,
            threads: Vec::new(),
        };
        for _ in 0..THREADS {
            let shared = Arc::clone(&reader.shared);
            let thread = std::thread::Builder::new().name("reader".into());
            reader.threads.push(thread.spawn(move || shared.run())?);
        }
        Ok(reader)
    }

    /// Reads `path` if it is still `print`; the answer is `Hashed` or `Unread`.
    pub(super) fn read(&self, path: RelPath, print: Print) {
        self.shared.lock().files.push_back((path, print));
        self.shared.filled.notify_one();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.filled.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut buffer = vec![0; PIECE_BYTES];
        while let Some((path, expect, waiting)) = self.next() {
            let work = AssertUnwindSafe(|| self.hash(&path, &expect, waiting, &mut buffer));
            let result = std::panic::catch_unwind(work).unwrap_or(Err(Miss::System(Errno::IO)));
            self.answer(path, result);
        }
    }

    /// The next file, and how many more wait behind it.
    fn next(&self) -> Option<(RelPath, Print, usize)> {
        let mut queue = self.lock();
        loop {
            if queue.stop {
                return None;
            }
            if let Some((path, print)) = queue.files.pop_front() {
                return Some((path, print, queue.files.len()));
            }
            queue.files.shrink_to(QUEUE_KEPT);
            if self.root.recent().is_empty() {
                let woken = self.filled.wait(queue);
                queue = woken.unwrap_or_else(PoisonError::into_inner);
            } else {
                let woken = self.filled.wait_timeout(queue, RECENT_FOR);
                let (after, waited) = woken.unwrap_or_else(PoisonError::into_inner);
                queue = after;
                if waited.timed_out() {
                    self.root.recent().forget();
                }
            }
        }
    }

    fn answer(&self, path: RelPath, result: Result<(Print, Hash), Miss>) {
        let input = match result {
            Ok((print, hash)) => {
                self.lock().restless.remove(&path);
                Input::Hashed { path, print, hash }
            }
            Err(Miss::Changing) => {
                let delay = self.patience(&path);
                self.asks.look_later(&path, delay);
                let reason = "it is still being written".into();
                Input::Unread {
                    path,
                    reason,
                    changing: true,
                }
            }
            Err(Miss::System(errno)) => Input::Unread {
                path,
                reason: print::words(errno),
                changing: false,
            },
        };
        self.world.tell(input);
    }

    /// How long to wait before looking at `path` again: longer every time.
    fn patience(&self, path: &RelPath) -> Duration {
        let (now, mut queue) = (Instant::now(), self.lock());
        if queue.restless.len() >= RESTLESS_MAX {
            queue
                .restless
                .retain(|_, (_, last)| now - *last < PATIENCE_FORGOTTEN);
        }
        let before = queue
            .restless
            .get(path)
            .filter(|(_, last)| now - *last < PATIENCE_FORGOTTEN);
        let delay = before.map_or(PATIENCE_FIRST, |(delay, _)| (*delay * 2).min(PATIENCE_MAX));
        if queue.restless.len() < RESTLESS_MAX || queue.restless.contains_key(path) {
            queue.restless.insert(path.clone(), (delay, now));
        }
        delay
    }

    fn hash(
        &self,
        path: &RelPath,
        expect: &Print,
        waiting: usize,
        buffer: &mut [u8],
    ) -> Result<(Print, Hash), Miss> {
        let (file, before) = self.root.open_file(path)?;
        let before = before.print;
        if !before.same(expect) {
            return Err(Miss::Changing);
        }
        if before.ctime > print::now() - FRESH {
            // A power cut that takes what was told would look like an edit. The name has to last
            // as well: a file that was synced, and then renamed, needs more than `fdatasync`.
            if waiting > SINGLE_SYNCS_MAX {
                self.unsynced.store(true, Ordering::Release);
            } else {
                rustix::fs::fsync(&file)?;
            }
        }
        let (hash, size) = hash_all(&file, buffer, expect.size)?;
        let after = print::glance_open(&file, self.root.device())?.print;
        if !after.same(expect) || size != expect.size {
            return Err(Miss::Changing);
        }
        // A peer is nearly always told of it next, and gets it along.
        if let Some(content) = buffer.get(..size as usize) {
            self.root.recent().keep(hash, content);
        }
        // If it was too fresh when the reading began, a write since may have left no trace.
        let racy = before.racy;
        Ok((Print { racy, ..after }, hash))
    }
}

//! Reading everything again, at a rate that disturbs nobody, to find what the disk has changed by
//! itself (`sync-36`).
//!
//! This only reads, past the page cache, and tells the engine; what a difference means is decided
//! there. Before the engine hears of a file with other bytes, they are copied to `.ahoy/damaged`:
//! a program that writes through a mapping can change bytes without a trace in the fingerprint,
//! and nobody's bytes are to be lost.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Input, Suspect, Tally};
use ahoy_wire::sync::Hash;
use rustix::fs::{Advice, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::conductor::{Mailbox, Shared};
use super::disk::{Listener, Root};
use super::exact::Exact;

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The longest pause between two pieces, however low the rate: an end is noticed within that time.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// How long the engine may take to hear the last of it.
const LAST_WORD: Duration = Duration::from_secs(30);

/// Most rotten files that are named.
const NAMED_MAX: usize = 100;

/// Reads a folder again when asked to.
pub struct Scrubber {
    engine: Shared,
    root: Arc<Root>,
    mailbox: Mailbox,
    state: Mutex<Progress>,
    stop: AtomicBool,
}

/// How far a reading has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// It goes on.
    pub running: bool,
    /// Files read.
    pub files: u64,
    /// Files in the share when it began.
    pub files_all: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes in the share when it began.
    pub bytes_all: u64,
    /// Files that were being changed, or that the system would not read.
    pub skipped: u64,
    /// Files that had rotted.
    pub rotten: u64,
    /// Those of them that are not repaired yet; the first hundred.
    pub unrepaired: Vec<Exact>,
}

/// What became of one file.
enum Read {
    /// Nothing to tell.
    Quiet,
    /// The engine has been told what it holds.
    Told,
    Skipped,
}

impl Scrubber {
    /// For this folder.
    pub fn new(engine: Shared, root: Arc<Root>, mailbox: Mailbox) -> Arc<Self> {
        let (state, stop) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self {
            engine,
            root,
            mailbox,
            state,
            stop,
        })
    }

    /// Begins to read, at this many bytes per second (0: as fast as it goes), unless that goes on
    /// already.
    pub fn start(self: &Arc<Self>, rate: u64) -> io::Result<()> {
        let mut state = self.state();
        if state.running || self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let census = self.engine.lock().progress().census;
        *state = Progress {
            running: true,
            files_all: census.files,
            bytes_all: census.bytes,
            ..Progress::default()
        };
        let scrubber = Arc::clone(self);
        let thread = std::thread::Builder::new().name("scrub".into());
        let spawned = thread.spawn(move || scrubber.run(rate));
        state.running = spawned.is_ok();
        spawned.map(drop)
    }

    /// How far it has come, or how the last one ended.
    pub fn progress(&self) -> Progress {
        let mut progress = self.state().clone();
        let rotten = self.engine.lock().rotten(NAMED_MAX);
        progress.unrepaired = rotten.iter().map(Exact::from).collect();
        progress
    }

    /// Ends it for good; returns at once.
    pub fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, Progress> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, rate: u64) {
        let before = self.engine.lock().tally();
        let mut told = 0;
        let mut after = None;
        let mut pace = Pace::new(rate);
        let mut buffer = vec![0; PIECE_BYTES];
        while !self.stop.load(Ordering::Relaxed) {
            let Some(suspect) = self.engine.lock().next_suspect(after) else {
                break;
            };
            after = Some(suspect.node);
            let read = self.read(&suspect, &mut buffer, &mut pace);
            let read = read.unwrap_or_else(|error| {
                tracing::debug!(path = ?suspect.path, %error, "not read again");
                Read::Skipped
            });
            let mut state = self.state();
            match read {
                Read::Quiet => state.files += 1,
                Read::Told => {
                    state.files += 1;
                    told += 1;
                }
                Read::Skipped => state.skipped += 1,
            }
        }
        let rotten = self.await_verdict(before, told);
        let mut state = self.state();
        state.rotten = rotten;
        state.running = false;
    }

    /// Waits until the engine has heard everything; how many files it holds for rotten.
    fn await_verdict(&self, before: Tally, told: u64) -> u64 {
        let deadline = Instant::now() + LAST_WORD;
        loop {
            let now = self.engine.lock().tally();
            let is_heard = now.told >= before.told + told;
            let is_over = self.stop.load(Ordering::Relaxed) || Instant::now() > deadline;
            if is_heard || is_over {
                return now.rotten.saturating_sub(before.rotten);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads one file; tells the engine if it holds something else than it did.
    fn read(&self, suspect: &Suspect, buffer: &mut [u8], pace: &mut Pace) -> io::Result<Read> {
        let file = self.root.open_for_serving(&suspect.path)?;
        let print = self.root.print(&file)?;
        if !print.same(&suspect.print) {
            return Ok(Read::Skipped);
        }
        let hash = self.hash(&file, buffer, pace)?;
        if !self.root.print(&file)?.same(&print) {
            return Ok(Read::Skipped);
        }
        // A fingerprint that is too young to be trusted becomes one that is, by this reading.
        let is_racy = suspect.print.racy;
        if hash == suspect.hash && !is_racy {
            return Ok(Read::Quiet);
        }
        if hash != suspect.hash && !is_racy {
            self.keep_aside(&file, suspect, hash)?;
        }
        let path = suspect.path.clone();
        Listener::input(&self.mailbox, Input::Scrubbed { path, print, hash });
        Ok(Read::Told)
    }

    fn hash(&self, file: &File, buffer: &mut [u8], pace: &mut Pace) -> io::Result<Hash> {
        // What is in memory says nothing of the disk. Pages that are not written yet stay.
        rustix::fs::fadvise(file.as_fd(), 0, None, Advice::DontNeed)?;
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = match rustix::io::pread(file, &mut *buffer, offset) {
                Ok(0) => break,
                Ok(count) => count,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            hasher.update(&buffer[..count]);
            offset += count as u64;
            self.state().bytes += count as u64;
            pace.wait(count as u64, &self.stop);
        }
        // Nor is anything pushed out of memory for the sake of this.
        rustix::fs::fadvise(file.as_fd(), 0, None, Advice::DontNeed)?;
        Ok(Hash(*hasher.finalize().as_bytes()))
    }

    /// Copies what has rotted into the state directory, under its name and hash, once.
    fn keep_aside(&self, file: &File, suspect: &Suspect, hash: Hash) -> io::Result<()> {
        let dir = self.root.damaged()?;
        let hex: String = hash.0[..8].iter().map(|b| format!("{b:02x}")).collect();
        let name = suspect.path.split().map(|(_, name)| name);
        let name = name.map_or(Vec::new(), |name| name.as_bytes().to_vec());
        // With the hash it still is a name of at most 255 bytes.
        let kept = &name[..name.len().min(230)];
        let name = [hex.as_bytes(), b" ", kept].concat();
        let part = [hex.as_bytes(), b" part"].concat();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let copy = rustix::fs::openat(&dir, &part, flags | OFlags::CLOEXEC, Mode::RUSR)?;
        let mut source = file;
        io::Seek::seek(&mut source, io::SeekFrom::Start(0))?;
        let mut copy = File::from(copy);
        io::copy(&mut source, &mut copy)?;
        copy.sync_all()?;
        rustix::fs::renameat(&dir, &part, &dir, &name)?;
        Ok(())
    }
}

/// Keeps a rate, by pauses between pieces.
struct Pace {
    rate: u64,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self {
            rate,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn wait(&mut self, count: u64, stop: &AtomicBool) {
        self.bytes += count;
        while let Some(ahead) = self.ahead() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(ahead.min(PAUSE_MAX));
        }
    }

    /// How much sooner this came than it should.
    fn ahead(&self) -> Option<Duration> {
        let nanos = u128::from(self.bytes) * 1_000_000_000;
        let due = nanos.checked_div(u128::from(self.rate))?;
        let due = Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX));
        due.checked_sub(self.since.elapsed())
            .filter(|ahead| !ahead.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept() {
        let ahead = |rate, bytes| {
            let pace = Pace {
                bytes,
                ..Pace::new(rate)
            };
            pace.ahead()
        };
        assert_eq!(ahead(0, 1 << 40), None, "as fast as it goes");
        let second = ahead(1 << 20, 10 << 20).expect("too soon");
        assert!(second > Duration::from_secs(9) && second <= Duration::from_secs(10));
        let long_ago = Pace {
            since: Instant::now()
                .checked_sub(Duration::from_secs(1))
                .expect("the machine runs for longer"),
            bytes: 100,
            rate: 1000,
        };
        assert_eq!(long_ago.ahead(), None);
    }
}

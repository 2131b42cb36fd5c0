//! The access log: a thread that writes, so that a full disk or a paused pager never stops a
//! worker (web-66).
//!
//! What it cannot write in time is dropped and counted. It does not rotate: the file is opened for
//! appending, so a tool that copies and truncates it can.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::Duration;

use tracing::warn;

/// Most bytes that may wait to be written.
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most batches that may wait; a batch is what one turn of one worker logged.
const WAITING_BATCHES_MAX: usize = 1024;
/// How long the end of the server waits for what is still to be written.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// The thread that writes the log.
#[derive(Debug)]
pub struct AccessLog {
    writer: LogWriter,
    /// Nothing ever comes here; it ends when the thread does.
    ended: Receiver<()>,
}

/// One worker's end of it.
#[derive(Clone, Debug)]
pub struct LogWriter {
    batches: SyncSender<Vec<u8>>,
    waiting: Arc<Waiting>,
    dropped: Arc<AtomicU64>,
}

/// What the thread has yet to write.
#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    batches: AtomicU64,
}

impl AccessLog {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (batches, received) = sync_channel(WAITING_BATCHES_MAX);
        let waiting = Arc::<Waiting>::default();
        let writer = LogWriter {
            batches,
            waiting: waiting.clone(),
            dropped: Arc::default(),
        };
        let (end, ended) = channel::<()>();
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                write_all(out, &received, &waiting);
                drop(end);
            })?;
        Ok(Self { writer, ended })
    }

    /// An end for one worker.
    pub fn writer(&self) -> LogWriter {
        self.writer.clone()
    }

    /// Waits until everything is written, but not for long; the workers' ends must be gone. Says
    /// how many batches are lost: dropped, or still not written.
    pub fn finish(self) -> u64 {
        self.finish_within(FINISH_MAX)
    }

    fn finish_within(self, wait: Duration) -> u64 {
        let LogWriter {
            batches,
            waiting,
            dropped,
        } = self.writer;
        drop(batches);
        let unwritten = match self.ended.recv_timeout(wait) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => 0,
            Err(RecvTimeoutError::Timeout) => waiting.batches.load(Ordering::Relaxed),
        };
        dropped.load(Ordering::Relaxed) + unwritten
    }
}

impl LogWriter {
    /// Hands over some lines, or drops them if too many wait.
    pub fn write(&self, lines: Vec<u8>) {
        let len = lines.len();
        let waiting = self.waiting.bytes.fetch_add(len, Ordering::Relaxed);
        self.waiting.batches.fetch_add(1, Ordering::Relaxed);
        if waiting + len > WAITING_BYTES_MAX || self.batches.try_send(lines).is_err() {
            self.waiting.less(len);
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!("the access log cannot keep up; lines are being dropped");
            }
        }
    }
}

impl Waiting {
    /// One batch waits no longer.
    fn less(&self, len: usize) {
        self.bytes.fetch_sub(len, Ordering::Relaxed);
        self.batches.fetch_sub(1, Ordering::Relaxed);
    }
}

fn write_all(mut out: impl Write, received: &Receiver<Vec<u8>>, waiting: &Waiting) {
    let mut broken = false;
    while let Ok(lines) = received.recv() {
        if !broken && let Err(error) = out.write_all(&lines).and_then(|()| out.flush()) {
            warn!(%error, "the access log cannot be written any more");
            broken = true;
        }
        waiting.less(lines.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_written_before_the_end() {
        let shared = Shared::default();
        let log = AccessLog::start(shared.clone()).expect("a thread");
        let writer = log.writer();
        for _ in 0..100 {
            writer.write(b"line\n".to_vec());
        }
        drop(writer);
        assert_eq!(log.finish(), 0);
        let written = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(*written, b"line\n".repeat(100));
    }

    /// Blocks in its first write until told to go on.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_log_stops_nobody_and_holds_little() {
        let (go_on, stuck) = mpsc::channel();
        let log = AccessLog::start(Stuck(stuck)).expect("a thread");
        let writer = log.writer();
        let batch = vec![b'x'; 64 * 1024];
        for _ in 0..200 {
            writer.write(batch.clone());
        }
        assert!(writer.waiting.bytes.load(Ordering::Relaxed) <= WAITING_BYTES_MAX);
        drop((go_on, writer));
        assert!(log.finish() >= 200 - (WAITING_BYTES_MAX / batch.len()) as u64);
    }

    #[test]
    fn the_end_does_not_wait_for_a_stuck_log() {
        let (_go_on, stuck) = mpsc::channel();
        let log = AccessLog::start(Stuck(stuck)).expect("a thread");
        let writer = log.writer();
        for _ in 0..3 {
            writer.write(b"line\n".to_vec());
        }
        drop(writer);
        assert_eq!(log.finish_within(Duration::from_millis(1)), 3);
    }
}

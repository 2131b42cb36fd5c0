//! The access log: a thread that writes, so that a full disk or a paused pager never stops a
//! worker (web-66).
//!
//! What it cannot write in time is dropped and counted. It does not rotate: the file is opened for
//! appending, so a tool that copies and truncates it can.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tracing::warn;

/// Most bytes that may wait to be written.
pub const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most batches that may wait; a batch is what one turn of one worker logged.
const WAITING_BATCHES_MAX: usize = 1024;

/// The thread that writes the log.
#[derive(Debug)]
pub struct AccessLog {
    writer: LogWriter,
    thread: JoinHandle<()>,
}

/// One worker's end of it.
#[derive(Clone, Debug)]
pub struct LogWriter {
    batches: SyncSender<Vec<u8>>,
    waiting_len: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (batches, received) = sync_channel(WAITING_BATCHES_MAX);
        let waiting_len = Arc::new(AtomicUsize::new(0));
        let writer = LogWriter {
            batches,
            waiting_len: waiting_len.clone(),
            dropped: Arc::default(),
        };
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(out, &received, &waiting_len))?;
        Ok(Self { writer, thread })
    }

    /// An end for one worker.
    pub fn writer(&self) -> LogWriter {
        self.writer.clone()
    }

    /// Waits until everything is written; the workers' ends must be gone. Says how many batches
    /// had to be dropped.
    pub fn finish(self) -> u64 {
        let dropped = self.writer.dropped.clone();
        drop(self.writer);
        if self.thread.join().is_err() {
            warn!("the access log's thread panicked");
        }
        dropped.load(Ordering::Relaxed)
    }
}

impl LogWriter {
    /// Hands over some lines, or drops them if too many wait.
    pub fn write(&self, lines: Vec<u8>) {
        let len = lines.len();
        let waiting = self.waiting_len.fetch_add(len, Ordering::Relaxed);
        if waiting + len > WAITING_BYTES_MAX || self.batches.try_send(lines).is_err() {
            self.waiting_len.fetch_sub(len, Ordering::Relaxed);
            if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                warn!("the access log cannot keep up; lines are being dropped");
            }
        }
    }
}

fn write_all(mut out: impl Write, received: &Receiver<Vec<u8>>, waiting_len: &AtomicUsize) {
    let mut broken = false;
    while let Ok(lines) = received.recv() {
        if !broken && let Err(error) = out.write_all(&lines).and_then(|()| out.flush()) {
            warn!(%error, "the access log cannot be written any more");
            broken = true;
        }
        waiting_len.fetch_sub(lines.len(), Ordering::Relaxed);
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
        assert!(writer.waiting_len.load(Ordering::Relaxed) <= WAITING_BYTES_MAX);
        drop((go_on, writer));
        assert!(log.finish() >= 200 - (WAITING_BYTES_MAX / batch.len()) as u64);
    }
}

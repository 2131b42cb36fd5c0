//! Where lines go: straight to standard output and standard error, or by way of a thread for each.
//!
//! A verb that answers a question prints by itself and waits as long as its reader does. A verb
//! that serves must not: a pager that is not paged, or a pipe that nobody reads, would stop the
//! service, and then its ending too. So it calls [`detach`], and from then on whoever prints waits
//! for a slow reader [`PATIENCE`] at most; after that lines are left out until the reader goes on,
//! and then their number is told. [`finish`] gives the last words a moment to be taken.
//!
//! What draws on a terminal by itself stays attached, and has [`insist`] instead.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes that may wait to be written on each stream; one line that is longer may wait alone.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// How long printing waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of the process waits for what was printed to be taken, on each stream.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Set once the process prints by threads.
static QUEUES: OnceLock<Queues> = OnceLock::new();

struct Queues {
    out: Arc<Queue>,
    err: Arc<Queue>,
}

/// Prints text that ends its line. Nobody there to read it is no failure.
pub fn print(stream: Stream, text: &str) {
    match (QUEUES.get(), stream) {
        (Some(queues), Stream::Out) => queues.out.push(text.as_bytes()),
        (Some(queues), Stream::Err) => queues.err.push(text.as_bytes()),
        (None, stream) => print_directly(stream, text),
    }
}

/// From now on printing waits for no reader for long. Call it after the process was confined,
/// since it starts threads, and before signals are caught.
///
/// # Errors
/// If there are no threads to be had.
pub fn detach() -> io::Result<()> {
    if QUEUES.get().is_some() {
        return Ok(());
    }
    let err = Queue::start("stderr", io::stderr(), |left_out| {
        print_directly(Stream::Err, &left_out_words(left_out, "standard error"));
    })?;
    let out = Queue::start("stdout", io::stdout(), |left_out| {
        print(Stream::Err, &left_out_words(left_out, "standard output"));
    })?;
    // If somebody else was faster, these two have nothing to do, ever.
    let _ = QUEUES.set(Queues { out, err });
    Ok(())
}

/// Lets what was printed be taken, as long as that may take.
pub fn finish() {
    if let Some(queues) = QUEUES.get() {
        queues.out.drain(LAST_WORDS_MAX);
        queues.err.drain(LAST_WORDS_MAX);
    }
}

/// Ends the process with status 3 if it is still there after `wait`. For what draws on a terminal,
/// and waits as long as the terminal is held (Ctrl-S).
pub fn insist(wait: Duration) {
    let end = move || {
        thread::sleep(wait);
        std::process::exit(3);
    };
    // Without a thread the user can still end it by force.
    let _ = thread::Builder::new().name("insist".to_owned()).spawn(end);
}

/// Standard error for the log.
pub struct LogWriter;

impl Write for LogWriter {
    /// Takes whole lines, which is how the log comes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        print(Stream::Err, &String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn print_directly(stream: Stream, text: &str) {
    let _ = match stream {
        Stream::Out => {
            let mut stdout = io::stdout().lock();
            stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
        }
        // In one piece: what else writes there does not tear it.
        Stream::Err => io::stderr().write_all(text.as_bytes()),
    };
}

fn left_out_words(count: u64, whence: &str) -> String {
    format!("Note: nobody read {whence} for a while; {count} lines were left out\n")
}

/// Lines on their way to one reader.
struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Something was written.
    drained: Condvar,
    bytes_max: usize,
    patience: Duration,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    is_writing: bool,
    /// The reader has been waited for in vain, and has taken nothing since.
    is_stuck: bool,
    /// Lines, since the reader got stuck.
    left_out: u64,
}

impl Queue {
    fn start(
        name: &str,
        out: impl Write + Send + 'static,
        on_left_out: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        Self::start_with(WAITING_BYTES_MAX, PATIENCE, name, out, on_left_out)
    }

    fn start_with(
        bytes_max: usize,
        patience: Duration,
        name: &str,
        out: impl Write + Send + 'static,
        on_left_out: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            bytes_max,
            patience,
        });
        let worker = Arc::clone(&queue);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || worker.write_for_ever(out, on_left_out))?;
        Ok(queue)
    }

    /// Takes the text in, or leaves it out if the reader has left no room for too long.
    fn push(&self, text: &[u8]) {
        let mut state = self.lock();
        if !self.has_room(&state, text) && !state.is_stuck {
            let full = |state: &mut State| !self.has_room(state, text) && !state.is_stuck;
            let waited = self
                .drained
                .wait_timeout_while(state, self.patience, full)
                .unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
            state.is_stuck |= waited.1.timed_out();
        }
        if self.has_room(&state, text) {
            state.waiting.extend_from_slice(text);
            self.filled.notify_one();
        } else {
            state.left_out += 1;
        }
    }

    fn has_room(&self, state: &State, text: &[u8]) -> bool {
        state.waiting.is_empty() || state.waiting.len() + text.len() <= self.bytes_max
    }

    fn write_for_ever(&self, mut out: impl Write, on_left_out: impl Fn(u64)) {
        loop {
            let mut state = self
                .filled
                .wait_while(self.lock(), |state| state.waiting.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            let text = mem::take(&mut state.waiting);
            state.is_writing = true;
            drop(state);
            // A reader that is gone is no reason to end, nor to stop taking lines.
            let _ = out.write_all(&text).and_then(|()| out.flush());
            let mut state = self.lock();
            state.is_writing = false;
            state.is_stuck = false;
            let left_out = mem::take(&mut state.left_out);
            drop(state);
            if left_out > 0 {
                on_left_out(left_out);
            }
            self.drained.notify_all();
        }
    }

    /// Waits until everything is written; false if that took too long.
    fn drain(&self, wait: Duration) -> bool {
        let busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let waited = self.drained.wait_timeout_while(self.lock(), wait, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Hands over what is written, and waits to be told to go on after each piece.
    struct Slow {
        taken: Sender<Vec<u8>>,
        go_on: Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.taken.send(bytes.to_vec()).expect("the test goes on");
            self.go_on.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fixture {
        queue: Arc<Queue>,
        taken: Receiver<Vec<u8>>,
        go_on: Sender<()>,
        left_out: Receiver<u64>,
    }

    fn fixture(patience: Duration) -> Fixture {
        let (taken, received) = channel();
        let (go_on, told) = channel();
        let (tell_left_out, left_out) = channel();
        let slow = Slow { taken, go_on: told };
        let tell = move |count| tell_left_out.send(count).expect("the test goes on");
        let queue = Queue::start_with(8, patience, "test", slow, tell).expect("a thread");
        Fixture {
            queue,
            taken: received,
            go_on,
            left_out,
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_is_waited_for_once_and_told_of_what_was_left_out() {
        let it = fixture(Duration::from_millis(1));
        it.queue.push(b"one\n");
        assert_eq!(it.taken.recv_timeout(LONG).as_deref(), Ok(&b"one\n"[..]));
        it.queue.push(b"two\n");
        it.queue.push(b"six\n");
        for _ in 0..1000 {
            it.queue.push(b"ten\n");
        }
        assert!(!it.queue.drain(Duration::from_millis(1)), "it is stuck");
        it.go_on.send(()).expect("it waits");
        let next = it.taken.recv_timeout(LONG);
        assert_eq!(next.as_deref(), Ok(&b"two\nsix\n"[..]));
        assert_eq!(it.left_out.recv_timeout(LONG), Ok(1000));
        it.queue.push(b"new\n");
        it.go_on.send(()).expect("it waits");
        assert_eq!(it.taken.recv_timeout(LONG).as_deref(), Ok(&b"new\n"[..]));
        it.go_on.send(()).expect("it waits");
        assert!(it.queue.drain(LONG));
    }

    #[test]
    fn a_slow_reader_slows_and_loses_nothing() {
        let it = fixture(LONG);
        let queue = Arc::clone(&it.queue);
        let printing = thread::spawn(move || {
            for number in 0..100 {
                queue.push(format!("{number}\n").as_bytes());
            }
        });
        let mut all = Vec::new();
        while all.len() < 290 {
            all.extend(it.taken.recv_timeout(LONG).expect("more"));
            it.go_on.send(()).expect("it waits");
        }
        printing.join().expect("it prints");
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8_lossy(&all), expected);
        assert!(it.queue.drain(LONG));
        assert!(it.left_out.try_recv().is_err());
    }

    #[test]
    fn a_line_longer_than_all_the_room_may_wait_alone_and_a_reader_that_is_gone_stops_nobody() {
        let it = fixture(LONG);
        it.queue.push(&[b'x'; 100]);
        assert_eq!(it.taken.recv_timeout(LONG).map(|it| it.len()), Ok(100));
        drop(it.go_on);
        assert!(it.queue.drain(LONG), "what cannot be written is forgotten");
        it.queue.push(b"one\n");
        assert!(it.queue.drain(LONG));
    }
}

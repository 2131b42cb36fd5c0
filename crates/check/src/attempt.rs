//! One run of one case: how long it may take, and what was said.
//!
//! Every tool that a script uses asks the attempt how long it may still wait, so that no server can
//! hold the examiner: not by silence, not by a trickle. The transcript is what a failing report
//! shows; it keeps the first entries and the beginning of each, and counts the rest.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::case::Failure;

/// At most this many entries are kept of one attempt's transcript.
pub const TRANSCRIPT_ENTRIES_MAX: usize = 64;

/// At most this many bytes of one message are shown.
pub const SHOWN_BYTES_MAX: usize = 160;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest wait for one step of the other side: an accept, an answer, an end of stream.
    pub reply_max: Duration,
    /// How long to listen before believing that nothing comes.
    pub quiet: Duration,
    /// The longest time for a whole case, its own patience not counted.
    pub case_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reply_max: Duration::from_secs(2),
            quiet: Duration::from_millis(300),
            case_max: Duration::from_secs(20),
        }
    }
}

/// One run of one case.
#[derive(Debug)]
pub struct Attempt {
    /// How long things may take.
    pub limits: Limits,
    ends: Instant,
    transcript: Mutex<Transcript>,
}

#[derive(Debug, Default)]
struct Transcript {
    entries: Vec<String>,
    left_out: usize,
}

impl Attempt {
    /// An attempt that starts now; `patience` is the case's own.
    #[must_use]
    pub fn start(limits: Limits, patience: Duration) -> Self {
        Self {
            limits,
            ends: Instant::now() + limits.case_max + patience,
            transcript: Mutex::default(),
        }
    }

    /// The end of a wait of at most `wait` from now, cut at the end of the attempt.
    ///
    /// # Errors
    /// Broken, if the attempt's time is up.
    pub fn deadline_in(&self, wait: Duration) -> Result<Instant, Failure> {
        let now = Instant::now();
        if now >= self.ends {
            return Err(Failure::broken("the case did not end in its time"));
        }
        Ok((now + wait).min(self.ends))
    }

    /// The end of a wait for one step of the other side.
    ///
    /// # Errors
    /// Broken, if the attempt's time is up.
    pub fn reply_deadline(&self) -> Result<Instant, Failure> {
        self.deadline_in(self.limits.reply_max)
    }

    /// Lets `wait` pass: for leases that must run out.
    ///
    /// # Errors
    /// Broken, if the attempt's time is up before.
    pub fn pause(&self, wait: Duration) -> Result<(), Failure> {
        let until = Instant::now() + wait;
        if until > self.ends {
            return Err(Failure::broken("the case did not end in its time"));
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        Ok(())
    }

    /// Writes into the transcript what we sent.
    pub fn sent(&self, bytes: &[u8]) {
        self.note_with(|| format!("> {}", shown(bytes)));
    }

    /// Writes into the transcript what came.
    pub fn received(&self, bytes: &[u8]) {
        self.note_with(|| format!("< {}", shown(bytes)));
    }

    /// Writes a line of one's own into the transcript.
    pub fn note(&self, line: String) {
        self.note_with(|| line);
    }

    /// Whoever is flooded does not spend its time on entries that nobody will see.
    fn note_with(&self, line: impl FnOnce() -> String) {
        let mut transcript = self
            .transcript
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if transcript.entries.len() < TRANSCRIPT_ENTRIES_MAX {
            transcript.entries.push(line());
        } else {
            transcript.left_out += 1;
        }
    }

    /// The transcript so far, one entry a line.
    #[must_use]
    pub fn transcript(&self) -> Vec<String> {
        let transcript = self
            .transcript
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut lines = transcript.entries.clone();
        if transcript.left_out > 0 {
            lines.push(format!("({} more)", transcript.left_out));
        }
        lines
    }
}

/// What is left until `deadline`, in a form that a socket accepts (never zero); None if it passed.
pub(crate) fn left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (left > Duration::ZERO).then(|| left.max(Duration::from_millis(1)))
}

/// Whether a read came back empty-handed though the socket is sound: a signal, or its time is over.
pub(crate) fn try_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
    )
}

/// Bytes in a form that is safe on any terminal: quoted, escaped, cut, with the full length.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let mut text = format!("\"{}\"", head.escape_ascii());
    if head.len() < bytes.len() {
        let _ = write!(text, "... ({} bytes)", bytes.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_bytes_are_escaped_and_cut() {
        assert_eq!(shown(b"a\x1b[2J\n\""), r#""a\x1b[2J\n\"""#);
        assert!(shown(&[b'x'; 500]).ends_with("\"... (500 bytes)"));
    }

    #[test]
    fn a_transcript_has_an_end() {
        let attempt = Attempt::start(Limits::default(), Duration::ZERO);
        for _ in 0..TRANSCRIPT_ENTRIES_MAX + 5 {
            attempt.sent(b"x");
        }
        let lines = attempt.transcript();
        assert_eq!(lines.len(), TRANSCRIPT_ENTRIES_MAX + 1);
        assert_eq!(lines.last().map(String::as_str), Some("(5 more)"));
    }

    #[test]
    fn no_wait_outlasts_the_attempt() {
        let limits = Limits {
            case_max: Duration::ZERO,
            ..Limits::default()
        };
        let attempt = Attempt::start(limits, Duration::ZERO);
        assert!(attempt.reply_deadline().is_err());
        assert!(attempt.pause(Duration::from_secs(1000)).is_err());
    }
}

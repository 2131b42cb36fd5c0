//! A client under examination: a program that we start, feed and listen to.
//!
//! Its output is read by one thread for each pipe into bounded buffers, so that a program that
//! prints without end blocks itself and not us. Standard output and standard error are kept apart:
//! nobody knows in which order they were written, and a line of one must not tear one of the
//! other. Dropped, the program is killed and waited for. What it starts on its own and leaves
//! behind is out of our reach.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::attempt::{Attempt, left, shown};
use crate::case::Failure;

/// At most this much of a program's output is kept; what it prints beyond that ends the case.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// How often a running program is asked whether it has ended; std has no wait with a deadline.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// A running program. Its output as one text is all of standard output, then all of standard error.
#[derive(Debug)]
pub struct Program<'a> {
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
    attempt: &'a Attempt,
}

#[derive(Debug, Default)]
struct Output {
    heard: Mutex<Heard>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    open_pipes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pipe {
    Stdout,
    Stderr,
}

impl<'a> Program<'a> {
    /// Starts `command` (program, then arguments), with each `{name}` of `places` filled in.
    ///
    /// # Errors
    /// Skipped, if the command is empty or cannot be started: that says nothing about its protocol.
    pub fn start(
        attempt: &'a Attempt,
        command: &[String],
        places: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        Self::start_in(attempt, command, places, None)
    }

    /// As [`Program::start`], in this working directory.
    ///
    /// # Errors
    /// Skipped likewise.
    pub fn start_in(
        attempt: &'a Attempt,
        command: &[String],
        places: &[(&str, &str)],
        directory: Option<&Path>,
    ) -> Result<Self, Failure> {
        let words: Vec<String> = command.iter().map(|word| filled(word, places)).collect();
        let Some((program, arguments)) = words.split_first() else {
            return Err(Failure::skipped("no command to examine was given"));
        };
        attempt.note(format!("$ {}", shown(words.join(" ").as_bytes())));
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(directory.unwrap_or(Path::new(".")))
            // On a terminal its lines would come at once; into a pipe Python keeps them back.
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::skipped(format!("cannot start {program:?}: {error}")))?;
        let output = Arc::new(Output::default());
        if let Some(pipe) = child.stdout.take() {
            listen(Pipe::Stdout, pipe, &output);
        }
        if let Some(pipe) = child.stderr.take() {
            listen(Pipe::Stderr, pipe, &output);
        }
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            stdin,
            output,
            attempt,
        })
    }

    /// Types `text` on the program's standard input. A program that no longer reads is no failure:
    /// what it does next is what counts.
    pub fn input(&mut self, text: &str) {
        self.attempt
            .note(format!("stdin: {}", shown(text.as_bytes())));
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin
                .write_all(text.as_bytes())
                .and_then(|()| stdin.flush());
        }
    }

    /// Ends the program's standard input.
    pub fn end_input(&mut self) {
        self.attempt.note("stdin: end".to_owned());
        self.stdin = None;
    }

    /// Waits until the output so far satisfies `enough`, for at most `wait`; gives back the output.
    ///
    /// # Errors
    /// Broken, if the program ends its output or falls silent before, or prints without end.
    pub fn output_until(
        &self,
        awaited: &str,
        wait: Duration,
        enough: impl Fn(&str) -> bool,
    ) -> Result<String, Failure> {
        let deadline = self.attempt.deadline_in(wait)?;
        let mut heard = self.output.lock();
        loop {
            let text = heard.text();
            if enough(&text) {
                return Ok(text);
            }
            let why = if heard.room() == 0 {
                "and that is already too much"
            } else if heard.open_pipes == 0 {
                "then it ended its output"
            } else {
                "then nothing in time"
            };
            let patient = why == "then nothing in time";
            let Some(rest) = left(deadline).filter(|_| patient) else {
                let printed = shown(text.as_bytes());
                let mut why = format!("expected {awaited}; the program printed {printed}, {why}");
                if patient {
                    why.push_str(" (does it keep lines back in a buffer? it must flush them)");
                }
                return Err(Failure::broken(why));
            };
            let waited = self.output.more.wait_timeout(heard, rest);
            heard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everything the program has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.lock().text()
    }

    /// Whether the program is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the program to end, for at most `wait`.
    ///
    /// # Errors
    /// Broken, if it still runs then.
    pub fn expect_exit(&mut self, wait: Duration) -> Result<ExitStatus, Failure> {
        let deadline = self.attempt.deadline_in(wait)?;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.attempt.note(format!("{status}"));
                    self.hear_the_rest();
                    return Ok(status);
                }
                Ok(None) if Instant::now() < deadline => thread::sleep(EXIT_POLL),
                Ok(None) => {
                    let printed = shown(self.output().as_bytes());
                    let why = format!("the program did not end; it printed {printed}");
                    return Err(Failure::broken(why));
                }
                Err(error) => return Err(Failure::broken(format!("lost the program: {error}"))),
            }
        }
    }

    /// After an exit the pipes may still hold a last line; a grandchild may hold them for ever.
    fn hear_the_rest(&self) {
        let deadline = Instant::now() + self.attempt.limits.quiet;
        let mut heard = self.output.lock();
        while heard.open_pipes > 0 {
            let Some(rest) = left(deadline) else { return };
            let waited = self.output.more.wait_timeout(heard, rest);
            heard = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        self.attempt
            .note(format!("printed {}", shown(self.output().as_bytes())));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn room(&self) -> usize {
        OUTPUT_BYTES_MAX - self.stdout.len() - self.stderr.len()
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.stdout).into_owned();
        if !self.stderr.is_empty() {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str(&String::from_utf8_lossy(&self.stderr));
        }
        text
    }
}

/// Reads a pipe into `output` until it ends or there is no more room; then it closes.
fn listen(which: Pipe, mut pipe: impl Read + Send + 'static, output: &Arc<Output>) {
    output.lock().open_pipes += 1;
    let output = Arc::clone(output);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            let len = pipe.read(&mut buffer).unwrap_or(0);
            let mut heard = output.lock();
            let room = heard.room();
            let bytes = match which {
                Pipe::Stdout => &mut heard.stdout,
                Pipe::Stderr => &mut heard.stderr,
            };
            bytes.extend_from_slice(&buffer[..len.min(room)]);
            if len == 0 || len >= room {
                heard.open_pipes -= 1;
            }
            output.more.notify_all();
            if len == 0 || len >= room {
                return;
            }
        }
    });
}

fn filled(word: &str, places: &[(&str, &str)]) -> String {
    places.iter().fold(word.to_owned(), |word, (name, value)| {
        word.replace(&format!("{{{name}}}"), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Limits;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_program_is_fed_heard_and_waited_for() {
        let attempt = Attempt::start(Limits::default(), LONG);
        let command = shell("printf 'id? '; read id; echo \"got $id {port}\"; exit 4");
        let mut program = Program::start(&attempt, &command, &[("port", "77")]).expect("starts");
        program
            .output_until("a prompt", LONG, |text| text.ends_with("id? "))
            .expect("prompts");
        program.input("0042\n");
        let status = program.expect_exit(LONG).expect("ends");
        assert_eq!(status.code(), Some(4));
        assert_eq!(program.output(), "id? got 0042 77\n");
    }

    #[test]
    fn lines_of_the_two_outputs_do_not_tear_each_other() {
        let attempt = Attempt::start(Limits::default(), LONG);
        let script = "printf 'half ' ; printf 'a ' >&2; echo done; echo note >&2; printf 'id? '";
        let mut program = Program::start(&attempt, &shell(script), &[]).expect("starts");
        program.expect_exit(LONG).expect("ends");
        assert_eq!(program.output(), "half done\nid? \na note\n");
    }

    #[test]
    fn endless_output_ends_the_wait() {
        let attempt = Attempt::start(Limits::default(), LONG);
        let program = Program::start(&attempt, &shell("yes"), &[]).expect("starts");
        let outcome = program.output_until("silence", LONG, |_| false);
        assert!(matches!(outcome, Err(Failure::Broken(why)) if why.contains("too much")));
    }

    #[test]
    fn a_silent_program_is_given_up_and_killed() {
        let attempt = Attempt::start(Limits::default(), Duration::ZERO);
        let mut program = Program::start(&attempt, &shell("exec sleep 1000"), &[]).expect("starts");
        let short = Duration::from_millis(20);
        assert!(program.output_until("a word", short, |_| false).is_err());
        assert!(program.expect_exit(short).is_err());
        assert!(program.is_running());
    }

    #[test]
    fn a_program_that_is_not_there_is_skipped() {
        let attempt = Attempt::start(Limits::default(), Duration::ZERO);
        let command = ["/nowhere/no-such-program".to_owned()];
        let outcome = Program::start(&attempt, &command, &[]);
        assert!(matches!(outcome, Err(Failure::Skipped(_))));
    }
}

//! Fetches one file from one holder, in whichever generation the holder speaks (classic-57).
//!
//! Plain blocking code on a thread of its own: connect, ask, take the answer into a draft, publish.
//! Every wait has a limit (classic-62), and a draft that is not published leaves nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ahoy_logic::classic::{FetchJob, FetchTrouble, LocalFile, Pace};
use ahoy_wire::classic::{FileRequest, Generation, HEADER_BYTES_MAX, Header, read_header};

use super::folder::{Draft, Folder};
use super::words;
use crate::clock::Clock;

/// Until a holder accepts (classic-62).
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Until its first byte.
const FIRST_BYTE_MAX: Duration = Duration::from_secs(5);
/// Between two bytes.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// For the whole file: so long, and one second for each [`BYTES_PER_SECOND_MIN`].
const WHOLE_MAX: Duration = Duration::from_secs(30);
/// Slower holders are given up, in bytes per second.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
/// After the last byte, how long surplus bytes are listened for.
const SURPLUS_WAIT: Duration = Duration::from_millis(200);
/// How often a wait looks whether it is to be given up.
const SLICE: Duration = Duration::from_millis(250);
/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What fetches share.
pub(super) struct Fetcher<'a> {
    pub(super) folder: &'a Folder,
    pub(super) pace: &'a Mutex<Pace>,
    pub(super) clock: Clock,
    pub(super) stopped: &'a AtomicBool,
    pub(super) file_bytes_max: u64,
    /// Told how many bytes have come, and of how many if that is known.
    pub(super) progress: &'a dyn Fn(u64, Option<u64>),
}

/// How one way of asking ended.
enum Attempt {
    /// The file is here.
    Done(LocalFile),
    /// It closed without a word, or said something else; another way may work.
    NotThisWay(FetchTrouble),
    /// Another way would not help.
    Failed(FetchTrouble),
}

/// What a reading step brought.
enum Step {
    Bytes(usize),
    End,
}

impl From<FetchTrouble> for Attempt {
    fn from(why: FetchTrouble) -> Self {
        Self::Failed(why)
    }
}

impl Fetcher<'_> {
    /// Fetches the file; also how the holder spoke, if that became clear.
    pub(super) fn fetch(
        &self,
        job: &FetchJob,
    ) -> (Option<Generation>, Result<LocalFile, FetchTrouble>) {
        // What could not be put in its place in the end is not asked for.
        if !self.folder.is_still(&job.name, job.expect.as_ref()) {
            return (None, Err(FetchTrouble::Changed));
        }
        let other = match job.first {
            Generation::Lines => Generation::Bare,
            Generation::Bare => Generation::Lines,
        };
        let ways = match job.proven {
            Some(proven) => vec![proven],
            None => vec![job.first, other],
        };
        let mut spoke = None;
        let mut trouble = FetchTrouble::Missing;
        for way in ways {
            let attempt = match way {
                Generation::Lines => self.in_lines(job, &mut spoke),
                Generation::Bare => self.bare(job, &mut spoke),
            };
            match attempt.unwrap_or_else(|failed| failed) {
                Attempt::Done(file) => return (spoke, Ok(file)),
                Attempt::Failed(why) => return (spoke, Err(why)),
                Attempt::NotThisWay(why) => trouble = why,
            }
        }
        (spoke, Err(trouble))
    }

    /// classic-50: a line, then so many bytes.
    fn in_lines(&self, job: &FetchJob, spoke: &mut Option<Generation>) -> Result<Attempt, Attempt> {
        let mut source = self.ask(job, Generation::Lines)?;
        let mut head = Vec::new();
        let (promised, header_bytes) = loop {
            match read_header(&head) {
                Header::Length {
                    file_bytes,
                    header_bytes,
                } => break (file_bytes, header_bytes),
                Header::Absent => return Ok(Attempt::NotThisWay(FetchTrouble::Missing)),
                Header::Incomplete => {}
            }
            let mut piece = [0; HEADER_BYTES_MAX];
            match source.read(&mut piece) {
                Ok(Step::Bytes(len)) => head.extend_from_slice(&piece[..len]),
                Ok(Step::End) => return Ok(Attempt::NotThisWay(FetchTrouble::Missing)),
                Err(FetchTrouble::Stalled) if head.is_empty() => {
                    return Ok(Attempt::NotThisWay(FetchTrouble::Stalled));
                }
                Err(why) => return Err(why.into()),
            }
        };
        *spoke = Some(Generation::Lines);
        self.take_promised(job, &mut source, &head[header_bytes..], promised)
    }

    /// Takes exactly the promised bytes; fewer or more are no file (classic-58).
    fn take_promised(
        &self,
        job: &FetchJob,
        source: &mut Source<'_>,
        begun: &[u8],
        promised: u64,
    ) -> Result<Attempt, Attempt> {
        if promised > self.file_bytes_max {
            return Err(FetchTrouble::TooLong.into());
        }
        let mut draft = self.draft()?;
        let mut got = 0;
        let mut buffer = vec![0; PIECE_BYTES];
        if begun.len() as u64 > promised {
            return Err(FetchTrouble::Surplus { promised }.into());
        }
        write(&mut draft, begun)?;
        got += begun.len() as u64;
        while got < promised {
            // One byte more than is promised would show a surplus at once.
            let room = (promised - got + 1).min(PIECE_BYTES as u64) as usize;
            match source.read(&mut buffer[..room])? {
                Step::Bytes(len) if got + len as u64 > promised => {
                    return Err(FetchTrouble::Surplus { promised }.into());
                }
                Step::Bytes(len) => {
                    write(&mut draft, &buffer[..len])?;
                    got += len as u64;
                    (self.progress)(got, Some(promised));
                }
                Step::End => return Err(FetchTrouble::Short { got, promised }.into()),
            }
        }
        // classic-59: the holder need not close.
        if source.has_more() {
            return Err(FetchTrouble::Surplus { promised }.into());
        }
        publish(draft, job)
    }

    /// classic-51: bytes until the end.
    fn bare(&self, job: &FetchJob, spoke: &mut Option<Generation>) -> Result<Attempt, Attempt> {
        let mut source = self.ask(job, Generation::Bare)?;
        let mut buffer = vec![0; PIECE_BYTES];
        let mut head = Vec::new();
        // Some holders of the newer generation answer any request in their own way.
        let may_promise = job.proven != Some(Generation::Bare);
        while may_promise && matches!(read_header(&head), Header::Incomplete) {
            match source.read(&mut buffer[..HEADER_BYTES_MAX]) {
                Ok(Step::Bytes(len)) => head.extend_from_slice(&buffer[..len]),
                Ok(Step::End) => break,
                Err(FetchTrouble::Stalled) if head.is_empty() => {
                    return Ok(Attempt::NotThisWay(FetchTrouble::Stalled));
                }
                Err(why) => return Err(why.into()),
            }
        }
        if may_promise
            && let Header::Length {
                file_bytes,
                header_bytes,
            } = read_header(&head)
        {
            *spoke = Some(Generation::Lines);
            return self.take_promised(job, &mut source, &head[header_bytes..], file_bytes);
        }
        let mut draft = self.draft()?;
        write(&mut draft, &head)?;
        let mut got = head.len() as u64;
        while let Step::Bytes(len) = source.read(&mut buffer)? {
            write(&mut draft, &buffer[..len])?;
            got = source.got;
            if got > self.file_bytes_max {
                return Err(FetchTrouble::TooLong.into());
            }
            (self.progress)(got, None);
        }
        self.judge_bare(job, got)?;
        if got > 0 {
            *spoke = Some(Generation::Bare);
        }
        publish(draft, job)
    }

    /// Whether a bare answer of `got` bytes can be believed to be the whole file.
    fn judge_bare(&self, job: &FetchJob, got: u64) -> Result<(), Attempt> {
        // classic-61: closing at once is also how a missing file is answered.
        if got == 0 {
            let speaks_bare = job.bare_swarm || job.proven == Some(Generation::Bare);
            if !speaks_bare {
                return Err(Attempt::NotThisWay(FetchTrouble::Missing));
            }
            if job.expect.is_some_and(|expect| expect.size > 0) {
                return Err(FetchTrouble::Nothing.into());
            }
        }
        // classic-60: a holder that died in the middle answers nobody. That it is connected says
        // little: the system goes on accepting in its name until the last of it is cleared away.
        let mut again = match self.ask(job, Generation::Bare) {
            Ok(again) => again,
            Err(_) => return Err(FetchTrouble::Uncertain.into()),
        };
        let _ = again.stream.shutdown(Shutdown::Write);
        match again.read(&mut [0]) {
            Ok(Step::Bytes(_) | Step::End) => Ok(()),
            Err(_) => Err(FetchTrouble::Uncertain.into()),
        }
    }

    fn ask(&self, job: &FetchJob, generation: Generation) -> Result<Source<'_>, FetchTrouble> {
        self.wait_for_turn()?;
        let broke = |error: io::Error| FetchTrouble::Unreachable(words(&error));
        let mut stream = TcpStream::connect_timeout(&job.holder, CONNECT_MAX).map_err(broke)?;
        let is_self = stream.local_addr().ok() == stream.peer_addr().ok();
        if is_self {
            // A port of our own range can be dialled into itself.
            return Err(FetchTrouble::Unreachable("connected to itself".to_owned()));
        }
        let ready = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(SLICE)))
            .and_then(|()| stream.set_write_timeout(Some(FIRST_BYTE_MAX)));
        ready.map_err(broke)?;
        let request = FileRequest::encode(&job.name, generation);
        stream.write_all(&request).map_err(broke)?;
        Ok(Source {
            stream,
            stopped: self.stopped,
            began: Instant::now(),
            heard: Instant::now(),
            got: 0,
        })
    }

    /// classic-38: connections are spaced out.
    fn wait_for_turn(&self) -> Result<(), FetchTrouble> {
        let at = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.reserve(self.clock.now())
        };
        loop {
            if self.stopped.load(Ordering::Relaxed) {
                return Err(FetchTrouble::Stalled);
            }
            let wait = at.wait_from(self.clock.now());
            if wait.is_zero() {
                return Ok(());
            }
            std::thread::sleep(wait.min(SLICE));
        }
    }

    fn draft(&self) -> Result<Draft<'_>, FetchTrouble> {
        let draft = self.folder.draft();
        draft.map_err(|error| FetchTrouble::Disk(words(&error)))
    }
}

/// What a holder sends, with the limits of every wait.
struct Source<'a> {
    stream: TcpStream,
    stopped: &'a AtomicBool,
    began: Instant,
    heard: Instant,
    got: u64,
}

impl Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Step, FetchTrouble> {
        loop {
            let now = Instant::now();
            let silence_max = if self.got == 0 {
                FIRST_BYTE_MAX
            } else {
                SILENCE_MAX
            };
            let whole_max = WHOLE_MAX + Duration::from_secs(self.got / BYTES_PER_SECOND_MIN);
            let is_late = now - self.heard > silence_max || now - self.began > whole_max;
            if is_late || self.stopped.load(Ordering::Relaxed) {
                return Err(FetchTrouble::Stalled);
            }
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Step::End),
                Ok(len) => {
                    self.heard = now;
                    self.got += len as u64;
                    return Ok(Step::Bytes(len));
                }
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(FetchTrouble::Unreachable(words(&error))),
            }
        }
    }

    /// Whether another byte comes after the last one, within a moment.
    fn has_more(&mut self) -> bool {
        let _ = self.stream.set_read_timeout(Some(SURPLUS_WAIT));
        matches!(self.stream.read(&mut [0]), Ok(len) if len > 0)
    }
}

fn is_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

fn write(draft: &mut Draft<'_>, bytes: &[u8]) -> Result<(), FetchTrouble> {
    let written = draft.file.write_all(bytes);
    written.map_err(|error| FetchTrouble::Disk(words(&error)))
}

fn publish(draft: Draft<'_>, job: &FetchJob) -> Result<Attempt, Attempt> {
    let file = draft.publish(&job.name, job.mtime, job.expect.as_ref())?;
    Ok(Attempt::Done(file))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use ahoy_wire::classic::{FileName, Mtime};

    use super::*;

    /// What the holder does with each connection, by its request.
    type Manner = fn(&[u8], &mut TcpStream) -> bool;

    fn fetch(manner: Manner, change: impl Fn(&mut FetchJob)) -> Result<String, FetchTrouble> {
        let temp = tempfile::tempdir().expect("a directory");
        let folder = Folder::open(temp.path()).expect("opened");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut job = FetchJob {
            job: 1,
            name: FileName::new("a").expect("a name"),
            holder: listener.local_addr().expect("bound"),
            mtime: Mtime::from_secs(1).expect("a time"),
            expect: None,
            first: Generation::Lines,
            proven: None,
            bare_swarm: false,
        };
        change(&mut job);
        if job.expect.is_some() {
            let path = temp.path().join("a");
            std::fs::write(&path, "12345").expect("written");
            let file = std::fs::File::options().write(true).open(&path);
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1);
            file.and_then(|file| file.set_modified(time)).expect("set");
        }
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = [0; 100];
                let len = stream.read(&mut request).unwrap_or(0);
                if len > 0 && !manner(&request[..len], &mut stream) {
                    // As in a process that is killed: its clients may see their end before the
                    // listener has gone.
                    drop(stream);
                    drop(listener);
                    return;
                }
                kept.push(stream);
            }
        });
        let pace = Mutex::new(Pace::new(1000));
        let fetcher = Fetcher {
            folder: &folder,
            pace: &pace,
            clock: Clock::start(),
            stopped: &AtomicBool::new(false),
            file_bytes_max: 1000,
            progress: &|_, _| {},
        };
        let (_, outcome) = fetcher.fetch(&job);
        let left = std::fs::read_dir(temp.path().join(".ahoy/classic")).expect("there");
        assert_eq!(left.count(), 0, "no draft is left");
        let text = std::fs::read_to_string(temp.path().join("a"));
        outcome.map(|_| text.expect("it is there"))
    }

    fn say(text: &str, stream: &mut TcpStream) {
        let _ = stream.write_all(text.as_bytes());
    }

    /// classic-59, classic-62.
    #[test]
    fn the_promised_bytes_are_enough() {
        let open: Manner = |_, stream| {
            say("Content-Length: 4\nfile", stream);
            true
        };
        let began = Instant::now();
        assert_eq!(fetch(open, |_| {}), Ok("file".to_owned()));
        assert!(
            began.elapsed() < FIRST_BYTE_MAX,
            "nobody waited for the end"
        );
        let many: Manner = |_, stream| {
            say("Content-Length: 1001\n", stream);
            true
        };
        assert_eq!(fetch(many, |_| {}), Err(FetchTrouble::TooLong));
    }

    /// classic-57.
    #[test]
    fn the_other_way_is_tried() {
        let bare: Manner = |request, stream| {
            if request == b"a" {
                say("file", stream);
            }
            let _ = stream.shutdown(Shutdown::Both);
            true
        };
        assert_eq!(fetch(bare, |_| {}), Ok("file".to_owned()));
        let lines: Manner = |_, stream| {
            say("Content-Length: 4\nfile", stream);
            true
        };
        // A holder that answers a bare request in lines is understood too.
        assert_eq!(
            fetch(lines, |job| job.first = Generation::Bare),
            Ok("file".to_owned())
        );
    }

    /// classic-60.
    #[test]
    fn a_bare_holder_that_is_gone_is_not_believed() {
        static ANSWERED: AtomicBool = AtomicBool::new(false);
        let dies: Manner = |_, stream| {
            say("half a fi", stream);
            false
        };
        let bare = |job: &mut FetchJob| job.proven = Some(Generation::Bare);
        let outcome = fetch(dies, bare);
        // The end, or the listener's, may come first.
        let gone = matches!(
            outcome,
            Err(FetchTrouble::Uncertain | FetchTrouble::Unreachable(_))
        );
        assert!(gone, "{outcome:?}");
        // Nobody is left behind the listener, and the system accepts all the same.
        let resets: Manner = |_, stream| {
            let is_first = !ANSWERED.swap(true, Ordering::Relaxed);
            if is_first {
                say("half a fi", stream);
                let _ = stream.shutdown(Shutdown::Both);
            } else {
                let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
            }
            is_first
        };
        assert_eq!(fetch(resets, bare), Err(FetchTrouble::Uncertain));
    }

    /// classic-61.
    #[test]
    fn nothing_is_a_file_only_among_those_who_say_it_so() {
        let closes: Manner = |_, stream| {
            let _ = stream.shutdown(Shutdown::Both);
            true
        };
        assert_eq!(fetch(closes, |_| {}), Err(FetchTrouble::Missing));
        let in_bare_swarm = |job: &mut FetchJob| {
            (job.first, job.bare_swarm) = (Generation::Bare, true);
        };
        assert_eq!(fetch(closes, in_bare_swarm), Ok(String::new()));
        let over_a_file = |job: &mut FetchJob| {
            in_bare_swarm(job);
            job.expect = Some(LocalFile {
                mtime: job.mtime,
                nanos: 0,
                size: 5,
            });
        };
        assert_eq!(fetch(closes, over_a_file), Err(FetchTrouble::Nothing));
        // classic-36: another file than expected is left alone without a word to the holder.
        let over_another = |job: &mut FetchJob| {
            over_a_file(job);
            job.expect = job.expect.map(|expect| LocalFile { size: 6, ..expect });
        };
        assert_eq!(fetch(closes, over_another), Err(FetchTrouble::Changed));
    }
}

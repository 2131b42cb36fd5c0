//! The stage for the cases of a peer: it is started in a folder of its own, and the examiner plays
//! its tracker, the holders that it fetches from, and the peers that ask it for files.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ahoy_wire::classic::read_request;
use ahoy_wire::classic::{FileRequest, Generation, MESSAGE_BYTES_MAX, Objects, header};
use serde_json::{Value, json};

use super::peer::Client;
use crate::attempt::{Attempt, shown};
use crate::case::{Failure, Outcome};
use crate::program::Program;
use crate::stream::{Arrival, Stream};

/// Starting an interpreter and connecting may take this long.
pub(super) const START_MAX: Duration = Duration::from_secs(10);

/// How often a listener is asked whether somebody has connected; std has no accept with a deadline.
pub(super) const POLL: Duration = Duration::from_millis(5);

/// A file that every folder has at the start.
pub(super) const OWN: (&str, &[u8], u64) = ("own file é.txt", b"own content\n", 1_700_000_000);

/// Another one, newer than what is fetched.
pub(super) const KEPT: (&str, &[u8], u64) = ("kept.txt", b"kept\n", FAR_TIME + 5);

/// What is fetched.
pub(super) const FAR: &[u8] = b"content from afar\n";

/// What lies beside the folder, in `secret`.
pub(super) const HIDDEN: &[u8] = b"for nobody\n";

/// The time of what is fetched.
pub(super) const FAR_TIME: u64 = 1_771_289_241;

/// A peer that was started, connected, and has said its first message.
pub(super) struct Scene<'a> {
    pub(super) attempt: &'a Attempt,
    pub(super) tracker: TcpListener,
    /// The peer's connection to its tracker, and what came on it.
    pub(super) stream: Stream<'a>,
    pub(super) objects: Objects,
    /// What the peer said first.
    pub(super) first: Value,
    pub(super) interval: Duration,
    pub(super) lines: bool,
    _program: Program<'a>,
    pub(super) folder: Folder,
    /// Connections that a holder leaves open.
    left_open: Vec<Stream<'a>>,
}

/// The peer's folder; deleted with everything around it.
pub(super) struct Folder(pub(super) PathBuf);

/// How a scripted holder answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// The file, then the end.
    Right,
    /// The file, and the connection is left open.
    LeavesOpen,
    /// Fewer bytes than promised, then the end.
    TooFew,
}

impl Folder {
    fn new() -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ahoy-check-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        let made = fs::create_dir(&folder.0).and_then(|()| fs::create_dir(folder.dir()));
        made.map_err(|error| Failure::skipped(format!("no folder to try it in: {error}")))?;
        Ok(folder)
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.0.join("shared")
    }

    pub(super) fn write(&self, name: &str, content: &[u8], secs: u64) -> Outcome {
        let path = self.dir().join(name);
        let written = fs::write(&path, content).and_then(|()| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
            fs::File::options()
                .write(true)
                .open(&path)?
                .set_modified(time)
        });
        written.map_err(|error| Failure::skipped(format!("cannot write a file: {error}")))
    }

    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.dir().join(name)).ok()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl<'a> Scene<'a> {
    pub(super) fn start(attempt: &'a Attempt, client: &Client) -> Result<Self, Failure> {
        let folder = Folder::new()?;
        folder.write(OWN.0, OWN.1, OWN.2)?;
        folder.write(KEPT.0, KEPT.1, KEPT.2)?;
        folder.write("program.py", b"pass\n", OWN.2)?;
        folder.write("library.so", b"\x7fELF", OWN.2)?;
        let inner = fs::create_dir(folder.dir().join("inner"));
        inner.map_err(|error| Failure::skipped(format!("cannot make a folder: {error}")))?;
        fs::write(folder.0.join("secret"), HIDDEN)
            .map_err(|error| Failure::skipped(format!("cannot write a file: {error}")))?;
        let tracker = listener()?;
        let port = addr_of(&tracker)?.port().to_string();
        let dir = folder.dir();
        let dir_text = dir.to_string_lossy().into_owned();
        let places = [("ip", "127.0.0.1"), ("port", &*port), ("dir", &*dir_text)];
        let names_dir = client.command.iter().any(|word| word.contains("{dir}"));
        let inside: Option<&Path> = (!names_dir).then_some(&*dir);
        let program = Program::start_in(attempt, &client.command, &places, inside)?;
        let stream = accept(attempt, &tracker, START_MAX)?;
        let mut scene = Self {
            attempt,
            tracker,
            stream,
            objects: Objects::new(MESSAGE_BYTES_MAX),
            first: Value::Null,
            interval: client.interval,
            lines: client.lines,
            _program: program,
            folder,
            left_open: Vec::new(),
        };
        scene.first = scene.message(START_MAX)?;
        Ok(scene)
    }

    /// The next message of the peer to its tracker.
    pub(super) fn message(&mut self, wait: Duration) -> Result<Value, Failure> {
        let deadline = self.attempt.deadline_in(wait)?;
        loop {
            match self.objects.next_object() {
                Ok(Some(object)) => {
                    return serde_json::from_slice(object).map_err(|error| {
                        Failure::broken(format!("the message is no JSON: {error}"))
                    });
                }
                Ok(None) => {}
                Err(error) => return Err(Failure::broken(format!("the peer {error}"))),
            }
            match self.stream.arrival(64 * 1024, deadline) {
                Arrival::Bytes(bytes) => self.objects.push(&bytes),
                Arrival::End | Arrival::Reset => {
                    return Err(Failure::broken("it closed its connection to the tracker"));
                }
                Arrival::Nothing => return Err(Failure::broken("no message in time")),
            }
        }
    }

    pub(super) fn answer(&mut self, directory: &Value) -> Outcome {
        let end = if self.lines { "\n" } else { "" };
        self.stream.send(format!("{directory}{end}").as_bytes())
    }

    /// Answers each message with this directory, and each request for a file as the holder does,
    /// until `done`; the names that were asked for.
    pub(super) fn play(
        &mut self,
        directory: &Value,
        holder: &TcpListener,
        manner: Manner,
        wait: Duration,
        mut done: impl FnMut(&Folder) -> bool,
    ) -> Result<Vec<String>, Failure> {
        let until = self.attempt.deadline_in(wait)?;
        let mut asked = Vec::new();
        self.answer(directory)?;
        while !done(&self.folder) && Instant::now() < until {
            if let Some(mut stream) = self.visitor(directory, holder)? {
                asked.extend(serve(&mut stream, manner)?);
                if manner == Manner::LeavesOpen {
                    self.left_open.push(stream);
                }
            }
        }
        Ok(asked)
    }

    /// Answers a message if one is there; whoever has connected to the holder.
    pub(super) fn visitor(
        &mut self,
        directory: &Value,
        holder: &TcpListener,
    ) -> Result<Option<Stream<'a>>, Failure> {
        if self.message(POLL * 10).is_ok() {
            self.answer(directory)?;
        } else {
            // One that has closed its connection does not let us wait.
            self.attempt.pause(POLL)?;
        }
        accept_now(self.attempt, holder)
    }

    /// The address at which the peer said that it serves.
    pub(super) fn serving(&self) -> Result<SocketAddr, Failure> {
        let port = self.first["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| Failure::broken("its first message has no port"))?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Asks the peer for a file; everything that it answers.
    pub(super) fn ask(&self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut stream = Stream::connect(self.attempt, self.serving()?)?;
        stream.send(request)?;
        let mut all = Vec::new();
        loop {
            let deadline = self.attempt.reply_deadline()?;
            match stream.arrival(64 * 1024, deadline) {
                Arrival::Bytes(bytes) => all.extend_from_slice(&bytes),
                // Some leave the connection open after the last byte.
                Arrival::End | Arrival::Reset | Arrival::Nothing => return Ok(all),
            }
        }
    }

    /// How long a file may take: a message, its answer, and the fetch.
    pub(super) fn fetch_max(&self) -> Duration {
        self.interval * 2 + self.attempt.limits.reply_max * 2
    }
}

/// Reads one request and answers it in its own generation; the name that was asked for.
fn serve(stream: &mut Stream<'_>, manner: Manner) -> Result<Option<String>, Failure> {
    let Some((request, text)) = requested(stream)? else {
        return Ok(None);
    };
    let content = match manner {
        Manner::Right | Manner::LeavesOpen => FAR,
        Manner::TooFew => &FAR[..7],
    };
    let (answer, ends) = match request.generation {
        Generation::Lines => (
            [&header(FAR.len() as u64), content].concat(),
            manner != Manner::LeavesOpen,
        ),
        // Without a length there is no too few; such a case offers nothing.
        Generation::Bare if manner == Manner::TooFew => (Vec::new(), true),
        Generation::Bare => (content.to_vec(), true),
    };
    // A peer that has gone meanwhile is judged by what it has.
    let sent = stream.send(&answer);
    let _ = sent.and_then(|()| if ends { stream.finish() } else { Ok(()) });
    Ok(Some(text))
}

/// Reads one request of either generation, and its text; None if none came.
pub(super) fn requested(stream: &mut Stream<'_>) -> Result<Option<(FileRequest, String)>, Failure> {
    let mut bytes = Vec::new();
    let deadline = stream.attempt().reply_deadline()?;
    let bare_wait = Duration::from_millis(400);
    let request = loop {
        let wait = if bytes.is_empty() {
            deadline
        } else {
            Instant::now() + bare_wait
        };
        let ended = match stream.arrival(4096, wait) {
            Arrival::Bytes(more) => {
                bytes.extend_from_slice(&more);
                false
            }
            Arrival::End | Arrival::Reset | Arrival::Nothing => true,
        };
        if let Some(request) = read_request(&bytes, ended) {
            break request;
        }
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some((request, text.trim_end().to_owned())))
}

pub(super) fn entry(holder: &TcpListener, mtime: u64) -> Result<Value, Failure> {
    let addr = addr_of(holder)?;
    Ok(json!({"ip": "127.0.0.1", "port": addr.port(), "mtime": mtime}))
}

pub(super) fn listener() -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener = bound.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| Failure::skipped(format!("no port to listen on: {error}")))
}

fn addr_of(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    let addr = listener.local_addr();
    addr.map_err(|error| Failure::skipped(format!("no port to listen on: {error}")))
}

pub(super) fn accept<'a>(
    attempt: &'a Attempt,
    listener: &TcpListener,
    wait: Duration,
) -> Result<Stream<'a>, Failure> {
    let deadline = attempt.deadline_in(wait)?;
    loop {
        if let Some(stream) = accept_now(attempt, listener)? {
            return Ok(stream);
        }
        if Instant::now() > deadline {
            return Err(Failure::broken("it did not connect in time"));
        }
        attempt.pause(POLL)?;
    }
}

pub(super) fn accept_now<'a>(
    attempt: &'a Attempt,
    listener: &TcpListener,
) -> Result<Option<Stream<'a>>, Failure> {
    match listener.accept() {
        Ok((socket, _)) => Stream::adopt(attempt, socket).map(Some),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(Failure::skipped(format!("cannot accept: {error}"))),
    }
}

pub(super) fn same(found: &[u8], expected: &[u8]) -> Outcome {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (shown(found), shown(expected));
    Err(Failure::broken(format!(
        "expected {expected}; found {found}"
    )))
}

pub(super) fn unexpected(found: &Value, expected: &str) -> Failure {
    let found = found.to_string();
    Failure::broken(format!(
        "expected {expected}; found {}",
        shown(found.as_bytes())
    ))
}

//! The control socket of a running share: one JSON object per line, asked and answered.
//!
//! A Unix socket that only its user can open (its directory is private, its mode is 0600, and the
//! other end's user id is compared). Requests are bounded in length, number and time; a client that
//! is silent or slow holds up nobody but itself.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ahoy_wire::sync::{Name, RelPath};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::super::exact::Exact;
use super::super::limits::Caps;
use super::super::scrub::Progress;
use super::{Desk, Entry, Page, Snapshot};

/// Longest request, bytes: a path in hexadecimal and some room.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Most entries in one answer to [`Request::Ls`].
pub const LIST_MAX: usize = 1000;

/// Most clients at a time; more are turned away.
const CLIENTS_MAX: usize = 16;

/// How long a client may be silent, take to send a request, or take to accept an answer.
const CLIENT_WAIT: Duration = Duration::from_secs(10);

/// Longest path of a Unix socket on Linux, bytes, without the closing NUL.
const SOCKET_PATH_MAX: usize = 107;

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// How does the share stand?
    Status,
    /// What is in this directory?
    Ls {
        /// The directory or file, relative to the folder; empty for the folder itself.
        path: Exact,
        /// Only what comes after this name.
        after: Option<Exact>,
        /// How many, at most [`LIST_MAX`].
        limit: usize,
    },
    /// A ticket, please.
    Ticket {
        /// One that grants reading alone.
        read_only: bool,
    },
    /// What has disappeared is to be deleted elsewhere too.
    Confirm,
    /// How far is the reading for rot?
    Scrub {
        /// Begin one at this rate (0: no limit), if none goes on.
        bytes_per_second: Option<u64>,
    },
    /// Keep to these limits, with all folders of the process.
    Limit {
        /// Both of them.
        limits: Caps,
    },
    /// Stop, please.
    Stop,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// So it stands.
    Status {
        /// All of it.
        share: Box<Snapshot>,
    },
    /// That is in it.
    Ls {
        /// Sorted by name; as many as were asked for, if there are more.
        entries: Vec<Entry>,
    },
    /// There is no such path in the share.
    NoSuchPath,
    /// Here is one.
    Ticket {
        /// The one line.
        ticket: String,
    },
    /// It will be; or nothing had been waiting for that word.
    Confirmed {
        /// Something had.
        waited: bool,
    },
    /// So far.
    Scrub {
        /// All of it.
        scrub: Progress,
    },
    /// They hold from now on.
    Limited,
    /// It is being stopped.
    Stopping,
    /// The request makes no sense.
    Refused {
        /// Why.
        reason: String,
    },
}

/// The listening socket; dropping it closes and removes it, and ends all its conversations.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    /// Closed to wake everyone who waits.
    wake: Option<io::PipeWriter>,
    listening: Option<JoinHandle<()>>,
}

impl Control {
    /// Listens at `path`, whose directory is private. Whatever socket is there is taken to be
    /// stale: the caller holds the lock of the share.
    pub fn open(path: &Path, desk: Arc<dyn Desk>) -> io::Result<Self> {
        // Bound under another name first: nobody finds a socket that does not listen yet.
        let fresh = path.with_extension("new");
        remove_if_there(&fresh)?;
        let listener = with_short_path(&fresh, |short| UnixListener::bind(short))?;
        std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        std::fs::rename(&fresh, path)?;
        let (wait, wake) = io::pipe()?;
        let listening = std::thread::Builder::new()
            .name("ahoy-control".into())
            .spawn(move || listen(&listener, &wait, &desk))?;
        Ok(Self {
            path: path.to_owned(),
            wake: Some(wake),
            listening: Some(listening),
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The name goes first: nobody finds a socket that listens no more.
        let _ = std::fs::remove_file(&self.path);
        self.wake = None;
        if let Some(thread) = self.listening.take() {
            let _ = thread.join();
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Unix socket addresses are short; a directory that is deep is reached by its descriptor.
pub(super) fn with_short_path<T>(
    path: &Path,
    with: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return with(path);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = std::fs::File::open(dir)?;
    with(&Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

/// Accepts until woken.
fn listen(listener: &UnixListener, wait: &io::PipeReader, desk: &Arc<dyn Desk>) {
    let clients = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        loop {
            let mut ready = [
                PollFd::new(listener, PollFlags::IN),
                PollFd::new(wait, PollFlags::IN),
            ];
            if let Err(error) = poll(&mut ready, None)
                && error != rustix::io::Errno::INTR
            {
                tracing::warn!(%error, "the control socket does not listen any more");
                return;
            }
            if !ready[1].revents().is_empty() {
                return;
            }
            let Ok((stream, _)) = listener.accept() else {
                continue;
            };
            if clients.load(Ordering::Relaxed) >= CLIENTS_MAX || !is_own_user(&stream) {
                continue;
            }
            clients.fetch_add(1, Ordering::Relaxed);
            let leave = Leave(Arc::clone(&clients));
            let serve = move || {
                let _leave = leave;
                if let Err(error) = converse(stream, wait, desk.as_ref()) {
                    tracing::debug!(%error, "a client of the control socket is gone");
                }
            };
            let spawned = std::thread::Builder::new().name("ahoy-client".into());
            if let Err(error) = spawned.spawn_scoped(scope, serve) {
                tracing::warn!(%error, "no thread for a client of the control socket");
            }
        }
    });
}

/// Counts a client off, whatever happens.
struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_own_user(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == rustix::process::geteuid() || peer.uid.is_root())
}

/// Answers one client until it leaves or the share stops.
fn converse(mut stream: UnixStream, wait: &io::PipeReader, desk: &dyn Desk) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let mut buffer = Vec::new();
    while let Some(line) = read_line(&mut stream, wait, &mut buffer)? {
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => answer(&request, desk),
            Err(error) => Reply::Refused {
                reason: error.to_string(),
            },
        };
        let mut bytes = serde_json::to_vec(&reply).map_err(io::Error::other)?;
        bytes.push(b'\n');
        write_all(&mut stream, wait, &bytes)?;
    }
    Ok(())
}

fn answer(request: &Request, desk: &dyn Desk) -> Reply {
    match request {
        Request::Status => Reply::Status {
            share: Box::new(desk.snapshot()),
        },
        Request::Ticket { read_only } => Reply::Ticket {
            ticket: desk.ticket(*read_only),
        },
        Request::Confirm => Reply::Confirmed {
            waited: desk.confirm(),
        },
        Request::Scrub { bytes_per_second } => match desk.scrub(*bytes_per_second) {
            Ok(scrub) => Reply::Scrub { scrub },
            Err(error) => Reply::Refused {
                reason: error.to_string(),
            },
        },
        Request::Limit { limits } => match desk.limit(*limits) {
            Ok(()) => Reply::Limited,
            Err(error) => Reply::Refused {
                reason: error.to_string(),
            },
        },
        Request::Stop => {
            desk.stop();
            Reply::Stopping
        }
        Request::Ls { path, after, limit } => {
            let path = RelPath::parse(&path.0);
            let after = after.as_ref().map(|name| Name::new(&name.0)).transpose();
            let (path, after) = match (path, after) {
                (Ok(path), Ok(after)) => (path, after),
                (Err(error), _) | (_, Err(error)) => {
                    return Reply::Refused {
                        reason: error.to_string(),
                    };
                }
            };
            let page = Page {
                path,
                after,
                limit: (*limit).clamp(1, LIST_MAX),
            };
            match desk.list(&page) {
                Some(mut entries) => {
                    entries.truncate(page.limit);
                    Reply::Ls { entries }
                }
                None => Reply::NoSuchPath,
            }
        }
    }
}

/// The next line without its end; `None` when the client has left or the share stops.
fn read_line(
    stream: &mut UnixStream,
    wait: &io::PipeReader,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + CLIENT_WAIT;
    loop {
        if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let mut line: Vec<u8> = buffer.drain(..=end).collect();
            line.pop();
            return Ok(Some(line));
        }
        if buffer.len() > REQUEST_BYTES_MAX {
            return Err(io::Error::other("a request without end"));
        }
        if !wait_for(stream, PollFlags::IN, wait, deadline)? {
            return Ok(None);
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(count) => buffer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_all(stream: &mut UnixStream, wait: &io::PipeReader, bytes: &[u8]) -> io::Result<()> {
    let deadline = Instant::now() + CLIENT_WAIT;
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !wait_for(stream, PollFlags::OUT, wait, deadline)? {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether `stream` is ready; not, if the share stops. An error at the deadline.
fn wait_for(
    stream: &UnixStream,
    what: PollFlags,
    wait: &io::PipeReader,
    deadline: Instant,
) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let stream_fd = stream.as_fd();
        let mut ready = [
            PollFd::new(&stream_fd, what),
            PollFd::new(wait, PollFlags::IN),
        ];
        match poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !ready[1].revents().is_empty() {
            return Ok(false);
        }
        if !ready[0].revents().is_empty() {
            return Ok(true);
        }
    }
}

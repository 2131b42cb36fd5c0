//! The other end of the control socket: finds the shares that run, and asks them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::control::with_short_path;
use super::{Reply, Request, Snapshot};
use crate::sync::home::{Home, HomeError};

/// How long one question may take, in all its parts.
const ASK_WAIT: Duration = Duration::from_secs(10);

/// Longest answer, bytes: a full page of the longest names and link targets, in hexadecimal.
const REPLY_BYTES_MAX: u64 = 16 << 20;

/// Why a running share gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there (any more).
    #[error("no ahoy runs at {}", .0.display())]
    Nobody(PathBuf),
    /// It did not answer in time, or the system refuses.
    #[error("the ahoy at {} gives no answer: {source}", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// It answered something else than was asked.
    #[error("the ahoy at {} answers strangely; is it another version?", .0.display())]
    Strange(PathBuf),
}

/// Asks the share whose socket is at `path`.
pub fn ask(path: &Path, request: &Request) -> Result<Reply, ControlError> {
    let silent = |source| ControlError::Silent {
        path: path.to_owned(),
        source,
    };
    let mut stream = connect(path).map_err(|error| {
        let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
        if nobody.contains(&error.kind()) {
            ControlError::Nobody(path.to_owned())
        } else {
            silent(error)
        }
    })?;
    let mut line = serde_json::to_vec(request).expect("texts and numbers always encode");
    line.push(b'\n');
    stream.write_all(&line).map_err(silent)?;
    let mut reply = Vec::new();
    let mut reader = BufReader::new(stream).take(REPLY_BYTES_MAX);
    reader.read_until(b'\n', &mut reply).map_err(silent)?;
    if reply.is_empty() {
        return Err(silent(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&reply).map_err(|_| ControlError::Strange(path.to_owned()))
}

/// One share that runs, or why it does not say how it stands.
pub type Running = (PathBuf, Result<Snapshot, ControlError>);

/// All shares that run, with their sockets; removes the sockets of those that were killed.
pub fn running(home: &Home) -> Result<Vec<Running>, HomeError> {
    let mut found = Vec::new();
    for path in home.sockets()? {
        let answer = match ask(&path, &Request::Status) {
            Ok(Reply::Status { share }) => Ok(*share),
            Ok(
                Reply::Ls { .. }
                | Reply::NoSuchPath
                | Reply::Ticket { .. }
                | Reply::Confirmed { .. }
                | Reply::Scrub { .. }
                | Reply::Limited
                | Reply::Stopping
                | Reply::Refused { .. },
            ) => Err(ControlError::Strange(path.clone())),
            Err(ControlError::Nobody(_)) => {
                let _ = std::fs::remove_file(&path);
                continue;
            }
            Err(error) => Err(error),
        };
        found.push((path, answer));
    }
    Ok(found)
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On a Unix socket the time limit for writing is also the one for connecting.
    socket.set_write_timeout(Some(ASK_WAIT))?;
    socket.set_read_timeout(Some(ASK_WAIT))?;
    with_short_path(path, |short| socket.connect(&SockAddr::unix(short)?))?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use ahoy_logic::limit::Rate;
    use ahoy_wire::sync::ReplicaId;

    use super::super::{Amount, Control, Desk, Entry, EntryKind, LIST_MAX, Page, State, Traffic};
    use super::*;
    use crate::sync::exact::Exact;
    use crate::sync::limits::Caps;
    use crate::sync::scrub::Progress;

    #[derive(Default)]
    struct Fake {
        stopped: AtomicBool,
        limits: Mutex<Caps>,
    }

    impl Desk for Fake {
        fn snapshot(&self) -> Snapshot {
            Snapshot {
                name: "photos".into(),
                root: Exact(b"/x/\xff".to_vec()),
                replica: "0".repeat(16),
                device: "a".repeat(52),
                label: "laptop".into(),
                process: 1,
                started_at_secs: 2,
                may_write: true,
                state: State::Halted {
                    reason: "because".into(),
                },
                files: 3,
                directories: 4,
                bytes: 5,
                todo: Amount { files: 6, bytes: 7 },
                done: Amount::default(),
                bytes_per_second: 8,
                peers: Vec::new(),
                trackers: Vec::new(),
                listen: Vec::new(),
                notices: Vec::new(),
                traffic: Traffic::default(),
                limits: Caps::default(),
                niceness: 0,
                confinement: crate::confine::level(),
            }
        }

        fn limit(&self, limits: Caps) -> Result<(), HomeError> {
            *self.limits.lock().expect("no panic") = limits;
            Ok(())
        }

        /// 2,500 files in the folder itself.
        fn list(&self, page: &Page) -> Option<Vec<Entry>> {
            let names = (0..2500).map(|n| format!("{n:04}"));
            let names = names.filter(|name| {
                page.after
                    .as_ref()
                    .is_none_or(|after| name.as_bytes() > after.as_bytes())
            });
            let entry = |name: String| Entry {
                name: Exact(name.into_bytes()),
                kind: EntryKind::File,
                size: 1,
                mode: 0o644,
                mtime_secs: -1,
                mtime_nanos: 5,
                target: None,
                here: true,
            };
            page.path
                .is_root()
                .then(|| names.take(page.limit).map(entry).collect())
        }

        fn ticket(&self, read_only: bool) -> String {
            format!("ahoy1{read_only}")
        }

        fn confirm(&self) -> bool {
            true
        }

        fn scrub(&self, _: Option<u64>) -> io::Result<Progress> {
            Ok(Progress::default())
        }

        fn stop(&self) {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    /// A socket at the end of a path that is too long for one.
    fn open() -> (tempfile::TempDir, PathBuf, Arc<Fake>, Control) {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("x".repeat(120));
        std::fs::create_dir(&deep).expect("a directory");
        let path = deep.join("a.sock");
        let desk = Arc::new(Fake::default());
        let control = Control::open(&path, desk.clone()).expect("a socket");
        (dir, path, desk, control)
    }

    #[test]
    fn questions_are_answered_through_the_socket() {
        let (_dir, path, desk, control) = open();
        let mode = path.metadata().expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let reply = ask(&path, &Request::Status).expect("an answer");
        assert_eq!(
            reply,
            Reply::Status {
                share: Box::new(desk.snapshot())
            }
        );
        let reply = ask(&path, &Request::Ticket { read_only: true }).expect("an answer");
        assert_eq!(
            reply,
            Reply::Ticket {
                ticket: "ahoy1true".into()
            }
        );
        let limits = Caps {
            up: None,
            down: Rate::new(20_000),
        };
        let reply = ask(&path, &Request::Limit { limits });
        assert_eq!(reply.expect("an answer"), Reply::Limited);
        assert_eq!(*desk.limits.lock().expect("no panic"), limits);
        assert!(!desk.stopped.load(Ordering::Relaxed));
        assert_eq!(
            ask(&path, &Request::Stop).expect("an answer"),
            Reply::Stopping
        );
        assert!(desk.stopped.load(Ordering::Relaxed));
        drop(control);
        assert!(!path.exists());
        assert!(matches!(
            ask(&path, &Request::Status),
            Err(ControlError::Nobody(_))
        ));
    }

    #[test]
    fn long_directories_come_in_pages() {
        let (_dir, path, _desk, _control) = open();
        let (mut after, mut pages) = (None, Vec::new());
        loop {
            let ls = Request::Ls {
                path: Exact(Vec::new()),
                after,
                limit: usize::MAX,
            };
            let Reply::Ls { entries } = ask(&path, &ls).expect("an answer") else {
                panic!("entries were asked for");
            };
            let Some(last) = entries.last() else { break };
            after = Some(last.name.clone());
            pages.push(entries.len());
        }
        assert_eq!(pages, [LIST_MAX, LIST_MAX, 500]);
        let ls = |path: &[u8]| Request::Ls {
            path: Exact(path.into()),
            after: None,
            limit: 1,
        };
        assert_eq!(
            ask(&path, &ls(b"none")).expect("an answer"),
            Reply::NoSuchPath
        );
        for bad in [&b"../x"[..], b"/etc", b".ahoy/share"] {
            let reply = ask(&path, &ls(bad)).expect("an answer");
            assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
        }
    }

    #[test]
    fn nonsense_and_silence_hold_up_nobody() {
        let (_dir, path, _desk, control) = open();
        let say = |bytes: &[u8]| {
            let mut stream = connect(&path).expect("a connection");
            // The other end may hang up in the middle of nonsense without end.
            let _ = stream.write_all(bytes);
            stream
        };
        let mut line = String::new();
        let mut stream = BufReader::new(say(b"{\"ask\":\"money\"}\n"));
        stream.read_line(&mut line).expect("an answer");
        assert!(line.contains("\"refused\""), "{line}");
        let mut endless = say(&[b'x'; 100_000]);
        let mut rest = Vec::new();
        let ended = endless.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{ended:?}");
        let silent: Vec<_> = (0..8).map(|_| say(b"{")).collect();
        assert!(ask(&path, &Request::Status).is_ok());
        // Dropping the socket does not wait for those who say nothing.
        drop(control);
        drop(silent);
    }

    #[test]
    fn sockets_of_the_killed_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = Home::at(dir.path());
        let live = home.socket_path(ReplicaId(1)).expect("a path");
        let stale = home.socket_path(ReplicaId(2)).expect("a path");
        let _control = Control::open(&live, Arc::new(Fake::default())).expect("a socket");
        drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
        let found = running(&home).expect("a list");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, live);
        assert!(found[0].1.is_ok());
        assert!(!stale.exists());
    }
}

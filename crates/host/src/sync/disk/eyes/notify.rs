//! inotify: the raw events of one share.
//!
//! It adds watches and decodes events; what they mean is decided elsewhere.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ahoy_wire::sync::{Name, RelPath, STATE_DIR};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::{Errno, Result};

use super::super::Root;

/// Bytes of events taken from the kernel at once.
const EVENTS_BYTES: usize = 64 * 1024;

/// Events handled before the rest of the work gets its turn.
const EVENTS_MAX: usize = 16 * 1024;

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A file was closed that had been open for writing; or mode, times, link count changed.
    Settled,
    /// It was written to and is still open.
    Modified,
    /// It came into being.
    Created,
    /// It is gone.
    Deleted,
    /// It was moved away; the other half carries the same cookie.
    MovedFrom(u32),
    /// It was moved here.
    MovedTo(u32),
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Events were lost.
    Overflow,
    /// The watched directory itself was moved, deleted or unmounted.
    SelfMoved(i32),
    /// The kernel has given up this watch.
    Ended(i32),
    /// Something happened to a name in a watched directory.
    Named {
        /// The watch.
        wd: i32,
        /// The name.
        name: Name,
        /// It is a directory.
        is_dir: bool,
        /// What happened.
        what: What,
    },
}

/// An inotify instance.
pub(super) struct Notify {
    fd: OwnedFd,
    buffer: Vec<MaybeUninit<u8>>,
}

impl Notify {
    pub(super) fn new() -> Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            fd,
            buffer: vec![MaybeUninit::uninit(); EVENTS_BYTES],
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Watches the directory that `dir` holds open.
    pub(super) fn watch(&self, root: &Root, path: &RelPath, dir: &OwnedFd) -> Result<i32> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::MODIFY
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW
            | WatchFlags::EXCL_UNLINK
            | if path.is_root() {
                WatchFlags::MOVE_SELF
            } else {
                WatchFlags::empty()
            };
        // The dot at the end makes the name that is not to be followed a directory.
        let by_descriptor = format!("/proc/self/fd/{}/.", dir.as_raw_fd());
        match inotify::add_watch(&self.fd, by_descriptor, flags) {
            // Without /proc: by path. If that leads elsewhere by now, the events name things
            // that a look beneath the root does not find; a watch gives no access to anything.
            Err(Errno::NOENT) => {
                use std::os::unix::ffi::OsStrExt;
                let below = std::ffi::OsStr::from_bytes(path.as_bytes());
                inotify::add_watch(&self.fd, root.path().join(below), flags)
            }
            answer => answer,
        }
    }

    /// Gives up watches; those that the kernel has given up already do not matter.
    pub(super) fn unwatch(&self, wds: &[i32]) {
        for wd in wds {
            let _ = inotify::remove_watch(&self.fd, *wd);
        }
    }

    /// Takes the events that are waiting; answers whether there may be more.
    pub(super) fn drain(&mut self, events: &mut Vec<Event>) -> Result<bool> {
        let mut reader = inotify::Reader::new(&self.fd, &mut self.buffer);
        loop {
            // What is in the buffer would be lost with the reader.
            if events.len() >= EVENTS_MAX && reader.is_buffer_empty() {
                return Ok(true);
            }
            match reader.next() {
                Ok(event) => decode(&event, events),
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

fn decode(event: &inotify::Event<'_>, events: &mut Vec<Event>) {
    let (flags, wd) = (event.events(), event.wd());
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        return events.push(Event::Overflow);
    }
    if flags.contains(ReadFlags::IGNORED) {
        return events.push(Event::Ended(wd));
    }
    if flags.intersects(ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
        return events.push(Event::SelfMoved(wd));
    }
    let Some(name) = event.file_name() else {
        return;
    };
    if name.to_bytes() == STATE_DIR {
        return;
    }
    // A name that no share can hold is told of by the looks.
    let Ok(name) = Name::new(name.to_bytes()) else {
        return;
    };
    let what = if flags.contains(ReadFlags::MOVED_FROM) {
        What::MovedFrom(event.cookie())
    } else if flags.contains(ReadFlags::MOVED_TO) {
        What::MovedTo(event.cookie())
    } else if flags.contains(ReadFlags::DELETE) {
        What::Deleted
    } else if flags.contains(ReadFlags::CREATE) {
        What::Created
    } else if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::ATTRIB) {
        What::Settled
    } else if flags.contains(ReadFlags::MODIFY) {
        What::Modified
    } else {
        return;
    };
    events.push(Event::Named {
        wd,
        name,
        is_dir: flags.contains(ReadFlags::ISDIR),
        what,
    });
}

//! The folder of a share: its descriptor, held for life, and the state directory inside it.
//!
//! ```text
//! .ahoy/          mode 0700, never synced
//!   lock          held by whoever claims the folder, see [`crate::sync::home`]
//!   share         the marker; without it no deletion is believed
//!   tmp/          what is being written; swept at every start
//!   parked/       what waits between two renames; survives restarts
//!   damaged/      copies of what has rotted; only ever added to
//! ```
//!
//! It reads no marker and takes no lock: the folder is claimed before it is opened here, so that
//! nobody else works in `tmp/`. It decides nothing about files.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahoy_logic::sync::{Print, Rules};
use ahoy_wire::sync::{Hash, RelPath, STATE_DIR};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::beneath;
use super::displaced::Displaced;
use super::print::{self, Device, Glance, Kind};
use super::recent::Recent;
use super::unnamed::{Allowance, Unnamed};
use crate::sync::home::Marker;

/// Why a folder cannot be used as the root of a share.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// No such folder, and it was not to be made.
    #[error("there is no folder {}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
    },
    /// A file, or something else.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// What.
        path: PathBuf,
    },
    /// Permissions or a read-only file system.
    #[error("{} cannot be written: {reason}", path.display())]
    NotWritable {
        /// Which.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// Names that differ in case only are one there: two files of a share would be one, and what
    /// is done to one of them done to the other.
    #[error(
        "{} is on a file system that does not tell upper from lower case; files whose names differ \
         only in that would destroy each other there",
        path.display()
    )]
    Folding {
        /// Which.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{}: {reason}", path.display())]
    System {
        /// Where.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
}

/// The open root of a share.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    dir: OwnedFd,
    inode: u64,
    device: Device,
    state: OwnedFd,
    tmp: OwnedFd,
    parked: OwnedFd,
    /// Contents whose part files are in use.
    busy: Mutex<HashSet<Hash>>,
    unnamed: Allowance,
    displaced: Displaced,
    recent: Recent,
    /// What stays out of the share.
    rules: Mutex<Rules>,
}

impl Root {
    /// Opens the folder at `path`, which the caller has claimed. Makes what is missing of the
    /// state directory and sweeps what an earlier run left in `tmp/`.
    pub fn open(path: &Path) -> Result<Self, RootError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, &path, flags, Mode::empty())
            .and_then(|dir| Self::enter(path.clone(), dir));
        let root = root.map_err(|errno| explain(&path, errno))?;
        if root.folds_case() {
            return Err(RootError::Folding { path });
        }
        root.sweep();
        Ok(root)
    }

    fn enter(path: PathBuf, dir: OwnedFd) -> rustix::io::Result<Self> {
        let state = make_dir(&dir, STATE_DIR)?;
        let (tmp, parked) = (make_dir(&state, b"tmp")?, make_dir(&state, b"parked")?);
        let at = print::stat(&dir, b"", AtFlags::EMPTY_PATH)?;
        let device = (at.stx_dev_major, at.stx_dev_minor);
        Ok(Self {
            busy: Mutex::default(),
            unnamed: Allowance::default(),
            displaced: Displaced::default(),
            recent: Recent::default(),
            rules: Mutex::default(),
            path,
            inode: at.stx_ino,
            device,
            dir,
            state,
            tmp,
            parked,
        })
    }

    /// Where it is, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to this very folder and the marker is in it. If not, nothing
    /// that is missing may be taken for deleted.
    pub fn is_there(&self) -> bool {
        let Ok(at) = print::stat(CWD, self.path.as_os_str().as_bytes(), AtFlags::empty()) else {
            return false;
        };
        let same = at.stx_ino == self.inode
            && (at.stx_dev_major, at.stx_dev_minor) == self.device
            && self.state_is_linked();
        same && self.marker_is_there()
    }

    /// Whether the directory that is there as `tmp` is there as `TMP` as well.
    fn folds_case(&self) -> bool {
        let at = |name: &[u8]| print::glance(&self.state, name, self.device);
        matches!((at(b"tmp"), at(b"TMP")), (Ok(a), Ok(b)) if a.print.same_file(&b.print))
    }

    /// The state directory that we hold is the one that stands in the root.
    fn state_is_linked(&self) -> bool {
        let held = print::glance_open(&self.state, self.device);
        let there = print::glance(&self.dir, STATE_DIR, self.device);
        matches!((held, there), (Ok(a), Ok(b)) if a.print.same_file(&b.print))
    }

    fn marker_is_there(&self) -> bool {
        let glance = print::glance(&self.state, Marker::NAME.as_bytes(), self.device);
        matches!(
            glance,
            Ok(Glance {
                kind: Kind::File,
                ..
            })
        )
    }

    /// Opens a file for sending its content to a peer: beneath the root, never through a link,
    /// regular files only.
    pub fn open_for_serving(&self, path: &RelPath) -> std::io::Result<File> {
        Ok(self.open_file(path)?.0.into())
    }

    /// The fingerprint of an open file of this folder.
    pub fn print(&self, file: &File) -> std::io::Result<Print> {
        Ok(print::glance_open(file, self.device)?.print)
    }

    /// Where bytes that have rotted are kept.
    pub fn damaged(&self) -> std::io::Result<OwnedFd> {
        Ok(make_dir(&self.state, b"damaged")?)
    }

    /// Writes out everything that this file system has not yet.
    pub fn sync(&self) -> std::io::Result<()> {
        Ok(rustix::fs::syncfs(&self.dir)?)
    }

    /// The content of a small file that was read a moment ago, for sending it to a peer; once.
    pub fn read_before(&self, hash: Hash) -> Option<Arc<[u8]>> {
        self.recent.take(hash)
    }

    /// Contents that were read a moment ago.
    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Opens a regular file for reading, with what it looked like then.
    pub(super) fn open_file(&self, path: &RelPath) -> rustix::io::Result<(OwnedFd, Glance)> {
        beneath::open_file_at(self.fd(), path, self.device)
    }

    /// The contents whose part files are in use.
    pub(super) fn busy(&self) -> MutexGuard<'_, HashSet<Hash>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stays out of the share, as far as the eyes have read it.
    pub(super) fn rules(&self) -> Rules {
        let rules = self.rules.lock();
        rules.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_rules(&self, rules: Rules) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }

    pub(super) fn tmp(&self) -> BorrowedFd<'_> {
        self.tmp.as_fd()
    }

    /// A new file without a name; `None` if there cannot be one, or not one more.
    /// The system may give it fewer rights than `mode`, as its user wants of new files.
    pub(super) fn unnamed(&self, mode: Mode) -> Option<Unnamed> {
        self.unnamed.file(&self.tmp, mode)
    }

    /// What waits in `tmp/` to be deleted.
    pub(super) fn displaced(&self) -> &Displaced {
        &self.displaced
    }

    pub(super) fn parked_dir(&self) -> BorrowedFd<'_> {
        self.parked.as_fd()
    }
}

/// Makes the directory `name` if it is not there, and opens it; a link in its place is an error.
pub(crate) fn make_dir(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn explain(path: &Path, errno: Errno) -> RootError {
    let (path, reason) = (path.to_owned(), print::words(errno));
    match errno {
        Errno::NOENT => RootError::Missing { path },
        Errno::NOTDIR | Errno::EXIST => RootError::NotAFolder { path },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => RootError::NotWritable { path, reason },
        _ => RootError::System { path, reason },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_a_folder_can_be_a_root() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("a");
        assert!(matches!(Root::open(&path), Err(RootError::Missing { .. })));
        fs::create_dir(&path).expect("made");
        let root = Root::open(&path).expect("opened");
        assert_eq!(root.path(), path);
        let mode = fs::metadata(path.join(".ahoy"))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o700);
        fs::write(temp.path().join("file"), b"").expect("written");
        let not = Root::open(&temp.path().join("file"));
        assert!(matches!(not, Err(RootError::NotAFolder { .. })), "{not:?}");
    }

    #[test]
    fn a_root_that_went_away_is_noticed() {
        let temp = tempfile::tempdir().expect("a directory");
        let (here, there) = (temp.path().join("here"), temp.path().join("there"));
        fs::create_dir(&here).expect("made");
        let root = Root::open(&here).expect("opened");
        assert!(!root.is_there(), "no marker yet");
        fs::write(here.join(".ahoy/share"), b"x").expect("written");
        assert!(root.is_there());
        fs::rename(&here, &there).expect("moved");
        assert!(!root.is_there());
        fs::create_dir_all(here.join(".ahoy")).expect("made");
        fs::write(here.join(".ahoy/share"), b"x").expect("written");
        assert!(!root.is_there(), "another folder with the same marker");
        fs::remove_dir_all(&here).expect("removed");
        fs::rename(&there, &here).expect("moved back");
        assert!(root.is_there());
        fs::remove_file(here.join(".ahoy/share")).expect("removed");
        assert!(!root.is_there());
    }

    #[test]
    fn a_state_directory_that_is_a_link_is_refused() {
        let outside = tempfile::tempdir().expect("a directory");
        let temp = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink(outside.path(), temp.path().join(".ahoy")).expect("made");
        assert!(Root::open(temp.path()).is_err());
        assert_eq!(fs::read_dir(outside.path()).expect("listed").count(), 0);
    }
}
